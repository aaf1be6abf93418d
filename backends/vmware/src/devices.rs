//! Devices other than disks: network adapters, serial port, sound, graphics, USB.

use stratavm::identity::mac_text;
use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Arch, Audio, Console, Display, GuestOs, NetworkMode, Switch, VmSpec};
use stratavm::{Error, ErrorKind, Resolved, Result};

use crate::backend::path_text;
use crate::facts::{self, key};
use crate::vmx::{FALSE, TRUE, Vmx};

/// Writes the network adapters.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for more adapters, or another connection, than VMware has.
pub(crate) fn networks(machine: &Resolved, vmx: &mut Vmx, gaps: &mut Vec<Gap>) -> Result<()> {
    let networks = &machine.spec.hardware.network;
    let most = facts::MOST_ADAPTERS;
    if networks.len() > most {
        let what = format!(
            "hardware.network: {} adapters, at most {most}",
            networks.len()
        );
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    for (index, network) in networks.iter().enumerate() {
        let name = format!("ethernet{index}");
        // An adapter without a cable is a disconnected one; were it connected by hand, it would
        // reach the host alone.
        let (connection, connected) = match network.mode {
            NetworkMode::Nat => ("nat", TRUE),
            NetworkMode::HostOnly => ("hostonly", TRUE),
            NetworkMode::Bridged => ("bridged", TRUE),
            NetworkMode::None => ("hostonly", FALSE),
            other => {
                let what = format!("hardware.network.{index}.mode = {other}: there is no such one");
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
        };
        let mac = machine.identity.mac(index, network);
        vmx.set(&format!("{name}.present"), TRUE);
        vmx.set(&format!("{name}.virtualDev"), adapter(&machine.spec));
        vmx.set(&format!("{name}.connectionType"), connection);
        vmx.set(&format!("{name}.startConnected"), connected);
        vmx.set(&format!("{name}.wakeOnPcktRcv"), FALSE);
        vmx.set(&format!("{name}.addressType"), "static");
        vmx.set(&format!("{name}.address"), mac_text(mac));
        if !in_static_range(mac) {
            vmx.set(&format!("{name}.checkMACAddress"), FALSE);
            gaps.push(Gap::new(
                format!("hardware.network.{index}.mac"),
                mac_text(mac),
                Grade::None,
                "VMware's static range is 00:50:56:00:00:00 to 00:50:56:3f:ff:ff; that \
                 checkMACAddress lifts it is not proved here",
            ));
        }
    }
    Ok(())
}

/// Linux and Windows bring a driver for e1000e, on both architectures; older and other systems
/// know its predecessor. vmxnet3 would be faster, but Windows has no driver for it before VMware
/// Tools are installed.
const fn adapter(spec: &VmSpec) -> &'static str {
    match (spec.guest.os, spec.guest.arch) {
        (GuestOs::Linux | GuestOs::Windows, _) | (_, Arch::Aarch64) => "e1000e",
        _ => "e1000",
    }
}

const fn in_static_range([a, b, c, d, ..]: [u8; 6]) -> bool {
    let [x, y, z] = facts::STATIC_MAC_PREFIX;
    a == x && b == y && c == z && d <= facts::STATIC_MAC_LAST_FOURTH
}

/// Writes the first serial port.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a path that is no UTF-8.
pub(crate) fn console(machine: &Resolved, vmx: &mut Vmx) -> Result<()> {
    if machine.spec.hardware.console != Console::Log {
        vmx.set("serial0.present", FALSE);
        return Ok(());
    }
    vmx.set("serial0.present", TRUE);
    vmx.set("serial0.fileType", "file");
    vmx.set(
        "serial0.fileName",
        path_text(&machine.paths.config, &machine.paths.console)?,
    );
    vmx.set("serial0.startConnected", TRUE);
    // Give the processor away while the guest polls the port.
    vmx.set("serial0.yieldOnMsrRead", TRUE);
    vmx.set(key::SERIAL_ANSWER, "Append");
    Ok(())
}

/// Writes sound, graphics, USB and what VMware would add by itself.
pub(crate) fn others(machine: &Resolved, vmx: &mut Vmx) {
    let hardware = &machine.spec.hardware;
    if hardware.audio == Audio::On {
        vmx.set("sound.present", TRUE);
        vmx.set("sound.virtualDev", "hdaudio");
        vmx.set("sound.fileName", "-1");
        vmx.set("sound.autodetect", TRUE);
    } else {
        vmx.set("sound.present", FALSE);
    }
    vmx.set("svga.present", TRUE);
    vmx.set("svga.autodetect", FALSE);
    vmx.number("svga.vramSize", hardware.video_memory.bytes());
    vmx.set("mks.enable3d", FALSE);
    // Where the key is missing VMware may add a drive.
    vmx.set("floppy0.present", FALSE);
    usb(machine, vmx);
}

/// Whether there are USB controllers, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usb {
    /// The policy allows the host's devices.
    Open,
    /// For keyboard and mouse alone: Arm guests have no other.
    Input,
    /// There are none.
    Absent,
}

impl Usb {
    /// What a spec gets.
    pub(crate) fn of(spec: &VmSpec) -> Self {
        match (spec.policy.usb, spec.guest.arch, spec.hardware.display) {
            (Switch::On, ..) => Self::Open,
            (_, Arch::Aarch64, Display::Window) => Self::Input,
            _ => Self::Absent,
        }
    }
}

fn usb(machine: &Resolved, vmx: &mut Vmx) {
    let usb = Usb::of(&machine.spec);
    let present = if usb == Usb::Absent { FALSE } else { TRUE };
    for controller in ["usb", "ehci", "usb_xhci"] {
        vmx.set(&format!("{controller}.present"), present);
    }
    vmx.set(key::USB_ALLOW, if usb == Usb::Open { TRUE } else { FALSE });
    vmx.set("usb.generic.autoconnect", FALSE);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use stratavm::spec::{Controller, MacAddress, Network};

    use super::*;
    use crate::testing::{machine, parse_vmx};

    fn network(mode: NetworkMode, mac: MacAddress) -> Network {
        Network { mode, mac }
    }

    #[test]
    fn every_connection_is_written() {
        let mut machine = machine(Controller::Sata);
        machine.spec.hardware.network = vec![
            network(NetworkMode::Nat, MacAddress::Auto),
            network(
                NetworkMode::HostOnly,
                MacAddress::Fixed([0x00, 0x50, 0x56, 0x3f, 0xff, 0xff]),
            ),
            network(
                NetworkMode::Bridged,
                MacAddress::Fixed([0x00, 0x50, 0x56, 0x40, 0, 0]),
            ),
            network(NetworkMode::None, MacAddress::Auto),
        ];
        let (mut vmx, mut gaps) = (Vmx::new(), Vec::new());
        networks(&machine, &mut vmx, &mut gaps).unwrap();
        let read = parse_vmx(&vmx.finish().unwrap());
        for (index, connection) in ["nat", "hostonly", "bridged", "hostonly"]
            .iter()
            .enumerate()
        {
            assert_eq!(
                read[&format!("ethernet{index}.connectiontype")],
                *connection
            );
            assert_eq!(read[&format!("ethernet{index}.virtualdev")], "e1000e");
        }
        assert_eq!(read["ethernet3.startconnected"], "FALSE");
        assert_eq!(read["ethernet1.address"], "00:50:56:3f:ff:ff");
        assert_eq!(read["ethernet2.checkmacaddress"], "FALSE");
        assert!(!read.contains_key("ethernet1.checkmacaddress"));
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].key, "hardware.network.2.mac");
    }

    #[test]
    fn more_adapters_than_there_are_is_refused() {
        let mut machine = machine(Controller::Sata);
        machine.spec.hardware.network = vec![network(NetworkMode::Nat, MacAddress::Auto); 11];
        let error = networks(&machine, &mut Vmx::new(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn an_arm_guest_with_a_window_keeps_its_keyboard() {
        let mut machine = machine(Controller::Sata);
        let present = |machine: &Resolved| {
            let mut vmx = Vmx::new();
            others(machine, &mut vmx);
            let read = parse_vmx(&vmx.finish().unwrap());
            (
                read["usb_xhci.present"].clone(),
                read["usb.restrictions.defaultallow"].clone(),
            )
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        machine.spec.hardware.display = Display::Window;
        assert_eq!(present(&machine), pair("FALSE", "FALSE"));
        machine.spec.guest.arch = Arch::Aarch64;
        assert_eq!(present(&machine), pair("TRUE", "FALSE"));
        machine.spec.policy.usb = Switch::On;
        assert_eq!(present(&machine), pair("TRUE", "TRUE"));
    }
}

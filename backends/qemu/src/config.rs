//! The translate half: a resolved machine as QEMU's argument vector. Pure.
//!
//! What only the host can know is left to the control half, which adds it at start: accelerator,
//! QMP sockets, the window system, the sound system, and where the UEFI firmware is. Disks are in
//! [`crate::disks`], policies and other gaps in [`crate::gaps`].

use std::path::PathBuf;

use serde_json::json;
use stratavm::capability::Capabilities;
use stratavm::identity::mac_text;
use stratavm::plan::PlanFile;
use stratavm::spec::{
    Arch, Audio, Clock, Console, Display, Firmware, GuestOs, NetworkMode, Switch,
};
use stratavm::{Error, ErrorKind, Plan, Resolved, Result};

use crate::argv::{Argv, list, path_text};
use crate::board::{self, Board};
use crate::{backend, detect, disks, gaps};

/// The node of the firmware's code; the control half puts the installed file's path in.
pub(crate) const FIRMWARE_CODE: &str = "firmware-code";
/// The node of the firmware's variables; the control half copies the clean file there.
pub(crate) const FIRMWARE_VARS: &str = "firmware-vars";
/// The sound back end that the control half adds.
pub(crate) const SOUND: &str = "sound";
/// The character device of the first serial port.
pub(crate) const CONSOLE: &str = "console";
/// The console's last property: what earlier runs said stays.
pub(crate) const APPEND: &str = ",append=on";

/// Makes the plan.
pub(crate) fn translate(machine: &Resolved, capabilities: &Capabilities) -> Result<Plan> {
    let spec = &machine.spec;
    let (guest, hardware) = (&spec.guest, &spec.hardware);
    let board = Board::of(guest.arch, hardware)?;
    let mut plan = Plan::new(backend::PRODUCT, format!("QEMU {}", detect::MINIMUM));
    let mut argv = Argv::new(board.program());

    argv.flag("-nodefaults");
    argv.flag("-no-user-config");
    argv.option("-name", list("", &[("guest", spec.display_name())]));
    argv.option("-uuid", machine.identity.uuid().to_string());
    argv.option("-machine", machine_type(machine, board));
    argv.option("-cpu", cpu(board));
    let cpus = hardware.cpus.to_string();
    let sockets = [
        ("cpus", cpus.as_str()),
        ("sockets", "1"),
        ("cores", &cpus),
        ("threads", "1"),
    ];
    argv.option("-smp", list("", &sockets));
    argv.option(
        "-m",
        list("", &[("size", &format!("{}M", hardware.memory.mib()))]),
    );
    // Nothing but what the boot order names is started from.
    argv.option("-boot", "strict=on");
    argv.option(
        "-action",
        "reboot=shutdown,shutdown=poweroff,panic=shutdown",
    );
    argv.option(
        "-rtc",
        match hardware.clock {
            Clock::Local => "base=localtime",
            _ => "base=utc",
        },
    );
    if hardware.firmware == Firmware::Uefi {
        firmware(&mut argv, machine)?;
    }
    if spec.policy.suspend == Switch::Off {
        no_sleep(&mut argv, board);
    }
    if guest.os == GuestOs::Linux {
        panic_device(&mut argv, board);
    }
    console(&mut argv, machine)?;
    screen(&mut argv, machine, board);
    if hardware.audio == Audio::On {
        device_at(
            &mut argv,
            "intel-hda",
            board,
            board::AUDIO,
            &[("id", "hda")],
        );
        argv.device("hda-output", &[("bus", "hda.0"), ("audiodev", SOUND)]);
    }
    if spec.policy.usb == Switch::On {
        device_at(&mut argv, "qemu-xhci", board, board::USB, &[("id", "usb")]);
    }
    network(&mut argv, machine, board)?;
    plan.disks = disks::attach(&mut argv, machine, board, capabilities)?;
    plan.argv = argv.into_vec();
    let arguments = arguments_file(machine, &plan.argv)?;
    // QEMU opens no file of ours; this one is written last, as the mark that all the rest is there.
    plan.entry = Some(arguments.path.clone());
    plan.files.push(arguments);
    plan.gaps = gaps::gaps(machine, board);
    plan.notes = notes(machine);
    Ok(plan)
}

fn machine_type(machine: &Resolved, board: Board) -> String {
    let mut text = board.machine().to_owned();
    if machine.spec.hardware.firmware == Firmware::Uefi {
        text.push_str(&format!(",pflash0={FIRMWARE_CODE},pflash1={FIRMWARE_VARS}"));
    }
    text
}

fn cpu(board: Board) -> &'static str {
    match board {
        Board::Pc | Board::Q35 => "max",
        // QEMU's own pointer authentication: the architected one is very slow to emulate.
        Board::Virt => "max,pauth-impdef=on",
    }
}

fn firmware(argv: &mut Argv, machine: &Resolved) -> Result<()> {
    let code = match machine.spec.guest.arch {
        Arch::Aarch64 => "edk2-aarch64-code.fd",
        _ => "edk2-x86_64-code.fd",
    };
    let vars = firmware_vars(machine);
    for (node, path, read_only) in [
        (FIRMWARE_CODE, code, true),
        (FIRMWARE_VARS, path_text(&vars)?, false),
    ] {
        let file = json!({ "driver": "file", "filename": path });
        argv.blockdev(&json!({
            "driver": "raw", "node-name": node, "read-only": read_only, "file": file,
        }));
    }
    Ok(())
}

fn firmware_vars(machine: &Resolved) -> PathBuf {
    machine.paths.config.join("firmware-vars.fd")
}

/// A guest that sleeps would look like one that hangs; a machine that may not be suspended does not
/// offer it.
fn no_sleep(argv: &mut Argv, board: Board) {
    let bridge = match board {
        Board::Pc => "PIIX4_PM",
        Board::Q35 => "ICH9-LPC",
        Board::Virt => return,
    };
    argv.option("-global", format!("{bridge}.disable_s3=1"));
    argv.option("-global", format!("{bridge}.disable_s4=1"));
}

/// Linux tells this device about a panic, which ends the run as a crash.
fn panic_device(argv: &mut Argv, board: Board) {
    match board {
        Board::Pc | Board::Q35 => argv.device("pvpanic", &[]),
        Board::Virt => {}
    }
}

/// The arguments as a file, so that what was translated can be read and started by hand.
fn arguments_file(machine: &Resolved, argv: &[String]) -> Result<PlanFile> {
    let path = machine
        .paths
        .config
        .join(format!("{}.argv.json", machine.spec.name));
    let mut text = serde_json::to_string_pretty(argv)
        .map_err(|error| Error::invalid("the arguments do not fit into JSON").caused_by(error))?;
    text.push('\n');
    Ok(PlanFile::text(path, text))
}

fn console(argv: &mut Argv, machine: &Resolved) -> Result<()> {
    if machine.spec.hardware.console != Console::Log {
        argv.option("-serial", "none");
        return Ok(());
    }
    let path = path_text(&machine.paths.console)?;
    let mut file = list("file", &[("id", CONSOLE), ("path", path)]);
    file.push_str(APPEND);
    argv.option("-chardev", file);
    argv.option("-serial", format!("chardev:{CONSOLE}"));
    Ok(())
}

fn screen(argv: &mut Argv, machine: &Resolved, board: Board) {
    let hardware = &machine.spec.hardware;
    if hardware.display == Display::None {
        argv.option("-display", "none");
    }
    match board {
        Board::Pc | Board::Q35 => {
            let memory = gaps::vga_memory(hardware.video_memory).to_string();
            device_at(
                argv,
                "VGA",
                board,
                board::GRAPHICS,
                &[("vgamem_mb", &memory)],
            );
        }
        Board::Virt => {
            device_at(argv, "virtio-gpu-pci", board, board::GRAPHICS, &[]);
            device_at(argv, "virtio-keyboard-pci", board, board::KEYBOARD, &[]);
            device_at(argv, "virtio-tablet-pci", board, board::POINTER, &[]);
        }
    }
}

fn network(argv: &mut Argv, machine: &Resolved, board: Board) -> Result<()> {
    let driver = match (machine.spec.guest.os, board) {
        (GuestOs::Linux, _) | (_, Board::Virt) => "virtio-net-pci",
        (_, Board::Pc) => "e1000",
        (_, Board::Q35) => "e1000e",
    };
    let mut bridged = None;
    for (index, adapter) in machine.spec.hardware.network.iter().enumerate() {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let place = board.numbered(&board::NETWORK, number).ok_or_else(|| {
            let most = board::NETWORK.capacity();
            let message = format!("hardware.network: QEMU has room for {most} adapters");
            Error::new(ErrorKind::Unsupported, message)
        })?;
        if let Some(bridge) = place.bridge.clone().filter(|b| bridged.as_ref() != Some(b)) {
            let (driver, properties) = bridge.device();
            argv.device(driver, &disks::borrowed(&properties));
            bridged = Some(bridge);
        }
        let (bus, addr) = place.properties();
        let (backend, mac) = (
            format!("net{index}"),
            mac_text(machine.identity.mac(index, adapter)),
        );
        // No boot ROM: nothing is started from the network.
        let mut properties = vec![
            ("mac", mac.as_str()),
            ("bus", &bus),
            ("addr", &addr),
            ("romfile", ""),
        ];
        let restrict = match adapter.mode {
            NetworkMode::None => None,
            NetworkMode::HostOnly => Some("on"),
            _ => Some("off"),
        };
        if let Some(restrict) = restrict {
            argv.option(
                "-netdev",
                list("user", &[("id", &backend), ("restrict", restrict)]),
            );
            properties.push(("netdev", &backend));
        }
        argv.device(driver, &properties);
    }
    Ok(())
}

fn device_at(argv: &mut Argv, driver: &str, board: Board, address: u8, more: &[(&str, &str)]) {
    let (bus, addr) = board.fixed(address).properties();
    let mut properties = vec![("bus", bus.as_str()), ("addr", addr.as_str())];
    properties.extend_from_slice(more);
    argv.device(driver, &properties);
}

fn notes(machine: &Resolved) -> Vec<String> {
    let hardware = &machine.spec.hardware;
    let mut notes = Vec::new();
    if let stratavm::identity::Identity::Preview(_) = machine.identity {
        notes.push("preview ids: they change when a machine is created from this spec".to_owned());
    }
    notes.push("start adds what only the host knows: -accel, the QMP sockets".to_owned());
    if hardware.display == Display::Window {
        notes.push("start adds -display with the host's window system".to_owned());
    }
    if hardware.audio == Audio::On {
        notes.push(format!(
            "start adds -audiodev for id {SOUND} with the host's sound system"
        ));
    }
    if hardware.firmware == Firmware::Uefi {
        notes.push(format!(
            "start puts the installed firmware into node {FIRMWARE_CODE} and a clean copy of its \
             variables where node {FIRMWARE_VARS} is"
        ));
    }
    notes
}

//! Rules of the `[hardware]` table.

use std::ops::RangeInclusive;

use super::{stepped, text};
use crate::spec::collect::Collector;
use crate::spec::fault::KeyPath;
use crate::spec::{
    Arch, BootDevice, Controller, Firmware, Hardware, MacAddress, SecureBoot, Size, Tpm, VmSpec,
};

/// Virtual processors.
pub(in crate::spec) const CPUS: RangeInclusive<u32> = 1..=64;
/// Memory.
const MEMORY: (Size, Size) = (Size::from_mib(16), Size::from_mib(1 << 20));
/// What memory is a multiple of: the unit of VMware's `memsize`.
const MEMORY_STEP: Size = Size::from_mib(4);
/// Memory of the graphics adapter; VirtualBox takes no more.
const VIDEO_MEMORY: (Size, Size) = (Size::from_mib(1), Size::from_mib(256));
/// Network adapters; VirtualBox's default chip set takes no more.
const MOST_ADAPTERS: usize = 8;
/// CD-ROM drives: they take the last two of the four IDE ports.
const MOST_DRIVES: usize = 2;

pub(super) fn check(out: &mut Collector, spec: &VmSpec) {
    let (hardware, path) = (&spec.hardware, KeyPath::default().key("hardware"));
    if out.trusts(&path.key("cpus")) && !CPUS.contains(&hardware.cpus) {
        let message = format!(
            "{} is not between {} and {}",
            hardware.cpus,
            CPUS.start(),
            CPUS.end()
        );
        out.fault(&path.key("cpus"), message);
    }
    stepped(
        out,
        &path.key("memory"),
        hardware.memory,
        MEMORY_STEP,
        MEMORY,
    );
    let video = &path.key("video-memory");
    stepped(
        out,
        video,
        hardware.video_memory,
        Size::from_mib(1),
        VIDEO_MEMORY,
    );
    firmware(out, spec, &path);
    boot(out, hardware, &path);
    networks(out, hardware, &path.key("network"));
    drives(out, hardware, &path.key("cdrom"));
}

fn firmware(out: &mut Collector, spec: &VmSpec, path: &KeyPath) {
    let (hardware, key) = (&spec.hardware, path.key("firmware"));
    if !out.trusts(&key) {
        return;
    }
    let uefi = hardware.firmware == Firmware::Uefi;
    let needs_uefi = |what: &str| format!("{what} needs firmware = \"uefi\"");
    if hardware.secure_boot == SecureBoot::On && !uefi && out.trusts(&path.key("secure-boot")) {
        out.fault(&path.key("secure-boot"), needs_uefi("secure boot"));
    }
    if hardware.tpm == Tpm::V2 && !uefi && out.trusts(&path.key("tpm")) {
        out.fault(&path.key("tpm"), needs_uefi("a TPM 2.0"));
    }
    if !out.trusts(&KeyPath::default().key("guest").key("arch")) {
        return;
    }
    let arm = spec.guest.arch == Arch::Aarch64;
    if arm && !uefi {
        out.suggest(&key, "aarch64 has no BIOS", Some("\"uefi\"".to_owned()));
    }
    if uefi || arm {
        let reason = if arm {
            "aarch64 has no IDE"
        } else {
            "IDE disks need firmware = \"bios\""
        };
        for key in ide_keys(spec) {
            if out.trusts(&key) {
                out.suggest(&key, reason, Some("\"sata\"".to_owned()));
            }
        }
    }
}

/// Every key that asks for IDE.
fn ide_keys(spec: &VmSpec) -> Vec<KeyPath> {
    let machine = (spec.hardware.controller == Controller::Ide)
        .then(|| KeyPath::default().key("hardware").key("controller"));
    let layers = KeyPath::default().key("layer");
    let asks = |(index, layer): (usize, &crate::spec::LayerSpec)| {
        (layer.controller == Some(Controller::Ide)).then(|| layers.index(index).key("controller"))
    };
    machine
        .into_iter()
        .chain(spec.layers.iter().enumerate().filter_map(asks))
        .collect()
}

fn boot(out: &mut Collector, hardware: &Hardware, path: &KeyPath) {
    let boot = path.key("boot");
    if !out.is_clean(&boot) {
        return;
    }
    if hardware.boot.is_empty() {
        out.suggest(
            &boot,
            "there is nothing to boot from",
            Some("[\"disk\"]".to_owned()),
        );
    }
    for (index, device) in hardware.boot.iter().enumerate() {
        if hardware.boot[..index].contains(device) {
            out.fault(
                &boot.index(index),
                format!("{:?} is there twice", device.as_str()),
            );
        }
    }
    let cdrom = hardware
        .boot
        .iter()
        .position(|device| *device == BootDevice::Cdrom);
    if let Some(index) = cdrom
        && hardware.cdrom.is_empty()
        && out.is_clean(&path.key("cdrom"))
    {
        out.fault(
            &boot.index(index),
            "\"cdrom\" needs a table [[hardware.cdrom]]",
        );
    }
}

fn networks(out: &mut Collector, hardware: &Hardware, path: &KeyPath) {
    let count = hardware.network.len();
    if count > MOST_ADAPTERS {
        let message = format!("{count} network adapters are more than {MOST_ADAPTERS}");
        out.fault(&path.index(MOST_ADAPTERS), message);
    }
    for (index, adapter) in hardware.network.iter().enumerate() {
        let earlier = &hardware.network[..index];
        let same = earlier.iter().position(|other| other.mac == adapter.mac);
        if let (MacAddress::Fixed(_), Some(same)) = (adapter.mac, same) {
            let message = format!(
                "{} has the address {} already",
                path.index(same),
                adapter.mac
            );
            out.fault(&path.index(index).key("mac"), message);
        }
    }
}

fn drives(out: &mut Collector, hardware: &Hardware, path: &KeyPath) {
    let count = hardware.cdrom.len();
    if count > MOST_DRIVES {
        let message = format!("{count} CD-ROM drives are more than {MOST_DRIVES}");
        out.fault(&path.index(MOST_DRIVES), message);
    }
    for (index, drive) in hardware.cdrom.iter().enumerate() {
        text::medium(out, &path.index(index).key("image"), &drive.image);
    }
}

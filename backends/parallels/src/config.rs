//! The `config.pvs` of a machine, put together in the order in which Parallels writes it.
//!
//! Only what carries a meaning here is written; Parallels gives defaults to what is missing.
//! Expiration, encryption and passwords are never written by hand: they need hashes that Parallels
//! makes.

use std::path::Path;

use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Arch, BootDevice, Clock, Display, Firmware, SecureBoot, Switch};
use stratavm::{Error, ErrorKind, Resolved, Result};
use uuid::Uuid;

use crate::disks::Attached;
use crate::facts::{self, Fit, GuestChoice};
use crate::policy::on;
use crate::xml::{Element, value};
use crate::{devices, policy};

/// A finished configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The text of `config.pvs`.
    pub(crate) text: String,
    /// What Parallels does not do, or not by itself.
    pub(crate) gaps: Vec<Gap>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// Makes the configuration of `machine`, whose bundle is the folder `pvm`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with the spec's key for what Parallels lacks and the guest needs;
/// [`ErrorKind::Invalid`] for a value that no XML can hold.
pub(crate) fn config(machine: &Resolved, attached: &Attached, pvm: &Path) -> Result<Config> {
    check(machine)?;
    let spec = &machine.spec;
    let guest = facts::guest(spec.guest.id.as_deref(), spec.guest.os);
    let mut gaps = policy::clean_boots(spec);
    if guest.fit == Fit::KindOnly {
        let wanted = spec.guest.id.as_deref().unwrap_or_default();
        let reason = format!(
            "no identifier is known for it; OsNumber {} is used",
            guest.number
        );
        gaps.push(Gap::new(
            "guest.id",
            wanted.escape_debug().to_string(),
            Grade::None,
            reason,
        ));
    }
    let hardware = devices::hardware(machine, attached, pvm, &mut gaps)?;
    clock(spec.hardware.clock, &mut gaps);
    gaps.extend(policy::gaps(spec));

    let root = Element::group(
        "ParallelsVirtualMachine",
        "VirtualAppliance 0",
        vec![
            value("AppVersion", facts::APP_VERSION),
            value("ValidRc", 0),
            identification(machine),
            settings(machine, attached, guest),
            hardware,
            value("InstalledSoftware", 0),
        ],
    );
    let text = root.with("schemaVersion", "1.0").document()?;
    Ok(Config {
        text,
        gaps,
        notes: notes(machine, attached),
    })
}

fn check(machine: &Resolved) -> Result<()> {
    let (guest, hardware) = (&machine.spec.guest, &machine.spec.hardware);
    let refuse = |what: &str| {
        let next = "set hardware.firmware = \"uefi\"";
        Err(Error::new(ErrorKind::Unsupported, what).next(next))
    };
    if guest.arch == Arch::Aarch64 && hardware.firmware != Firmware::Uefi {
        return refuse("hardware.firmware = bios: an aarch64 machine has UEFI only");
    }
    if hardware.secure_boot == SecureBoot::On && hardware.firmware != Firmware::Uefi {
        return refuse("hardware.secure-boot = true: a BIOS has no secure boot");
    }
    Ok(())
}

fn braced(id: Uuid) -> String {
    format!("{{{id}}}")
}

fn identification(machine: &Resolved) -> Element {
    let id = braced(machine.identity.uuid());
    Element::group(
        "Identification",
        "",
        vec![
            value("VmUuid", &id),
            value("VmType", 0),
            value("SourceVmUuid", &id),
            value("LinkedVmUuid", ""),
            value("LinkedSnapshotUuid", ""),
            value("VmName", machine.spec.display_name()),
            value("ServerUuid", ""),
            value("LastServerUuid", ""),
            value("ServerHost", ""),
            value("VmFilesLocation", 1),
            // A plan knows no clock.
            value("VmCreationDate", facts::NEVER),
            value("VmUptimeStartDateTime", facts::NEVER),
            value("VmUptimeInSeconds", 0),
        ],
    )
}

fn settings(machine: &Resolved, attached: &Attached, guest: GuestChoice) -> Element {
    let spec = &machine.spec;
    let general = Element::group(
        "General",
        "PrevOsNumber",
        vec![
            value("OsType", guest.kind()),
            value("OsNumber", guest.number),
            value("VmDescription", ""),
            value("IsTemplate", 0),
        ],
    );
    let mut runtime = vec![
        // Undoing is for all disks or none; ours are made anew one by one.
        value("UndoDisks", 0),
        value("SafeMode", 0),
        value("UseDefaultAnswers", 1),
        value("CompactMode", 0),
        value("PauseOnDeactivation", 0),
    ];
    if spec.guest.arch == Arch::Aarch64 {
        runtime.push(value("HypervisorType", facts::HYPERVISOR_ARM));
    }
    let runtime = Element::group("Runtime", "", runtime).migrated(&[
        ("HypervisorType_patch", ""),
        ("CompactMode_patch", "1"),
        ("UndoDisks_patch", "1"),
    ]);
    let off = || vec![value("Enabled", 0)];
    let mut children = vec![
        general,
        startup(machine, attached),
        shutdown(machine),
        runtime,
        policy::tools(&spec.policy),
        Element::group("Autoprotect", "", off()).migrated(&[("Period_patch", "1")]),
        Element::group("AutoCompress", "", off()).migrated(&[("Enabled_patch", "1")]),
    ];
    children.extend(policy::shared_devices(spec));
    let compact = Element::group("OnlineCompact", "", vec![value("Mode", 0)]);
    children.push(compact.migrated(&[("Mode_patch", "")]));
    Element::group("Settings", "", children)
}

fn startup(machine: &Resolved, attached: &Attached) -> Element {
    let hardware = &machine.spec.hardware;
    let window = match hardware.display {
        Display::Window => facts::WINDOW_DEFAULT,
        _ => facts::WINDOW_HEADLESS,
    };
    let efi = match (hardware.firmware, machine.spec.guest.arch) {
        (Firmware::Uefi, Arch::Aarch64) => facts::EFI_ARM,
        (Firmware::Uefi, _) => facts::EFI_X86,
        _ => facts::EFI_OFF,
    };
    let bios = Element::group(
        "Bios",
        "",
        vec![
            value("EfiEnabled", efi),
            value("EfiSecureBoot", on(hardware.secure_boot == SecureBoot::On)),
        ],
    );
    Element::group(
        "Startup",
        "",
        vec![
            value("AutoStart", 0),
            value("WindowMode", window),
            boot_order(machine, attached),
            value("AllowSelectBootDevice", 0),
            bios.migrated(&[("EfiEnabled_patch", "")]),
        ],
    )
    .migrated(&[("AutoStart_patch", "2"), ("BootingOrder_patch", "1")])
}

/// What closing the window and shutting the Mac down do: Parallels' own choice is to suspend.
fn shutdown(machine: &Resolved) -> Element {
    let spec = &machine.spec;
    let (stop, close) = match spec.policy.suspend {
        Switch::On => (facts::AUTO_STOP_SUSPEND, facts::CLOSE_SUSPEND),
        _ => (facts::AUTO_STOP_SHUTDOWN, facts::CLOSE_SHUTDOWN),
    };
    let close = match spec.hardware.display {
        Display::Window => close,
        _ => facts::CLOSE_NOTHING,
    };
    let children = vec![value("AutoStop", stop), value("OnVmWindowClose", close)];
    Element::group("Shutdown", "", children).migrated(&[("OnVmWindowClose_patch", "3")])
}

/// The devices that the spec boots from, in order; then those that it does not, switched off.
fn boot_order(machine: &Resolved, attached: &Attached) -> Element {
    let disk = attached.boot.map(|index| (facts::BOOT_DISK, index));
    let cdrom = (!attached.drives.is_empty()).then_some((facts::BOOT_CDROM, 0));
    let wanted: Vec<_> = machine
        .spec
        .hardware
        .boot
        .iter()
        .filter_map(|device| {
            if *device == BootDevice::Cdrom {
                cdrom
            } else {
                disk
            }
        })
        .collect();
    let rest: Vec<_> = [disk, cdrom]
        .into_iter()
        .flatten()
        .filter(|d| !wanted.contains(d))
        .collect();
    let entry = |(id, (kind, index), used): (usize, (u32, usize), u32)| {
        Element::group(
            "BootDevice",
            "",
            vec![
                value("Index", index),
                value("Type", kind),
                value("BootingNumber", id + 1),
                value("InUse", used),
            ],
        )
        .with("id", id)
    };
    let used = wanted.into_iter().map(|device| (device, 1));
    let all = used
        .chain(rest.into_iter().map(|device| (device, 0)))
        .enumerate();
    let entries: Vec<_> = all
        .map(|(id, (device, used))| entry((id, device, used)))
        .collect();
    Element::group(
        "BootingOrder",
        &format!("BootDevice {}", entries.len()),
        entries,
    )
}

fn clock(clock: Clock, gaps: &mut Vec<Gap>) {
    gaps.push(Gap::new(
        "hardware.clock",
        clock.as_str(),
        Grade::None,
        "config.pvs has no setting for it: Parallels chooses by the kind of guest, local time for \
         Windows and universal time for Linux",
    ));
}

fn notes(machine: &Resolved, attached: &Attached) -> Vec<String> {
    let mut notes = Vec::new();
    let host = if machine.spec.guest.arch == Arch::Aarch64 {
        "Apple silicon"
    } else {
        "an Intel Mac"
    };
    notes.push(format!("this machine runs on {host} only"));
    if !machine.spec.hardware.network.is_empty() {
        notes.push(
            "not proved: that Parallels takes adapter addresses outside its own 00:1c:42"
                .to_owned(),
        );
    }
    if attached
        .places
        .iter()
        .any(|place| place.interface == facts::INTERFACE_NVME)
    {
        notes.push(
            "not proved: that InterfaceType 3 is NVMe, and how many disks it takes".to_owned(),
        );
    }
    notes.push(
        "not proved: that Parallels takes images outside the bundle, named by DiskDescriptor.xml"
            .to_owned(),
    );
    notes
}

//! The `.vmx` file of a machine, put together.

use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Arch, BootDevice, Clock, Firmware, SecureBoot, Tpm};
use stratavm::{Error, ErrorKind, Resolved, Result};
use uuid::Uuid;

use crate::disks::Attached;
use crate::facts::{self, Fit, HardwareVersion, key};
use crate::vmx::{FALSE, TRUE, Vmx};
use crate::{devices, policy};

/// A finished configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The text of the `.vmx` file.
    pub(crate) text: String,
    /// The first products that take it.
    pub(crate) needs: &'static str,
    /// What the products do not do, or not by themselves.
    pub(crate) gaps: Vec<Gap>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// Makes the configuration of `machine`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with the spec's key for what VMware lacks and the guest needs;
/// [`ErrorKind::Invalid`] for a value that no `.vmx` file can hold.
pub(crate) fn config(machine: &Resolved, attached: &Attached) -> Result<Config> {
    check(machine)?;
    let spec = &machine.spec;
    let guest = facts::guest_id(spec.guest.id.as_deref(), spec.guest.os, spec.guest.arch);
    let version = HardwareVersion::at_least(guest.hardware);
    let (mut vmx, mut gaps) = (Vmx::new(), Vec::new());

    policy::clean_boots(spec, &mut gaps);
    if guest.fit == Fit::KindOnly {
        let wanted = spec.guest.id.as_deref().unwrap_or_default();
        let reason = format!("no identifier is known for it; {} is used", guest.value);
        gaps.push(Gap::new(
            "guest.id",
            wanted.escape_debug().to_string(),
            Grade::None,
            reason,
        ));
    }
    vmx.set("config.version", "8");
    vmx.number("virtualHW.version", version.number.into());
    vmx.set("virtualHW.productCompatibility", "hosted");
    vmx.set("displayName", spec.display_name());
    vmx.set("guestOS", guest.value);
    identity(machine.identity.uuid(), &mut vmx);
    processor_and_memory(machine, &mut vmx);
    firmware(machine, attached, &mut vmx, &mut gaps);
    bridges(machine, &mut vmx);
    attached.write(machine, &mut vmx)?;
    devices::networks(machine, &mut vmx, &mut gaps)?;
    devices::console(machine, &mut vmx)?;
    devices::others(machine, &mut vmx);
    policy::write(spec, &mut vmx, &mut gaps);
    unattended(&mut vmx);
    tpm(spec.hardware.tpm, &mut gaps);
    let notes = notes(machine);
    Ok(Config {
        text: vmx.finish()?,
        needs: version.products(spec.guest.arch),
        gaps,
        notes,
    })
}

fn check(machine: &Resolved) -> Result<()> {
    let (guest, hardware) = (&machine.spec.guest, &machine.spec.hardware);
    let refuse = |what: &str, next: &str| Err(Error::new(ErrorKind::Unsupported, what).next(next));
    if guest.arch == Arch::Aarch64 && hardware.firmware != Firmware::Uefi {
        let what = "hardware.firmware = bios: an aarch64 machine has UEFI only";
        return refuse(what, "set hardware.firmware = \"uefi\"");
    }
    if hardware.secure_boot == SecureBoot::On && hardware.firmware != Firmware::Uefi {
        let what = "hardware.secure-boot = true: a BIOS has no secure boot";
        return refuse(what, "set hardware.firmware = \"uefi\"");
    }
    if !hardware.memory.bytes().is_multiple_of(4 << 20) {
        let what = "hardware.memory: VMware takes multiples of 4 MiB only";
        return refuse(what, "round it up");
    }
    Ok(())
}

fn identity(id: Uuid, vmx: &mut Vmx) {
    let hex: Vec<_> = id
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = format!("{}-{}", hex[..8].join(" "), hex[8..].join(" "));
    vmx.set("uuid.bios", &text);
    vmx.set("uuid.location", &text);
    // Whether the machine was moved or copied is our business: never ask, never draw a new one.
    vmx.set("uuid.action", "keep");
}

fn processor_and_memory(machine: &Resolved, vmx: &mut Vmx) {
    let hardware = &machine.spec.hardware;
    vmx.number("numvcpus", hardware.cpus.into());
    // One socket: desktop Windows takes two at most, and it always divides the number.
    vmx.number("cpuid.coresPerSocket", hardware.cpus.into());
    vmx.number("memsize", hardware.memory.mib());
    if hardware.clock == Clock::Utc {
        vmx.set(key::RTC_FROM_UTC, "0");
    }
    vmx.set("tools.syncTime", FALSE);
    vmx.set("tools.upgrade.policy", "manual");
    vmx.set("tools.remindInstall", FALSE);
}

fn firmware(machine: &Resolved, attached: &Attached, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    let hardware = &machine.spec.hardware;
    vmx.set("nvram", format!("{}.nvram", machine.spec.name));
    let order: Vec<_> = hardware
        .boot
        .iter()
        .map(|device| {
            if *device == BootDevice::Cdrom {
                "cdrom"
            } else {
                "hdd"
            }
        })
        .collect();
    vmx.set(key::BOOT_ORDER, order.join(","));
    if let Some(place) = attached.boot {
        vmx.set(key::BIOS_DISK_ORDER, place.to_string());
    }
    if hardware.firmware != Firmware::Uefi {
        // A BIOS is what there is without the key; VMware writes none then, and libvirt takes none.
        return;
    }
    vmx.set("firmware", "efi");
    let secure = if hardware.secure_boot == SecureBoot::On {
        TRUE
    } else {
        FALSE
    };
    vmx.set("uefi.secureBoot.enabled", secure);
    if hardware.boot != [BootDevice::Disk] {
        gaps.push(Gap::new(
            "hardware.boot",
            hardware
                .boot
                .iter()
                .map(|device| device.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            Grade::None,
            "UEFI keeps an order of its own in its NVRAM; that it follows bios.bootOrder is not \
             proved here",
        ));
    }
}

/// PCI Express ports: without them pvscsi, NVMe, e1000e and xHCI have no slot. VMware chooses the
/// slots itself.
fn bridges(machine: &Resolved, vmx: &mut Vmx) {
    vmx.set("pciBridge0.present", TRUE);
    for bridge in 4..=7 {
        let name = format!("pciBridge{bridge}");
        vmx.set(&format!("{name}.present"), TRUE);
        vmx.set(&format!("{name}.virtualDev"), "pcieRootPort");
        vmx.set(&format!("{name}.functions"), "8");
    }
    vmx.set("vmci0.present", TRUE);
    if machine.spec.guest.arch == Arch::X86_64 {
        vmx.set("hpet0.present", TRUE);
    }
}

/// No question without anybody to answer it, and power operations that the guest hears of.
fn unattended(vmx: &mut Vmx) {
    vmx.set("msg.autoAnswer", TRUE);
    vmx.set("hints.hideAll", TRUE);
    for operation in ["powerOn", "powerOff", "suspend", "reset"] {
        vmx.set(&format!("powerType.{operation}"), "soft");
    }
}

fn tpm(tpm: Tpm, gaps: &mut Vec<Gap>) {
    if tpm != Tpm::Off {
        gaps.push(Gap::new(
            "hardware.tpm",
            tpm.as_str(),
            Grade::None,
            "VMware gives a TPM to encrypted machines only, and an encrypted configuration cannot \
             be written from here: there is none",
        ));
    }
}

fn notes(machine: &Resolved) -> Vec<String> {
    let hardware = &machine.spec.hardware;
    let mut notes = Vec::new();
    if hardware.cpus > facts::MOST_CPUS || hardware.memory.mib() > facts::MOST_MEMORY_MIB {
        notes.push(format!(
            "these products are documented to run at most {} processors and {} GiB in one machine",
            facts::MOST_CPUS,
            facts::MOST_MEMORY_MIB / 1024
        ));
    }
    if machine.spec.guest.arch == Arch::Aarch64 {
        notes.push("aarch64 machines run in Fusion on Apple silicon only".to_owned());
    }
    notes
}

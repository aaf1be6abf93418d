//! Where disks and CD-ROM drives are attached.

use std::collections::BTreeSet;
use std::fmt;

use stratavm::capability::Capabilities;
use stratavm::chain::Family;
use stratavm::plan::PlanDisk;
use stratavm::spec::{Arch, Controller, Firmware, Role};
use stratavm::{Error, ErrorKind, Resolved, Result};

use crate::facts;

/// A place on a bus; disks and CD-ROM drives share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The value of `InterfaceType`.
    pub(crate) interface: u32,
    /// The value of `StackIndex`, unique on each bus.
    pub(crate) stack: u32,
}

impl Place {
    /// The place of slot `slot` on the controller `kind`; `None` where there is no such slot.
    fn of(kind: Controller, slot: u32) -> Option<Self> {
        let place = |interface| {
            Some(Self {
                interface,
                stack: slot,
            })
        };
        match kind {
            Controller::Ide if slot < facts::IDE_UNITS => place(facts::INTERFACE_IDE),
            Controller::Sata if slot < facts::SATA_PORTS => place(facts::INTERFACE_SATA),
            // Unit 7 is the adapter itself.
            Controller::Scsi if slot <= facts::SCSI_UNITS && slot != 7 => {
                place(facts::INTERFACE_SCSI)
            }
            Controller::Nvme if slot < facts::NVME_UNITS => place(facts::INTERFACE_NVME),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bus = match self.interface {
            facts::INTERFACE_IDE => "ide",
            facts::INTERFACE_SCSI => "scsi",
            facts::INTERFACE_SATA => "sata",
            _ => "nvme",
        };
        write!(f, "{bus}:{}", self.stack)
    }
}

/// Everything that is attached to a disk adapter.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The disks, in the machine's order.
    pub(crate) disks: Vec<PlanDisk>,
    /// The place of each disk.
    pub(crate) places: Vec<Place>,
    /// The place of the drive of each medium.
    pub(crate) drives: Vec<Place>,
    /// Which of the disks the firmware boots from.
    pub(crate) boot: Option<usize>,
}

/// Finds a place for each disk and CD-ROM drive.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming the layer's key for a controller or slot that is not there;
/// [`ErrorKind::NeedsSwitch`] for a chain that Parallels does not read; [`ErrorKind::Invalid`] for
/// two disks in one place.
pub(crate) fn attach(machine: &Resolved, capabilities: &Capabilities) -> Result<Attached> {
    let (mut disks, mut places) = (Vec::new(), Vec::new());
    let mut taken = BTreeSet::new();
    for disk in &machine.disks {
        let key = |key: &str| format!("layer.{}.{key}", disk.name);
        if disk.chain.family != Family::Hds {
            let what = format!(
                "disk {} is kept in the {} family",
                disk.name, disk.chain.family
            );
            return Err(Error::new(ErrorKind::NeedsSwitch, what)
                .next("convert the machine first: stratavm switch NAME --to parallels"));
        }
        let (kind, slot) = match disk.controller {
            Controller::Auto => automatic(machine, disk.slot),
            kind => (kind, disk.slot),
        };
        let kind = capabilities
            .resolve_controller(kind, machine.spec.guest.os)
            .map_err(|error| error.during(format!("{} cannot be had", key("controller"))))?;
        check_kind(machine, kind, disk.role, &key("controller"))?;
        let place = Place::of(kind, slot).ok_or_else(|| {
            let what = format!("{} = {slot}: there is no such {kind} port", key("slot"));
            let known = capabilities.controller(kind).map_or(0, |known| known.disks);
            Error::new(ErrorKind::Unsupported, what).next(format!(
                "{kind} takes {known} disks: leave the controller of some layers out, or choose another"
            ))
        })?;
        if !taken.insert(place) {
            let what = format!("{}: another disk is at {place} already", key("slot"));
            return Err(Error::invalid(what));
        }
        let text = place.to_string();
        disks.push(PlanDisk::new(
            disk.name.clone(),
            kind,
            slot,
            text,
            disk.chain.clone(),
        ));
        places.push(place);
    }
    let mut drives = Vec::new();
    for index in 0..machine.media.len() {
        let place = free_drive(machine, &taken).ok_or_else(|| {
            let what = format!("hardware.cdrom.{index}: no port is left for the drive");
            Error::new(ErrorKind::Unsupported, what).next("remove a drive, or move a layer")
        })?;
        taken.insert(place);
        drives.push(place);
    }
    let boot = machine
        .disks
        .iter()
        .position(|disk| disk.role == Some(Role::Os));
    Ok(Attached {
        disks,
        places,
        drives,
        boot,
    })
}

/// SATA as long as it has ports; then SCSI, or on Apple silicon, which has none, NVMe.
const fn automatic(machine: &Resolved, slot: u32) -> (Controller, u32) {
    if slot < facts::SATA_PORTS {
        return (Controller::Sata, slot);
    }
    let further = slot - facts::SATA_PORTS;
    match machine.spec.guest.arch {
        Arch::Aarch64 => (Controller::Nvme, further),
        _ if further < 7 => (Controller::Scsi, further),
        _ => (Controller::Scsi, further + 1),
    }
}

fn check_kind(machine: &Resolved, kind: Controller, role: Option<Role>, key: &str) -> Result<()> {
    let firmware = machine.spec.hardware.firmware;
    let arm = machine.spec.guest.arch == Arch::Aarch64;
    let why = match kind {
        Controller::Ide if !has_ide(machine) => "there is IDE only on x86_64 with a BIOS",
        Controller::Scsi if arm => "there is no SCSI on Apple silicon",
        Controller::Nvme if role == Some(Role::Os) && firmware == Firmware::Bios => {
            "a BIOS does not boot from it"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Unsupported, format!("{key} = {kind}: {why}")).next("use sata"))
}

fn has_ide(machine: &Resolved) -> bool {
    machine.spec.guest.arch == Arch::X86_64 && machine.spec.hardware.firmware == Firmware::Bios
}

/// The place of the next CD-ROM drive: IDE slots 3 and 2 where there is IDE, then the first port
/// behind the taken ones of SATA and, on x86, of SCSI.
fn free_drive(machine: &Resolved, taken: &BTreeSet<Place>) -> Option<Place> {
    let ide = [3, 2].into_iter().filter(|_| has_ide(machine));
    let free = ide
        .filter_map(|slot| Place::of(Controller::Ide, slot))
        .find(|place| !taken.contains(place));
    let behind = |kind: Controller| {
        let bus = Place::of(kind, 0)?.interface;
        let last = taken
            .iter()
            .filter(|p| p.interface == bus)
            .map(|p| p.stack)
            .max();
        let next = last.map_or(0, |stack| stack + 1);
        Place::of(kind, next).or_else(|| Place::of(kind, next + 1))
    };
    let x86 = machine.spec.guest.arch == Arch::X86_64;
    free.or_else(|| behind(Controller::Sata))
        .or_else(|| x86.then(|| behind(Controller::Scsi)).flatten())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::capability::capabilities;
    use crate::testing::machine;

    fn fault(machine: &Resolved) -> Error {
        attach(machine, &capabilities()).unwrap_err()
    }

    fn places(machine: &Resolved) -> Vec<String> {
        let attached = attach(machine, &capabilities()).unwrap();
        attached.disks.into_iter().map(|disk| disk.place).collect()
    }

    #[test]
    fn automatic_disks_go_on_where_sata_ends() {
        let mut machine = machine(Controller::Auto);
        for (disk, slot) in machine.disks.iter_mut().zip([0, 5, 6, 12, 13]) {
            disk.slot = slot;
        }
        assert_eq!(
            places(&machine),
            ["sata:0", "sata:5", "scsi:0", "scsi:6", "scsi:8"]
        );
        machine.spec.guest.arch = Arch::Aarch64;
        machine.spec.hardware.firmware = Firmware::Uefi;
        machine.disks.truncate(3);
        assert_eq!(places(&machine), ["sata:0", "sata:5", "nvme:0"]);
    }

    #[test]
    fn drives_share_the_ports_with_disks() {
        let mut machine = machine(Controller::Sata);
        machine.media = vec!["a.iso".into(); 4];
        let drives = |machine: &Resolved| -> Vec<String> {
            let attached = attach(machine, &capabilities()).unwrap();
            attached.drives.iter().map(ToString::to_string).collect()
        };
        assert_eq!(drives(&machine), ["ide:3", "ide:2", "sata:5", "scsi:0"]);
        machine.spec.hardware.firmware = Firmware::Uefi;
        assert_eq!(drives(&machine), ["sata:5", "scsi:0", "scsi:1", "scsi:2"]);
        machine.spec.guest.arch = Arch::Aarch64;
        assert!(fault(&machine).to_string().contains("hardware.cdrom.1"));
    }

    #[test]
    fn what_cannot_be_attached_is_refused_by_key() {
        let virtio = fault(&machine(Controller::Virtio));
        assert_eq!(virtio.kind(), ErrorKind::Unsupported);
        assert!(
            virtio.to_string().contains("layer.os.controller"),
            "{virtio}"
        );
        assert!(
            fault(&machine(Controller::Nvme))
                .to_string()
                .contains("layer.os.controller = nvme")
        );

        let mut six = machine(Controller::Sata);
        six.disks[1].slot = 6;
        assert!(fault(&six).to_string().contains("layer.office.slot = 6"));

        let mut twice = machine(Controller::Sata);
        twice.disks[1].slot = 0;
        assert_eq!(fault(&twice).kind(), ErrorKind::Invalid);

        let mut arm = machine(Controller::Scsi);
        arm.spec.guest.arch = Arch::Aarch64;
        arm.spec.hardware.firmware = Firmware::Uefi;
        assert_eq!(fault(&arm).kind(), ErrorKind::Unsupported);

        let mut vmware = machine(Controller::Sata);
        vmware.disks[2].chain.family = Family::Vmdk;
        let error = fault(&vmware);
        assert_eq!(error.kind(), ErrorKind::NeedsSwitch);
        assert!(error.next_step().unwrap().contains("switch"));
    }
}

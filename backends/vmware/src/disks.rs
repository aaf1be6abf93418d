//! Where disks and CD-ROM drives are attached, and the adapters that this takes.
//!
//! Chains come from core as they are: a `.vmx` names the head of each, everything below it is
//! found through the heads' own links.

use std::collections::BTreeSet;
use std::fmt;

use stratavm::capability::Capabilities;
use stratavm::chain::Family;
use stratavm::plan::PlanDisk;
use stratavm::spec::{Arch, Controller, Firmware, GuestOs};
use stratavm::{Error, ErrorKind, Resolved, Result};

use crate::backend::path_text;
use crate::facts;
use crate::vmx::{TRUE, Vmx};

/// A place on an adapter, written `sata0:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    bus: Bus,
    adapter: u32,
    unit: u32,
}

/// A kind of adapter, in the order in which they stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bus {
    Ide,
    Sata,
    Scsi,
    Nvme,
}

impl Place {
    /// The place of slot `slot` on the controller `kind`; `None` where there is no such slot.
    fn of(kind: Controller, slot: u32) -> Option<Self> {
        let place = |bus, adapter, unit| Some(Self { bus, adapter, unit });
        match kind {
            Controller::Ide if slot < facts::IDE_UNITS => place(Bus::Ide, slot / 2, slot % 2),
            Controller::Sata if slot < facts::SATA_PORTS => place(Bus::Sata, 0, slot),
            // Unit 7 is the adapter itself.
            Controller::Scsi if slot <= facts::SCSI_UNITS && slot != 7 => place(Bus::Scsi, 0, slot),
            Controller::Nvme if slot < facts::NVME_UNITS => place(Bus::Nvme, 0, slot),
            _ => None,
        }
    }

    fn adapter(self) -> String {
        let bus = match self.bus {
            Bus::Ide => "ide",
            Bus::Sata => "sata",
            Bus::Scsi => "scsi",
            Bus::Nvme => "nvme",
        };
        format!("{bus}{}", self.adapter)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.adapter(), self.unit)
    }
}

/// Everything that is attached to a disk adapter.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The disks, in the machine's order.
    pub(crate) disks: Vec<PlanDisk>,
    /// The place of the disk that the firmware boots from.
    pub(crate) boot: Option<Place>,
    places: Vec<Place>,
    /// One for each medium.
    drives: Vec<Place>,
}

/// Finds a place for each disk and CD-ROM drive.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming the layer's key for a controller or slot that is not there;
/// [`ErrorKind::NeedsSwitch`] for a chain that VMware does not read; [`ErrorKind::Invalid`] for two
/// disks in one place.
pub(crate) fn attach(machine: &Resolved, capabilities: &Capabilities) -> Result<Attached> {
    let mut attached = Attached {
        disks: Vec::new(),
        boot: None,
        places: Vec::new(),
        drives: Vec::new(),
    };
    let mut taken = BTreeSet::new();
    for disk in &machine.disks {
        let key = |key: &str| format!("layer.{}.{key}", disk.name);
        if disk.chain.family != Family::Vmdk {
            let what = format!(
                "disk {} is kept in the {} family",
                disk.name, disk.chain.family
            );
            return Err(Error::new(ErrorKind::NeedsSwitch, what)
                .next("convert the machine first: stratavm switch NAME --to vmware"));
        }
        let kind = capabilities
            .resolve_controller(disk.controller, machine.spec.guest.os)
            .map_err(|error| error.during(format!("{} cannot be had", key("controller"))))?;
        check_kind(machine, kind, &key("controller"))?;
        let place = Place::of(kind, disk.slot).ok_or_else(|| {
            let what = format!(
                "{} = {}: there is no such {kind} port",
                key("slot"),
                disk.slot
            );
            let known = capabilities.controller(kind).map_or(0, |known| known.disks);
            Error::new(ErrorKind::Unsupported, what).next(format!(
                "{kind} takes {known} disks: choose another for some layers"
            ))
        })?;
        if !taken.insert(place) {
            let what = format!("{}: another disk is at {place} already", key("slot"));
            return Err(Error::invalid(what));
        }
        if attached.boot.is_none() && disk.role == Some(stratavm::spec::Role::Os) {
            attached.boot = Some(place);
        }
        attached.places.push(place);
        let text = place.to_string();
        let plan = PlanDisk::new(disk.name.clone(), kind, disk.slot, text, disk.chain.clone());
        attached.disks.push(plan);
    }
    for index in 0..machine.media.len() {
        let place = free_drive(machine, &taken).ok_or_else(|| {
            let what = format!("hardware.cdrom.{index}: no IDE or SATA port is left for the drive");
            Error::new(ErrorKind::Unsupported, what).next("remove a drive, or move a layer")
        })?;
        taken.insert(place);
        attached.drives.push(place);
    }
    Ok(attached)
}

fn check_kind(machine: &Resolved, kind: Controller, key: &str) -> Result<()> {
    if kind == Controller::Ide && !has_ide(machine) {
        let what = format!("{key} = {kind}: there is IDE only on x86_64 with a BIOS");
        return Err(Error::new(ErrorKind::Unsupported, what).next("use sata, scsi or nvme"));
    }
    Ok(())
}

fn has_ide(machine: &Resolved) -> bool {
    machine.spec.guest.arch == Arch::X86_64 && machine.spec.hardware.firmware == Firmware::Bios
}

/// The place of the next CD-ROM drive: IDE slots 3 and 2 where there is IDE, then the first SATA
/// port behind those that are taken, so that a drive never sits where the next disk will.
fn free_drive(machine: &Resolved, taken: &BTreeSet<Place>) -> Option<Place> {
    let ide = [3, 2].into_iter().filter(|_| has_ide(machine));
    let free = ide
        .filter_map(|slot| Place::of(Controller::Ide, slot))
        .find(|place| !taken.contains(place));
    free.or_else(|| {
        let last = taken
            .iter()
            .filter(|place| place.bus == Bus::Sata)
            .map(|place| place.unit)
            .max();
        Place::of(Controller::Sata, last.map_or(0, |unit| unit + 1))
    })
}

impl Attached {
    /// Writes adapters, disks and drives.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for a chain without a head, [`ErrorKind::Invalid`] for a path that
    /// is no UTF-8.
    pub(crate) fn write(&self, machine: &Resolved, vmx: &mut Vmx) -> Result<()> {
        let adapters: BTreeSet<_> = self
            .places
            .iter()
            .chain(&self.drives)
            .map(|p| p.adapter())
            .collect();
        for adapter in adapters {
            vmx.set(&format!("{adapter}.present"), TRUE);
            if adapter == "scsi0" {
                vmx.set("scsi0.virtualDev", scsi_adapter(machine));
            }
        }
        for (disk, place) in self.disks.iter().zip(&self.places) {
            let head = disk
                .chain
                .head()
                .and_then(|head| head.path())
                .ok_or_else(|| {
                    let what = format!("the chain of disk {} has no head", disk.name);
                    Error::new(ErrorKind::Malformed, what)
                })?;
            vmx.set(&format!("{place}.present"), TRUE);
            vmx.set(
                &format!("{place}.fileName"),
                path_text(&machine.paths.config, head)?,
            );
            if place.bus == Bus::Ide {
                vmx.set(&format!("{place}.deviceType"), "ata-hardDisk");
            }
            // Never a mode that puts a redo log of VMware's own over our head.
            vmx.set(&format!("{place}.mode"), "persistent");
        }
        for (medium, place) in machine.media.iter().zip(&self.drives) {
            vmx.set(&format!("{place}.present"), TRUE);
            vmx.set(&format!("{place}.deviceType"), "cdrom-image");
            vmx.set(
                &format!("{place}.fileName"),
                path_text(&machine.paths.config, medium)?,
            );
            vmx.set(&format!("{place}.startConnected"), TRUE);
        }
        Ok(())
    }
}

/// Which SCSI adapter: Linux has drivers for all, and UEFI boots from pvscsi; Windows since Vista
/// brings a driver for LSI SAS alone.
const fn scsi_adapter(machine: &Resolved) -> &'static str {
    match (
        machine.spec.guest.os,
        machine.spec.guest.arch,
        machine.spec.hardware.firmware,
    ) {
        (GuestOs::Windows, Arch::X86_64, _) => "lsisas1068",
        (_, _, Firmware::Bios) => "lsilogic",
        _ => "pvscsi",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::capability::capabilities;
    use crate::testing::{self, machine};

    fn fault(machine: &Resolved) -> Error {
        attach(machine, &capabilities()).unwrap_err()
    }

    #[test]
    fn each_kind_has_its_places() {
        let text = |kind, slot| Place::of(kind, slot).map(|place| place.to_string());
        assert_eq!(text(Controller::Ide, 3).unwrap(), "ide1:1");
        assert_eq!(text(Controller::Ide, 4), None);
        assert_eq!(text(Controller::Sata, 29).unwrap(), "sata0:29");
        assert_eq!(text(Controller::Scsi, 7), None);
        assert_eq!(text(Controller::Scsi, 15).unwrap(), "scsi0:15");
        assert_eq!(text(Controller::Nvme, 15), None);
        assert_eq!(text(Controller::Virtio, 0), None);
    }

    #[test]
    fn drives_take_ide_from_the_end_then_sata_behind_the_disks() {
        let mut machine = machine(Controller::Sata);
        machine.media = vec!["a.iso".into(), "b.iso".into(), "c.iso".into()];
        let places = |machine: &Resolved| -> Vec<String> {
            let attached = attach(machine, &capabilities()).unwrap();
            attached.drives.iter().map(ToString::to_string).collect()
        };
        assert_eq!(places(&machine), ["ide1:1", "ide1:0", "sata0:5"]);
        machine.spec.hardware.firmware = Firmware::Uefi;
        assert_eq!(places(&machine), ["sata0:5", "sata0:6", "sata0:7"]);
    }

    #[test]
    fn what_cannot_be_attached_is_refused_by_key() {
        let virtio = fault(&machine(Controller::Virtio));
        assert_eq!(virtio.kind(), ErrorKind::Unsupported);
        assert!(
            virtio.to_string().contains("layer.os.controller"),
            "{virtio}"
        );

        let mut uefi = machine(Controller::Ide);
        uefi.spec.hardware.firmware = Firmware::Uefi;
        assert!(
            fault(&uefi)
                .to_string()
                .contains("layer.os.controller = ide")
        );

        let mut seven = machine(Controller::Scsi);
        seven.disks[1].slot = 7;
        assert!(fault(&seven).to_string().contains("layer.office.slot = 7"));

        let mut twice = machine(Controller::Sata);
        twice.disks[1].slot = 0;
        assert_eq!(fault(&twice).kind(), ErrorKind::Invalid);

        let mut parallels = machine(Controller::Sata);
        parallels.disks[2].chain.family = Family::Hds;
        let error = fault(&parallels);
        assert_eq!(error.kind(), ErrorKind::NeedsSwitch);
        assert!(error.next_step().unwrap().contains("switch"));
    }

    #[test]
    fn a_chain_without_a_head_is_refused() {
        let mut machine = testing::machine(Controller::Nvme);
        machine.disks[0].chain.members.pop();
        let attached = attach(&machine, &capabilities()).unwrap();
        let error = attached.write(&machine, &mut Vmx::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn the_scsi_adapter_follows_guest_and_firmware() {
        let mut machine = testing::machine(Controller::Scsi);
        assert_eq!(scsi_adapter(&machine), "lsilogic");
        machine.spec.hardware.firmware = Firmware::Uefi;
        assert_eq!(scsi_adapter(&machine), "pvscsi");
        machine.spec.guest.os = GuestOs::Windows;
        assert_eq!(scsi_adapter(&machine), "lsisas1068");
    }
}

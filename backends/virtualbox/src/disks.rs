//! Where disks and drives are attached, and the media registry that says what their chains are.
//!
//! VirtualBox knows a chain by the nesting of `<HardDisk>` elements alone; it follows no link in an
//! image, but compares the images' ids with the registry's.

use std::collections::BTreeSet;
use std::path::Path;

use stratavm::capability::{Capabilities, ControllerCapability};
use stratavm::chain::{Member, MemberRole};
use stratavm::resolved::{Resolved, ResolvedDisk, relative_path, slash_path};
use stratavm::spec::{BootDevice, Controller, Firmware};
use stratavm::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::backend::{unicode, unsupported};
use crate::capability::{NVME_PORTS, SATA_PORTS, SCSI_IDS, VIRTIO_PORTS};
use crate::xml::Element;

/// Namespace of the ids of CD media. An id follows from the file's path, so that machines with the
/// same medium agree on it: VirtualBox takes one file under one id only.
const MEDIA: Uuid = Uuid::from_u128(0x33c1_7e0b_52f4_5a6d_9d0e_c1f3_0a7b_84e2);
/// Ports of the IDE controller: primary and secondary, master and slave of each.
const IDE_PORTS: u32 = 4;
/// The LsiLogic adapter's own id on its bus.
const SCSI_OWN_ID: u32 = 7;

/// One disk at its place.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) disk: &'a ResolvedDisk,
    /// Never `auto`.
    pub(crate) kind: Controller,
}

impl Placed<'_> {
    /// How VirtualBox's windows name the place.
    pub(crate) fn place(&self) -> String {
        match self.kind {
            Controller::Ide => ide_place(self.disk.slot).to_owned(),
            kind => format!("{} port {}", model(kind), self.disk.slot),
        }
    }
}

/// Every disk and drive at its place.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) disks: Vec<Placed<'a>>,
    /// IDE port and medium of each CD-ROM drive.
    pub(crate) drives: Vec<(u32, &'a Path)>,
}

impl<'a> Layout<'a> {
    /// # Errors
    /// `Unsupported` for a controller that there is not, a port that it has not, or one that the
    /// firmware does not boot from; `Invalid` for two disks at one place.
    pub(crate) fn of(machine: &'a Resolved, can: &Capabilities) -> Result<Self> {
        let mut taken = BTreeSet::new();
        let mut disks = Vec::new();
        for disk in &machine.disks {
            let key = format!("layer.{}.controller", disk.name);
            let kind = can
                .resolve_controller(disk.controller, machine.spec.guest.os)
                .map_err(|error| error.during(key.clone()))?;
            check_port(disk, kind)?;
            if !taken.insert((kind.as_str(), disk.slot)) {
                let what = format!("layer.{}.slot: {kind} {} is taken", disk.name, disk.slot);
                return Err(Error::invalid(what));
            }
            disks.push(Placed { disk, kind });
        }
        check_boot(machine, can, &disks)?;
        let mut free = (0..IDE_PORTS)
            .rev()
            .filter(|port| !taken.contains(&("ide", *port)));
        let drives = machine
            .media
            .iter()
            .map(|medium| match free.next() {
                Some(port) => Ok((port, medium.as_path())),
                None => Err(unsupported(
                    "hardware.cdrom",
                    "no IDE port left for a drive: put disks on sata, scsi, nvme or virtio",
                )),
            })
            .collect::<Result<_>>()?;
        Ok(Self { disks, drives })
    }

    /// Whether a disk is attached to this kind of controller.
    pub(crate) fn uses(&self, kind: Controller) -> bool {
        self.disks.iter().any(|placed| placed.kind == kind)
    }

    fn boot_kind(&self, machine: &Resolved) -> Option<Controller> {
        let boot = machine.boot_disk()?;
        self.disks
            .iter()
            .find(|placed| placed.disk.name == boot.name)
            .map(|placed| placed.kind)
    }

    /// `<StorageControllers>`: only controllers and ports that are used, since the BIOS waits for
    /// every port (30 ports cost 5 s on 7.2.22).
    pub(crate) fn controllers(&self, machine: &Resolved) -> Result<Element> {
        let boot_kind = self.boot_kind(machine);
        let boots_cd = machine.spec.hardware.boot.contains(&BootDevice::Cdrom);
        let mut controllers = Vec::new();
        for kind in [
            Controller::Ide,
            Controller::Sata,
            Controller::Scsi,
            Controller::Nvme,
            Controller::Virtio,
        ] {
            let mut devices: Vec<_> = self
                .disks
                .iter()
                .filter(|placed| placed.kind == kind)
                .map(|placed| Ok((placed.disk.slot, "HardDisk", head_of(placed.disk)?.uuid)))
                .collect::<Result<_>>()?;
            let drives: &[_] = if kind == Controller::Ide {
                &self.drives
            } else {
                &[]
            };
            devices.extend(
                drives
                    .iter()
                    .map(|(port, file)| (*port, "DVD", medium_uuid(file))),
            );
            if devices.is_empty() {
                continue;
            }
            devices.sort_unstable();
            let bootable = boot_kind == Some(kind) || (boots_cd && !drives.is_empty());
            controllers.push(controller(kind, &devices, bootable));
        }
        Ok(Element::new("StorageControllers").children(controllers))
    }

    /// `<MediaRegistry>`: every level of every chain, and the CD media.
    pub(crate) fn registry(&self, machine: &Resolved) -> Result<Element> {
        let config = &machine.paths.config;
        let disks = self
            .disks
            .iter()
            .map(|placed| hard_disk(config, placed.disk))
            .collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeSet::new();
        let mut media = Vec::new();
        for (_, file) in &self.drives {
            let id = medium_uuid(file);
            if seen.insert(id) {
                let location = relative_path(unicode(config)?, unicode(file)?);
                let image = Element::new("Image").attribute("uuid", braced(id));
                media.push(image.attribute("location", location));
            }
        }
        let mut registry =
            Element::new("MediaRegistry").child(Element::new("HardDisks").children(disks));
        if !media.is_empty() {
            registry = registry.child(Element::new("DVDImages").children(media));
        }
        Ok(registry)
    }
}

/// A UUID as settings write it.
pub(crate) fn braced(uuid: Uuid) -> String {
    format!("{{{uuid}}}")
}

/// VirtualBox's name of a kind of controller (`StorageController/@type`).
fn model(kind: Controller) -> &'static str {
    match kind {
        Controller::Ide => "PIIX4",
        Controller::Scsi => "LsiLogic",
        Controller::Nvme => "NVMe",
        Controller::Virtio => "VirtioSCSI",
        _ => "AHCI",
    }
}

fn ide_place(slot: u32) -> &'static str {
    match slot {
        0 => "IDE primary master",
        1 => "IDE primary slave",
        2 => "IDE secondary master",
        _ => "IDE secondary slave",
    }
}

fn check_port(disk: &ResolvedDisk, kind: Controller) -> Result<()> {
    let ports = match kind {
        Controller::Ide => IDE_PORTS,
        Controller::Scsi => SCSI_IDS,
        Controller::Nvme => NVME_PORTS,
        Controller::Virtio => VIRTIO_PORTS,
        _ => SATA_PORTS,
    };
    if disk.slot < ports && !(kind == Controller::Scsi && disk.slot == SCSI_OWN_ID) {
        return Ok(());
    }
    let has = format!("no port {} on the {} controller", disk.slot, model(kind));
    let hint = "put the disk on another kind: ide, sata, scsi, nvme or virtio";
    Err(unsupported(format_args!("layer.{}.slot", disk.name), &has).next(hint))
}

fn check_boot(machine: &Resolved, can: &Capabilities, disks: &[Placed<'_>]) -> Result<()> {
    let Some(boot) = machine.boot_disk() else {
        return Ok(());
    };
    let firmware = machine.spec.hardware.firmware;
    let Some(booting) = disks.iter().find(|placed| placed.disk.name == boot.name) else {
        return Ok(());
    };
    let kind = booting.kind;
    let boots = |known: &&ControllerCapability| known.boots.contains(&firmware);
    if !can.controller(kind).is_some_and(|known| boots(&known)) {
        let others: Vec<_> = can.controllers.iter().filter(boots).collect();
        let others: Vec<_> = others.iter().map(|known| known.kind.as_str()).collect();
        let what = format!(
            "layer.{}.controller: {firmware} does not boot from {kind}",
            boot.name
        );
        return Err(Error::new(ErrorKind::Unsupported, what)
            .next(format!("use one of: {}", others.join(", "))));
    }
    if firmware != Firmware::Bios {
        return Ok(());
    }
    match disks
        .iter()
        .find(|placed| bios_rank(placed) < bios_rank(booting))
    {
        None => Ok(()),
        Some(first) => {
            let (other, place) = (&first.disk.name, first.place());
            let what = format!(
                "layer.{}.controller: bios boots from its first disk, which is {other} at {place}",
                boot.name
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .next("put that layer on the os's controller, or the os on ide or sata"))
        }
    }
}

/// Where the BIOS comes to a disk when it counts them, which is also where it boots from: IDE, then
/// AHCI, then SCSI, whatever `Bootable` says (7.2.22). It does not see NVMe at all.
fn bios_rank(placed: &Placed<'_>) -> (u32, u32) {
    let kind = match placed.kind {
        Controller::Ide => 0,
        Controller::Sata => 1,
        Controller::Scsi => 2,
        Controller::Virtio => 3,
        _ => 4,
    };
    (kind, placed.disk.slot)
}

fn controller(kind: Controller, devices: &[(u32, &'static str, Uuid)], bootable: bool) -> Element {
    let last = devices.iter().map(|(port, ..)| *port).max().unwrap_or(0);
    let ports = match kind {
        Controller::Ide => 2,
        Controller::Scsi => SCSI_IDS,
        _ => last + 1,
    };
    let attached = devices.iter().map(|(port, device, uuid)| {
        let (port, unit) = if kind == Controller::Ide {
            (port / 2, port % 2)
        } else {
            (*port, 0)
        };
        let mut element = Element::new("AttachedDevice");
        if *device == "DVD" {
            element = element.attribute("passthrough", "false");
        }
        element
            .attribute("type", device)
            .attribute("hotpluggable", "false")
            .attribute("port", port)
            .attribute("device", unit)
            .child(Element::new("Image").attribute("uuid", braced(*uuid)))
    });
    Element::new("StorageController")
        .attribute("name", model(kind))
        .attribute("type", model(kind))
        .attribute("PortCount", ports)
        // VirtualBox's own defaults for new machines.
        .attribute("useHostIOCache", kind == Controller::Ide)
        .attribute("Bootable", bootable)
        .children(attached)
}

fn head_of(disk: &ResolvedDisk) -> Result<&Member> {
    disk.chain
        .head()
        .ok_or_else(|| Error::invalid(format!("the chain of layer {} has no head", disk.name)))
}

/// The nested `<HardDisk>` elements of one chain. The base of a layer gets a type that forbids
/// writing; a disk without a base (the session disk) is written itself.
fn hard_disk(config: &Path, disk: &ResolvedDisk) -> Result<Element> {
    head_of(disk)?;
    let mut nested: Option<Element> = None;
    let base = disk.chain.levels().next();
    for level in disk.chain.levels().rev() {
        let file = level
            .path()
            .ok_or_else(|| Error::invalid(format!("a level of layer {} has no file", disk.name)))?;
        let mut element = Element::new("HardDisk")
            .attribute("uuid", braced(level.uuid))
            .attribute("location", relative_path(unicode(config)?, unicode(file)?))
            .attribute("format", "VMDK");
        if base == Some(level) {
            let writable = level.role == MemberRole::Head;
            element = element.attribute("type", if writable { "Normal" } else { "Readonly" });
        }
        nested = Some(element.children(nested));
    }
    nested.ok_or_else(|| Error::invalid(format!("the chain of layer {} is empty", disk.name)))
}

fn medium_uuid(file: &Path) -> Uuid {
    Uuid::new_v5(&MEDIA, slash_path(file).as_bytes())
}

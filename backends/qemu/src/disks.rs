//! Disks: a node for every level of every chain, and the device that the guest sees.
//!
//! Every level is opened by an explicit `-blockdev` node with its format named and its backing node
//! given, so QEMU never follows a hint out of a file and never guesses a format. The one thing it
//! follows by itself is the base descriptor's extent lines, which are ours.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Value, json};
use stratavm::capability::Capabilities;
use stratavm::chain::{Chain, Family, MemberRole};
use stratavm::plan::PlanDisk;
use stratavm::resolved::ResolvedDisk;
use stratavm::spec::{BootDevice, Controller};
use stratavm::{Error, ErrorKind, Resolved, Result};

use crate::argv::{Argv, path_text};
use crate::board::{self, Board, PciPlace};

/// Ports of one AHCI controller (ich9-ahci).
const SATA_PORTS: u32 = 6;
/// The SCSI adapter's own id, which no disk can have.
const SCSI_SELF: u32 = 7;
/// Disks of each kind of controller, by the slots that this module places.
pub(crate) const CAPACITY: [(Controller, u32); 5] = [
    (Controller::Ide, 4),
    (Controller::Sata, board::SATA.len() as u32 * SATA_PORTS),
    (Controller::Scsi, 15),
    (Controller::Nvme, board::NVME.capacity()),
    (Controller::Virtio, board::VIRTIO.capacity()),
];

/// Attaches the disks and the CD-ROM drives of `machine`.
///
/// # Errors
/// A place that `board` lacks or that two devices want, a chain of another family, a path that no
/// argument can hold.
pub(crate) fn attach(
    argv: &mut Argv,
    machine: &Resolved,
    board: Board,
    capabilities: &Capabilities,
) -> Result<Vec<PlanDisk>> {
    let mut bus = Bus {
        board,
        controllers: BTreeMap::new(),
        taken: HashSet::new(),
    };
    let order = BootOrder::of(machine, board);
    let (mut devices, mut plan) = (Argv::new(""), Vec::new());
    for disk in &machine.disks {
        let kind = capabilities.resolve_controller(disk.controller, machine.spec.guest.os)?;
        let place = bus
            .disk(kind, disk.slot)
            .map_err(|e| e.during(format!("disk {}", disk.name)))?;
        let node = format!("{kind}{}", disk.slot);
        chain_nodes(&mut devices, &node, &disk.chain)
            .map_err(|e| e.during(format!("disk {}", disk.name)))?;
        let serial = machine
            .identity
            .derive(&format!("serial/{}", disk.name))
            .simple()
            .to_string();
        let mut properties = place.properties.clone();
        properties.push(("drive", head_node(&node, &disk.chain)));
        properties.push(("id", format!("disk-{node}")));
        // The first 20 digits: virtio-blk and NVMe take no more.
        properties.push(("serial", serial[..20].to_owned()));
        properties.extend(
            order
                .of_disk(disk)
                .map(|index| ("bootindex", index.to_string())),
        );
        devices.device(place.driver, &borrowed(&properties));
        plan.push(PlanDisk::new(
            disk.name.clone(),
            kind,
            disk.slot,
            place.describe(),
            disk.chain.clone(),
        ));
    }
    for (index, medium) in machine.media.iter().enumerate() {
        let place = bus.cdrom(index)?;
        let node = format!("cdrom{index}");
        file_node(&mut devices, &node, "raw", medium, ReadOnly::Yes, None)?;
        let mut properties = place.properties.clone();
        properties.push(("drive", node.clone()));
        properties.push(("id", format!("drive-{node}")));
        properties.extend(
            order
                .of_cdrom(index)
                .map(|index| ("bootindex", index.to_string())),
        );
        devices.device(place.driver, &borrowed(&properties));
    }
    for (driver, properties) in bus.controllers.into_values() {
        argv.device(driver, &borrowed(&properties));
    }
    for argument in devices.into_vec().into_iter().skip(1) {
        argv.flag(&argument);
    }
    Ok(plan)
}

/// The nodes of one chain, base first.
fn chain_nodes(argv: &mut Argv, name: &str, chain: &Chain) -> Result<()> {
    if chain.family != Family::Vmdk {
        let message = format!(
            "the chain is kept as {}, which QEMU does not run from",
            chain.family
        );
        return Err(Error::new(ErrorKind::NeedsSwitch, message)
            .next("convert the machine: stratavm switch NAME --to qemu"));
    }
    if chain.head().is_none() {
        return Err(Error::invalid("the chain has no writable head"));
    }
    let mut below: Option<String> = None;
    for (level, member) in chain.levels().enumerate() {
        let node = format!("{name}-{level}");
        let path = member
            .path()
            .ok_or_else(|| Error::invalid("a member of the chain has no file"))?;
        let access = match member.role {
            MemberRole::Head => ReadOnly::No,
            _ => ReadOnly::Yes,
        };
        file_node(argv, &node, "vmdk", path, access, Some(below.take()))?;
        below = Some(node);
    }
    Ok(())
}

/// The node that the guest's device reads and writes.
fn head_node(name: &str, chain: &Chain) -> String {
    format!("{name}-{}", chain.levels().count().saturating_sub(1))
}

/// Whether a node may be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOnly {
    Yes,
    No,
}

/// A format node over a file node. `backing` is given for formats that have one: the node below,
/// or explicitly none.
fn file_node(
    argv: &mut Argv,
    node: &str,
    format: &str,
    path: &Path,
    access: ReadOnly,
    backing: Option<Option<String>>,
) -> Result<()> {
    let read_only = access == ReadOnly::Yes;
    let file = format!("{node}-file");
    argv.blockdev(&json!({
        "driver": "file", "node-name": file, "filename": path_text(path)?, "read-only": read_only,
    }));
    let mut value =
        json!({ "driver": format, "node-name": node, "file": file, "read-only": read_only });
    if let (Some(backing), Value::Object(map)) = (backing, &mut value) {
        map.insert("backing".to_owned(), json!(backing));
    }
    argv.blockdev(&value);
    Ok(())
}

/// A device without what is on it.
struct Place {
    driver: &'static str,
    properties: Vec<(&'static str, String)>,
}

impl Place {
    fn describe(&self) -> String {
        let place: Vec<_> = self
            .properties
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        format!("{} at {}", self.driver, place.join(" "))
    }
}

type Device = (&'static str, Vec<(&'static str, String)>);

/// Gives out places and remembers the controllers that they need.
struct Bus {
    board: Board,
    controllers: BTreeMap<String, Device>,
    taken: HashSet<(Controller, u32)>,
}

impl Bus {
    fn disk(&mut self, kind: Controller, slot: u32) -> Result<Place> {
        let capacity = CAPACITY
            .iter()
            .find(|(k, _)| *k == kind)
            .map_or(0, |(_, disks)| *disks);
        let beyond = || {
            let message = format!("{kind} slot {slot}: QEMU has room for {capacity} disks there");
            Error::new(ErrorKind::Unsupported, message)
                .next("use another kind of controller as well")
        };
        let place = match kind {
            Controller::Ide => self.ide("ide-hd", slot).ok_or_else(beyond)??,
            Controller::Sata => {
                let index = (slot / SATA_PORTS) as usize;
                let address = *board::SATA.get(index).ok_or_else(beyond)?;
                self.ahci(
                    "ide-hd",
                    &format!("sata{index}"),
                    address,
                    slot % SATA_PORTS,
                )
            }
            Controller::Scsi if slot <= capacity && slot != SCSI_SELF => {
                let driver = match self.board {
                    Board::Virt => "virtio-scsi-pci", // its firmware has no driver for pvscsi
                    _ => "pvscsi",
                };
                self.controller("scsi", driver, &self.board.fixed(board::SCSI));
                scsi("scsi-hd", "scsi.0", slot)
            }
            Controller::Nvme => self.pci("nvme", &board::NVME, slot).ok_or_else(beyond)?,
            Controller::Virtio => self
                .pci("virtio-blk-pci", &board::VIRTIO, slot)
                .ok_or_else(beyond)?,
            _ => return Err(beyond()),
        };
        self.take(kind, slot)?;
        Ok(place)
    }

    fn cdrom(&mut self, index: usize) -> Result<Place> {
        let full = || {
            Error::new(
                ErrorKind::Unsupported,
                format!("hardware.cdrom {index}: no port left"),
            )
        };
        let index = u32::try_from(index).map_err(|_| full())?;
        match self.board {
            Board::Pc => {
                let slot = 3_u32.checked_sub(index).ok_or_else(full)?;
                self.take(Controller::Ide, slot)?;
                self.ide("ide-cd", slot).ok_or_else(full)?
            }
            Board::Q35 if index < SATA_PORTS => {
                Ok(self.ahci("ide-cd", "cdrom", board::CDROM, index))
            }
            Board::Virt if index < SCSI_SELF => {
                self.controller("cdrom", "virtio-scsi-pci", &self.board.fixed(board::CDROM));
                Ok(scsi("scsi-cd", "cdrom.0", index))
            }
            _ => Err(full()),
        }
    }

    fn take(&mut self, kind: Controller, slot: u32) -> Result<()> {
        if self.taken.insert((kind, slot)) {
            return Ok(());
        }
        let message = format!("{kind} slot {slot} is wanted by two devices");
        Err(Error::new(ErrorKind::Unsupported, message)
            .next("put one of them on another slot or kind of controller"))
    }

    /// `None` beyond the four devices; an error on a board without IDE.
    fn ide(&self, driver: &'static str, slot: u32) -> Option<Result<Place>> {
        if self.board != Board::Pc {
            let message = "an IDE controller needs hardware.firmware = \"bios\"";
            return Some(Err(
                Error::new(ErrorKind::Unsupported, message).next("use sata, scsi, nvme or virtio")
            ));
        }
        let properties = vec![
            ("bus", format!("ide.{}", slot / 2)),
            ("unit", (slot % 2).to_string()),
        ];
        (slot < 4).then_some(Ok(Place { driver, properties }))
    }

    fn ahci(&mut self, driver: &'static str, id: &str, address: u8, port: u32) -> Place {
        self.controller(id, "ich9-ahci", &self.board.fixed(address));
        let properties = vec![("bus", format!("{id}.{port}")), ("unit", "0".to_owned())];
        Place { driver, properties }
    }

    fn pci(&mut self, driver: &'static str, range: &board::Range, slot: u32) -> Option<Place> {
        let place = self.board.numbered(range, slot)?;
        if let Some(bridge) = &place.bridge {
            let (driver, properties) = bridge.device();
            self.controllers
                .insert(place.properties().0, (driver, properties));
        }
        let (bus, addr) = place.properties();
        Some(Place {
            driver,
            properties: vec![("bus", bus), ("addr", addr)],
        })
    }

    fn controller(&mut self, id: &str, driver: &'static str, place: &PciPlace) {
        let (bus, addr) = place.properties();
        let properties = vec![("id", id.to_owned()), ("bus", bus), ("addr", addr)];
        self.controllers.insert(id.to_owned(), (driver, properties));
    }
}

fn scsi(driver: &'static str, bus: &str, id: u32) -> Place {
    let properties = [
        ("bus", bus),
        ("channel", "0"),
        ("scsi-id", &id.to_string()),
        ("lun", "0"),
    ];
    Place {
        driver,
        properties: properties
            .map(|(key, value)| (key, value.to_owned()))
            .to_vec(),
    }
}

pub(crate) fn borrowed<'a>(properties: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    properties
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect()
}

/// What the firmware tries, as `bootindex` values from 0.
struct BootOrder<'a> {
    disks: Vec<(&'a ResolvedDisk, usize)>,
    cdrom: Option<usize>,
}

impl<'a> BootOrder<'a> {
    fn of(machine: &'a Resolved, board: Board) -> Self {
        let mut order = Self {
            disks: Vec::new(),
            cdrom: None,
        };
        let mut next = 0..;
        for device in &machine.spec.hardware.boot {
            match device {
                BootDevice::Cdrom if order.cdrom.is_none() => order.cdrom = next.next(),
                BootDevice::Disk if order.disks.is_empty() => {
                    let os = machine.boot_disk();
                    // A BIOS numbers disks in this order and boots from the first alone; UEFI would
                    // boot from any of them, so only the operating system's disk gets an index.
                    let others = machine.disks.iter().filter(|disk| Some(*disk) != os);
                    let others = others.filter(|_| board == Board::Pc);
                    order.disks = os.into_iter().chain(others).zip(&mut next).collect();
                }
                _ => {}
            }
        }
        order
    }

    fn of_disk(&self, disk: &ResolvedDisk) -> Option<usize> {
        self.disks
            .iter()
            .find(|(known, _)| *known == disk)
            .map(|(_, index)| *index)
    }

    /// Only the first drive is booted from.
    fn of_cdrom(&self, index: usize) -> Option<usize> {
        self.cdrom.filter(|_| index == 0)
    }
}

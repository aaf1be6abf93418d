//! Which port each disk gets: pure arithmetic over a spec.
//!
//! Ports are counted per controller kind, drawn once and then constant: adding a layer takes the
//! lowest free port, removing one leaves a gap. What a product calls a port is its backend's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chain::DiskName;
use crate::error::{Error, Result};
use crate::spec::{Composition, Controller, Role, VmSpec};

/// A controller kind and a port on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Port {
    /// The kind that the spec asks for; `auto` is for the backend to choose.
    pub controller: Controller,
    /// The port, from 0.
    pub slot: u32,
}

/// The ports of a machine's disks.
pub type Ports = BTreeMap<DiskName, Port>;

/// The adapter's own id on a SCSI bus.
const SCSI_ADAPTER: u32 = 7;
/// The devices of a PC's two IDE channels.
const IDE_SLOTS: u32 = 4;
/// More than any product's controller takes; backends have lower limits of their own.
const MOST_SLOTS: u32 = 256;

/// Gives every disk of `spec` a port. Those in `known` keep theirs.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) if two disks want one port or a kind has none left.
pub fn assign(spec: &VmSpec, known: &Ports) -> Result<Ports> {
    let mut ports = Ports::new();
    let kept = wanted(spec).filter_map(|disk| {
        known
            .get(&disk.name)
            .filter(|port| port.controller == disk.controller)
            .map(|port| (disk.name, *port))
    });
    for (name, port) in kept {
        claim(&mut ports, name, port)?;
    }
    // Ports that the spec names are taken before any is chosen.
    for disk in wanted(spec).filter(|disk| !known.contains_key(&disk.name)) {
        if let Some(slot) = disk.slot {
            claim(
                &mut ports,
                disk.name,
                Port {
                    controller: disk.controller,
                    slot,
                },
            )?;
        }
    }
    // The operating system's disk chooses first, so that firmware finds it on port 0.
    let (first, rest): (Vec<_>, Vec<_>) =
        wanted(spec).partition(|disk| disk.role == Some(Role::Os));
    for disk in first.into_iter().chain(rest) {
        if !ports.contains_key(&disk.name) {
            let slot =
                free(&ports, disk.controller, ide_drives(spec)).ok_or_else(|| none_left(&disk))?;
            ports.insert(
                disk.name,
                Port {
                    controller: disk.controller,
                    slot,
                },
            );
        }
    }
    Ok(ports)
}

/// What the spec says of one disk.
struct Wanted {
    name: DiskName,
    role: Option<Role>,
    controller: Controller,
    slot: Option<u32>,
}

fn wanted(spec: &VmSpec) -> impl Iterator<Item = Wanted> {
    let layers = spec.layers.iter().map(|layer| Wanted {
        name: DiskName::Layer(layer.name.clone()),
        role: Some(layer.role),
        controller: layer.controller.unwrap_or(spec.hardware.controller),
        slot: layer.slot,
    });
    let session = (spec.guest.composition == Composition::Linux).then_some(Wanted {
        name: DiskName::Session,
        role: None,
        controller: spec.hardware.controller,
        slot: None,
    });
    layers.chain(session)
}

/// How many of the last IDE ports CD-ROM drives take: 3, then 2.
fn ide_drives(spec: &VmSpec) -> u32 {
    u32::try_from(spec.hardware.cdrom.len()).unwrap_or(IDE_SLOTS)
}

/// `auto` may turn into `sata` or `virtio`, so the three never use one port twice.
fn collide(a: Controller, b: Controller) -> bool {
    let chosen = |kind| matches!(kind, Controller::Sata | Controller::Virtio);
    a == b || (a == Controller::Auto && chosen(b)) || (b == Controller::Auto && chosen(a))
}

fn taken(ports: &Ports, port: Port) -> Option<&DiskName> {
    let same = |other: &Port| other.slot == port.slot && collide(other.controller, port.controller);
    ports
        .iter()
        .find(|(_, other)| same(other))
        .map(|(name, _)| name)
}

fn claim(ports: &mut Ports, name: DiskName, port: Port) -> Result<()> {
    if let Some(other) = taken(ports, port) {
        return Err(Error::invalid(format!(
            "the disks of {other} and {name} both want {} port {}",
            port.controller, port.slot
        ))
        .next("leave out `slot` of one of them"));
    }
    ports.insert(name, port);
    Ok(())
}

fn free(ports: &Ports, controller: Controller, ide_drives: u32) -> Option<u32> {
    let end = match controller {
        Controller::Ide => IDE_SLOTS.saturating_sub(ide_drives),
        _ => MOST_SLOTS,
    };
    (0..end).find(|&slot| {
        let reserved = controller == Controller::Scsi && slot == SCSI_ADAPTER;
        !reserved && taken(ports, Port { controller, slot }).is_none()
    })
}

fn none_left(disk: &Wanted) -> Error {
    Error::invalid(format!(
        "there is no {} port left for the disk of {}",
        disk.controller, disk.name
    ))
    .next("give some layers another controller: sata, scsi, nvme or virtio")
}

//! How many disks each controller takes, and which ports a spec may name.
//!
//! Choosing the ports of the others is the affair of [`crate::slot`].

use std::ops::RangeInclusive;

use crate::spec::collect::Collector;
use crate::spec::fault::KeyPath;
use crate::spec::{Composition, Controller, VmSpec};

/// What a `slot` may be on any controller.
pub(in crate::spec) const SLOTS: RangeInclusive<u32> = 0..=29;
/// The SCSI adapter's own id.
const SCSI_ADAPTER: u32 = 7;

/// Ports of each kind: the fewest that the products with such a controller have.
const fn ports(controller: Controller) -> u32 {
    match controller {
        Controller::Ide => 4,
        Controller::Scsi => 16,
        Controller::Nvme => 15,
        // `auto` turns into one of the other two.
        Controller::Auto | Controller::Sata | Controller::Virtio => 30,
    }
}

/// The kinds that share one numbering: `auto` may turn into `sata` or `virtio`.
fn collide(a: Controller, b: Controller) -> bool {
    let chosen = |kind| matches!(kind, Controller::Sata | Controller::Virtio);
    a == b || (a == Controller::Auto && chosen(b)) || (b == Controller::Auto && chosen(a))
}

/// One disk: the key that its controller comes from, the controller, the slot and its key.
struct Disk {
    layer: KeyPath,
    controller: Controller,
    slot: Option<u32>,
}

pub(super) fn check(out: &mut Collector, spec: &VmSpec) {
    let Some(disks) = disks(out, spec) else {
        return;
    };
    named(out, spec, &disks);
    let kinds = [
        (&[Controller::Ide][..], "IDE"),
        (&[Controller::Scsi][..], "SCSI"),
        (&[Controller::Nvme][..], "NVMe"),
        (
            &[Controller::Auto, Controller::Sata, Controller::Virtio][..],
            "SATA or virtio",
        ),
    ];
    for (kinds, name) in kinds {
        let on_it: Vec<_> = disks
            .iter()
            .filter(|disk| kinds.contains(&disk.controller))
            .collect();
        let room = room(spec, kinds[0]);
        if let Some(first_too_many) = on_it.get(room) {
            let message = too_many(spec, name, on_it.len(), room);
            out.fault(&first_too_many.layer, message);
        }
    }
}

/// Every disk, the session disk included; `None` if it is not known which there are.
fn disks(out: &Collector, spec: &VmSpec) -> Option<Vec<Disk>> {
    let (root, layers) = (KeyPath::default(), KeyPath::default().key("layer"));
    let machine = root.key("hardware").key("controller");
    if !out.trusts(&machine) || !out.trusts(&layers) {
        return None;
    }
    let mut disks = Vec::new();
    for (index, layer) in spec.layers.iter().enumerate() {
        let path = layers.index(index);
        if !out.trusts(&path.key("controller")) {
            continue;
        }
        let controller = layer.controller.unwrap_or(spec.hardware.controller);
        let slot = layer.slot.filter(|_| out.trusts(&path.key("slot")));
        disks.push(Disk {
            layer: path,
            controller,
            slot,
        });
    }
    if spec.guest.composition == Composition::Linux {
        let controller = spec.hardware.controller;
        disks.push(Disk {
            layer: machine,
            controller,
            slot: None,
        });
    }
    Some(disks)
}

/// How many disks a kind takes.
fn room(spec: &VmSpec, controller: Controller) -> usize {
    let all = ports(controller) as usize;
    match controller {
        Controller::Ide => all.saturating_sub(spec.hardware.cdrom.len()),
        Controller::Scsi => all - 1,
        _ => all,
    }
}

fn too_many(spec: &VmSpec, name: &str, count: usize, room: usize) -> String {
    let session = match spec.guest.composition {
        Composition::Linux => " (the session disk included)",
        Composition::Disks => "",
    };
    let drives = match (name, spec.hardware.cdrom.len()) {
        ("IDE", 1) => " beside the CD-ROM drive",
        ("IDE", 2..) => " beside the CD-ROM drives",
        _ => "",
    };
    let others: Vec<_> = ["SATA or virtio", "SCSI", "NVMe"]
        .into_iter()
        .filter(|kind| *kind != name)
        .collect();
    format!(
        "{count} disks{session} are more than the {room} that {name} takes{drives}: \
         give some layers another controller ({})",
        others.join(", ")
    )
}

/// The slots that the spec names: in range, free, and no two alike.
fn named(out: &mut Collector, spec: &VmSpec, disks: &[Disk]) {
    for (index, disk) in disks.iter().enumerate() {
        let Some(slot) = disk.slot else { continue };
        let key = disk.layer.key("slot");
        let kind = disk.controller;
        let end = match kind {
            Controller::Ide => room(spec, kind) as u32,
            _ => ports(kind),
        };
        if slot >= end {
            let last = end.saturating_sub(1);
            out.fault(
                &key,
                format!("{kind} has slots 0 to {last} here, not {slot}"),
            );
        } else if kind == Controller::Scsi && slot == SCSI_ADAPTER {
            out.fault(&key, "SCSI id 7 is the adapter's own");
        }
        let same = |other: &&Disk| other.slot == Some(slot) && collide(other.controller, kind);
        if let Some(other) = disks[..index].iter().find(same) {
            out.fault(
                &key,
                format!(
                    "{} has {} slot {slot} already",
                    other.layer, other.controller
                ),
            );
        }
    }
}

//! Translating: a machine becomes one JSON file, which holds everything that the spec says and
//! nothing that is not read again at the start or shown to a person.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use stratavm::capability::{Capabilities, Feature};
use stratavm::chain::MemberRole;
use stratavm::identity::{Identity, mac_text};
use stratavm::plan::{Gap, Grade, PlanDisk, PlanFile};
use stratavm::resolved::{ResolvedDisk, slash_path};
use stratavm::spec::{
    Audio, Console, Controller, Direction, Display, Policy, SecureBoot, Switch, Tpm,
};
use stratavm::{Error, ErrorKind, Plan, Resolved, Result};

use crate::backend::PRODUCT;

/// Ids of a SCSI bus; the adapter's own is 7.
const SCSI_IDS: u32 = 16;
const SCSI_OWN_ID: u32 = 7;

pub(crate) fn translate(machine: &Resolved, can: &Capabilities) -> Result<Plan> {
    check_hardware(machine, can)?;
    let mut plan = Plan::new(PRODUCT.clone(), "stratavm-null 0.1");
    let mut taken = BTreeSet::new();
    for disk in &machine.disks {
        let placed = place(machine, disk, can)?;
        if !taken.insert((placed.controller.as_str(), placed.slot)) {
            let what = format!("layer.{}.slot: {} is taken", disk.name, placed.place);
            return Err(Error::invalid(what));
        }
        plan.disks.push(placed);
    }
    plan.gaps = gaps(machine, can);
    if let Identity::Preview(_) = machine.identity {
        plan.notes
            .push("preview ids: they follow from the spec, not from a machine".to_owned());
    }
    let entry = machine
        .paths
        .config
        .join(format!("{}.null.json", machine.spec.name));
    let text = format!("{:#}\n", config(machine, &plan)?);
    plan.files.push(PlanFile::text(&entry, text));
    plan.entry = Some(entry);
    Ok(plan)
}

/// Refuses, by key, what would be wrong to leave out.
fn check_hardware(machine: &Resolved, can: &Capabilities) -> Result<()> {
    let (guest, hardware) = (&machine.spec.guest, &machine.spec.hardware);
    if !can.arches.contains(&guest.arch) {
        return Err(unsupported("guest.arch", "x86_64 alone"));
    }
    if !can.firmware.contains(&hardware.firmware) {
        return Err(unsupported("hardware.firmware", "no UEFI"));
    }
    if hardware.secure_boot == SecureBoot::On {
        return Err(unsupported("hardware.secure-boot", "no secure boot"));
    }
    if hardware.tpm != Tpm::Off {
        return Err(unsupported("hardware.tpm", "no TPM"));
    }
    for (index, network) in hardware.network.iter().enumerate() {
        if !can.networks.contains(&network.mode) {
            let key = format!("hardware.network.{index}.mode");
            return Err(unsupported(&key, &format!("no {} network", network.mode)));
        }
    }
    Ok(())
}

fn place(machine: &Resolved, disk: &ResolvedDisk, can: &Capabilities) -> Result<PlanDisk> {
    if !can.families.contains(&disk.chain.family) {
        let what = format!(
            "layer {} is kept in the {} family",
            disk.name, disk.chain.family
        );
        let next = format!("stratavm switch {} --to {PRODUCT}", machine.spec.name);
        return Err(Error::new(ErrorKind::NeedsSwitch, what).next(next));
    }
    let key = format!("layer.{}.controller", disk.name);
    let kind = can
        .resolve_controller(disk.controller, machine.spec.guest.os)
        .map_err(|error| error.during(key))?;
    let ports = match kind {
        Controller::Scsi => SCSI_IDS,
        _ => can.controller(kind).map_or(0, |known| known.disks),
    };
    if disk.slot >= ports || (kind == Controller::Scsi && disk.slot == SCSI_OWN_ID) {
        let key = format!("layer.{}.slot", disk.name);
        return Err(unsupported(&key, &format!("no {kind} port {}", disk.slot)));
    }
    let place = format!("{kind}:{}", disk.slot);
    Ok(PlanDisk::new(
        disk.name.clone(),
        kind,
        disk.slot,
        place,
        disk.chain.clone(),
    ))
}

fn unsupported(key: &str, has: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{key}: there is {has}"))
}

fn config(machine: &Resolved, plan: &Plan) -> Result<Value> {
    let (spec, hardware) = (&machine.spec, &machine.spec.hardware);
    let mut disks = Vec::new();
    for disk in &plan.disks {
        let mut levels = Vec::new();
        for level in disk.chain.levels() {
            let files = level
                .files
                .iter()
                .map(|file| text(&file.path))
                .collect::<Result<Vec<_>>>()?;
            let writable = level.role == MemberRole::Head;
            levels.push(json!({"id": level.uuid, "files": files, "writable": writable}));
        }
        disks.push(json!({"name": disk.name.as_str(), "place": disk.place, "levels": levels}));
    }
    let network = |(index, network)| {
        let mac = mac_text(machine.identity.mac(index, network));
        json!({"mode": network.mode.as_str(), "mac": mac})
    };
    let networks: Vec<_> = hardware.network.iter().enumerate().map(network).collect();
    let media = machine
        .media
        .iter()
        .map(|medium| text(medium))
        .collect::<Result<Vec<_>>>()?;
    let console = match hardware.console {
        Console::Log => Some(text(&machine.paths.console)?),
        _ => None,
    };
    let boot: Vec<_> = hardware.boot.iter().map(|device| device.as_str()).collect();
    Ok(json!({
        "format": {"name": "stratavm-null", "version": 1},
        "id": machine.identity.uuid(),
        "name": spec.name,
        "title": spec.display_name(),
        "guest": {"os": spec.guest.os, "id": spec.guest.id},
        "cpus": hardware.cpus,
        "memory-mib": hardware.memory.mib(),
        "video-memory-mib": hardware.video_memory.mib(),
        "clock": hardware.clock.as_str(),
        "boot": boot,
        "boot-disk": machine.boot_disk().map(|disk| disk.name.as_str()),
        "console": console,
        "disks": disks,
        "cdroms": media,
        "networks": networks,
        "policy": serde_json::to_value(&spec.policy)
            .map_err(|error| Error::invalid("the policy is no JSON").caused_by(error))?,
    }))
}

fn gaps(machine: &Resolved, can: &Capabilities) -> Vec<Gap> {
    let hardware = &machine.spec.hardware;
    let mut gaps = Vec::new();
    if hardware.display == Display::Window {
        gaps.push(Gap::new(
            "hardware.display",
            "window",
            Grade::None,
            "there is no screen",
        ));
    }
    if hardware.audio == Audio::On {
        gaps.push(Gap::new(
            "hardware.audio",
            "on",
            Grade::None,
            "there is no sound",
        ));
    }
    for (feature, key, wanted) in forbidden(&machine.spec.policy) {
        let grade = can.feature(feature);
        if grade != Grade::Hard {
            let reason = "nothing here could hold to it: this grade is for tests of gaps";
            gaps.push(Gap::new(format!("policy.{key}"), wanted, grade, reason));
        }
    }
    gaps
}

/// Every policy that forbids something: its feature, key and value.
fn forbidden(policy: &Policy) -> Vec<(Feature, &'static str, &'static str)> {
    let direction = |feature, key, direction| match direction {
        Direction::Both => None,
        Direction::HostToGuest => Some((feature, key, "host-to-guest")),
        Direction::GuestToHost => Some((feature, key, "guest-to-host")),
        _ => Some((feature, key, "off")),
    };
    let switch = |feature, key, switch| (switch == Switch::Off).then_some((feature, key, "off"));
    [
        direction(Feature::ClipboardPolicy, "clipboard", policy.clipboard),
        direction(
            Feature::DragAndDropPolicy,
            "drag-and-drop",
            policy.drag_and_drop,
        ),
        switch(
            Feature::SharedFoldersPolicy,
            "shared-folders",
            policy.shared_folders,
        ),
        switch(Feature::UsbPolicy, "usb", policy.usb),
        switch(Feature::SnapshotPolicy, "snapshots", policy.snapshots),
        switch(Feature::SuspendPolicy, "suspend", policy.suspend),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A path in JSON, which is Unicode.
fn text(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(_) => Ok(slash_path(path)),
        None => Err(Error::invalid("the path is no Unicode").at(path)),
    }
}

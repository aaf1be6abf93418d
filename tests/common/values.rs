//! Every value that a spec sets, as text under the spec's own key, and the comparison with what a reader saw. A key
//! that is missing in a reader's view is a fault unless the table of blind spots has it, and a value that differs is
//! one unless the plan names the key as a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use stratavm::identity::mac_text;
use stratavm::spec::{Arch, Console, Controller, GuestOs, VmSpec};
use stratavm::{Plan, Resolved};

use super::report;

/// Spec key to value.
pub(crate) type Values = BTreeMap<String, String>;

/// What one reader cannot see: keys (`*` stands for one part), and why.
pub(crate) struct Blind {
    pub(crate) reader: &'static str,
    pub(crate) keys: &'static [&'static str],
    /// Only for layers on this controller.
    pub(crate) only_on: Option<&'static str>,
    pub(crate) why: &'static str,
}

/// What `machine` asks of `product`.
pub(crate) fn expected(machine: &Resolved, product: &str) -> Values {
    let spec = &machine.spec;
    let hardware = &spec.hardware;
    let mut values = Values::new();
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        values.insert(key.to_owned(), value.to_string());
    };
    set("name", &spec.name);
    set("title", &spec.display_name());
    // An identifier that says otherwise wins in some products.
    if spec.guest.id.is_none() {
        set("guest.os", &word(&spec.guest.os));
    }
    set("guest.arch", &word(&spec.guest.arch));
    set("hardware.cpus", &hardware.cpus);
    set("hardware.memory", &hardware.memory.mib());
    set("hardware.firmware", &hardware.firmware);
    set("hardware.secure-boot", &bool::from(hardware.secure_boot));
    set("hardware.tpm", &hardware.tpm);
    set("hardware.clock", &hardware.clock);
    set("hardware.display", &hardware.display);
    set("hardware.video-memory", &hardware.video_memory.mib());
    set("hardware.audio", &hardware.audio);
    let boot: Vec<&str> = hardware.boot.iter().map(|device| device.as_str()).collect();
    set("hardware.boot", &boot.join(","));
    match hardware.console {
        Console::Log => set("hardware.console", &clean(&machine.paths.console)),
        _ => set("hardware.console", &"none"),
    }
    for (index, network) in hardware.network.iter().enumerate() {
        set(&format!("hardware.network.{index}.mode"), &network.mode);
        let mac = mac_text(machine.identity.mac(index, network));
        set(&format!("hardware.network.{index}.mac"), &mac);
    }
    for (index, medium) in machine.media.iter().enumerate() {
        set(&format!("hardware.cdrom.{index}.image"), &clean(medium));
    }
    let mut kinds = Vec::new();
    for disk in &machine.disks {
        let (kind, slot) = place(disk.controller, disk.slot, spec, product);
        kinds.push(kind.as_str());
        let head = disk
            .chain
            .head()
            .and_then(|head| head.path())
            .expect("a chain has a head");
        set(&format!("layer.{}.controller", disk.name), &kind);
        set(&format!("layer.{}.slot", disk.name), &slot);
        set(&format!("layer.{}.path", disk.name), &clean(head));
        set(
            &format!("layer.{}.depth", disk.name),
            &disk.chain.levels().count(),
        );
    }
    kinds.sort_unstable();
    set("all.controllers", &kinds.join(","));
    set("all.networks", &hardware.network.len());
    let policy = &spec.policy;
    set("policy.clipboard", &word(&policy.clipboard));
    set("policy.drag-and-drop", &word(&policy.drag_and_drop));
    set("policy.shared-folders", &word(&policy.shared_folders));
    set("policy.usb", &word(&policy.usb));
    set("policy.snapshots", &word(&policy.snapshots));
    set("policy.suspend", &word(&policy.suspend));
    values
}

/// Kind of controller and port. What `auto` means is said here once more, so that the backend's word is checked.
fn place(wanted: Controller, slot: u32, spec: &VmSpec, product: &str) -> (Controller, u32) {
    match (wanted, product, spec.guest.os) {
        (Controller::Auto, "qemu", GuestOs::Linux) => (Controller::Virtio, slot),
        // Parallels has six SATA ports; what is beyond goes on, past the SCSI adapter's own id.
        (Controller::Auto, "parallels", _) if slot >= 6 => match (spec.guest.arch, slot - 6) {
            (Arch::Aarch64, port) => (Controller::Nvme, port),
            (_, port) if port < 7 => (Controller::Scsi, port),
            (_, port) => (Controller::Scsi, port + 1),
        },
        (Controller::Auto, ..) => (Controller::Sata, slot),
        (kind, ..) => (kind, slot),
    }
}

/// A value as the spec writes it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        other => panic!("no word: {other:?}"),
    }
}

/// A path without `.` and `..`, by text alone: what is read must not depend on what is there.
pub(crate) fn clean(path: &Path) -> String {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean.to_str().expect("test paths are UTF-8").to_owned()
}

/// The faults of one reader's view of a plan.
pub(crate) fn compare(
    reader: &str,
    expected: &Values,
    seen: &Values,
    plan: &Plan,
    blind: &[Blind],
) -> Vec<String> {
    let gaps: BTreeSet<&str> = plan.gaps.iter().map(|gap| gap.key.as_str()).collect();
    let mut faults = Vec::new();
    for (key, want) in expected {
        let hidden = blind
            .iter()
            .any(|one| one.reader == reader && one.hides(key, expected));
        match seen.get(key) {
            Some(value) if value == want => {}
            _ if gaps.contains(key.as_str()) => {}
            Some(value) if !hidden => faults.push(format!("{key}: {value:?} instead of {want:?}")),
            None if !hidden => faults.push(format!("{key} = {want:?} is not seen")),
            _ => {}
        }
    }
    for (key, value) in seen
        .iter()
        .filter(|(key, _)| !expected.contains_key(*key) && *key != "guest.os")
    {
        faults.push(format!("{key} = {value:?} is nowhere in the spec"));
    }
    faults
        .iter()
        .map(|fault| format!("{} {}, {reader}: {fault}", plan.product, expected["name"]))
        .collect()
}

impl Blind {
    fn hides(&self, key: &str, expected: &Values) -> bool {
        if let Some(controller) = self.only_on {
            let layer = key.rsplit_once('.').map_or("", |(layer, _)| layer);
            if expected
                .get(&format!("{layer}.controller"))
                .map(String::as_str)
                != Some(controller)
            {
                return false;
            }
        }
        self.keys.iter().any(|pattern| {
            let (mut pattern, mut key) = (pattern.split('.'), key.split('.'));
            loop {
                match (pattern.next(), key.next()) {
                    (None, None) => return true,
                    (Some("*"), Some(_)) => {}
                    (Some(part), Some(found)) if part == found => {}
                    _ => return false,
                }
            }
        })
    }
}

/// Reports the table of blind spots.
pub(crate) fn report_blind(blind: &[Blind]) {
    for one in blind {
        report::blind(one.reader, &one.keys.join(", "), one.why);
    }
}

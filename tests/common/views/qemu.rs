//! An argument vector as QEMU itself sees it over QMP and HMP. Drivers and properties: QEMU's own device tree.

use serde_json::Value;
use stratavm::Resolved;
use stratavm::identity::mac_text;

use super::layer_of;
use crate::common::values::{Blind, Values, clean};

pub(crate) const BLIND: &[Blind] = &[Blind {
    reader: "qemu",
    keys: &[
        "name",
        "guest.os",
        "hardware.clock",
        "hardware.display",
        "hardware.secure-boot",
        "hardware.tpm",
        "policy.snapshots",
        "all.controllers",
        "all.networks",
    ],
    only_on: None,
    why: "QEMU does not tell over QMP, or has no such thing: then the plan names a gap",
}];

pub(crate) fn qmp(seen: &Value, machine: &Resolved) -> Values {
    let mut values = Values::new();
    let mut set = |key: &str, value: String| drop(values.insert(key.to_owned(), value));
    set(
        "title",
        seen["name"].as_str().unwrap_or_default().to_owned(),
    );
    assert_eq!(seen["uuid"], machine.identity.uuid().to_string());
    assert_eq!(seen["status"], "prelaunch");
    set(
        "guest.arch",
        seen["target"].as_str().unwrap_or_default().to_owned(),
    );
    set("hardware.cpus", seen["cpus"].to_string());
    set(
        "hardware.memory",
        (seen["memory"].as_u64().unwrap_or(0) >> 20).to_string(),
    );
    let uefi = seen["flash"] == "firmware-code";
    set(
        "hardware.firmware",
        if uefi { "uefi" } else { "bios" }.to_owned(),
    );
    let console = clean(&machine.paths.console);
    let open = seen["open-files"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|file| *file == console);
    let log = seen["chardevs"]["console"] == "file" && open;
    set(
        "hardware.console",
        if log { console } else { "none".to_owned() },
    );

    let devices: Vec<Device<'_>> = seen["devices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Device)
        .collect();
    let has = |driver: &str| devices.iter().any(|device| device.driver() == driver);
    set("hardware.audio", switch(has("hda-output")));
    set("policy.usb", switch(has("qemu-xhci")));
    // There is a channel to the guest's agent only with a spice or vdagent character device, and a shared folder only
    // with one of these devices.
    let agent = seen["chardevs"]
        .as_object()
        .is_some_and(|all| all.keys().any(|name| name.contains("vdagent")));
    assert!(!agent && !has("virtio-9p-pci") && !has("vhost-user-fs-pci"));
    for key in [
        "policy.clipboard",
        "policy.drag-and-drop",
        "policy.shared-folders",
    ] {
        set(key, "off".to_owned());
    }
    // S3 and S4 of the PC boards; the virt board has neither.
    let sleep = seen["sleep-disabled"].as_array().into_iter().flatten();
    set(
        "policy.suspend",
        switch(sleep.into_iter().any(|disabled| *disabled == 0)),
    );
    if let Some(graphics) = devices.iter().find(|device| device.driver() == "VGA") {
        set(
            "hardware.video-memory",
            graphics.number("vgamem_mb").to_string(),
        );
    }

    let mut boot = Vec::new();
    for device in &devices {
        match device.driver() {
            "ide-hd" | "scsi-hd" | "nvme" | "virtio-blk-device" | "ide-cd" | "scsi-cd" => {
                let node = device.text("drive");
                let chain = seen["chains"][node]
                    .as_array()
                    .unwrap_or_else(|| panic!("{node} has no chain"));
                let head = chain[0]["file"].as_str().unwrap_or_default().to_owned();
                let index = seen["boot"][device.id()]
                    .as_i64()
                    .filter(|index| *index >= 0);
                if device.driver().ends_with("-cd") {
                    boot.extend(index.map(|index| (index, "cdrom")));
                    assert_eq!(
                        (&chain[0]["format"], &chain[0]["read-only"]),
                        (&"raw".into(), &true.into())
                    );
                    set(
                        &format!("hardware.cdrom.{}.image", node.trim_start_matches("cdrom")),
                        head,
                    );
                    continue;
                }
                boot.extend(index.map(|index| (index, "disk")));
                for (level, member) in chain.iter().enumerate() {
                    assert_eq!(member["format"], "vmdk", "{node}");
                    assert_eq!(
                        member["read-only"],
                        level > 0,
                        "{node}: only the head is written to"
                    );
                }
                let (kind, slot) = device.place();
                let layer = layer_of(&head);
                set(&format!("layer.{layer}.controller"), kind.to_owned());
                set(&format!("layer.{layer}.slot"), slot.to_string());
                set(&format!("layer.{layer}.path"), head);
                set(&format!("layer.{layer}.depth"), chain.len().to_string());
            }
            "virtio-net-device" | "e1000" | "e1000e" => {
                // QEMU lists adapters by address; which of the spec's one is, its MAC tells.
                let mac = device.text("mac");
                let networks = machine.spec.hardware.network.iter().enumerate();
                let index = networks
                    .filter(|(index, network)| {
                        mac_text(machine.identity.mac(*index, network)) == mac
                    })
                    .map(|(index, _)| index.to_string())
                    .next();
                let index = index.unwrap_or_else(|| "?".to_owned());
                set(&format!("hardware.network.{index}.mac"), mac.to_owned());
                set(
                    &format!("hardware.network.{index}.mode"),
                    mode(seen, device.text("netdev")),
                );
            }
            _ => {}
        }
    }
    boot.sort_unstable();
    boot.dedup_by_key(|(_, device)| *device);
    let boot: Vec<&str> = boot.into_iter().map(|(_, device)| device).collect();
    set("hardware.boot", boot.join(","));
    values
}

/// What a back end does, by HMP's `info network`.
fn mode(seen: &Value, backend: &str) -> String {
    let network = seen["network"].as_str().unwrap_or_default();
    let line = network
        .lines()
        .find(|line| line.contains(&format!("\\ {backend}: ")));
    match line {
        _ if backend.is_empty() => "none".to_owned(),
        Some(line) if line.contains("type=user") && line.contains("restrict=off") => {
            "nat".to_owned()
        }
        other => other.unwrap_or("?").to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Device<'a>(&'a Value);

impl<'a> Device<'a> {
    fn driver(self) -> &'a str {
        self.0["driver"].as_str().unwrap_or_default()
    }

    /// Its own, or that of the PCI device that a virtio device is part of.
    fn id(self) -> &'a str {
        let virtio = self.driver().starts_with("virtio-") && self.driver().ends_with("-device");
        self.0[if virtio { "owner-id" } else { "id" }]
            .as_str()
            .unwrap_or_default()
    }

    fn text(self, property: &str) -> &'a str {
        self.0["properties"][property].as_str().unwrap_or_default()
    }

    /// The start of `16 (0x10)`.
    fn number(self, property: &str) -> u32 {
        let text = self.text(property).split(' ').next().unwrap_or_default();
        text.parse()
            .unwrap_or_else(|_| panic!("{} of {} is {text:?}", property, self.driver()))
    }

    /// The number that a bus's name ends in.
    fn bus_number(self) -> u32 {
        let bus = self.0["on"].as_str().unwrap_or_default();
        bus.rsplit('.')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("bus {bus:?}"))
    }

    /// Kind of controller and slot on it.
    fn place(self) -> (&'static str, u32) {
        // NVMe and virtio disks are PCI devices of their own: the slot is in their id alone.
        let own = |kind: &str| {
            self.id()
                .trim_start_matches("disk-")
                .trim_start_matches(kind)
                .parse()
                .unwrap_or(u32::MAX)
        };
        match (self.driver(), self.0["owner"].as_str().unwrap_or_default()) {
            ("ide-hd", "piix3-ide") => ("ide", self.bus_number() * 2 + self.number("unit")),
            ("ide-hd", "ich9-ahci" | "ahci") => {
                let bus = self.0["on"].as_str().unwrap_or_default();
                let controller = bus
                    .trim_start_matches("sata")
                    .split('.')
                    .next()
                    .and_then(|n| n.parse().ok());
                ("sata", controller.unwrap_or(0) * 6 + self.bus_number())
            }
            ("scsi-hd", _) => ("scsi", self.number("scsi-id")),
            ("nvme", _) => ("nvme", own("nvme")),
            ("virtio-blk-device", _) => ("virtio", own("virtio")),
            (driver, owner) => panic!("{driver} on {owner}"),
        }
    }
}

fn switch(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

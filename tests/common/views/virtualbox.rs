//! A `.vbox` as dissect.hypervisor and Python's XML parser see it. Elements and words: VirtualBox's settings reader and
//! manual.

use std::path::Path;

use serde_json::Value;

use super::{Node, absolute, layer_of, system};
use crate::common::values::{Blind, Values};

pub(crate) const BLIND: &[Blind] = &[Blind {
    reader: "dissect.hypervisor vbox",
    keys: &["hardware.secure-boot", "all.controllers", "all.networks"],
    only_on: None,
    why: "settings have no place for it: secure boot is in the NVRAM file",
}];

/// Controllers by their `type`.
const KINDS: [(&str, &str); 5] = [
    ("PIIX4", "ide"),
    ("AHCI", "sata"),
    ("LsiLogic", "scsi"),
    ("NVMe", "nvme"),
    ("VirtioSCSI", "virtio"),
];

pub(crate) fn dissect(seen: &Value, vbox: &Path) -> Values {
    let config = vbox.parent().expect("a .vbox lies in a folder");
    let machine = Node(&seen["document"]);
    let hardware = machine.find("Hardware").expect("a machine has hardware");
    let get = |place: &str| hardware.value(place).unwrap_or_default().to_owned();
    let mut values = Values::new();
    let mut set = |key: &str, value: String| drop(values.insert(key.to_owned(), value));
    let name = seen["name"].as_str().unwrap_or_default();
    set("name", name.to_owned());
    set(
        "title",
        machine
            .find("Description")
            .map_or(name, Node::text)
            .to_owned(),
    );
    set(
        "guest.os",
        system(machine.attribute("OSType").unwrap_or_default()).to_owned(),
    );
    let is_64 = machine
        .attribute("OSType")
        .is_some_and(|kind| kind.ends_with("_64"));
    set(
        "guest.arch",
        if is_64 { "x86_64" } else { "x86" }.to_owned(),
    );
    set("hardware.cpus", get("CPU@count"));
    set("hardware.memory", get("Memory@RAMSize"));
    let firmware = get("Firmware@type");
    set(
        "hardware.firmware",
        if firmware.starts_with("EFI") {
            "uefi".into()
        } else {
            firmware.to_lowercase()
        },
    );
    let tpm = hardware.value("TrustedPlatformModule@type");
    set(
        "hardware.tpm",
        tpm.map_or("off", |kind| if kind == "v2_0" { "2.0" } else { kind })
            .to_owned(),
    );
    set("hardware.clock", get("RTC@localOrUTC").to_lowercase());
    let window = get("Frontend/Default@type") == "gui";
    set(
        "hardware.display",
        if window { "window" } else { "none" }.to_owned(),
    );
    set("hardware.video-memory", get("Display@VRAMSize"));
    set(
        "hardware.audio",
        switch(get("AudioAdapter@enabled") == "true"),
    );
    let port = hardware
        .find("UART/Port")
        .filter(|port| port.attribute("enabled") == Some("true"));
    let console = port.filter(|port| port.attribute("hostMode") == Some("RawFile"));
    let path = console.and_then(|port| port.attribute("path"));
    set(
        "hardware.console",
        path.map_or_else(|| "none".to_owned(), |path| absolute(config, path)),
    );
    let boot: Vec<&str> = hardware
        .find("Boot")
        .map(|boot| boot.all("Order"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|order| order.attribute("device"))
        .filter_map(|device| match device {
            "HardDisk" => Some("disk"),
            "DVD" => Some("cdrom"),
            "None" => None,
            other => Some(other),
        })
        .collect();
    set("hardware.boot", boot.join(","));
    for adapter in hardware
        .find("Network")
        .map(|network| network.all("Adapter"))
        .unwrap_or_default()
    {
        let slot = adapter.attribute("slot").unwrap_or("?");
        let mode = match (
            adapter.attribute("cable"),
            adapter.children().next().map(Node::tag),
        ) {
            (Some("false"), _) => "none",
            (_, Some("NAT")) => "nat",
            (_, Some("HostOnlyInterface")) => "host-only",
            (_, Some("BridgedInterface")) => "bridged",
            _ => "?",
        };
        set(&format!("hardware.network.{slot}.mode"), mode.to_owned());
        let digits = adapter
            .attribute("MACAddress")
            .unwrap_or_default()
            .to_lowercase();
        let octets: Vec<_> = digits
            .as_bytes()
            .chunks(2)
            .map(String::from_utf8_lossy)
            .collect();
        set(&format!("hardware.network.{slot}.mac"), octets.join(":"));
    }
    let mut drives = Vec::new();
    let controllers = machine
        .find("StorageControllers")
        .or_else(|| hardware.find("StorageControllers"));
    for controller in controllers
        .expect("there are controllers")
        .all("StorageController")
    {
        let kind = controller.attribute("type").unwrap_or_default();
        let kind = KINDS
            .iter()
            .find(|(word, _)| *word == kind)
            .map_or(kind, |(_, kind)| kind);
        let ports = number(controller, "PortCount");
        for device in controller.all("AttachedDevice") {
            let (port, unit) = (number(device, "port"), number(device, "device"));
            assert!(port < ports, "{kind} port {port} of {ports}");
            let slot = if kind == "ide" { port * 2 + unit } else { port };
            let uuid = device
                .value("Image@uuid")
                .unwrap_or_default()
                .trim_matches(['{', '}']);
            if device.attribute("type") == Some("DVD") {
                drives.push((slot, absolute(config, &medium(machine, uuid))));
                continue;
            }
            let disk = &seen["media"][uuid];
            let path = absolute(config, disk["location"].as_str().unwrap_or_default());
            let layer = layer_of(&path);
            let mut depth = 1;
            let mut parent = &disk["parent"];
            while let Some(uuid) = parent.as_str() {
                depth += 1;
                parent = &seen["media"][uuid]["parent"];
            }
            set(&format!("layer.{layer}.controller"), kind.to_owned());
            set(&format!("layer.{layer}.slot"), slot.to_string());
            set(&format!("layer.{layer}.path"), path);
            set(&format!("layer.{layer}.depth"), depth.to_string());
        }
    }
    // Drives are on IDE, the first one on the last port.
    drives.sort_by_key(|(slot, _)| std::cmp::Reverse(*slot));
    for (index, (_, path)) in drives.into_iter().enumerate() {
        set(&format!("hardware.cdrom.{index}.image"), path);
    }
    set("policy.clipboard", direction(&get("Clipboard@mode")));
    set("policy.drag-and-drop", direction(&get("DragAndDrop@mode")));
    let usb = hardware.find("USB/Controllers/Controller").is_some();
    set("policy.usb", switch(usb));
    // These the windows hold to: a word in a list takes the command away.
    let extra = |name: &str, word: &str| {
        let items = machine
            .find("ExtraData")
            .map(|extra| extra.all("ExtraDataItem"))
            .unwrap_or_default();
        items.iter().any(|item| {
            let words = item.attribute("value").unwrap_or_default();
            item.attribute("name") == Some(name) && words.split(',').any(|one| one == word)
        })
    };
    set(
        "policy.shared-folders",
        switch(!extra(
            "GUI/RestrictedRuntimeDevicesMenuActions",
            "SharedFolders",
        )),
    );
    set(
        "policy.snapshots",
        switch(!extra(
            "GUI/RestrictedRuntimeMachineMenuActions",
            "TakeSnapshot",
        )),
    );
    set(
        "policy.suspend",
        switch(!extra(
            "GUI/RestrictedRuntimeMachineMenuActions",
            "SaveState",
        )),
    );
    values
}

/// Where a DVD image of the registry is.
fn medium(machine: Node<'_>, uuid: &str) -> String {
    let images = machine
        .find("MediaRegistry/DVDImages")
        .map(|images| images.all("Image"))
        .unwrap_or_default();
    let image = images
        .into_iter()
        .find(|image| image.attribute("uuid").is_some_and(|id| id.contains(uuid)));
    image
        .and_then(|image| image.attribute("location"))
        .unwrap_or_default()
        .to_owned()
}

fn number(node: Node<'_>, attribute: &str) -> u32 {
    node.attribute(attribute)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn direction(mode: &str) -> String {
    match mode {
        "Disabled" => "off",
        "HostToGuest" => "host-to-guest",
        "GuestToHost" => "guest-to-host",
        "Bidirectional" => "both",
        other => other,
    }
    .to_owned()
}

fn switch(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

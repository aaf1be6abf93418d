//! A `config.pvs` as dissect.hypervisor and Python's XML parser see it. Elements and words: public configurations that
//! Parallels Desktop wrote, and the headers of Virtuozzo's SDK.

use std::path::{Path, PathBuf};

use serde_json::Value;
use stratavm::Plan;

use super::{Node, absolute};
use crate::common::values::{Blind, Values};

pub(crate) const BLIND: &[Blind] = &[Blind {
    reader: "dissect.hypervisor pvs",
    keys: &[
        "name",
        "hardware.clock",
        "policy.snapshots",
        "policy.suspend",
        "layer.*.path",
        "layer.*.depth",
        "all.controllers",
        "all.networks",
    ],
    only_on: None,
    why: "config.pvs has no place for it; files and depth are in each bundle's DiskDescriptor.xml",
}];

/// The configuration in the `.pvm` bundle.
pub(crate) fn config(plan: &Plan) -> PathBuf {
    plan.entry.clone().expect("Parallels opens a file")
}

/// The `.hdd` bundle of a disk.
pub(crate) fn bundle(plan: &Plan, disk: &str) -> PathBuf {
    config(plan).with_file_name(format!("{disk}.hdd"))
}

pub(crate) fn dissect(seen: &Value, config: &Path) -> Values {
    let pvm = config.parent().expect("config.pvs lies in a bundle");
    let root = Node(&seen["document"]);
    let get = |path: &str| {
        root.find(path)
            .map(Node::text)
            .unwrap_or_default()
            .to_owned()
    };
    let mut values = Values::new();
    let mut set = |key: &str, value: String| drop(values.insert(key.to_owned(), value));
    set("title", get("Identification/VmName"));
    let os = match get("Settings/General/OsType").as_str() {
        "8" => "windows",
        "9" => "linux",
        _ => "other",
    };
    set("guest.os", os.to_owned());
    // Apple silicon's machines have a firmware and a hypervisor of their own.
    let efi = get("Settings/Startup/Bios/EfiEnabled");
    set(
        "guest.arch",
        if efi == "5" { "aarch64" } else { "x86_64" }.to_owned(),
    );
    set(
        "hardware.firmware",
        if efi == "0" { "bios" } else { "uefi" }.to_owned(),
    );
    set(
        "hardware.secure-boot",
        (get("Settings/Startup/Bios/EfiSecureBoot") == "1").to_string(),
    );
    set("hardware.cpus", get("Hardware/Cpu/Number"));
    set("hardware.memory", get("Hardware/Memory/RAM"));
    set(
        "hardware.video-memory",
        get("Hardware/Video/VideoMemorySize"),
    );
    let tpm = get("Hardware/TpmChip/Type");
    set(
        "hardware.tpm",
        if matches!(tpm.as_str(), "" | "0") {
            "off".to_owned()
        } else {
            tpm
        },
    );
    // 0 is a window; 5 is none.
    let window = get("Settings/Startup/WindowMode") == "0";
    set(
        "hardware.display",
        if window { "window" } else { "none" }.to_owned(),
    );
    let hardware = root.find("Hardware").expect("there is hardware");
    set("hardware.audio", switch(hardware.find("Sound").is_some()));
    let text = |node: Node<'_>, tag: &str| {
        node.find(tag)
            .map(Node::text)
            .unwrap_or_default()
            .to_owned()
    };

    let mut devices: Vec<(String, String)> = root
        .find("Settings/Startup/BootingOrder")
        .map(|order| order.all("BootDevice"))
        .unwrap_or_default()
        .into_iter()
        .filter(|device| text(*device, "InUse") == "1")
        .map(|device| (text(device, "BootingNumber"), text(device, "Type")))
        .collect();
    devices.sort();
    let word = |kind: &str| match kind {
        "5" => "cdrom".to_owned(),
        "6" => "disk".to_owned(),
        other => other.to_owned(),
    };
    let boot: Vec<String> = devices.iter().map(|(_, kind)| word(kind)).collect();
    set("hardware.boot", boot.join(","));

    let serial = hardware
        .find("Serial")
        .filter(|serial| text(*serial, "EmulatedType") == "2");
    let console = serial.map(|serial| absolute(pvm, &text(serial, "SystemName")));
    set(
        "hardware.console",
        console.unwrap_or_else(|| "none".to_owned()),
    );
    for adapter in hardware.all("NetworkAdapter") {
        let index = text(adapter, "Index");
        let mode = match (
            text(adapter, "Connected").as_str(),
            text(adapter, "EmulatedType").as_str(),
        ) {
            ("0", _) => "none",
            (_, "0") => "host-only",
            (_, "1") => "nat",
            (_, "2") => "bridged",
            _ => "?",
        };
        set(&format!("hardware.network.{index}.mode"), mode.to_owned());
        let digits = text(adapter, "MAC").to_lowercase();
        let octets: Vec<_> = digits
            .as_bytes()
            .chunks(2)
            .map(String::from_utf8_lossy)
            .collect();
        set(&format!("hardware.network.{index}.mac"), octets.join(":"));
    }
    for drive in hardware.all("CdRom") {
        let path = absolute(pvm, &text(drive, "SystemName"));
        set(
            &format!("hardware.cdrom.{}.image", text(drive, "Index")),
            path,
        );
    }
    let mut places = Vec::new();
    for disk in hardware.all("Hdd") {
        let bundle = text(disk, "SystemName");
        let layer = bundle.trim_end_matches(".hdd");
        let interface = text(disk, "InterfaceType");
        let kind = match interface.as_str() {
            "0" => "ide",
            "1" => "scsi",
            "2" => "sata",
            "3" => "nvme",
            other => other,
        };
        let slot = text(disk, "StackIndex");
        set(&format!("layer.{layer}.controller"), kind.to_owned());
        set(&format!("layer.{layer}.slot"), slot.clone());
        places.push((interface, slot));
    }
    places.extend(
        hardware
            .all("CdRom")
            .into_iter()
            .map(|d| (text(d, "InterfaceType"), text(d, "StackIndex"))),
    );
    let all = places.len();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), all, "two devices at one place");
    assert_eq!(
        seen["disks"].as_array().map(Vec::len),
        Some(hardware.all("Hdd").len())
    );

    let tools = root.find("Settings/Tools").expect("there are tools");
    let enabled = |path: &str| tools.find(path).map(Node::text) == Some("1");
    let both = |open: bool| if open { "both" } else { "off" }.to_owned();
    set("policy.clipboard", both(enabled("ClipboardSync/Enabled")));
    set("policy.drag-and-drop", both(enabled("DragAndDrop/Enabled")));
    set(
        "policy.shared-folders",
        switch(enabled("SharedFolders/HostSharing/Enabled")),
    );
    let usb = root
        .find("Settings/UsbController/ExternalDevices/Disks")
        .map(Node::text)
        == Some("1");
    set("policy.usb", switch(usb));
    values
}

fn switch(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

//! A `.vmx` as dissect.hypervisor, libvirt and virt-v2v see it. Keys and words: VMware's documentation and public
//! `.vmx` files of its products.

use std::path::Path;

use serde_json::Value;

use super::{Node, absolute, layer_of, system};
use crate::common::machines::Translated;
use crate::common::values::{Blind, Values};

pub(crate) const BLIND: &[Blind] = &[
    Blind {
        reader: "dissect.hypervisor vmx",
        keys: &[
            "hardware.display",
            "layer.*.depth",
            "all.controllers",
            "all.networks",
        ],
        only_on: None,
        why: "a .vmx has no key for it; chains are read from their files",
    },
    Blind {
        reader: "libvirt",
        keys: &[
            "name",
            "guest.os",
            "hardware.secure-boot",
            "hardware.tpm",
            "hardware.clock",
            "hardware.display",
            "hardware.video-memory",
            "hardware.audio",
            "hardware.boot",
            "policy.*",
            "layer.*.depth",
            "all.controllers",
            "all.networks",
        ],
        only_on: None,
        why: "its vmx parser does not read the keys",
    },
    Blind {
        reader: "libvirt",
        keys: &["guest.arch"],
        only_on: None,
        why: "it takes every 64-bit guest for x86_64, arm-debian-64 too",
    },
    Blind {
        reader: "libvirt",
        keys: &["layer.*.*"],
        only_on: Some("nvme"),
        why: "its vmx parser passes over NVMe",
    },
    Blind {
        reader: "libvirt",
        keys: &["hardware.network.*.mode"],
        only_on: None,
        why: "its vmx parser refuses host-only and bridged adapters as hosted products have them; it is given nat",
    },
    Blind {
        reader: "virt-v2v",
        keys: &[
            "name",
            "guest.os",
            "guest.arch",
            "hardware.secure-boot",
            "hardware.tpm",
            "hardware.clock",
            "hardware.display",
            "hardware.console",
            "hardware.video-memory",
            "hardware.audio",
            "hardware.boot",
            "hardware.network.*.*",
            "hardware.cdrom.*.image",
            "policy.*",
            "layer.*.*",
        ],
        only_on: None,
        why: "it lists kinds of disks and adapters only, and opens the disks",
    },
];

/// All keys, as dissect gives them: lower-case, the escapes decoded.
pub(crate) fn dissect(seen: &Value, vmx: &Path) -> Values {
    let config = vmx.parent().expect("a .vmx lies in a folder");
    let get = |key: &str| seen["attributes"].get(key).and_then(Value::as_str);
    let on = |key: &str| get(key) == Some("TRUE");
    let mut values = Values::new();
    let mut set = |key: &str, value: String| drop(values.insert(key.to_owned(), value));
    let stem = vmx
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    set("name", stem.to_owned());
    set("title", get("displayname").unwrap_or_default().to_owned());
    let guest = get("guestos").unwrap_or_default();
    set("guest.os", system(guest).to_owned());
    let arch = match (guest.starts_with("arm-"), guest.ends_with("-64")) {
        (true, _) => "aarch64",
        (false, true) => "x86_64",
        _ => guest,
    };
    set("guest.arch", arch.to_owned());
    set("hardware.cpus", get("numvcpus").unwrap_or("1").to_owned());
    set(
        "hardware.memory",
        get("memsize").unwrap_or_default().to_owned(),
    );
    set("hardware.firmware", firmware(get("firmware")));
    set(
        "hardware.secure-boot",
        on("uefi.secureboot.enabled").to_string(),
    );
    set(
        "hardware.tpm",
        if on("vtpm.present") { "2.0" } else { "off" }.to_owned(),
    );
    let utc = get("rtc.difffromutc") == Some("0");
    set(
        "hardware.clock",
        if utc { "utc" } else { "local" }.to_owned(),
    );
    let console = match (on("serial0.present"), get("serial0.filetype")) {
        (true, Some("file")) => absolute(config, get("serial0.filename").unwrap_or_default()),
        _ => "none".to_owned(),
    };
    set("hardware.console", console);
    let video = get("svga.vramsize")
        .and_then(|bytes| bytes.parse::<u64>().ok())
        .unwrap_or(0);
    set("hardware.video-memory", (video >> 20).to_string());
    set("hardware.audio", switch(on("sound.present")));
    set(
        "hardware.boot",
        get("bios.bootorder")
            .unwrap_or_default()
            .replace("hdd", "disk"),
    );
    for index in (0..10).filter(|index| on(&format!("ethernet{index}.present"))) {
        let part = |part: &str| get(&format!("ethernet{index}.{part}"));
        let mode = match (part("startconnected"), part("connectiontype")) {
            (Some("FALSE"), _) => "none",
            (_, Some("hostonly")) => "host-only",
            (_, other) => other.unwrap_or("?"),
        };
        set(&format!("hardware.network.{index}.mode"), mode.to_owned());
        assert_eq!(part("addresstype"), Some("static"));
        set(
            &format!("hardware.network.{index}.mac"),
            part("address").unwrap_or_default().to_owned(),
        );
    }
    let mut drives = Vec::new();
    for (bus, adapters, units) in [
        ("ide", 2, 2),
        ("sata", 4, 30),
        ("scsi", 4, 16),
        ("nvme", 4, 15),
    ] {
        for (adapter, unit) in (0..adapters).flat_map(|a| (0..units).map(move |u| (a, u))) {
            let part = |part: &str| get(&format!("{bus}{adapter}:{unit}.{part}"));
            if part("present") != Some("TRUE") {
                continue;
            }
            assert!(
                on(&format!("{bus}{adapter}.present")),
                "{bus}{adapter} is not there for its unit {unit}"
            );
            let path = absolute(config, part("filename").unwrap_or_default());
            let slot = if bus == "ide" {
                adapter * 2 + unit
            } else {
                adapter * 100 + unit
            };
            if part("devicetype").is_some_and(|kind| kind.starts_with("cdrom")) {
                drives.push((bus, slot, path));
                continue;
            }
            let layer = layer_of(&path);
            set(&format!("layer.{layer}.controller"), bus.to_owned());
            set(&format!("layer.{layer}.slot"), slot.to_string());
            set(&format!("layer.{layer}.path"), path);
        }
    }
    // On IDE the first drive has the last port.
    drives.sort_by_key(|(bus, slot, _)| (*bus, if *bus == "ide" { 3 - slot } else { *slot }));
    for (index, (_, _, path)) in drives.into_iter().enumerate() {
        set(&format!("hardware.cdrom.{index}.image"), path);
    }
    let clipboard = match (
        on("isolation.tools.copy.disable"),
        on("isolation.tools.paste.disable"),
    ) {
        (true, true) => "off",
        (true, false) => "host-to-guest",
        (false, true) => "guest-to-host",
        (false, false) => "both",
    };
    set("policy.clipboard", clipboard.to_owned());
    let dnd = if on("isolation.tools.dnd.disable") {
        "off"
    } else {
        "both"
    };
    set("policy.drag-and-drop", dnd.to_owned());
    set(
        "policy.shared-folders",
        switch(!on("isolation.tools.hgfs.disable")),
    );
    set(
        "policy.usb",
        switch(on("usb.present") && on("usb.restrictions.defaultallow")),
    );
    set("policy.snapshots", switch(!on("snapshot.disabled")));
    set("policy.suspend", switch(!on("suspend.disabled")));
    values
}

/// The domain XML that libvirt makes.
pub(crate) fn libvirt(seen: &Value, one: &Translated) -> Values {
    let config = one.entry().parent().expect("a .vmx lies in a folder");
    let domain = Node(seen);
    let text = |path: &str| {
        domain
            .find(path)
            .map(Node::text)
            .unwrap_or_default()
            .to_owned()
    };
    let mut values = Values::new();
    let mut set = |key: &str, value: String| drop(values.insert(key.to_owned(), value));
    set("title", text("name"));
    set("hardware.cpus", text("vcpu"));
    assert_eq!(domain.value("memory@unit"), Some("KiB"));
    let memory: u64 = text("memory").parse().expect("memory is a number");
    set("hardware.memory", (memory >> 10).to_string());
    set(
        "guest.arch",
        domain.value("os/type@arch").unwrap_or_default().to_owned(),
    );
    set("hardware.firmware", firmware(domain.value("os@firmware")));
    let devices = domain.find("devices").expect("a domain has devices");
    let mut drives = 0;
    let number = |node: Node<'_>, place: &str| {
        node.value(place)
            .and_then(|n| n.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let mut disks = devices.all("disk");
    // On IDE the first drive has the last port.
    disks.sort_by_key(|disk| match disk.value("target@bus") {
        Some("ide") => 3 - number(*disk, "address@bus") * 2 - number(*disk, "address@unit"),
        _ => number(*disk, "address@controller") * 6 + number(*disk, "address@unit"),
    });
    for disk in disks {
        let path = absolute(config, disk.value("source@file").unwrap_or_default());
        if disk.attribute("device") == Some("cdrom") {
            set(&format!("hardware.cdrom.{drives}.image"), path);
            drives += 1;
            continue;
        }
        let bus = disk.value("target@bus").unwrap_or_default();
        let slot = match bus {
            "ide" => number(disk, "address@bus") * 2 + number(disk, "address@unit"),
            // libvirt counts six ports to an adapter, VMware thirty.
            "sata" => number(disk, "address@controller") * 6 + number(disk, "address@unit"),
            _ => number(disk, "address@controller") * 100 + number(disk, "address@unit"),
        };
        let layer = layer_of(&path);
        set(&format!("layer.{layer}.controller"), bus.to_owned());
        set(&format!("layer.{layer}.slot"), slot.to_string());
        set(&format!("layer.{layer}.path"), path);
    }
    for (index, interface) in devices.all("interface").into_iter().enumerate() {
        let mode = match interface.attribute("type") {
            Some("user") => "nat",
            Some("bridge") => "bridged",
            other => other.unwrap_or("?"),
        };
        set(&format!("hardware.network.{index}.mode"), mode.to_owned());
        set(
            &format!("hardware.network.{index}.mac"),
            interface
                .value("mac@address")
                .unwrap_or_default()
                .to_owned(),
        );
    }
    let console = devices
        .find("serial")
        .and_then(|serial| serial.value("source@path"));
    set(
        "hardware.console",
        console.map_or_else(|| "none".to_owned(), |path| absolute(config, path)),
    );
    values
}

/// virt-v2v's description of the source.
pub(crate) fn virt_v2v(seen: &Value) -> Values {
    let text = |key: &str| seen[key].as_str().unwrap_or_default().to_owned();
    let lines = |key: &str| {
        seen[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    };
    let bytes: u64 = text("memory")
        .trim_end_matches(" (bytes)")
        .parse()
        .expect("memory is a number");
    let mut kinds: Vec<&str> = lines("disks")
        .map(|line| {
            line.split_once('[')
                .map_or(line, |(_, kind)| kind.trim_end_matches(']'))
        })
        .collect();
    kinds.sort_unstable();
    let removable = lines("removable").count();
    assert!(removable <= 4, "{removable} drives");
    [
        ("title", text("source name")),
        ("hardware.memory", (bytes >> 20).to_string()),
        ("hardware.cpus", text("nr vCPUs")),
        ("hardware.firmware", text("firmware")),
        ("all.controllers", kinds.join(",")),
        ("all.networks", lines("nics").count().to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Without the key there is a BIOS.
fn firmware(word: Option<&str>) -> String {
    match word {
        Some("efi") => "uefi".to_owned(),
        None => "bios".to_owned(),
        Some(other) => other.to_owned(),
    }
}

fn switch(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

//! What the settings file says for each thing that a spec can ask for, read back by a foreign XML
//! parser. What is refused is in `refuse.rs`, hostile values are in `hostile.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use roxmltree::{Document, Node};
use stratavm::plan::{Content, Grade};
use stratavm::resolved::Resolved;
use stratavm::spec::{
    Audio, BootDevice, Cdrom, Clock, Composition, Console, Controller, Direction, Display,
    Firmware, GuestOs, MacAddress, Network, NetworkMode, Policy, Role, Size, Switch, Tpm,
};
use stratavm::testkit::Sample;
use stratavm::{Hypervisor, Plan};
use stratavm_virtualbox::VirtualBox;

const FOLDER: &str = "/store/machines/finance";

fn sample() -> Sample {
    Sample::new("finance")
        .unwrap()
        .layer("home", Role::UserData, 16)
        .unwrap()
}

fn resolve(sample: &Sample) -> Resolved {
    sample.resolve(Path::new(FOLDER))
}

fn plan(sample: &Sample) -> Plan {
    VirtualBox::new().translate(&resolve(sample)).unwrap()
}

fn text(plan: &Plan) -> String {
    let [file] = plan.files.as_slice() else {
        panic!("{:?}", plan.files)
    };
    assert_eq!(plan.entry.as_ref(), Some(&file.path));
    let Content::Text(text) = &file.content else {
        panic!("{file:?}")
    };
    text.clone()
}

/// All elements of this name.
fn elements<'a>(document: &'a Document<'_>, name: &str) -> Vec<Node<'a, 'a>> {
    document
        .descendants()
        .filter(|node| node.tag_name().name() == name)
        .collect()
}

fn attribute(plan: &Plan, element: &str, attribute: &str) -> Vec<String> {
    let text = text(plan);
    let document = Document::parse(&text).unwrap();
    let found = elements(&document, element);
    found
        .iter()
        .map(|node| node.attribute(attribute).unwrap_or("-").to_owned())
        .collect()
}

#[test]
fn a_whole_machine_is_as_committed() {
    let mut sample = Sample::new("finance")
        .unwrap()
        .extents(3)
        .frozen(2)
        .layer("office", Role::Apps, 4)
        .unwrap()
        .layer("home", Role::UserData, 16)
        .unwrap();
    let spec = &mut sample.spec;
    spec.title = Some("Finance <desktop> & more".to_owned());
    spec.guest.id = Some("debian12".to_owned());
    spec.guest.composition = Composition::Linux;
    spec.hardware.console = Console::Log;
    spec.hardware.cdrom = vec![Cdrom {
        image: "installer.iso".to_owned(),
    }];
    spec.hardware.network = vec![
        Network {
            mode: NetworkMode::Nat,
            mac: MacAddress::Auto,
        },
        Network {
            mode: NetworkMode::None,
            mac: "02:00:00:00:00:0f".parse().unwrap(),
        },
    ];
    spec.layers[1].controller = Some(Controller::Scsi);
    insta::assert_snapshot!(plan(&sample));
}

#[test]
fn equal_input_gives_equal_plans() {
    assert_eq!(plan(&sample()), plan(&sample()));
    assert_eq!(plan(&sample()).digest(), plan(&sample()).digest());
}

#[test]
fn settings_are_of_the_lowest_version_that_says_it_all() {
    let with = |controller, firmware, tpm| {
        let mut sample = sample();
        sample.spec.hardware.firmware = firmware;
        sample.spec.hardware.tpm = tpm;
        sample.spec.layers[1].controller = Some(controller);
        let plan = plan(&sample);
        (
            attribute(&plan, "VirtualBox", "version").remove(0),
            plan.needs,
        )
    };
    let is = |version: &str, needs: &str| (version.to_owned(), needs.to_owned());
    let (bios, uefi) = (Firmware::Bios, Firmware::Uefi);
    assert_eq!(
        with(Controller::Auto, bios, Tpm::Off),
        is("1.15-linux", "VirtualBox 5.0")
    );
    assert_eq!(
        with(Controller::Nvme, bios, Tpm::Off),
        is("1.16-linux", "VirtualBox 5.1")
    );
    assert_eq!(
        with(Controller::Virtio, bios, Tpm::Off),
        is("1.18-linux", "VirtualBox 6.1")
    );
    assert_eq!(
        with(Controller::Nvme, uefi, Tpm::V2),
        is("1.19-linux", "VirtualBox 7.0")
    );

    let mut windows = sample();
    windows.spec.guest.os = GuestOs::Windows;
    windows.spec.guest.id = Some("windows11".to_owned());
    let plan = plan(&windows);
    assert_eq!(attribute(&plan, "Machine", "OSType"), ["Windows11_64"]);
    assert_eq!(plan.needs, "VirtualBox 7.0");
}

#[test]
fn each_controller_has_the_ports_that_are_used_and_no_more() {
    let cases = [
        (Controller::Ide, "PIIX4", "2", [("0", "0"), ("0", "1")]),
        (Controller::Sata, "AHCI", "2", [("0", "0"), ("1", "0")]),
        (Controller::Auto, "AHCI", "2", [("0", "0"), ("1", "0")]),
        (Controller::Scsi, "LsiLogic", "16", [("0", "0"), ("1", "0")]),
        (Controller::Nvme, "NVMe", "2", [("0", "0"), ("1", "0")]),
        (
            Controller::Virtio,
            "VirtioSCSI",
            "2",
            [("0", "0"), ("1", "0")],
        ),
    ];
    for (kind, model, ports, places) in cases {
        let mut sample = sample();
        sample.spec.hardware.controller = kind;
        if kind == Controller::Nvme {
            sample.spec.hardware.firmware = Firmware::Uefi;
        }
        let plan = plan(&sample);
        assert_eq!(
            attribute(&plan, "StorageController", "type"),
            [model],
            "{kind}"
        );
        assert_eq!(
            attribute(&plan, "StorageController", "PortCount"),
            [ports],
            "{kind}"
        );
        let found = attribute(&plan, "AttachedDevice", "port")
            .into_iter()
            .zip(attribute(&plan, "AttachedDevice", "device"));
        let places = places.map(|(port, device)| (port.to_owned(), device.to_owned()));
        assert_eq!(found.collect::<Vec<_>>(), places, "{kind}");
        assert_ne!(plan.disks[0].place, plan.disks[1].place);
    }
}

#[test]
fn removing_a_layer_moves_no_other() {
    let mut all = sample();
    all = all.layer("cache", Role::Cache, 4).unwrap();
    let mut fewer = plan(&all);
    let mut resolved = resolve(&all);
    resolved.disks.remove(1);
    resolved.spec.layers.remove(1);
    let without = VirtualBox::new().translate(&resolved).unwrap();
    fewer.disks.remove(1);
    assert_eq!(fewer.disks, without.disks);
    assert_eq!(attribute(&without, "AttachedDevice", "port"), ["0", "2"]);
    assert_eq!(attribute(&without, "StorageController", "PortCount"), ["3"]);
}

#[test]
fn the_registry_nests_every_level_and_keeps_the_base_from_writes() {
    let mut sample = sample().frozen(2);
    sample.spec.guest.composition = Composition::Linux;
    let machine = resolve(&sample);
    let text = text(&VirtualBox::new().translate(&machine).unwrap());
    let document = Document::parse(&text).unwrap();
    let disks = elements(&document, "HardDisks").remove(0);
    let roots: Vec<_> = disks.children().filter(Node::is_element).collect();
    let types: Vec<_> = roots
        .iter()
        .map(|root| root.attribute("type").unwrap())
        .collect();
    assert_eq!(types, ["Readonly", "Readonly", "Normal"]);

    for (root, disk) in roots.iter().zip(&machine.disks) {
        let mut node = Some(*root);
        for level in disk.chain.levels() {
            let element = node.expect("a level is missing");
            assert_eq!(
                element.attribute("uuid").unwrap(),
                format!("{{{}}}", level.uuid)
            );
            assert_eq!(element.attribute("format"), Some("VMDK"));
            assert_eq!(element.attribute("autoReset"), None);
            let location = Path::new(FOLDER)
                .join("config")
                .join(element.attribute("location").unwrap());
            assert!(
                location.ends_with(level.path().unwrap().file_name().unwrap()),
                "{location:?}"
            );
            assert_eq!(element.attribute("type").is_some(), element == *root);
            node = element.children().find(Node::is_element);
        }
        assert!(node.is_none());
    }
    let heads = attribute(&plan(&sample), "Image", "uuid");
    let heads_of_chains: Vec<_> = machine
        .disks
        .iter()
        .map(|d| format!("{{{}}}", d.chain.head().unwrap().uuid))
        .collect();
    assert_eq!(heads, heads_of_chains);
}

#[test]
fn drives_take_the_last_ide_ports_and_one_medium_has_one_id() {
    let mut sample = sample();
    let drive = |image: &str| Cdrom {
        image: image.to_owned(),
    };
    sample.spec.hardware.cdrom = vec![drive("a.iso"), drive("b.iso"), drive("a.iso")];
    sample.spec.hardware.boot = vec![BootDevice::Cdrom, BootDevice::Disk];
    let first = plan(&sample);
    assert_eq!(
        attribute(&first, "AttachedDevice", "type")[..3],
        ["DVD", "DVD", "DVD"]
    );
    assert_eq!(
        attribute(&first, "AttachedDevice", "port")[..3],
        ["0", "1", "1"]
    );
    assert_eq!(
        attribute(&first, "AttachedDevice", "device")[..3],
        ["1", "0", "1"]
    );
    assert_eq!(
        attribute(&first, "StorageController", "Bootable"),
        ["true", "true"]
    );
    assert_eq!(
        attribute(&first, "Order", "device"),
        ["DVD", "HardDisk", "None", "None"]
    );

    let media = |plan: &Plan| {
        let text = text(plan);
        let document = Document::parse(&text).unwrap();
        let images = elements(&document, "DVDImages").remove(0);
        images
            .children()
            .filter(Node::is_element)
            .map(|image| image.attribute("uuid").unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(media(&first).len(), 2);
    let other = sample.id(uuid::Uuid::from_u128(99));
    assert_eq!(
        media(&first),
        media(&plan(&other)),
        "another machine, the same media"
    );
}

#[test]
fn hardware_is_what_the_spec_says() {
    let mut sample = sample();
    let hardware = &mut sample.spec.hardware;
    hardware.cpus = 4;
    hardware.memory = Size::from_mib(2048);
    hardware.video_memory = Size::from_mib(64);
    hardware.clock = Clock::Local;
    hardware.audio = Audio::On;
    hardware.display = Display::Window;
    hardware.firmware = Firmware::Uefi;
    hardware.console = Console::Log;
    let plan = plan(&sample);
    let one = |element, name| attribute(&plan, element, name).remove(0);
    assert_eq!(
        (one("CPU", "count"), one("Memory", "RAMSize")),
        ("4".into(), "2048".into())
    );
    assert_eq!(
        (one("Display", "VRAMSize"), one("RTC", "localOrUTC")),
        ("64".into(), "local".into())
    );
    assert_eq!(one("AudioAdapter", "enabled"), "true");
    assert_eq!(one("AudioAdapter", "enabledIn"), "false");
    assert_eq!(
        (one("Default", "type"), one("Firmware", "type")),
        ("gui".into(), "EFI".into())
    );
    assert_eq!(one("Port", "path"), format!("{FOLDER}/config/console.log"));
    assert_eq!(
        (one("Port", "IOBase"), one("Port", "IRQ")),
        ("0x3f8".into(), "4".into())
    );
    assert_eq!(one("Logo", "displayTime"), "0");
    assert_eq!(one("Machine", "uuid"), one("Hardware", "uuid"));
    assert_eq!(plan.argv[..2], ["VBoxManage", "startvm"]);
    assert_eq!(plan.argv[3..], ["--type", "gui"]);
    let items = attribute(&plan, "ExtraDataItem", "name");
    assert!(items.contains(&"VBoxInternal2/TurnResetIntoPowerOff".to_owned()));
}

#[test]
fn networks_are_attached_or_have_no_cable() {
    let mut sample = sample();
    let fixed: MacAddress = "02:0a:0b:0c:0d:ef".parse().unwrap();
    sample.spec.hardware.network = [
        NetworkMode::Nat,
        NetworkMode::HostOnly,
        NetworkMode::Bridged,
        NetworkMode::None,
    ]
    .map(|mode| Network { mode, mac: fixed })
    .to_vec();
    let plan = plan(&sample);
    let text = text(&plan);
    let document = Document::parse(&text).unwrap();
    let adapters = elements(&document, "Adapter");
    let attached: Vec<_> = adapters
        .iter()
        .map(|a| {
            a.children()
                .find(Node::is_element)
                .map_or("-", |n| n.tag_name().name())
        })
        .collect();
    assert_eq!(
        attached,
        ["NAT", "HostOnlyInterface", "BridgedInterface", "-"]
    );
    let cables: Vec<_> = adapters
        .iter()
        .map(|a| a.attribute("cable").unwrap())
        .collect();
    assert_eq!(cables, ["true", "true", "true", "false"]);
    assert!(
        adapters
            .iter()
            .all(|a| a.attribute("MACAddress") == Some("020A0B0C0DEF"))
    );
    let keys: Vec<_> = plan.gaps.iter().map(|gap| gap.key.as_str()).collect();
    assert!(keys.contains(&"hardware.network.1.mode") && keys.contains(&"hardware.network.2.mode"));
}

#[test]
fn what_a_policy_forbids_is_closed_hidden_and_a_gap() {
    let directions = [
        (Direction::Off, "Disabled"),
        (Direction::HostToGuest, "HostToGuest"),
        (Direction::GuestToHost, "GuestToHost"),
        (Direction::Both, "Bidirectional"),
    ];
    for (direction, mode) in directions {
        let mut sample = sample();
        sample.spec.policy.clipboard = direction;
        sample.spec.policy.drag_and_drop = direction;
        let plan = plan(&sample);
        assert_eq!(attribute(&plan, "Clipboard", "mode"), [mode]);
        assert_eq!(attribute(&plan, "DragAndDrop", "mode"), [mode]);
        let gap = plan.gaps.iter().any(|gap| gap.key == "policy.clipboard");
        assert_eq!(gap, direction != Direction::Both);
    }
    let closed = plan(&sample());
    assert_eq!(closed.gaps.len(), 6);
    assert!(closed.gaps.iter().all(|gap| gap.grade == Grade::UiOnly));
    assert_eq!(attribute(&closed, "Controller", "type"), [] as [&str; 0]);
    assert_eq!(attribute(&closed, "SharedFolder", "name"), [] as [&str; 0]);
    let restricted = attribute(&closed, "ExtraDataItem", "value").join(" ");
    for word in [
        "SharedClipboard",
        "DragAndDrop",
        "USBDevices",
        "TakeSnapshot",
        "SaveState",
    ] {
        assert!(restricted.contains(word), "{word}");
    }

    let mut open = sample();
    open.spec.policy = Policy {
        clipboard: Direction::Both,
        drag_and_drop: Direction::Both,
        shared_folders: Switch::On,
        usb: Switch::On,
        snapshots: Switch::On,
        suspend: Switch::On,
    };
    let open = plan(&open);
    assert_eq!(open.gaps, []);
    assert_eq!(attribute(&open, "Controller", "type"), ["OHCI"]);
    let restricted = attribute(&open, "ExtraDataItem", "name").join(" ");
    assert!(!restricted.contains("Restricted") && !restricted.contains("Snapshot"));
}

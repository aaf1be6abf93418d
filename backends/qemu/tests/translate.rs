//! What the argument vector says for each thing that a spec can ask for, read back with a splitter
//! of its own, and what is refused. That QEMU takes it all is shown in `boards.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use serde_json::Value;
use stratavm::chain::Family;
use stratavm::plan::{Content, Grade};
use stratavm::spec::{
    Arch, Audio, BootDevice, Cdrom, Clock, Composition, Console, Controller, Direction, Display,
    Firmware, GuestOs, MacAddress, Network, NetworkMode, Policy, Role, SecureBoot, Size, Switch,
    Tpm,
};
use stratavm::testkit::Sample;
use stratavm::{ErrorKind, Hypervisor as _, Plan};
use stratavm_qemu::Qemu;

const FOLDER: &str = "/store/machines/finance";

fn sample() -> Sample {
    Sample::new("finance")
        .unwrap()
        .layer("home", Role::UserData, 16)
        .unwrap()
}

fn plan_in(sample: &Sample, folder: &str) -> Plan {
    Qemu::new()
        .translate(&sample.resolve(Path::new(folder)))
        .unwrap()
}

fn plan(sample: &Sample) -> Plan {
    plan_in(sample, FOLDER)
}

fn refusal(sample: &Sample) -> (ErrorKind, String) {
    let error = Qemu::new()
        .translate(&sample.resolve(Path::new(FOLDER)))
        .unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    (error.kind(), text)
}

/// Every value of `option`, in order.
fn values<'a>(plan: &'a Plan, option: &str) -> Vec<&'a str> {
    let pairs = plan.argv.windows(2).filter(|pair| pair[0] == option);
    pairs.map(|pair| pair[1].as_str()).collect()
}

/// A list of `key=value` with doubled commas undone; the first part may have no key.
fn split(list: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        if character != ',' {
            parts.last_mut().unwrap().push(character);
        } else if characters.next_if_eq(&',').is_some() {
            parts.last_mut().unwrap().push(',');
        } else {
            parts.push(String::new());
        }
    }
    let pair = |part: String| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (String::new(), part),
    };
    parts.into_iter().map(pair).collect()
}

fn property(list: &str, key: &str) -> Option<String> {
    split(list)
        .into_iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value)
}

/// The devices of this driver.
fn devices<'a>(plan: &'a Plan, driver: &str) -> Vec<&'a str> {
    let all = values(plan, "-device").into_iter();
    all.filter(|device| device.split(',').next() == Some(driver))
        .collect()
}

/// The block nodes by name.
fn nodes(plan: &Plan) -> std::collections::BTreeMap<String, Value> {
    let parse = |text: &&str| -> Value { serde_json::from_str(text).unwrap() };
    let nodes: Vec<_> = values(plan, "-blockdev").iter().map(parse).collect();
    let count = nodes.len();
    let named: std::collections::BTreeMap<_, _> = nodes
        .into_iter()
        .map(|n| (n["node-name"].as_str().unwrap().to_owned(), n))
        .collect();
    assert_eq!(named.len(), count, "node names are unique");
    named
}

#[test]
fn every_level_is_a_node_of_its_own_with_its_backing_named() {
    let mut sample = Sample::new("finance").unwrap().extents(3).frozen(2);
    sample.spec.guest.composition = Composition::Linux;
    let plan = plan(&sample);
    let nodes = nodes(&plan);
    // Base descriptor, two frozen deltas and a head; the session disk; a file below each.
    assert_eq!(nodes.len(), 2 * (4 + 1));
    let mut below = Value::Null;
    for (level, file) in ["base", "delta-1", "delta-2", "delta-3"].iter().enumerate() {
        let name = format!("virtio0-{level}");
        let node = &nodes[&name];
        assert_eq!(node["driver"], "vmdk");
        assert_eq!(node["backing"], below, "{name}");
        assert_eq!(node["read-only"], level < 3, "{name}");
        let storage = &nodes[node["file"].as_str().unwrap()];
        assert_eq!(storage["driver"], "file");
        assert_eq!(storage["read-only"], level < 3);
        assert_eq!(
            storage["filename"],
            format!("{FOLDER}/layers/os/{file}.vmdk")
        );
        below = Value::from(name);
    }
    assert_eq!(nodes["virtio1-0"]["backing"], Value::Null);
    assert!(
        nodes["virtio1-0"]
            .as_object()
            .unwrap()
            .contains_key("backing")
    );
    let disks = devices(&plan, "virtio-blk-pci");
    assert_eq!(property(disks[0], "drive").unwrap(), "virtio0-3");
    assert_eq!(property(disks[1], "drive").unwrap(), "virtio1-0");
}

#[test]
fn a_machine_is_plain_and_repeatable() {
    let plan = plan(&sample());
    assert_eq!(plan.argv, self::plan(&sample()).argv);
    assert_eq!(plan.argv[0], "qemu-system-x86_64");
    assert!(plan.argv.contains(&"-nodefaults".to_owned()));
    assert!(plan.argv.contains(&"-no-user-config".to_owned()));
    assert!(plan.gaps.is_empty(), "{:?}", plan.gaps);
    // The arguments stand in a file too, for people.
    let [file] = plan.files.as_slice() else {
        panic!("{:?}", plan.files)
    };
    assert_eq!(plan.entry.as_ref(), Some(&file.path));
    let Content::Text(text) = &file.content else {
        panic!("{file:?}")
    };
    assert_eq!(
        serde_json::from_str::<Vec<String>>(text).unwrap(),
        plan.argv
    );
    assert_eq!(plan.needs, "QEMU 7.2.0");
    assert_eq!(values(&plan, "-machine"), ["pc-i440fx-7.2"]);
    assert_eq!(values(&plan, "-m"), ["size=512M"]);
    assert_eq!(
        values(&plan, "-smp"),
        ["cpus=1,sockets=1,cores=1,threads=1"]
    );
    assert_eq!(values(&plan, "-rtc"), ["base=utc"]);
    assert_eq!(values(&plan, "-serial"), ["none"]);
    assert_eq!(values(&plan, "-display"), ["none"]);
    assert!(values(&plan, "-action")[0].contains("reboot=shutdown"));
    assert_eq!(
        values(&plan, "-uuid"),
        ["0192d3f2-7a4b-7cde-8f01-23456789abcd"]
    );
    assert!(devices(&plan, "qemu-xhci").is_empty() && devices(&plan, "intel-hda").is_empty());
    assert_eq!(
        values(&plan, "-global"),
        ["PIIX4_PM.disable_s3=1", "PIIX4_PM.disable_s4=1"]
    );
}

#[test]
fn hardware_is_translated() {
    let mut sample = sample();
    sample.spec.guest.os = GuestOs::Windows;
    let hardware = &mut sample.spec.hardware;
    hardware.cpus = 4;
    hardware.memory = Size::from_mib(2048);
    hardware.clock = Clock::Local;
    hardware.console = Console::Log;
    hardware.display = Display::Window;
    hardware.video_memory = Size::from_mib(64);
    hardware.audio = Audio::On;
    hardware.boot = vec![BootDevice::Cdrom, BootDevice::Disk];
    hardware.cdrom = vec![
        Cdrom {
            image: "a.iso".into(),
        },
        Cdrom {
            image: "b.iso".into(),
        },
    ];
    let mac = MacAddress::Fixed([0x52, 0x54, 0, 1, 2, 3]);
    hardware.network = vec![
        Network {
            mode: NetworkMode::Nat,
            mac,
        },
        Network {
            mode: NetworkMode::HostOnly,
            mac: MacAddress::Auto,
        },
        Network {
            mode: NetworkMode::None,
            mac: MacAddress::Auto,
        },
    ];
    let plan = plan(&sample);
    assert_eq!(
        values(&plan, "-smp"),
        ["cpus=4,sockets=1,cores=4,threads=1"]
    );
    assert_eq!(values(&plan, "-m"), ["size=2048M"]);
    assert_eq!(values(&plan, "-rtc"), ["base=localtime"]);
    assert_eq!(values(&plan, "-display"), [] as [&str; 0]);
    let console = values(&plan, "-chardev")[0];
    assert_eq!(
        property(console, "path").unwrap(),
        format!("{FOLDER}/config/console.log")
    );
    assert_eq!(values(&plan, "-serial"), ["chardev:console"]);
    assert_eq!(
        property(devices(&plan, "VGA")[0], "vgamem_mb").unwrap(),
        "64"
    );
    assert_eq!(devices(&plan, "hda-output").len(), 1);
    // Windows gets an adapter that it has a driver for, and SATA disks.
    let adapters = devices(&plan, "e1000");
    assert_eq!(property(adapters[0], "mac").unwrap(), "52:54:00:01:02:03");
    assert!(
        property(adapters[1], "mac")
            .unwrap()
            .starts_with("00:50:56:")
    );
    assert_eq!(property(adapters[2], "netdev"), None);
    let net = values(&plan, "-netdev");
    assert_eq!(
        net,
        ["user,id=net0,restrict=off", "user,id=net1,restrict=on"]
    );
    let disks = devices(&plan, "ide-hd");
    assert_eq!(property(disks[0], "bus").unwrap(), "sata0.0");
    assert_eq!(property(disks[1], "bus").unwrap(), "sata0.1");
    // Drives: IDE 3, then 2; only the first is booted from, before the disks.
    let drives = devices(&plan, "ide-cd");
    let place = |device: &str| {
        (
            property(device, "bus").unwrap(),
            property(device, "unit").unwrap(),
        )
    };
    assert_eq!(place(drives[0]), ("ide.1".into(), "1".into()));
    assert_eq!(place(drives[1]), ("ide.1".into(), "0".into()));
    let index = |device: &str| property(device, "bootindex");
    assert_eq!(
        [
            index(drives[0]),
            index(drives[1]),
            index(disks[0]),
            index(disks[1])
        ],
        [Some("0".into()), None, Some("1".into()), Some("2".into())]
    );
    assert_eq!(
        nodes(&plan)["cdrom1-file"]["filename"],
        format!("{FOLDER}/b.iso")
    );
    assert_eq!(nodes(&plan)["cdrom1"]["read-only"], true);
}

#[test]
fn uefi_boots_from_the_operating_system_alone() {
    for (arch, machine) in [
        (
            Arch::X86_64,
            "pc-q35-7.2,sata=off,pflash0=firmware-code,pflash1=firmware-vars",
        ),
        (
            Arch::Aarch64,
            "virt-7.2,gic-version=max,pflash0=firmware-code,pflash1=firmware-vars",
        ),
    ] {
        let mut sample = sample();
        sample.spec.guest.arch = arch;
        sample.spec.hardware.firmware = Firmware::Uefi;
        let plan = plan(&sample);
        assert_eq!(values(&plan, "-machine"), [machine]);
        let disks = devices(&plan, "virtio-blk-pci");
        assert_eq!(property(disks[0], "bootindex").unwrap(), "0");
        assert_eq!(property(disks[1], "bootindex"), None);
        let vars = &nodes(&plan)["firmware-vars"];
        assert_eq!(
            vars["file"]["filename"],
            format!("{FOLDER}/config/firmware-vars.fd")
        );
        assert_eq!(vars["read-only"], false);
        assert_eq!(nodes(&plan)["firmware-code"]["read-only"], true);
    }
}

#[test]
fn a_disk_stays_where_it_is_when_another_goes() {
    for kind in [
        Controller::Ide,
        Controller::Sata,
        Controller::Scsi,
        Controller::Nvme,
        Controller::Virtio,
    ] {
        let mut all = Sample::new("finance")
            .unwrap()
            .layer("office", Role::Apps, 4)
            .unwrap()
            .layer("home", Role::UserData, 4)
            .unwrap();
        all.spec.hardware.controller = kind;
        let mut fewer = sample();
        fewer.spec.hardware.controller = kind;
        fewer.spec.layers[1].slot = Some(2);
        let (all, fewer) = (plan(&all), plan(&fewer));
        assert_eq!(all.disks[2].place, fewer.disks[1].place, "{kind}");
        assert_ne!(all.disks[1].place, fewer.disks[1].place, "{kind}");
    }
}

#[test]
fn what_is_off_is_no_gap_and_what_is_on_is_told() {
    let mut sample = sample();
    let hardware = &mut sample.spec.hardware;
    hardware.firmware = Firmware::Uefi;
    hardware.secure_boot = SecureBoot::On;
    hardware.tpm = Tpm::V2;
    hardware.video_memory = Size::from_mib(24);
    hardware.network = [
        NetworkMode::HostOnly,
        NetworkMode::Bridged,
        NetworkMode::None,
    ]
    .map(|mode| Network {
        mode,
        mac: MacAddress::Auto,
    })
    .to_vec();
    sample.spec.policy = Policy {
        clipboard: Direction::Both,
        drag_and_drop: Direction::HostToGuest,
        shared_folders: Switch::On,
        usb: Switch::On,
        snapshots: Switch::On,
        suspend: Switch::On,
    };
    let plan = plan(&sample);
    let gaps: Vec<_> = plan
        .gaps
        .iter()
        .map(|gap| (gap.key.as_str(), gap.grade))
        .collect();
    assert_eq!(
        gaps,
        [
            ("hardware.secure-boot", Grade::None),
            ("hardware.tpm", Grade::None),
            ("hardware.video-memory", Grade::None),
            ("hardware.network.0.mode", Grade::None),
            ("hardware.network.1.mode", Grade::None),
            ("hardware.network.2.mode", Grade::None),
            ("policy.clipboard", Grade::None),
            ("policy.drag-and-drop", Grade::None),
            ("policy.shared-folders", Grade::None),
            ("policy.usb", Grade::Player),
            ("policy.snapshots", Grade::None),
            ("policy.suspend", Grade::None),
        ]
    );
    assert_eq!(devices(&plan, "qemu-xhci").len(), 1);
    assert!(
        values(&plan, "-global").is_empty(),
        "a machine that may suspend may sleep"
    );
}

#[test]
fn what_qemu_lacks_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Sample)| {
        let mut sample = sample();
        change(&mut sample);
        refusal(&sample)
    };
    let ide = refused(&|s| {
        s.spec.hardware.controller = Controller::Ide;
        s.spec.hardware.firmware = Firmware::Uefi;
    });
    assert_eq!(ide.0, ErrorKind::Unsupported);
    assert!(ide.1.contains("IDE"), "{}", ide.1);
    let arm = refused(&|s| s.spec.guest.arch = Arch::Aarch64);
    assert_eq!(arm.0, ErrorKind::Unsupported);
    assert!(arm.1.contains("hardware.firmware"), "{}", arm.1);
    for (kind, slot) in [
        (Controller::Ide, 4),
        (Controller::Sata, 24),
        (Controller::Scsi, 7),
        (Controller::Scsi, 16),
        (Controller::Nvme, 38),
        (Controller::Virtio, 38),
        (Controller::Virtio, u32::MAX),
    ] {
        let (error, text) = refused(&|s| {
            s.spec.layers[1].controller = Some(kind);
            s.spec.layers[1].slot = Some(slot);
        });
        assert_eq!(error, ErrorKind::Unsupported);
        assert!(
            text.contains(&format!("disk home: {kind} slot {slot}")),
            "{text}"
        );
    }
    let both = refused(&|s| {
        s.spec.layers[1].controller = Some(Controller::Ide);
        s.spec.layers[1].slot = Some(3);
        s.spec.hardware.cdrom = vec![Cdrom {
            image: "a.iso".into(),
        }];
    });
    assert!(both.1.contains("wanted by two devices"), "{}", both.1);
    let network = Network {
        mode: NetworkMode::Nat,
        mac: MacAddress::Auto,
    };
    let many = refused(&|s| s.spec.hardware.network = vec![network.clone(); 35]);
    assert!(many.1.contains("hardware.network"), "{}", many.1);
    let other = refusal(&sample().family(Family::Hds));
    assert_eq!(other.0, ErrorKind::NeedsSwitch);
}

#[test]
fn no_value_becomes_syntax() {
    let folder = "/s,to=re/\"}',\n,,read-only=off/$(x) `y` é";
    let mut sample = sample();
    sample.spec.title = Some("a,b=c,,\"d\"\n-device x".into());
    sample.spec.hardware.console = Console::Log;
    sample.spec.hardware.cdrom = vec![Cdrom {
        image: "x,y\".iso".into(),
    }];
    let (hostile, plain) = (plan_in(&sample, folder), plan_in(&self::sample(), FOLDER));
    assert_eq!(
        property(values(&hostile, "-name")[0], "guest"),
        sample.spec.title
    );
    let console = split(values(&hostile, "-chardev")[0]);
    assert_eq!(console.len(), 4);
    assert_eq!(console[2].1, format!("{folder}/config/console.log"));
    let nodes = nodes(&hostile);
    assert_eq!(
        nodes["cdrom0-file"]["filename"],
        format!("{folder}/x,y\".iso")
    );
    for (name, node) in self::nodes(&plain) {
        let same: Vec<_> = node.as_object().unwrap().keys().collect();
        assert_eq!(
            nodes[&name].as_object().unwrap().keys().collect::<Vec<_>>(),
            same,
            "{name}"
        );
    }
    assert_eq!(devices(&hostile, "x"), [] as [&str; 0]);
}

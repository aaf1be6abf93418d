//! Valid specs drawn from a seed: one number makes one spec, on every machine and forever.
//!
//! They hold what translators stumble over: mixed controllers, named slots, titles and paths with
//! spaces, quotes and non-ASCII. Making the images that they name is in `fixtures`.

use std::collections::{BTreeMap, BTreeSet};

use stratavm::spec::{
    Arch, Audio, BootDevice, Cdrom, Clock, Composition, Console, Controller, Direction, Display,
    Firmware, Guest, GuestOs, Hardware, LayerSpec, MacAddress, Name, Network, NetworkMode, Policy,
    Presence, Rejuvenate, Role, SecureBoot, Size, Switch, Tpm, VmSpec, Writes,
};

/// The spec of `seed`.
pub(crate) fn spec(seed: u64) -> VmSpec {
    let mut draw = Draw(seed);
    let linux = draw.chance(2);
    let arch = if draw.chance(5) {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };
    let hardware = hardware(&mut draw, arch);
    let layers = layers(&mut draw, linux, arch, &hardware);
    let os = draw.one(&[GuestOs::Linux, GuestOs::Windows, GuestOs::Other]);
    let ids = [
        None,
        Some("debian12"),
        Some("windows11"),
        Some("no-such_system.1"),
    ];
    VmSpec {
        stratavm: stratavm::spec::SPEC_VERSION,
        name: name(&format!("drawn-{seed:x}")),
        title: draw.maybe(|draw| draw.text()),
        guest: Guest {
            os: if linux { GuestOs::Linux } else { os },
            id: draw.one(&ids).map(str::to_owned),
            arch,
            composition: if linux {
                Composition::Linux
            } else {
                Composition::Disks
            },
            session: (linux && draw.chance(2)).then(|| Size::from_mib(64 + draw.below(4000))),
        },
        hardware,
        layers,
        policy: policy(&mut draw),
        labels: labels(&mut draw),
        extensions: extensions(&mut draw),
    }
}

/// A source of choices: SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014), so that a seed means the same spec whatever the version of any crate.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `n` times.
    fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.chance(2) {
            Some(make(self))
        } else {
            None
        }
    }

    /// A line of text made of what writers must escape.
    fn text(&mut self) -> String {
        const PIECES: [&str; 18] = [
            "Finance",
            "2nd",
            "\"quoted\"",
            "it's",
            "a|0Ab",
            "|22",
            "C:\\vm\\x",
            "<b>&amp;</b>",
            "]]>",
            "Bücher",
            "日本語",
            "🦀",
            "$HOME",
            "`id`",
            "%s%n",
            "#1",
            "a=b",
            "100 %",
        ];
        let count = 1 + self.below(4);
        (0..count)
            .map(|_| self.one(&PIECES))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("names are drawn valid")
}

fn hardware(draw: &mut Draw, arch: Arch) -> Hardware {
    let uefi = arch == Arch::Aarch64 || draw.chance(2);
    let network = (0..draw.below(4)).map(|index| Network {
        mode: draw.one(&NetworkMode::ALL),
        mac: match draw.below(3) {
            0 => MacAddress::Fixed([
                0x00,
                0x50,
                0x56,
                draw.below(64) as u8,
                seed_octet(draw),
                index as u8,
            ]),
            1 => MacAddress::Fixed([
                0x52,
                0x54,
                0x00,
                seed_octet(draw),
                seed_octet(draw),
                index as u8,
            ]),
            _ => MacAddress::Auto,
        },
    });
    let network = network.collect();
    let cdrom: Vec<_> = (0..draw.below(3))
        .map(|index| Cdrom {
            image: format!("médium {index} of it's.iso"),
        })
        .collect();
    let boot = match (cdrom.is_empty(), draw.below(3)) {
        (true, _) | (false, 0) => vec![BootDevice::Disk],
        (false, 1) => vec![BootDevice::Cdrom, BootDevice::Disk],
        (false, _) => vec![BootDevice::Disk, BootDevice::Cdrom],
    };
    let controllers = if uefi {
        &Controller::ALL[2..]
    } else {
        &Controller::ALL
    };
    Hardware {
        cpus: 1 + draw.below(64) as u32,
        memory: Size::from_mib(16 + 4 * draw.below(4000)),
        firmware: if uefi { Firmware::Uefi } else { Firmware::Bios },
        secure_boot: SecureBoot::from(uefi && draw.chance(3)),
        tpm: if uefi && draw.chance(3) {
            Tpm::V2
        } else {
            Tpm::Off
        },
        clock: draw.one(&Clock::ALL),
        // The machine's own kind takes every layer that names none, so it is never IDE.
        controller: draw.one(&[
            Controller::Auto,
            Controller::Sata,
            *controllers.last().expect("some"),
        ]),
        console: draw.one(&Console::ALL),
        display: draw.one(&Display::ALL),
        video_memory: Size::from_mib(1 << draw.below(9)),
        audio: draw.one(&Audio::ALL),
        boot,
        network,
        cdrom,
    }
}

fn seed_octet(draw: &mut Draw) -> u8 {
    draw.below(256) as u8
}

fn policy(draw: &mut Draw) -> Policy {
    Policy {
        clipboard: draw.one(&Direction::ALL),
        drag_and_drop: draw.one(&Direction::ALL),
        shared_folders: draw.one(&Switch::ALL),
        usb: draw.one(&Switch::ALL),
        snapshots: draw.one(&Switch::ALL),
        suspend: draw.one(&Switch::ALL),
    }
}

fn layers(draw: &mut Draw, linux: bool, arch: Arch, hardware: &Hardware) -> Vec<LayerSpec> {
    let count = 3 + draw.below(6) as usize;
    let os = draw.below(count as u64) as usize;
    let bios = arch == Arch::X86_64 && hardware.firmware == Firmware::Bios;
    let mut state = State {
        ide_left: if bios { 4 - hardware.cdrom.len() } else { 0 },
        slots: BTreeSet::new(),
        identity: false,
    };
    (0..count)
        .map(|index| layer(draw, linux, index, index == os, &mut state))
        .collect()
}

/// What the layers drawn so far have taken.
struct State {
    ide_left: usize,
    slots: BTreeSet<u32>,
    identity: bool,
}

fn layer(draw: &mut Draw, linux: bool, index: usize, is_os: bool, state: &mut State) -> LayerSpec {
    let mut role = if is_os {
        Role::Os
    } else {
        draw.one(&Role::ALL[1..])
    };
    if role == Role::Identity && std::mem::replace(&mut state.identity, true) {
        role = Role::Apps;
    }
    let blank = match role {
        Role::Os | Role::Apps => false,
        Role::Identity => true,
        _ => draw.chance(2),
    };
    let names_paths = linux && role.takes_paths();
    let custom = role == Role::Custom;
    let controller = controller(draw, state);
    LayerSpec {
        name: name(&format!("{role}-{index}")),
        role,
        image: (!blank).then(|| {
            format!(
                "{} {index}.raw",
                draw.one(&["golden", "büro plan", "it's", "日本"])
            )
        }),
        size: blank.then(|| Size::from_mib(8 + draw.below(5000))),
        title: draw.maybe(Draw::text),
        paths: names_paths.then(|| paths(draw, role, index)),
        writes: custom.then(|| draw.one(&Writes::ALL)),
        rejuvenate: custom.then(|| draw.one(&Rejuvenate::ALL)),
        optional: Presence::from(role.may_be_optional() && draw.chance(2)),
        controller,
        slot: match controller {
            Some(kind) if kind != Controller::Ide && draw.chance(3) => slot(draw, state),
            _ => None,
        },
        labels: labels(draw),
    }
}

fn controller(draw: &mut Draw, state: &mut State) -> Option<Controller> {
    match draw.maybe(|draw| draw.one(&Controller::ALL)) {
        Some(Controller::Ide) if state.ide_left == 0 => Some(Controller::Sata),
        Some(Controller::Ide) => {
            state.ide_left -= 1;
            Some(Controller::Ide)
        }
        other => other,
    }
}

/// A slot that no other layer has on any controller and that every kind knows.
fn slot(draw: &mut Draw, state: &mut State) -> Option<u32> {
    let slot = 8 + draw.below(7) as u32;
    state.slots.insert(slot).then_some(slot)
}

fn paths(draw: &mut Draw, role: Role, index: usize) -> Vec<String> {
    const PIECES: [&str; 10] = [
        "data", "Bücher", "日本", "a\"b", "it's", "$x", "<&>", "a\\b", "100%", "a,b:c",
    ];
    // The last ones cannot be options of the overlays that user-apps are.
    let pieces = if role == Role::UserApps {
        &PIECES[..7]
    } else {
        &PIECES
    };
    (0..1 + draw.below(3))
        .map(|number| format!("/srv/{index}/{number}/{}", draw.one(pieces)))
        .collect()
}

fn labels(draw: &mut Draw) -> BTreeMap<String, String> {
    let count = draw.below(3);
    (0..count)
        .map(|index| {
            (
                format!("key {index} ü.\"x\""),
                format!("{}\nline", draw.text()),
            )
        })
        .collect()
}

fn extensions(draw: &mut Draw) -> BTreeMap<String, serde_json::Value> {
    let text = draw.text();
    let value = serde_json::json!({
        "nested": { "deep": { "text": text, "list": [1, 2.5, true, "x", { "in": [] }] } },
        "after a table": draw.next() as i64,
        "fraction": draw.below(1 << 52) as f64 / 1e7,
    });
    draw.maybe(|_| ("x-drawn".to_owned(), value))
        .into_iter()
        .collect()
}

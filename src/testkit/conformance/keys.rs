//! Nothing of a spec is dropped in silence: whatever a key says is in the plan, is a gap, or is
//! refused by that key.

use super::Entry;
use super::bench::{Bench, Miss, Outcome, always, ensure, told};
use crate::capability::Feature;
use crate::plan::Grade;
use crate::spec::{
    Audio, BootDevice, Cdrom, Clock, Console, Display, Firmware, MacAddress, Network, NetworkMode,
    SecureBoot, Size, Tpm, VmSpec,
};
use crate::{ErrorKind, Plan};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("no-key-is-dropped", always, no_key_is_dropped),
    Entry::new("features-are-as-claimed", always, features_as_claimed),
];

/// A key, what it must differ from, and what it is changed to.
struct Change {
    key: &'static str,
    before: fn(&mut VmSpec),
    after: fn(&mut VmSpec),
}

const fn change(key: &'static str, after: fn(&mut VmSpec)) -> Change {
    Change {
        key,
        before: |_| (),
        after,
    }
}

fn network(spec: &mut VmSpec, mode: NetworkMode) {
    spec.hardware.network = vec![Network {
        mode,
        mac: MacAddress::Auto,
    }];
}

const CHANGES: &[Change] = &[
    change("hardware.cpus", |spec| spec.hardware.cpus = 3),
    change("hardware.memory", |spec| {
        spec.hardware.memory = Size::from_mib(768)
    }),
    change("hardware.clock", |spec| spec.hardware.clock = Clock::Local),
    change("hardware.console", |spec| {
        spec.hardware.console = Console::Log
    }),
    change("hardware.display", |spec| {
        spec.hardware.display = Display::Window
    }),
    Change {
        key: "hardware.video-memory",
        before: |spec| spec.hardware.display = Display::Window,
        after: |spec| spec.hardware.video_memory = Size::from_mib(32),
    },
    change("hardware.audio", |spec| spec.hardware.audio = Audio::On),
    change("hardware.tpm", |spec| spec.hardware.tpm = Tpm::V2),
    Change {
        key: "hardware.secure-boot",
        before: |spec| spec.hardware.firmware = Firmware::Uefi,
        after: |spec| spec.hardware.secure_boot = SecureBoot::On,
    },
    Change {
        key: "hardware.boot",
        before: |spec| {
            spec.hardware.cdrom = vec![Cdrom {
                image: "a.iso".to_owned(),
            }]
        },
        after: |spec| spec.hardware.boot = vec![BootDevice::Cdrom, BootDevice::Disk],
    },
    change("hardware.cdrom", |spec| {
        spec.hardware.cdrom = vec![Cdrom {
            image: "a.iso".to_owned(),
        }];
    }),
    change("hardware.network", |spec| network(spec, NetworkMode::Nat)),
    change("hardware.network", |spec| network(spec, NetworkMode::None)),
    Change {
        key: "hardware.network.0.mode",
        before: |spec| network(spec, NetworkMode::Nat),
        after: |spec| network(spec, NetworkMode::HostOnly),
    },
    Change {
        key: "hardware.network.0.mode",
        before: |spec| network(spec, NetworkMode::Nat),
        after: |spec| network(spec, NetworkMode::Bridged),
    },
    Change {
        key: "hardware.network.0.mac",
        before: |spec| network(spec, NetworkMode::Nat),
        after: |spec| {
            let mac = MacAddress::Fixed([2, 0, 0, 0, 0, 7]);
            spec.hardware.network = vec![Network {
                mode: NetworkMode::Nat,
                mac,
            }];
        },
    },
];

fn no_key_is_dropped(bench: &Bench) -> Outcome {
    for change in CHANGES {
        let (key, mut sample) = (change.key, bench.sample()?);
        (change.before)(&mut sample.spec);
        let before = bench.plan(&sample);
        (change.after)(&mut sample.spec);
        match (before, bench.plan(&sample)) {
            (Ok(before), Ok(after)) => {
                let told = after.gaps.iter().any(|gap| gap.key.starts_with(key));
                let done = what_runs(&before) != what_runs(&after);
                ensure!(told || done, "{key} changes nothing and is no gap");
            }
            (_, Err(error)) => {
                let text = told(&error);
                let refused = error.kind() == ErrorKind::Unsupported;
                // Where the ground for the change is refused already, that key is named.
                let ground = text.contains("hardware.firmware");
                ensure!(refused && (text.contains(key) || ground), "{key}: {text}");
            }
            (Err(error), Ok(_)) => {
                let text = told(&error);
                return Err(Miss::Failed(format!(
                    "{key}: accepted only once it is set: {text}"
                )));
            }
        }
    }
    Ok(())
}

/// What of a plan makes a machine what it is.
fn what_runs(plan: &Plan) -> (String, Vec<String>, Vec<String>) {
    let places = plan.disks.iter().map(|disk| disk.place.clone()).collect();
    (format!("{:?}", plan.files), plan.argv.clone(), places)
}

/// A feature, the key that asks for it, and asking.
type Ask = (Feature, &'static str, fn(&mut VmSpec));

/// Features that a key of the spec asks for.
const FEATURES: &[Ask] = &[
    (Feature::ConsoleLog, "hardware.console", |spec| {
        spec.hardware.console = Console::Log
    }),
    (Feature::Window, "hardware.display", |spec| {
        spec.hardware.display = Display::Window
    }),
    (Feature::Audio, "hardware.audio", |spec| {
        spec.hardware.audio = Audio::On
    }),
    (Feature::LocalClock, "hardware.clock", |spec| {
        spec.hardware.clock = Clock::Local
    }),
    (Feature::Cdrom, "hardware.cdrom", |spec| {
        spec.hardware.cdrom = vec![Cdrom {
            image: "a.iso".to_owned(),
        }];
    }),
    (Feature::Tpm, "hardware.tpm", |spec| {
        spec.hardware.tpm = Tpm::V2
    }),
    (Feature::SecureBoot, "hardware.secure-boot", |spec| {
        spec.hardware.secure_boot = SecureBoot::On;
    }),
];

fn features_as_claimed(bench: &Bench) -> Outcome {
    for (feature, key, ask) in FEATURES {
        let mut sample = bench.sample()?;
        let firmware = matches!(feature, Feature::Tpm | Feature::SecureBoot);
        if firmware && bench.can().firmware.contains(&Firmware::Uefi) {
            sample.spec.hardware.firmware = Firmware::Uefi;
        }
        ask(&mut sample.spec);
        let has = bench.can().feature(*feature);
        match bench.plan(&sample) {
            Ok(plan) => {
                let gap = plan.gaps.iter().find(|gap| gap.key == *key);
                let grade = gap.map_or(Grade::Hard, |gap| gap.grade);
                ensure!(
                    grade == has,
                    "{key} is claimed as {has}, but planned as {grade}"
                );
            }
            Err(error) => {
                let text = told(&error);
                ensure!(
                    has == Grade::None,
                    "{key} is claimed as {has}, but refused: {text}"
                );
                ensure!(
                    text.contains(key),
                    "{key} is refused without its name: {text}"
                );
            }
        }
    }
    Ok(())
}

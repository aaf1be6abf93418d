//! Checks of images that are damaged in each way, in each format: what is found, what a repair does and what it leaves
//! alone, and what `qemu-img check` says of the same files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;
#[path = "common/qemu.rs"]
mod qemu;
#[path = "../../tests/common/report.rs"]
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::Fault::{
    BeforeData, Counter, Leak, Link, Misaligned, Outside, Overlap, SecondCopy, Table, Unclean,
};
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::vmdk::ParentLink;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Checked, Ctx, ErrorKind, Fault, Format, ImageSpec, Patch,
    Remedy, Repair, check,
};

const SECTORS: u64 = 8 * 2048;

/// Formats with the bytes of a unit, where the entry of unit 0 stands, and where data starts.
struct Kind {
    format: Format,
    driver: &'static str,
    unit: u64,
    entries: u64,
    /// Second copy of the entries.
    second: Option<u64>,
    data: u64,
}

const VMDK: Kind = Kind {
    format: Format::VmdkSparse,
    driver: "vmdk",
    unit: 64 << 10,
    entries: 27 * 512,
    second: Some(22 * 512),
    data: 64 << 10,
};
const VDI: Kind = Kind {
    format: Format::Vdi,
    driver: "vdi",
    unit: 1 << 20,
    entries: 1 << 20,
    second: None,
    data: 2 << 20,
};
const HDS: Kind = Kind {
    format: Format::Hds,
    driver: "parallels",
    unit: 1 << 20,
    entries: 64,
    second: None,
    data: 1 << 20,
};

impl Kind {
    /// An image with data in its units 0, 2 and 5.
    fn make(&self, folder: &Path) -> PathBuf {
        let path = folder.join("head.vmdk");
        let patches: Vec<_> = [0, 2, 5]
            .map(|n| Patch {
                offset: n * self.unit,
                bytes: vec![n as u8 + 1; self.unit as usize],
            })
            .into();
        let spec = match self.format {
            Format::VmdkSparse => {
                let mut spec = common::sparse(SECTORS);
                (spec.parent, spec.patches) = (None, patches);
                ImageSpec::VmdkSparse(spec)
            }
            Format::Vdi => {
                let mut spec = common::vdi(SECTORS, 7, None);
                spec.patches = patches;
                ImageSpec::Vdi(spec)
            }
            _ => ImageSpec::Hds(HdsSpec {
                sectors: SECTORS,
                patches,
            }),
        };
        common::make(&path, &spec).unwrap();
        path
    }

    /// Makes the entry of a unit this, in both copies.
    fn set(&self, bytes: &mut [u8], unit: u64, value: u32) {
        for table in [Some(self.entries), self.second].into_iter().flatten() {
            poke(bytes, table + unit * 4, &value.to_le_bytes());
        }
    }

    fn get(&self, bytes: &[u8], unit: u64) -> u32 {
        let at = (self.entries + unit * 4) as usize;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn absent(&self) -> u32 {
        if self.format == Format::Vdi {
            u32::MAX
        } else {
            0
        }
    }
}

fn poke(bytes: &mut [u8], at: u64, with: &[u8]) {
    bytes[at as usize..at as usize + with.len()].copy_from_slice(with);
}

fn look(path: &Path, format: Format, repair: Repair) -> Checked {
    let gate = Below::beside(path).unwrap();
    let options = CheckOptions::default().repair(repair);
    check(path, format, &gate, &options, &Ctx::none()).unwrap()
}

fn faults(checked: &Checked) -> Vec<(Fault, Remedy)> {
    let mut all: Vec<_> = checked
        .findings
        .iter()
        .map(|f| (f.fault, f.remedy))
        .collect();
    all.sort_unstable();
    all
}

fn content(path: &Path, format: Format) -> Vec<u8> {
    let chain = Chain::open(path, format, Access::Read, &Below::beside(path).unwrap()).unwrap();
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// What a repair leaves behind.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// The file as it was before it was damaged.
    Healed,
    /// A sound file, other than it was.
    Sound,
    /// The file as it is: nothing may be done.
    Untouched,
}

type Damage = fn(&Kind, &mut Vec<u8>);

struct Case {
    what: &'static str,
    kinds: &'static [&'static Kind],
    damage: Damage,
    finds: &'static [(Fault, Remedy)],
    safe: After,
    drop: After,
}

const ALL: &[&Kind] = &[&VMDK, &VDI, &HDS];

const CASES: &[Case] = &[
    Case {
        what: "room of a writer that died at the end",
        kinds: ALL,
        damage: |kind, bytes| bytes.resize(bytes.len() + kind.unit as usize, 9),
        finds: &[(Leak, Remedy::Safe)],
        safe: After::Healed,
        drop: After::Healed,
    },
    Case {
        what: "room between units that nothing names",
        kinds: ALL,
        damage: |kind, bytes| kind.set(bytes, 2, kind.absent()),
        finds: &[(Leak, Remedy::None)],
        safe: After::Untouched,
        drop: After::Untouched,
    },
    Case {
        what: "two entries of one unit",
        kinds: ALL,
        damage: |kind, bytes| {
            let first = kind.get(bytes, 0);
            kind.set(bytes, 2, first);
        },
        finds: &[(Leak, Remedy::None), (Overlap, Remedy::None)],
        safe: After::Untouched,
        drop: After::Untouched,
    },
    Case {
        what: "an entry behind the end, with what it named still there",
        kinds: ALL,
        damage: |kind, bytes| kind.set(bytes, 2, 1_000_000),
        finds: &[(Leak, Remedy::None), (Outside, Remedy::DropLost)],
        safe: After::Untouched,
        drop: After::Sound,
    },
    Case {
        what: "a file that was cut off",
        kinds: &[&VMDK, &HDS],
        damage: |kind, bytes| bytes.truncate((kind.data + 2 * kind.unit) as usize),
        finds: &[(Outside, Remedy::DropLost)],
        safe: After::Untouched,
        drop: After::Sound,
    },
    Case {
        what: "an entry that names tables",
        kinds: &[&VMDK, &HDS],
        damage: |kind, bytes| kind.set(bytes, 0, 8),
        finds: &[(Leak, Remedy::None), (BeforeData, Remedy::None)],
        safe: After::Untouched,
        drop: After::Untouched,
    },
    Case {
        what: "a second copy that is behind",
        kinds: &[&VMDK],
        damage: |kind, bytes| poke(bytes, kind.second.unwrap() + 8, &[0; 4]),
        finds: &[(SecondCopy, Remedy::Safe)],
        safe: After::Healed,
        drop: After::Healed,
    },
    Case {
        what: "a second copy that names data that the first does not",
        kinds: &[&VMDK],
        damage: |kind, bytes| poke(bytes, kind.entries + 8, &[0; 4]),
        finds: &[(Leak, Remedy::None), (SecondCopy, Remedy::DropLost)],
        safe: After::Untouched,
        drop: After::Sound,
    },
    Case {
        what: "a grain table outside the file",
        kinds: &[&VMDK],
        damage: |_, bytes| poke(bytes, 26 * 512, &[0, 0, 0, 9]),
        finds: &[(Leak, Remedy::None), (Table, Remedy::None)],
        safe: After::Untouched,
        drop: After::Untouched,
    },
    Case {
        what: "a writer that did not close it",
        kinds: &[&VMDK],
        damage: |_, bytes| bytes[72] = 1,
        finds: &[(Unclean, Remedy::Safe)],
        safe: After::Healed,
        drop: After::Healed,
    },
    Case {
        what: "a writer that did not close it",
        kinds: &[&HDS],
        damage: |_, bytes| poke(bytes, 44, &0x746F_6E59_u32.to_le_bytes()),
        finds: &[(Unclean, Remedy::Safe)],
        safe: After::Healed,
        drop: After::Healed,
    },
    Case {
        what: "a writer that died, and an entry that never got its data",
        kinds: &[&VMDK],
        damage: |kind, bytes| {
            bytes[72] = 1;
            kind.set(bytes, 9, 1_000_000);
        },
        finds: &[(Outside, Remedy::DropLost), (Unclean, Remedy::DropLost)],
        safe: After::Untouched,
        drop: After::Healed,
    },
    Case {
        what: "a count that is too low",
        kinds: &[&VDI],
        damage: |_, bytes| poke(bytes, 0x184, &[1]),
        finds: &[(Counter, Remedy::Safe)],
        safe: After::Healed,
        drop: After::Healed,
    },
    Case {
        what: "a cluster between two places",
        kinds: &[&HDS],
        damage: |kind, bytes| {
            bytes.resize(bytes.len() + 512, 9);
            let behind = kind.get(bytes, 5) + 1;
            kind.set(bytes, 5, behind);
        },
        finds: &[(Misaligned, Remedy::None)],
        safe: After::Untouched,
        drop: After::Untouched,
    },
];

#[test]
fn every_kind_of_damage_is_found_and_only_what_is_certain_is_mended() {
    for case in CASES {
        for kind in case.kinds {
            let dir = tempfile::tempdir().unwrap();
            let path = kind.make(dir.path());
            let good = fs::read(&path).unwrap();
            let clean = look(&path, kind.format, Repair::DropLost);
            assert!(clean.is_sound() && clean.findings.is_empty(), "{clean:?}");
            assert_eq!((clean.units, clean.leaked), (3, 0));
            let mut bad = good.clone();
            (case.damage)(kind, &mut bad);
            let name = format!("{} in {}", case.what, kind.format);
            for (repair, after) in [
                (Repair::No, After::Untouched),
                (Repair::Safe, case.safe),
                (Repair::DropLost, case.drop),
            ] {
                fs::write(&path, &bad).unwrap();
                let checked = look(&path, kind.format, repair);
                if after == After::Untouched {
                    let mut finds = case.finds.to_vec();
                    finds.sort_unstable();
                    assert_eq!(faults(&checked), finds, "{name}: {checked:#?}");
                    let harmless = finds.iter().all(|(fault, _)| fault.is_harmless());
                    assert_eq!(checked.is_sound(), harmless, "{name}");
                    assert!(checked.repaired.is_empty(), "{name}");
                    assert!(
                        fs::read(&path).unwrap() == bad,
                        "{name}: changed by {repair:?}"
                    );
                    continue;
                }
                assert!(checked.is_sound(), "{name}, {repair:?}: {checked:#?}");
                assert!(!checked.repaired.is_empty(), "{name}");
                let now = fs::read(&path).unwrap();
                assert_eq!(now == good, after == After::Healed, "{name}, {repair:?}");
                // What was not touched reads as before.
                let (unit, now) = (kind.unit as usize, content(&path, kind.format));
                assert!(now[..unit].iter().all(|b| *b == 1), "{name}");
            }
        }
    }
}

/// Where qemu-img calls an image damaged we do, and where we find nothing neither does it.
#[test]
fn qemu_img_check_agrees() {
    if qemu::missing("damaged images") {
        return;
    }
    let mut compared = 0;
    for case in CASES {
        for kind in case.kinds {
            let dir = tempfile::tempdir().unwrap();
            let path = kind.make(dir.path());
            let verdict = || {
                let file = path.to_str().unwrap();
                let out = qemu::run("qemu-img", &["check", "-f", kind.driver, file]);
                out.status.code().unwrap()
            };
            assert_eq!(verdict(), 0, "{}", kind.format);
            let mut bad = fs::read(&path).unwrap();
            (case.damage)(kind, &mut bad);
            fs::write(&path, &bad).unwrap();
            let checked = look(&path, kind.format, Repair::No);
            let theirs = verdict();
            let name = format!("{} in {}: {theirs}", case.what, kind.format);
            // 3: leaks alone; everything else but 0 is damage.
            assert!(theirs == 0 || !checked.findings.is_empty(), "{name}");
            // It counts blocks, and takes a count that is not theirs for damage.
            let counts = kind.format == Format::Vdi;
            assert!(
                matches!(theirs, 0 | 3) || counts || !checked.is_sound(),
                "{name}"
            );
            let repaired = look(&path, kind.format, Repair::DropLost);
            if repaired.findings.is_empty() {
                assert_eq!(verdict(), 0, "{name} after a repair");
            }
            compared += 1;
        }
    }
    report::counted("qemu-img check", "damaged images", compared, None);
    report::ran("qemu-img check", "damaged images");
}

#[test]
fn links_of_a_chain_are_checked_and_only_the_image_itself_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (base, head) = (dir.path().join("base.vmdk"), dir.path().join("head.vmdk"));
    let mut spec = common::sparse(SECTORS);
    (spec.file, spec.parent) = ("base.vmdk".into(), None);
    spec.uuid = uuid::Uuid::from_u128(9);
    let link = ParentLink {
        hint: "base.vmdk".into(),
        cid: spec.cid,
        uuid: spec.uuid,
    };
    common::make(&base, &ImageSpec::VmdkSparse(spec.clone())).unwrap();
    let mut child = common::sparse(SECTORS);
    (child.cid, child.parent) = (common::cid(77), Some(link));
    common::make(&head, &ImageSpec::VmdkSparse(child)).unwrap();
    let look = |repair| look(&head, Format::VmdkSparse, repair);
    let whole = look(Repair::Safe);
    assert_eq!((whole.images, faults(&whole)), (2, vec![]));

    // Damage of the base is told, and left to a check of its own.
    let mut bytes = fs::read(&base).unwrap();
    bytes[72] = 1;
    fs::write(&base, &bytes).unwrap();
    let found = look(Repair::Safe);
    assert_eq!(faults(&found), [(Unclean, Remedy::Safe)]);
    assert_eq!(found.findings[0].file, fs::canonicalize(&base).unwrap());
    assert!(fs::read(&base).unwrap() == bytes);

    // Another base than it was made over, and none.
    fs::remove_file(&base).unwrap();
    spec.cid = common::cid(78);
    common::make(&base, &ImageSpec::VmdkSparse(spec)).unwrap();
    let found = look(Repair::Safe);
    assert_eq!(faults(&found), [(Link, Remedy::None)]);
    assert!(found.findings[0].detail.contains("CID"), "{found:?}");
    fs::remove_file(&base).unwrap();
    let found = look(Repair::Safe);
    assert_eq!(
        (found.images, faults(&found)),
        (1, vec![(Link, Remedy::None)])
    );
    assert!(!found.is_sound());
}

#[test]
fn what_is_frozen_or_in_use_is_not_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = VMDK.make(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[72] = 1;
    fs::write(&path, &bytes).unwrap();
    let gate = Below::beside(&path).unwrap();
    let mend = || {
        let options = CheckOptions::default().repair(Repair::Safe);
        check(&path, VMDK.format, &gate, &options, &Ctx::none()).map_err(|e| e.kind())
    };
    let lock = dir.path().join("head.vmdk.lck");
    fs::create_dir(&lock).unwrap();
    assert_eq!(mend(), Err(ErrorKind::Mismatch));
    fs::remove_dir(&lock).unwrap();
    let mut access = fs::metadata(&path).unwrap().permissions();
    access.set_readonly(true);
    fs::set_permissions(&path, access).unwrap();
    assert_eq!(mend(), Err(ErrorKind::PermissionDenied));
    assert!(fs::read(&path).unwrap() == bytes);
}

//! `fsck`: whatever is broken is found and named, what follows from the record is put right, and
//! nothing else is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use harness::{Content, Harness, name};
use stratavm::Ctx;
use stratavm::machine::Kept;
use stratavm::store::{Checked, Digests, FsckMode, FsckOptions, Remedy};
use stratavm_disk::Durability;
use stratavm_disk::vmdk::{Cid, renew_cid};
use tree::{copy_and, files_but_locks};

fn check(harness: &Harness) -> Checked {
    check_with(harness, Digests::Skip)
}

fn check_with(harness: &Harness, digests: Digests) -> Checked {
    let before = snapshot(harness.store().home());
    let options = FsckOptions::default().digests(digests);
    let checked = harness.store().fsck(&options, &Ctx::none()).unwrap();
    assert_eq!(
        before,
        snapshot(harness.store().home()),
        "a check changes nothing"
    );
    checked
}

fn repair(harness: &Harness) -> Checked {
    let options = FsckOptions::default().mode(FsckMode::Repair);
    harness.store().fsck(&options, &Ctx::none()).unwrap()
}

fn kinds(checked: &Checked) -> Vec<(&'static str, &'static str)> {
    let mut kinds: Vec<_> = checked
        .findings
        .iter()
        .map(|finding| (finding.kind.as_str(), finding.remedy.as_str()))
        .collect();
    kinds.sort_unstable();
    kinds
}

/// Every file below a folder, by its path, mode and content; locks are empty.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let seen = |path: PathBuf| {
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        let content = fs::read(&path).unwrap_or_default();
        (path, (mode, content))
    };
    files_but_locks(folder).into_iter().map(seen).collect()
}

/// Copies a store, whose folders only its user can enter.
fn copy(from: &Path, to: &Path) {
    copy_and(from, to, &|_, made| {
        if made.is_dir() {
            fs::set_permissions(made, fs::Permissions::from_mode(0o700)).unwrap();
        }
    });
}

fn writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Two frozen deltas and a head with writes on home.
fn lived_in() -> Harness {
    let harness = Harness::new();
    for (mib, byte) in [(1, 0x11), (2, 0x12)] {
        harness.run(&[("home", mib, byte)]);
        harness.machine().snapshot(&name("home"), None).unwrap();
    }
    harness.run(&[("home", 3, 0x13)]);
    harness
}

#[test]
fn a_head_that_a_kill_kept_from_being_frozen_is_no_damage() {
    let harness = lived_in();
    let record = harness.machine().record().unwrap();
    let os = record.layer(&name("os")).unwrap();
    let head = harness.head("os");
    let cid = record.identity().frozen_cid(&os.disk(), os.head.generation);
    renew_cid(&head, cid, Durability::Unsynced).unwrap();
    // What the killed run wrote to a layer that discards is given up.
    let path = harness.machine().folder().join("machine.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["layers"][0]["head"]["use"] = "untouched".into();
    fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    let checked = check(&harness);
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
    // Any other content id is nobody's.
    renew_cid(&head, Cid::new(0x1234_5678).unwrap(), Durability::Unsynced).unwrap();
    assert_eq!(check(&harness).findings.len(), 1);
    harness.run(&[]);
    assert!(check(&harness).is_sound());
}

#[test]
fn a_store_in_use_is_sound() {
    let harness = lived_in();
    harness
        .machine()
        .rollback(&name("home"), Some(2), Kept::Preserve)
        .unwrap();
    harness
        .machine()
        .remove_layer(&name("apps"), Kept::Preserve)
        .unwrap();
    let checked = check_with(&harness, Digests::Read);
    assert!(
        checked.findings.is_empty() && checked.is_sound(),
        "{:#?}",
        checked.findings
    );
    assert_eq!((checked.machines, checked.images), (1, 3));
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (report, store) = (std::sync::Arc::clone(&seen), harness.store().clone());
    harness.run_with(move || {
        *report.lock().unwrap() = Some(store.fsck(&FsckOptions::default(), &Ctx::none()).unwrap());
    });
    let running = seen.lock().unwrap().take().unwrap();
    assert!(running.findings.is_empty(), "{:#?}", running.findings);
}

/// What can be broken, what it is called, and whether it can be put right.
type Case = (&'static str, fn(&Harness), &'static str, Remedy);

fn home(harness: &Harness) -> PathBuf {
    harness.store().home().to_owned()
}

fn base(harness: &Harness, layer: &str) -> PathBuf {
    let entries = fs::read_dir(harness.layer_folder(layer)).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("base-")
        })
        .unwrap()
}

fn extent(harness: &Harness) -> PathBuf {
    let image = harness.store().images().list().unwrap().remove(0).unwrap();
    image.extents().remove(0).0
}

fn frozen(harness: &Harness) -> PathBuf {
    harness.frozen("home").remove(0)
}

const CASES: [Case; 19] = [
    (
        "a base descriptor changed",
        |h| {
            let path = base(h, "home");
            writable(&path);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace("FLAT", "ZERO")).unwrap();
        },
        "base",
        Remedy::Repair,
    ),
    (
        "a base descriptor is gone",
        |h| fs::remove_file(base(h, "os")).unwrap(),
        "base",
        Remedy::Repair,
    ),
    (
        "a base descriptor can be written to",
        |h| writable(&base(h, "os")),
        "writable",
        Remedy::Repair,
    ),
    (
        "a frozen delta can be written to",
        |h| writable(&frozen(h)),
        "writable",
        Remedy::Repair,
    ),
    (
        "a frozen delta has another content id",
        |h| {
            writable(&frozen(h));
            renew_cid(&frozen(h), Cid::new(77).unwrap(), Durability::Unsynced).unwrap();
        },
        "links",
        Remedy::Repair,
    ),
    (
        "a discarded head is gone",
        |h| fs::remove_file(h.head("os")).unwrap(),
        "missing",
        Remedy::Repair,
    ),
    (
        "a lease is gone",
        |h| {
            let id = h.machine().record().unwrap().id.to_string();
            fs::remove_file(extent(h).with_file_name("leases").join(id)).unwrap();
        },
        "lease-missing",
        Remedy::Repair,
    ),
    (
        "a lease of nobody",
        |h| {
            let lease = extent(h)
                .with_file_name("leases")
                .join(uuid::Uuid::from_u128(5).to_string());
            fs::write(lease, "").unwrap();
        },
        "lease-stale",
        Remedy::Repair,
    ),
    (
        "an id is not noted",
        |h| fs::remove_dir_all(home(h).join("machines/.ids")).unwrap(),
        "id-missing",
        Remedy::Repair,
    ),
    (
        "an extent can be written to",
        |h| writable(&extent(h)),
        "writable",
        Remedy::Repair,
    ),
    (
        "an extent changed",
        |h| {
            let path = extent(h);
            writable(&path);
            let mut bytes = fs::read(&path).unwrap();
            bytes[12345] ^= 1;
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        },
        "content",
        Remedy::Person,
    ),
    (
        "a stray file",
        |h| fs::write(h.layer_folder("os").join("head-99.vmdk"), "").unwrap(),
        "leftover",
        Remedy::Prune,
    ),
    (
        "something strange",
        |h| fs::write(home(h).join("images/notes.txt"), "").unwrap(),
        "unexpected",
        Remedy::Person,
    ),
    (
        "a kept head is gone",
        |h| fs::remove_file(h.head("home")).unwrap(),
        "missing",
        Remedy::Person,
    ),
    (
        "a frozen delta is gone",
        |h| fs::remove_file(frozen(h)).unwrap(),
        "missing",
        Remedy::Person,
    ),
    (
        "a head is cut off",
        |h| {
            let file = fs::File::options()
                .write(true)
                .open(h.head("home"))
                .unwrap();
            file.set_len(700).unwrap();
        },
        "damaged",
        Remedy::Person,
    ),
    (
        "a head of another machine",
        |h| {
            let other = Harness::new();
            let path = h.head("home");
            fs::remove_file(&path).unwrap();
            fs::copy(other.head("home"), path).unwrap();
        },
        "links",
        Remedy::Person,
    ),
    (
        "a head is a link",
        |h| {
            let path = h.head("home");
            let aside = home(h).join("aside");
            fs::rename(&path, &aside).unwrap();
            std::os::unix::fs::symlink(aside, path).unwrap();
        },
        "no-file",
        Remedy::Person,
    ),
    (
        "a record is gone",
        |h| fs::remove_file(h.machine().folder().join("machine.json")).unwrap(),
        "record-missing",
        Remedy::Person,
    ),
];

#[test]
fn what_is_broken_is_found_and_what_can_be_is_put_right() {
    let template = lived_in();
    for (index, (what, break_it, kind, remedy)) in CASES.into_iter().enumerate() {
        // A store that was copied as a whole is the same store.
        let folder = template.folder().join(index.to_string());
        copy(template.store().home(), &folder.join("home"));
        let harness = Harness::at(&folder);
        break_it(&harness);
        let digests = match kind {
            "content" => Digests::Read,
            _ => Digests::Skip,
        };
        let checked = check_with(&harness, digests);
        assert_eq!(
            kinds(&checked),
            [(kind, remedy.as_str())],
            "{what}: {:#?}",
            checked.findings
        );
        let finding = &checked.findings[0];
        assert!(
            !finding.message.is_empty() && finding.next.len() > 5,
            "{what}: {finding:?}"
        );
        assert_eq!(checked.is_sound(), remedy == Remedy::Prune, "{what}");
        let before = snapshot(harness.store().home());
        let repaired = repair(&harness);
        if remedy == Remedy::Repair {
            assert_eq!(
                kinds(&repaired),
                [(kind, "repaired")],
                "{what}: {:#?}",
                repaired.findings
            );
            assert!(repaired.is_sound(), "{what}");
            assert!(
                check(&harness).findings.is_empty(),
                "{what}: {:#?}",
                check(&harness).findings
            );
            assert_eq!(harness.read("home", 2), Content::Byte(0x12), "{what}");
            harness.run(&[]);
        } else {
            assert_eq!(
                before,
                snapshot(harness.store().home()),
                "{what}: nothing is guessed"
            );
        }
    }
}

#[test]
fn nothing_of_a_running_machine_is_repaired_that_its_run_may_use() {
    let harness = lived_in();
    let store = harness.store().clone();
    let path = base(&harness, "os");
    fs::remove_file(&path).unwrap();
    let (seen, gone) = (
        std::sync::Arc::new(std::sync::Mutex::new(None)),
        path.clone(),
    );
    let report = std::sync::Arc::clone(&seen);
    // The start makes it anew; it is lost again while the machine runs.
    harness.run_with(move || {
        let _ = fs::remove_file(&gone);
        let options = FsckOptions::default().mode(FsckMode::Repair);
        *report.lock().unwrap() =
            Some((store.fsck(&options, &Ctx::none()).unwrap(), gone.exists()));
    });
    let (checked, exists) = seen.lock().unwrap().take().unwrap();
    assert!(!exists && !checked.is_sound(), "{checked:#?}");
    assert!(
        checked.findings[0].next.contains("stratavm stop desk"),
        "{checked:#?}"
    );
    assert!(repair(&harness).is_sound());
}

#[test]
fn a_frozen_delta_below_a_running_machine_is_sealed_again() {
    let harness = lived_in();
    let store = harness.store().clone();
    let path = frozen(&harness);
    let (opened, seen) = (
        path.clone(),
        std::sync::Arc::new(std::sync::Mutex::new(None)),
    );
    let report = std::sync::Arc::clone(&seen);
    // As a kill between the rename of the record and the last step leaves it.
    harness.run_with(move || {
        writable(&opened);
        let options = FsckOptions::default().mode(FsckMode::Repair);
        *report.lock().unwrap() = Some(store.fsck(&options, &Ctx::none()).unwrap());
    });
    let checked = seen.lock().unwrap().take().unwrap();
    assert!(checked.is_sound(), "{checked:#?}");
    assert!(fs::metadata(&path).unwrap().permissions().readonly());
}

#[test]
fn one_machine_can_be_checked_alone() {
    let harness = lived_in();
    fs::write(home(&harness).join("images/notes.txt"), "").unwrap();
    let options = FsckOptions::default().machine(name("desk"));
    let checked = harness.store().fsck(&options, &Ctx::none()).unwrap();
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
    let options = FsckOptions::default().machine(name("nobody"));
    assert!(harness.store().fsck(&options, &Ctx::none()).is_err());
}

//! `adopt` with a fault at each of its changes: the original stays what it was,
//! the folder can be adopted afterwards, and one `prune` removes what was left behind.
//!
//! Every twelfth point in a normal run, all of them with `STRATAVM_SLOW=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;

use harness::{Content, Harness, name};
use stratavm::machine::{AdoptOptions, Adoption};
use stratavm::store::{FsckMode, FsckOptions, PruneMode, PruneOptions};
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm::{Ctx, ErrorKind, Result};
use tree::{copy_and, snapshot_but_locks};

/// Copies a folder; those in it keep their modes, as its files do.
fn copy(from: &Path, to: &Path) {
    copy_and(from, to, &|original, made| {
        fs::set_permissions(made, fs::metadata(original).unwrap().permissions()).unwrap();
    });
}

/// A store with a machine `desk` that has lived, and its copy `lamp` made by hand.
fn scene(renamed: bool) -> Harness {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 2, 0x12)]);
    let machines = harness.store().home().join("machines");
    match renamed {
        true => fs::rename(machines.join("desk"), machines.join("lamp")).unwrap(),
        false => copy(&machines.join("desk"), &machines.join("lamp")),
    }
    harness
}

fn adopt(harness: &Harness, adoption: Adoption) -> Result<()> {
    let options = AdoptOptions::new(adoption);
    let adopted = harness
        .store()
        .adopt(Path::new("lamp"), &options, &Ctx::none());
    adopted.map(drop)
}

/// Goes through the points of adopting `lamp`.
fn every_point(adoption: Adoption) {
    let renamed = adoption == Adoption::Moved;
    let scene = scene(renamed);
    let trial = |at: usize, fault: fn(usize) -> Fault, lost: Option<Lost>| {
        let folder = tempfile::tempdir().unwrap();
        copy(scene.store().home(), &folder.path().join("home"));
        let harness = Harness::at(folder.path());
        let desk = harness.store().home().join("machines/desk");
        // One that is renamed has no original.
        let original = || desk.is_dir().then(|| snapshot_but_locks(&desk));
        let before = original();
        let faults = Faults::below(harness.store().home(), fault(at)).unwrap();
        let done = adopt(&harness, adoption);
        let (struck, points) = (faults.struck(), faults.points().len());
        match lost {
            Some(lost) => faults.crash(lost).unwrap(),
            None => drop(faults),
        }
        let what = format!("{adoption:?}, point {at} of {points}, {lost:?}, {done:?}");
        assert!(before == original(), "{what}: the original changed");
        // It was adopted, or can be.
        match harness.store().machine(&name("lamp")) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NeedsAdopt, "{what}: {error:?}");
                adopt(&harness, adoption).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
        }
        let lamp = harness.store().machine(&name("lamp")).unwrap();
        let read = |mib| harness.read_of(&lamp, "home", mib);
        assert_eq!(
            (read(1), read(2)),
            (Content::Byte(0x11), Content::Byte(0x12)),
            "{what}"
        );
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
        assert!(pruned.failed.is_empty(), "{what}: {:?}", pruned.failed);
        // Heads of layers that discard are not flushed: a power cut may have torn them.
        let options = FsckOptions::default().mode(FsckMode::Repair);
        let checked = harness.store().fsck(&options, &Ctx::none()).unwrap();
        assert!(checked.is_sound(), "{what}: {:#?}", checked.findings);
        let checked = harness
            .store()
            .fsck(&FsckOptions::default(), &Ctx::none())
            .unwrap();
        assert!(
            checked.findings.is_empty(),
            "{what}: {:#?}",
            checked.findings
        );
        (struck, points)
    };
    let (_, points) = trial(0, |_| Fault::None, None);
    assert!(points > 8, "{points}");
    let step = if std::env::var_os("STRATAVM_SLOW").is_some() {
        1
    } else {
        12
    };
    for at in (0..points).step_by(step) {
        let error = |at| Fault::Error {
            at,
            failure: Failure::NoSpace,
            then: Then::StaysBroken,
        };
        assert!(trial(at, error, None).0, "point {at} was not reached");
        let lost = [Lost::Nothing, Lost::Unflushed, Lost::Any(at as u64)][at / step % 3];
        trial(at, |at| Fault::PowerCut { at }, Some(lost));
    }
}

#[test]
fn a_copy_can_be_adopted_whatever_happened_on_the_way() {
    every_point(Adoption::NewId);
}

#[test]
fn a_renamed_folder_can_be_adopted_whatever_happened_on_the_way() {
    every_point(Adoption::Moved);
}

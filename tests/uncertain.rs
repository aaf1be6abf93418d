//! A change whose record is in place, but whose name could not be flushed: the caller is told of an
//! error, and a power cut may bring the old record back. So no file of either may be gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;

use std::fs;

use harness::{Content, Harness};
use stratavm::machine::{Kept, Machine};
use stratavm_disk::fs::fault::{Failure, Fault, Faults, Then};

/// Where, among the points of a change, the machine's folder is flushed after the record's rename.
fn flush_of_record(machine: &Machine, change: impl FnOnce()) -> usize {
    let faults = Faults::below(&machine.folder(), Fault::None).unwrap();
    change();
    let points = faults.points();
    let renamed = points
        .iter()
        .rposition(|point| point.contains("rename") && point.contains("machine.json"));
    let flushed = renamed.unwrap() + 1;
    assert!(points[flushed].contains("sync"), "{points:?}");
    flushed
}

#[test]
fn a_record_that_may_come_back_finds_its_files() {
    let harness = Harness::new();
    let (machine, home) = (harness.machine(), "home".parse().unwrap());
    harness.run(&[("home", 1, 0x32)]);
    // The same change twice, the first time only to count. It drops a head that holds something.
    let at = flush_of_record(&machine, || {
        drop(machine.rollback(&home, Some(1), Kept::Discard).unwrap());
    });
    harness.run(&[("home", 1, 0x33)]);
    let before = fs::read(machine.folder().join("machine.json")).unwrap();
    let faults = Faults::below(
        &machine.folder(),
        Fault::Error {
            at,
            failure: Failure::Io,
            then: Then::Recovers,
        },
    )
    .unwrap();
    machine.rollback(&home, Some(1), Kept::Discard).unwrap_err();
    assert!(faults.struck());
    drop(faults);
    // As it is after the error.
    assert_eq!(harness.read("home", 1), Content::Byte(0));
    // As it may be after a power cut.
    let now = fs::read(machine.folder().join("machine.json")).unwrap();
    assert_ne!(now, before);
    fs::write(machine.folder().join("machine.json"), before).unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x33));
    fs::write(machine.folder().join("machine.json"), now).unwrap();
    // The next change that comes to its end takes the rest away.
    let files = || fs::read_dir(harness.layer_folder("home")).unwrap().count();
    let all = files();
    machine.rollback(&home, Some(1), Kept::Discard).unwrap();
    assert!(files() < all);
}

//! What machines leave behind: removed layers that are put aside, leases, frozen files, and the rest
//! of changes that were cut short.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use harness::{Content, Harness, name};
use stratavm::ErrorKind;
use stratavm::machine::Kept;
use stratavm::spec::LayerSpec;
use tree::snapshot;

#[test]
fn a_layer_of_each_kind_can_be_removed_whatever_it_holds() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("apps", 1, 0x31)]);
    machine.snapshot(&name("apps"), None).unwrap();
    harness.run(&[("apps", 2, 0x32)]);
    let used = harness.leases();
    machine.remove_layer(&name("apps"), Kept::Preserve).unwrap();
    assert_eq!(machine.record().unwrap().removed.len(), 1);
    assert_eq!(
        harness.leases(),
        used,
        "what is aside still needs its image"
    );

    let image = harness.image("tool", 0x55);
    let layer: LayerSpec = serde_json::from_value(serde_json::json!({
        "name": "tool", "role": "custom", "writes": "keep", "rejuvenate": "keep",
        "image": image.to_string(), "controller": "ide",
    }))
    .unwrap();
    machine.add_layer(&layer, &image).unwrap();
    harness.run(&[("tool", 1, 0x41)]);
    machine.remove_layer(&name("tool"), Kept::Preserve).unwrap();
    // The same image again, on another controller, beside what is kept aside.
    let layer = LayerSpec {
        controller: None,
        ..layer
    };
    machine.add_layer(&layer, &image).unwrap();
    assert_eq!(harness.read("tool", 1), Content::Byte(0x55));
    machine.remove_layer(&name("tool"), Kept::Discard).unwrap();
}

#[test]
fn a_removed_layer_gives_its_image_up() {
    let harness = Harness::new();
    let machine = harness.machine();
    let before = harness.leases();
    machine.remove_layer(&name("apps"), Kept::Preserve).unwrap();
    assert_eq!(harness.leases(), before, "undo may bring it back");
    machine.snapshot(&name("home"), None).unwrap();
    assert_eq!(harness.leases(), before - 1);
    assert!(machine.record().unwrap().removed.is_empty());
}

#[test]
fn every_frozen_file_is_read_only_whatever_froze_it() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 0x11)]);
    let head = harness.head("home");
    machine
        .rollback(&name("home"), Some(1), Kept::Preserve)
        .unwrap_or_else(|e| panic!("{e:?}"));
    assert!(std::fs::metadata(head).unwrap().permissions().readonly());
}

#[test]
fn what_a_cut_short_change_left_is_replaced_and_what_a_guest_wrote_is_not() {
    let harness = Harness::new();
    let machine = harness.machine();
    let next = machine.record().unwrap().generation + 1;
    // As if a change to another revision had been killed before its rename.
    let left = harness
        .layer_folder("home")
        .join(format!("head-{next}.vmdk"));
    std::fs::write(&left, b"half of something else").unwrap();
    machine
        .rollback(&name("home"), Some(1), Kept::Preserve)
        .unwrap();
    assert_eq!(harness.head("home"), left);
    assert_eq!(harness.read("home", 1), Content::Byte(0));
}

#[test]
fn a_machine_that_lost_its_record_is_not_taken_for_a_new_one() {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    let folder = harness.machine().folder();
    std::fs::remove_file(folder.join("machine.json")).unwrap();
    let before = snapshot(&folder);
    let error = harness.create_again().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(error.next_step().is_some());
    assert_eq!(before, snapshot(&folder));
}

#[test]
fn a_discarded_head_that_a_cut_short_run_wrote_to_stands_in_nobodys_way() {
    let harness = Harness::new();
    let record = harness.machine().folder().join("machine.json");
    let running = harness.folder().join("running.json");
    let (from, to) = (record.clone(), running.clone());
    harness.run_with(move || {
        std::fs::copy(&from, &to).unwrap();
    });
    // As if the supervisor had been killed after its guest wrote to the heads.
    std::fs::copy(&running, &record).unwrap();
    let head = std::fs::OpenOptions::new()
        .append(true)
        .open(harness.head("os"));
    std::io::Write::write_all(&mut head.unwrap(), &[7; 4096]).unwrap();
    let done = harness.machine().snapshot(&name("os"), None).unwrap();
    assert_eq!(done.revision, Some(2));
    assert_eq!(harness.read("os", 0), Content::Byte(0x05));
    harness.run(&[("os", 1, 0x41)]);
    assert_eq!(harness.read("os", 1), Content::Byte(0x41));
}

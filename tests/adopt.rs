//! `adopt`: copies become machines of their own, moved folders stay what they were, and no kept
//! byte is lost on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;

use harness::{Content, Harness, name};
use stratavm::machine::{AdoptOptions, Adoption, Kept, Machine};
use stratavm::{Ctx, ErrorKind};
use tree::{copy, snapshot_but_locks as snapshot};

fn new_id() -> AdoptOptions {
    AdoptOptions::new(Adoption::NewId)
}

fn moved() -> AdoptOptions {
    AdoptOptions::new(Adoption::Moved)
}

/// A machine with two revisions, one rolled back from, and writes on its head; and a layer that was
/// set aside.
fn lived_in() -> Harness {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 0x11), ("os", 1, 0x51)]);
    machine
        .snapshot(&name("home"), Some("one".to_owned()))
        .unwrap();
    machine.snapshot(&name("os"), None).unwrap();
    harness.run(&[("home", 2, 0x12), ("apps", 1, 0x61)]);
    machine.snapshot(&name("apps"), None).unwrap();
    machine
        .rollback(&name("home"), Some(2), Kept::Preserve)
        .unwrap();
    harness.run(&[("home", 3, 0x13)]);
    machine.remove_layer(&name("apps"), Kept::Preserve).unwrap();
    assert_eq!(machine.record().unwrap().removed.len(), 1);
    harness
}

/// What the lived-in machine holds, read through its chains by QEMU.
fn check_content(harness: &Harness, machine: &Machine) {
    let read = |layer, mib| harness.read_of(machine, layer, mib);
    assert_eq!(read("home", 1), Content::Byte(0x11));
    assert_eq!(read("home", 2), Content::Byte(0));
    assert_eq!(read("home", 3), Content::Byte(0x13));
    assert_eq!(read("os", 1), Content::Byte(0x51));
    assert_eq!(read("os", 2), Content::Byte(0x05));
}

#[test]
fn a_copy_becomes_a_machine_of_its_own() {
    let harness = lived_in();
    let desk = harness.machine();
    let lamp = harness.store().home().join("machines/lamp");
    copy(&desk.folder(), &lamp);
    let before = snapshot(&desk.folder());
    let adopted = harness
        .store()
        .adopt(&lamp, &new_id(), &Ctx::none())
        .unwrap();
    assert_eq!(before, snapshot(&desk.folder()));
    let (old, new) = (desk.record().unwrap(), adopted.machine.record().unwrap());
    assert_ne!(old.id, new.id);
    assert_eq!(new.name.as_str(), "lamp");
    check_content(&harness, &adopted.machine);
    check_content(&harness, &desk);

    // Both live on, each by itself.
    let mut states = Vec::new();
    for machine in [&adopted.machine, &desk] {
        harness.run_of(machine, &[("home", 5, 0x21)]);
        machine.snapshot(&name("home"), None).unwrap();
        let n = machine
            .record()
            .unwrap()
            .layer(&name("home"))
            .unwrap()
            .history
            .revisions
            .len();
        states.push(n);
        machine
            .rollback(&name("home"), Some(3), Kept::Preserve)
            .unwrap();
        assert_eq!(harness.read_of(machine, "home", 2), Content::Byte(0x12));
    }
    assert_eq!(states[0], states[1]);
    nothing_to_free(&harness);
    adopted.machine.delete().unwrap();
    check_images_of(&harness, &desk);
}

fn nothing_to_free(harness: &Harness) {
    let options = Default::default();
    let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
    assert!(pruned.freed.is_empty());
}

fn check_images_of(harness: &Harness, machine: &Machine) {
    harness.check_images();
    let record = machine.record().unwrap();
    for image in record.images() {
        let leases = harness.store().image(&image).unwrap().leases().unwrap();
        assert_eq!(leases, [record.id]);
    }
}

#[test]
fn ids_of_a_copy_are_all_its_own() {
    let harness = lived_in();
    let desk = harness.machine();
    let lamp = harness.store().home().join("machines/lamp");
    copy(&desk.folder(), &lamp);
    let adopted = harness
        .store()
        .adopt(&lamp, &new_id(), &Ctx::none())
        .unwrap();
    let ids = |machine: &Machine| {
        let layers = machine.folder().join("layers");
        let mut ids = Vec::new();
        for path in snapshot(&layers).into_keys() {
            let vmdk = stratavm_disk::info(&path).unwrap().vmdk.unwrap();
            ids.push(vmdk.uuid.unwrap().to_string());
            ids.push(vmdk.cid);
        }
        ids
    };
    let (old, new) = (ids(&desk), ids(&adopted.machine));
    assert!(
        old.len() >= 12 && old.iter().all(|id| !new.contains(id)),
        "{old:?} {new:?}"
    );
}

#[test]
fn a_renamed_folder_keeps_its_id_and_all_else() {
    let harness = lived_in();
    let desk = harness.machine();
    let id = desk.record().unwrap().id;
    let machines = harness.store().home().join("machines");
    fs::rename(machines.join("desk"), machines.join("lamp")).unwrap();
    let before = snapshot(&machines.join("lamp/layers"));
    // By its name alone, as people type it.
    let adopted = harness
        .store()
        .adopt(Path::new("lamp"), &moved(), &Ctx::none())
        .unwrap();
    assert_eq!(before, snapshot(&machines.join("lamp/layers")));
    assert_eq!(adopted.machine.record().unwrap().id, id);
    check_content(&harness, &adopted.machine);
    harness.run_of(&adopted.machine, &[("home", 5, 0x21)]);
    adopted.machine.snapshot(&name("home"), None).unwrap();
    let again = harness
        .store()
        .adopt(Path::new("lamp"), &moved(), &Ctx::none())
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Invalid);
    nothing_to_free(&harness);
}

#[test]
fn a_folder_with_a_name_that_no_machine_may_have_gets_one() {
    let harness = lived_in();
    let machines = harness.store().home().join("machines");
    let odd = machines.join("My Desk (2)");
    fs::rename(machines.join("desk"), &odd).unwrap();
    let error = harness
        .store()
        .adopt(&odd, &moved(), &Ctx::none())
        .unwrap_err();
    assert!(error.next_step().unwrap().contains("--name"), "{error:?}");
    let options = moved().name(name("lamp"));
    let adopted = harness.store().adopt(&odd, &options, &Ctx::none()).unwrap();
    assert!(!odd.exists());
    check_content(&harness, &adopted.machine);
}

#[test]
fn one_of_two_folders_cannot_be_the_machine_itself() {
    let harness = lived_in();
    let lamp = harness.store().home().join("machines/lamp");
    copy(&harness.machine().folder(), &lamp);
    let before = snapshot(harness.store().home());
    let error = harness
        .store()
        .adopt(&lamp, &moved(), &Ctx::none())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsAdopt);
    assert!(error.next_step().unwrap().contains("--new-id"), "{error:?}");
    assert_eq!(before, snapshot(harness.store().home()));
}

#[test]
fn machines_come_from_other_stores_and_stay_there() {
    let (here, there) = (Harness::new(), lived_in());
    let source = there.machine().folder();
    let before = snapshot(there.store().home());
    let taken = here
        .store()
        .adopt(&source, &moved(), &Ctx::none())
        .unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists);
    for (options, called) in [(moved(), "lamp"), (new_id(), "sofa")] {
        let options = options.name(name(called));
        let adopted = here.store().adopt(&source, &options, &Ctx::none()).unwrap();
        check_content(&here, &adopted.machine);
        here.run_of(&adopted.machine, &[("home", 5, 0x21)]);
        adopted.machine.snapshot(&name("home"), None).unwrap();
        assert_eq!(before, snapshot(there.store().home()));
    }
    let id = |machine: Machine| machine.record().unwrap().id;
    let find = |harness: &Harness, called| id(harness.store().machine(&name(called)).unwrap());
    assert_eq!(find(&here, "lamp"), find(&there, "desk"));
    assert_ne!(find(&here, "sofa"), find(&there, "desk"));
}

#[test]
fn images_that_are_missing_are_named() {
    let (here, there) = (Harness::new(), lived_in());
    let image = there.image("rare", 0x77);
    there
        .machine()
        .update(&name("os"), &image, Kept::Preserve)
        .unwrap();
    let before = snapshot(here.store().home());
    let options = new_id().name(name("lamp"));
    let error = here
        .store()
        .adopt(&there.machine().folder(), &options, &Ctx::none())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&image.to_string()), "{cause}");
    assert_eq!(before, snapshot(here.store().home()));
}

#[test]
fn what_was_copied_while_the_machine_ran_may_be_torn() {
    let harness = lived_in();
    let lamp = harness.store().home().join("machines/lamp");
    let desk = harness.machine().folder();
    let to = lamp.clone();
    harness.run_with(move || copy(&desk, &to));
    let before = snapshot(&lamp);
    let error = harness
        .store()
        .adopt(&lamp, &new_id(), &Ctx::none())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        error.next_step().unwrap().contains("--discard-writes"),
        "{error:?}"
    );
    assert_eq!(before, snapshot(&lamp));
    let options = new_id().kept(Kept::Discard);
    let adopted = harness
        .store()
        .adopt(&lamp, &options, &Ctx::none())
        .unwrap();
    assert!(
        adopted.notes.iter().any(|note| note.contains("home")),
        "{:?}",
        adopted.notes
    );
    let read = |mib| harness.read_of(&adopted.machine, "home", mib);
    assert_eq!((read(1), read(3)), (Content::Byte(0x11), Content::Byte(0)));
}

#[test]
fn nobody_adopts_a_machine_that_runs() {
    let harness = lived_in();
    let store = harness.store().clone();
    let other = Harness::new();
    let options = new_id().name(name("lamp"));
    harness.run_with(move || {
        let folder = store.home().join("machines/desk");
        let error = other
            .store()
            .adopt(&folder, &options, &Ctx::none())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    });
}

#[test]
fn heads_in_extents_are_adopted_checked_and_kept_too() {
    let mut volume = stratavm_disk::Volume::default();
    volume.max_file = Some(5 << 20);
    let harness = Harness::made_on(volume);
    let desk = harness.machine();
    harness.run(&[("home", 1, 0x11), ("home", 6, 0x16)]);
    desk.snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 2, 0x12)]);
    let lamp = harness.store().home().join("machines/lamp");
    copy(&desk.folder(), &lamp);
    let split = snapshot(&lamp.join("layers/home"))
        .into_keys()
        .filter(|path| path.to_str().unwrap().contains("-s00"));
    assert!(split.count() >= 4, "the volume splits heads");
    let adopted = harness
        .store()
        .adopt(&lamp, &new_id(), &Ctx::none())
        .unwrap();
    for machine in [&adopted.machine, &desk] {
        harness.run_of(machine, &[("home", 4, 0x14)]);
        machine.snapshot(&name("home"), None).unwrap();
        for (mib, byte) in [(1, 0x11), (2, 0x12), (4, 0x14), (6, 0x16)] {
            assert_eq!(harness.read_of(machine, "home", mib), Content::Byte(byte));
        }
    }
    let checked = harness
        .store()
        .fsck(&Default::default(), &Ctx::none())
        .unwrap();
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
    nothing_to_free(&harness);
}

//! Machines whose folders were copied, renamed or brought from another store by hand, and stores
//! that were moved as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::fs;

use harness::{Content, Harness, name};
use stratavm::{Error, ErrorKind, Store};
use tree::copy;

/// What every use of the machine called `machine` is refused with.
fn refused(store: &Store, machine: &str) -> Error {
    let error = store.machine(&name(machine)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsAdopt, "{error:?}");
    assert!(
        error.next_step().unwrap().contains("stratavm adopt"),
        "{error:?}"
    );
    error
}

#[test]
fn a_copy_in_the_same_store_is_noticed_and_the_original_is_none_the_worse() {
    let harness = Harness::new();
    let machines = harness.store().home().join("machines");
    // A handle from before: nothing is remembered that would let it through.
    let machine = harness.machine();
    copy(&machines.join("desk"), &machines.join("lamp"));
    let error = refused(harness.store(), "lamp");
    assert!(
        error.to_string().contains("copy of machine desk"),
        "{error}"
    );
    assert!(error.next_step().unwrap().contains("--new-id"), "{error:?}");
    harness.run(&[("home", 1, 0x11)]);
    machine.snapshot(&name("home"), None).unwrap();

    // Its record was made to fit its name: two machines with one id.
    let record = machines.join("lamp/machine.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(
        &record,
        text.replace("\"name\": \"desk\"", "\"name\": \"lamp\""),
    )
    .unwrap();
    let error = refused(harness.store(), "lamp");
    assert!(
        error.to_string().contains("copy of machine desk"),
        "{error}"
    );
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
}

#[test]
fn a_renamed_folder_is_noticed() {
    let harness = Harness::new();
    let machine = harness.machine();
    let machines = harness.store().home().join("machines");
    fs::rename(machines.join("desk"), machines.join("lamp")).unwrap();
    let error = refused(harness.store(), "lamp");
    assert!(error.next_step().unwrap().contains("--moved"), "{error:?}");
    assert_eq!(
        machine.rejuvenate().unwrap_err().kind(),
        ErrorKind::NotFound
    );
    fs::rename(machines.join("lamp"), machines.join("desk")).unwrap();
    harness.run(&[("home", 1, 0x11)]);
}

#[test]
fn a_folder_from_another_store_is_noticed_even_where_all_its_images_are() {
    let (here, there) = (Harness::new(), Harness::new());
    let machines = here.store().home().join("machines");
    fs::remove_dir_all(machines.join("desk")).unwrap();
    copy(&there.machine().folder(), &machines.join("desk"));
    let error = refused(here.store(), "desk");
    assert!(error.to_string().contains("another store"), "{error}");
}

#[test]
fn a_store_works_wherever_it_is_moved_or_copied_to_as_a_whole() {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    for place in ["elsewhere/home", "elsewhere/deep in/some/home"] {
        let folder = harness.folder().join(place);
        copy(harness.store().home(), &folder);
        let moved = Harness::at(folder.parent().unwrap());
        moved.run(&[("home", 2, 0x12)]);
        assert_eq!(moved.read("home", 1), Content::Byte(0x11));
        assert_eq!(moved.read("os", 1), Content::Byte(0x05));
        moved.machine().snapshot(&name("home"), None).unwrap();
    }
    assert_eq!(harness.read("home", 2), Content::Byte(0));
}

#[test]
fn a_machine_of_a_version_that_noted_no_ids_is_still_itself() {
    let harness = Harness::new();
    let ids = harness.store().home().join("machines/.ids");
    fs::remove_dir_all(&ids).unwrap();
    harness.run(&[("home", 1, 0x11)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    let id = harness.machine().record().unwrap().id.to_string();
    assert_eq!(
        fs::read_to_string(ids.join(id)).unwrap(),
        "desk\n",
        "noted with the change"
    );
}

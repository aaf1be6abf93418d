//! `prune`: what nobody refers to goes, whatever left it; everything else stays byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use harness::{Content, Harness, name};
use stratavm::machine::retention::Retention;
use stratavm::machine::{Kept, Scope};
use stratavm::store::{LeftoverKind, PruneMode, PruneOptions, Pruned, SetAside};
use stratavm::{Ctx, ErrorKind};
use tree::snapshot_but_locks as snapshot;

fn dry(harness: &Harness) -> Pruned {
    let before = snapshot(harness.store().home());
    let pruned = harness
        .store()
        .prune(&PruneOptions::default(), &Ctx::none())
        .unwrap();
    assert_eq!(
        before,
        snapshot(harness.store().home()),
        "a dry run changes nothing"
    );
    pruned
}

/// Prunes; what goes is what the dry run has said.
fn prune(harness: &Harness) -> Pruned {
    let said = dry(harness);
    let options = PruneOptions::default().mode(PruneMode::Remove);
    let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
    assert_eq!(said.freed, pruned.freed);
    assert!(pruned.failed.is_empty(), "{:?}", pruned.failed);
    for leftover in &pruned.freed {
        // Of a layer only some files go.
        let stays = leftover.kind == LeftoverKind::ExpiredRevisions;
        assert_eq!(leftover.path.exists(), stays, "{leftover:?}");
    }
    assert!(dry(harness).freed.is_empty(), "one prune is enough");
    pruned
}

fn kinds(pruned: &Pruned) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for leftover in &pruned.freed {
        *kinds.entry(leftover.kind.as_str()).or_default() += 1;
    }
    kinds
}

#[test]
fn a_store_in_use_has_nothing_to_free() {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 2, 0x12), ("os", 1, 0x55)]);
    let before = snapshot(harness.store().home());
    let pruned = prune(&harness);
    assert!(pruned.freed.is_empty(), "{:?}", pruned.freed);
    assert!(pruned.spared.is_empty(), "{:?}", pruned.spared);
    assert_eq!(before, snapshot(harness.store().home()));
}

#[test]
fn images_go_once_no_revision_lies_on_them() {
    let harness = Harness::new();
    let machine = harness.machine();
    let old = machine
        .record()
        .unwrap()
        .layer(&name("apps"))
        .unwrap()
        .current()
        .unwrap()
        .image;
    let new = harness.image("apps-2", 0x22);
    let free = harness.image("free", 0x33);
    machine.update(&name("apps"), &new, Kept::Preserve).unwrap();
    let pruned = prune(&harness);
    assert_eq!(kinds(&pruned), [("image", 1)].into());
    assert!(
        pruned.bytes() >= 6 << 20,
        "what 6 MiB of data take: {}",
        pruned.bytes()
    );
    let store = harness.store();
    assert_eq!(store.image(&free).unwrap_err().kind(), ErrorKind::NotFound);
    store
        .image(&old)
        .expect("the revision before the update can be gone back to");
    machine
        .rollback(&name("apps"), None, Kept::Preserve)
        .unwrap();
    assert_eq!(harness.read("apps", 1), Content::Byte(0x06));
    machine.remove_layer(&name("apps"), Kept::Preserve).unwrap();
    assert!(kinds(&prune(&harness)).is_empty(), "undo may bring it back");
    machine.snapshot(&name("home"), None).unwrap();
    let pruned = prune(&harness);
    assert_eq!(kinds(&pruned)["image"], 2);
    harness.check_images();
}

#[test]
fn revisions_that_retention_lets_go_are_freed() {
    let harness = Harness::new();
    let machine = harness.machine();
    for byte in 1..4 {
        harness.run(&[("home", 1, byte)]);
        machine
            .rollback(&name("home"), Some(1), Kept::Preserve)
            .unwrap();
    }
    let rule = Retention::new(Some(1), None);
    machine.set_retention(&Scope::Machine, Some(rule)).unwrap();
    let dry = harness
        .store()
        .prune(&PruneOptions::default(), &Ctx::none())
        .unwrap();
    assert_eq!(kinds(&dry), [("expired-revisions", 1)].into());
    assert!(dry.bytes() > 0);
    let count = || machine.record().unwrap().layers[2].history.revisions.len();
    assert_eq!(count(), 4);
    assert_eq!(prune(&harness).bytes(), dry.bytes());
    // The current one, which is the clean one, the newest, and the one that undo would go to.
    assert_eq!(count(), 2);
    assert_eq!(harness.read("home", 1), Content::Byte(0));
    machine.undo().unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(3));
}

#[test]
fn what_killed_processes_left_goes_and_nothing_else() {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    let home = harness.store().home().to_owned();
    let machine = harness.machine().folder();
    let whole = snapshot(&home);
    let file = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "left").unwrap();
    };
    file(home.join("images/.new-4194305-0/extent-0.raw"));
    file(home.join("images/.gone-abc/extent-0.raw"));
    file(home.join("machines/.gone-01930000-0000-7000-8000-000000000001/machine.json"));
    file(home.join("machines/lamp/layers/os/head-1.vmdk"));
    file(home.join("machines/lamp/lock"));
    file(home.join("machines/.ids/01930000-0000-7000-8000-000000000002"));
    fs::write(
        home.join("machines/.ids/01930000-0000-7000-8000-000000000002"),
        "gone\n",
    )
    .unwrap();
    file(machine.join(".stratavm-tmp-4194305-1"));
    file(machine.join("products/any/.stratavm-tmp-4194305-2"));
    file(machine.join("layers/home/head-99.vmdk"));
    file(machine.join("layers/gone/head-98.vmdk"));
    let image = harness.store().images().list().unwrap().remove(0).unwrap();
    image.add_lease(uuid::Uuid::from_u128(7)).unwrap();
    let kinds = kinds(&prune(&harness));
    let expected = [
        ("unfinished-image", 1),
        ("half-removed", 2),
        ("unfinished-machine", 1),
        ("id", 1),
        ("temporary-file", 2),
        ("layer-file", 2),
        ("lease", 1),
    ];
    assert_eq!(kinds, expected.into());
    assert_eq!(whole, snapshot(&home));
}

#[test]
fn an_image_that_is_being_added_is_left_alone() {
    let harness = Harness::new();
    let images = harness.store().images().folder().to_owned();
    fs::create_dir(images.join(".new-1-0")).unwrap();
    let lock = fs::File::create(images.join(".staging.lock")).unwrap();
    lock.lock_shared().unwrap();
    let said = dry(&harness);
    assert!(said.freed.is_empty() && said.spared.len() == 1, "{said:?}");
    drop(lock);
    assert_eq!(prune(&harness).freed[0].kind, LeftoverKind::UnfinishedImage);
}

#[test]
fn pruning_waits_for_those_who_add_references() {
    let harness = Harness::new();
    let image = harness.image("tool", 0x44);
    let held = harness.store().hold_images().unwrap();
    let store = harness.store().clone();
    let (done, hears) = std::sync::mpsc::channel();
    let pruning = std::thread::spawn(move || {
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = store.prune(&options, &Ctx::none()).unwrap();
        done.send(()).unwrap();
        pruned
    });
    harness
        .machine()
        .update(&name("apps"), &image, Kept::Preserve)
        .unwrap();
    assert!(
        hears.try_recv().is_err(),
        "it must not be done while the lock is held"
    );
    drop(held);
    assert!(pruning.join().unwrap().freed.is_empty());
    assert_eq!(harness.read("apps", 1), Content::Byte(0x44));
}

#[test]
fn a_machine_that_cannot_be_read_keeps_all_that_it_may_need() {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    let free = harness.image("free", 0x33);
    let path = harness.machine().folder().join("machine.json");
    let good = fs::read(&path).unwrap();
    let future = String::from_utf8(good.clone()).unwrap();
    let future = future
        .replace("\"min-reader\": 2", "\"min-reader\": 99")
        .replace("\"version\": 2", "\"version\": 99");
    for bad in [&good[..good.len() / 3], b"", b"{}", future.as_bytes()] {
        fs::write(&path, bad).unwrap();
        let stray = harness
            .store()
            .home()
            .join("machines/desk/layers/home/head-99.vmdk");
        fs::write(&stray, "who knows").unwrap();
        let before = snapshot(harness.store().home());
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
        assert_eq!(pruned.failed.len(), 1, "{:?}", pruned.failed);
        let after = snapshot(harness.store().home());
        let gone: Vec<_> = before
            .keys()
            .filter(|path| !after.contains_key(*path))
            .collect();
        let freed = harness
            .store()
            .images()
            .folder()
            .join(format!("sha256c-{}", free.hex()));
        assert!(gone.iter().all(|path| path.starts_with(&freed)), "{gone:?}");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
    harness.check_images();
}

#[test]
fn while_a_machine_runs_its_files_and_its_products_files_stay() {
    let harness = Harness::new();
    let layers = harness.machine().folder().join("layers");
    let home = harness.store().home().to_owned();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let report = std::sync::Arc::clone(&seen);
    let (store, machine) = (harness.store().clone(), harness.machine());
    harness.run_with(move || {
        // The number of a head that the run writes to, in the folder of another layer.
        let used = machine.record().unwrap().run.unwrap().heads[0].generation;
        let other = layers.join(format!("home/head-{used}.vmdk"));
        fs::write(&other, "nobody's").unwrap();
        fs::write(layers.join("os/vmware.log"), "the product's").unwrap();
        fs::write(layers.join("os/head-77.vmdk"), "nobody's").unwrap();
        let before = snapshot(&home);
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = store.prune(&options, &Ctx::none()).unwrap();
        let after = snapshot(&home);
        let gone: Vec<_> = before
            .into_keys()
            .filter(|path| !after.contains_key(path))
            .collect();
        let strays = [other, layers.join("os/head-77.vmdk")];
        *report.lock().unwrap() = Some((pruned, gone, strays));
    });
    let (pruned, gone, strays) = seen.lock().unwrap().take().unwrap();
    assert!(pruned.failed.is_empty(), "{:?}", pruned.failed);
    assert_eq!(gone, strays);
}

#[test]
fn what_was_set_aside_goes_only_when_asked_for() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 0x11)]);
    machine.snapshot(&name("home"), None).unwrap();
    machine.remove_layer(&name("home"), Kept::Preserve).unwrap();
    let said = prune(&harness);
    assert!(said.freed.is_empty(), "{:?}", said.freed);
    assert_eq!(said.spared.len(), 1);
    assert!(said.spared[0].bytes > 1 << 20 && said.spared[0].next.contains("--removed"));
    let options = PruneOptions::default().set_aside(SetAside::Remove);
    let would = harness.store().prune(&options, &Ctx::none()).unwrap();
    assert_eq!(would.freed[0].kind, LeftoverKind::RemovedLayer);
    assert_eq!(would.freed[0].bytes, said.spared[0].bytes);
    assert_eq!(machine.record().unwrap().removed.len(), 1);
    let done = harness
        .store()
        .prune(&options.mode(PruneMode::Remove), &Ctx::none())
        .unwrap();
    assert!(done.failed.is_empty(), "{:?}", done.failed);
    assert_eq!(kinds(&done)["removed-layer"], 1);
    assert!(machine.record().unwrap().removed.is_empty());
    assert!(!harness.layer_folder("home").exists());
    assert!(dry(&harness).freed.is_empty());
}

#[test]
fn what_was_set_aside_stays_as_long_as_a_point_goes_back_to_it() {
    let harness = Harness::new();
    let (machine, home, calm) = (harness.machine(), name("home"), name("calm"));
    harness.run(&[("home", 1, 0x11)]);
    machine.create_point(&calm, None, &[]).unwrap();
    machine.remove_layer(&home, Kept::Preserve).unwrap();
    let options = PruneOptions::default()
        .set_aside(SetAside::Remove)
        .mode(PruneMode::Remove);
    let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
    assert!(pruned.freed.is_empty(), "{:?}", pruned.freed);
    assert_eq!(pruned.spared[0].next, "stratavm point list desk");
    machine.take_back_layer(&home).unwrap();
    machine.rollback_to_point(&calm, Kept::Preserve).unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
    machine.remove_layer(&home, Kept::Preserve).unwrap();
    machine.remove_point(&calm).unwrap();
    let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
    assert_eq!(kinds(&pruned)["removed-layer"], 1);
    // There is no way back any more, and undo says so before it tries.
    let error = machine.undo().unwrap_err();
    assert!(
        error.to_string().contains("nothing to take back"),
        "{error}"
    );
}

#[test]
fn copies_by_hand_hold_the_images_that_they_name() {
    let harness = Harness::new();
    let machines = harness.store().home().join("machines");
    let copy = machines.join("desk (copy)");
    fs::create_dir(&copy).unwrap();
    fs::copy(
        machines.join("desk/machine.json"),
        copy.join("machine.json"),
    )
    .unwrap();
    harness.machine().delete().unwrap();
    let pruned = prune(&harness);
    assert!(!kinds(&pruned).contains_key("image"), "{:?}", pruned.freed);
}

#[test]
fn a_machine_that_lost_its_record_keeps_its_images() {
    let harness = Harness::new();
    harness.run(&[("home", 1, 0x11)]);
    let path = harness.machine().folder().join("machine.json");
    let record = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let pruned = prune(&harness);
    assert!(pruned.freed.is_empty(), "{:?}", pruned.freed);
    assert_eq!(pruned.spared.len(), 3, "{:?}", pruned.spared);
    fs::write(&path, record).unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
}

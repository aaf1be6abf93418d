//! Machines in a store, on real files: every layer operation, what it keeps and what it resets.
//!
//! The product is a stand-in that ends every run at once; what a guest would write is written into
//! the heads by `qemu-io`, and read back through the whole chain. Real guests are in the
//! conformance suite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use harness::{Content, Ends, Harness, name};
use stratavm::machine::revision::Reason;
use stratavm::machine::{Kept, RunEnd};
use stratavm::spec::LayerSpec;
use stratavm::{ErrorKind, Store, VmSpec};
use tree::snapshot;

/// The files of all layers but one.
fn others(harness: &Harness, layer: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mine = harness.layer_folder(layer);
    let mut all = snapshot(&harness.machine().folder().join("layers"));
    all.retain(|path, _| !path.starts_with(&mine));
    all
}

#[test]
fn a_start_renews_what_discards_and_keeps_what_keeps() {
    let harness = Harness::new();
    harness.run(&[("os", 1, 0xaa), ("home", 1, 0xbb)]);
    assert_eq!(harness.read("os", 1), Content::Byte(0xaa));
    assert_eq!(harness.read("home", 1), Content::Byte(0xbb));
    harness.run(&[]);
    assert_eq!(
        harness.read("os", 1),
        Content::Byte(0x05),
        "the image's own"
    );
    assert_eq!(harness.read("home", 1), Content::Byte(0xbb));
    harness.check_images();
}

#[test]
fn a_reboot_starts_again_on_fresh_heads() {
    let harness = Harness::new();
    let report = harness.run_ending(
        &[("os", 1, 0xaa), ("home", 1, 0xbb)],
        &[Ends::Reboot, Ends::PowerOff],
    );
    assert_eq!((report.end, report.boots), (RunEnd::PowerOff, 2));
    // The second boot wrote both again; what the first wrote to `os` alone is gone.
    assert!(harness.machine().record().unwrap().run.is_none());
}

#[test]
fn snapshot_and_rollback_move_one_layer_alone() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 0x11), ("apps", 1, 0x77)]);
    let before = others(&harness, "home");
    let made = machine
        .snapshot(&name("home"), Some("first".to_owned()))
        .unwrap();
    assert_eq!(made.revision, Some(2));
    assert_eq!(before, others(&harness, "home"));
    assert_eq!(
        harness.read("home", 1),
        Content::Byte(0x11),
        "through the frozen delta"
    );

    harness.run(&[("home", 1, 0x22)]);
    let before = others(&harness, "home");
    let back = machine
        .rollback(&name("home"), None, Kept::Preserve)
        .unwrap();
    assert_eq!((back.revision, back.preserved), (Some(1), Some(3)));
    assert_eq!(before, others(&harness, "home"));
    assert_eq!(harness.read("home", 1), Content::Byte(0), "as it was made");

    let again = machine
        .rollback(&name("home"), Some(3), Kept::Preserve)
        .unwrap();
    assert_eq!((again.revision, again.preserved), (Some(3), None));
    assert_eq!(
        harness.read("home", 1),
        Content::Byte(0x22),
        "nothing was lost"
    );
    let record = machine.record().unwrap();
    let reasons: Vec<_> = record
        .layer(&name("home"))
        .unwrap()
        .history
        .revisions
        .iter()
        .map(|r| r.reason)
        .collect();
    assert_eq!(
        reasons,
        [Reason::Create, Reason::Snapshot, Reason::BeforeRollback]
    );
}

#[test]
fn a_frozen_head_gets_an_id_that_its_child_names() {
    let harness = Harness::new();
    // QEMU renews the content id at its first write, so that what the head was made with is stale.
    harness.run(&[("home", 1, 0x11)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 2, 0x22)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
    assert_eq!(harness.read("home", 2), Content::Byte(0x22));
    for file in harness.frozen("home") {
        assert!(
            std::fs::metadata(&file).unwrap().permissions().readonly(),
            "{}",
            file.display()
        );
    }
}

#[test]
fn update_and_rollback_exchange_the_image() {
    let harness = Harness::new();
    let machine = harness.machine();
    let v2 = harness.image("apps-v2", 0x62);
    let before = others(&harness, "apps");
    machine.update(&name("apps"), &v2, Kept::Preserve).unwrap();
    assert_eq!(harness.read("apps", 1), Content::Byte(0x62));
    machine
        .rollback(&name("apps"), None, Kept::Preserve)
        .unwrap();
    assert_eq!(harness.read("apps", 1), Content::Byte(0x06));
    assert_eq!(before, others(&harness, "apps"));

    harness.run(&[("home", 1, 0x33)]);
    let refused = machine
        .update(&name("home"), &v2, Kept::Preserve)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(harness.read("home", 1), Content::Byte(0x33));
    machine.update(&name("home"), &v2, Kept::Discard).unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x62));
}

#[test]
fn add_takes_the_lowest_free_port_and_remove_leaves_a_gap() {
    let harness = Harness::new();
    let machine = harness.machine();
    let image = harness.image("tool", 0x55);
    let layer: LayerSpec = serde_json::from_value(serde_json::json!({
        "name": "tool", "role": "apps", "image": image.to_string()
    }))
    .unwrap();
    let port = |of: &str| {
        let record = machine.record().unwrap();
        let mut ports = record.hardware.ports.iter();
        ports
            .find(|entry| entry.disk.as_str() == of)
            .map(|entry| entry.port.slot)
    };
    let before = others(&harness, "tool");
    machine.add_layer(&layer, &image).unwrap();
    assert_eq!(before, others(&harness, "tool"));
    assert_eq!(port("tool"), Some(3));
    machine.remove_layer(&name("apps"), Kept::Preserve).unwrap();
    assert_eq!(
        (port("os"), port("apps"), port("home"), port("tool")),
        (Some(0), None, Some(2), Some(3))
    );
    assert!(!harness.layer_folder("apps").exists());
    let twice = machine.add_layer(&layer, &image).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Exists);
    machine
        .remove_layer(&name("os"), Kept::Preserve)
        .unwrap_err();
}

#[test]
fn removing_a_kept_layer_keeps_what_the_guest_wrote_aside() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 0x44)]);
    let removed = machine.remove_layer(&name("home"), Kept::Preserve).unwrap();
    assert!(removed.preserved.is_some());
    let record = machine.record().unwrap();
    assert_eq!(record.removed.len(), 1);
    assert!(harness.layer_folder("home").exists());
}

#[test]
fn rejuvenate_drops_an_infected_snapshot_and_leaves_the_users_files_alone() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("os", 0, 0x66), ("home", 1, 0x12)]);
    machine.snapshot(&name("os"), None).unwrap();
    harness.run(&[]);
    assert_eq!(
        harness.read("os", 0),
        Content::Byte(0x66),
        "an infection survives a start"
    );
    let home = snapshot(&harness.layer_folder("home"));
    let done = machine.rejuvenate().unwrap();
    assert!(done.layers.contains(&name("os")) && !done.layers.contains(&name("home")));
    assert_eq!(harness.read("os", 0), Content::Byte(0x05));
    assert_eq!(home, snapshot(&harness.layer_folder("home")));
    assert!(
        machine.rejuvenate().unwrap().layers.is_empty(),
        "clean already"
    );
}

#[test]
fn nothing_is_left_that_the_record_does_not_name() {
    let harness = Harness::new();
    let machine = harness.machine();
    for byte in 1..5 {
        harness.run(&[("os", 1, byte), ("home", 1, byte)]);
        machine.rejuvenate().unwrap();
        machine
            .rollback(&name("home"), Some(1), Kept::Discard)
            .unwrap();
    }
    // A base descriptor and a head for each of os, apps and home.
    assert_eq!(snapshot(&machine.folder().join("layers")).len(), 6);
}

#[test]
fn names_that_exist_and_machines_that_do_not_are_told() {
    let harness = Harness::new();
    let twice = harness.create_again().unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Exists);
    let missing = harness.store().machine(&name("nobody")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let machine = harness.machine();
    for wrong in [
        machine.snapshot(&name("nobody"), None).unwrap_err(),
        machine
            .rollback(&name("home"), Some(9), Kept::Preserve)
            .unwrap_err(),
    ] {
        assert_eq!(wrong.kind(), ErrorKind::NotFound);
        assert!(wrong.next_step().is_some());
    }
    assert_eq!(
        machine
            .rollback(&name("home"), None, Kept::Preserve)
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn a_run_that_is_dropped_is_brought_to_an_end() {
    let harness = Harness::new();
    harness.drop_a_run();
    // The supervisor's own thread ends it; how soon is the host's affair.
    let begun = std::time::Instant::now();
    while harness.machine().is_running().unwrap() {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(60),
            "it still runs"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(harness.machine().record().unwrap().run.is_none());
}

#[test]
fn a_run_ends_with_what_the_product_says_or_at_its_time() {
    let harness = Harness::new();
    let crashed = harness.run_ending(&[], &[Ends::Reboot, Ends::Crash]);
    assert_eq!(
        (crashed.end, crashed.boots),
        (RunEnd::Crash("smoke".to_owned()), 2)
    );
    let late = harness.run_for(std::time::Duration::from_millis(20));
    assert_eq!(late.end, RunEnd::Timeout);
    assert!(!harness.machine().is_running().unwrap());
}

#[test]
fn a_running_machine_is_busy() {
    let harness = Harness::new();
    let machine = harness.machine();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (inner, found) = (machine.clone(), Arc::clone(&seen));
    harness.run_with(move || {
        let kinds = [
            inner.snapshot(&name("home"), None).unwrap_err().kind(),
            inner
                .create_point(&name("now"), None, &[])
                .unwrap_err()
                .kind(),
            inner.undo().unwrap_err().kind(),
            inner.clone().delete().unwrap_err().kind(),
        ];
        found.lock().unwrap().extend(kinds);
    });
    assert_eq!(*seen.lock().unwrap(), [ErrorKind::Busy; 4]);
    machine.snapshot(&name("home"), None).unwrap();
}

#[test]
fn asking_whether_a_machine_runs_keeps_nobody_from_using_it() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let harness = Harness::new();
    let machine = harness.machine();
    let asking = AtomicBool::new(true);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while asking.load(Ordering::Relaxed) {
                assert!(!machine.is_running().unwrap());
            }
        });
        let done: Result<Vec<_>, _> = (0..50)
            .map(|_| machine.snapshot(&name("home"), None))
            .collect();
        asking.store(false, Ordering::Relaxed);
        done
    });
    assert_eq!(done.unwrap().len(), 50);
}

#[test]
fn delete_takes_the_machine_and_its_leases_and_leaves_the_images() {
    let harness = Harness::new();
    let store = harness.store().clone();
    harness.machine().delete().unwrap();
    assert!(store.machines().unwrap().is_empty());
    for image in store.images().list().unwrap() {
        assert!(image.unwrap().leases().unwrap().is_empty());
    }
    harness.create_again().unwrap();
}

#[test]
fn damaged_records_are_refused_and_never_touched() {
    let harness = Harness::new();
    let path = harness.machine().folder().join("machine.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let future = good
        .replacen("\"min-reader\": 2", "\"min-reader\": 9", 1)
        .replacen("\"version\": 2", "\"version\": 9", 1);
    let cases = [
        (future, ErrorKind::FromTheFuture),
        (good[..good.len() / 2].to_owned(), ErrorKind::Malformed),
        (String::new(), ErrorKind::Malformed),
        (
            good.replacen("\"current\": 1", "\"current\": 7", 1),
            ErrorKind::Malformed,
        ),
    ];
    for (bad, kind) in cases {
        std::fs::write(&path, &bad).unwrap();
        let error = harness.store().machine(&name("desk")).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.path(), Some(path.as_path()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
    }
    let with_more = good.replacen('{', "{\n  \"mood\": \"fine\",", 1);
    std::fs::write(&path, with_more).unwrap();
    harness.machine().snapshot(&name("home"), None).unwrap();
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("\"mood\": \"fine\"")
    );
}

#[test]
fn an_image_of_several_extents_is_one_disk() {
    let harness = Harness::with_extents(1);
    harness.run(&[("home", 1, 0x21)]);
    assert_eq!(harness.read("os", 5), Content::Byte(0x05));
    assert_eq!(harness.read("home", 1), Content::Byte(0x21));
    harness.check_images();
}

#[test]
fn a_spec_with_an_unusable_image_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("home")).unwrap();
    let spec: VmSpec = serde_json::from_value(serde_json::json!({
        "stratavm": 1, "name": "desk",
        "guest": {"os": "other", "composition": "disks"},
        "layer": [{"name": "os", "role": "os", "image": "missing.raw"}],
    }))
    .unwrap();
    let error = store
        .create(
            &spec,
            folder.path(),
            &Default::default(),
            &stratavm::Ctx::none(),
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(store.machines().unwrap().is_empty());
    assert!(!store.home().join("machines/desk").exists());
}

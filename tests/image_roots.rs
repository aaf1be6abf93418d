//! Images in folders beside the store's own: found by digest, used, and never written to; on another volume where the
//! host has one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::{Content, Harness};
use stratavm::machine::Kept;
use stratavm::{ErrorKind, Store};
use tempfile::TempDir;
use tree::files;

fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let seen = |path: PathBuf| {
        let changed = path.metadata().unwrap().modified().unwrap();
        let content = std::fs::read(&path).unwrap();
        (path, (content, changed))
    };
    files(folder).into_iter().map(seen).collect()
}

/// A store with an image, whose folder of images is the other's root; on another volume if it can be.
fn other() -> (TempDir, Harness, PathBuf) {
    let memory = Path::new("/dev/shm");
    let temporary = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let harness = Harness::at(temporary.path());
    let images = harness.store().images().folder().to_owned();
    (temporary, harness, images)
}

#[test]
fn machines_use_images_of_a_root_that_is_only_read() {
    let (_temporary, other, images) = other();
    let golden = other.image("golden", 0x66);
    let before = snapshot(&images);

    let harness = Harness::new();
    let apps = "apps".parse().unwrap();
    let error = harness
        .machine()
        .update(&apps, &golden, Kept::Preserve)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut store = harness.store().clone();
    store.add_image_root(&images).unwrap();
    assert_eq!(
        store.add_image_root(&images).unwrap_err().kind(),
        ErrorKind::Exists
    );
    // It is recorded: whoever opens the store finds it.
    let harness = harness.reopened();
    assert_eq!(harness.store().image_roots(), std::slice::from_ref(&images));
    let machine = harness.machine();
    machine.update(&apps, &golden, Kept::Preserve).unwrap();
    harness.run(&[("apps", 1, 0x77), ("home", 1, 0x11)]);
    assert_eq!(harness.read("apps", 1), Content::Byte(0x77));
    harness.run(&[]);
    assert_eq!(harness.read("apps", 1), Content::Byte(0x66));
    let image = harness.store().image(&golden).unwrap();
    assert!(image.is_elsewhere());
    assert_eq!(image.leases().unwrap(), [machine.record().unwrap().id]);

    // Not there: said, with what to do; nothing is lost.
    let away = images.with_extension("unmounted");
    std::fs::rename(&images, &away).unwrap();
    let error = harness.try_run(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.path(), Some(images.as_path()));
    assert!(
        error.next_step().unwrap().contains("mount its volume"),
        "{error}"
    );
    std::fs::rename(&away, &images).unwrap();
    harness.run(&[]);
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));

    machine.delete().unwrap();
    assert!(image.leases().unwrap().is_empty());
    assert_eq!(
        snapshot(&images),
        before,
        "nothing is written to such a root"
    );
}

#[test]
fn a_root_is_forgotten_and_unknown_keys_stay() {
    let (_temporary, _other, images) = other();
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let record = folder.path().join("store.json");
    let mut value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    value["of-a-newer-version"] = 7.into();
    std::fs::write(&record, value.to_string()).unwrap();
    store.add_image_root(&images).unwrap();
    store.remove_image_root(&images).unwrap();
    assert!(store.image_roots().is_empty());
    let error = store.remove_image_root(&images).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = store
        .add_image_root(&folder.path().join("none"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    assert_eq!(value["of-a-newer-version"], 7);
    assert!(value.get("image-roots").is_none());
}

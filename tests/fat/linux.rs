//! Machines whose guests follow the contract for Linux: a session disk is made at every start, and images are partitions.

use std::fs;

use serde_json::json;
use stratavm::image::{AddOptions, Wrap, add};
use stratavm::linux::FileSystem;
use stratavm::machine::Kept;
use stratavm::preview::Preview;
use stratavm::spec::Role;
use stratavm::{Ctx, ErrorKind, Product, Store, VmSpec};

use crate::harness::{Harness, name};
use crate::volume::{Fat, Kind, files, is_split};

const MOST: u64 = (4 << 20) - 1;

/// The beginning of a squashfs 4.0 whose 6 MiB are all its own, in a disk with a partition for `role`.
fn image(fat: &Fat, store: &Store, role: Role, mark: u8) -> String {
    let mut squashfs = vec![mark; 6 << 20];
    squashfs[..4].copy_from_slice(b"hsqs");
    squashfs[28..32].copy_from_slice(&[4, 0, 0, 0]);
    squashfs[40..48].copy_from_slice(&(6_u64 << 20).to_le_bytes());
    let path = fat.host.join("squashfs");
    fs::write(&path, squashfs).unwrap();
    let mut options = AddOptions::default();
    options.wrap = Some(Wrap {
        fs: FileSystem::Squashfs,
        role,
        name: name("tools"),
    });
    let added = add::add(
        store.images(),
        &path,
        &options,
        store.volume(),
        &Ctx::none(),
    );
    added.unwrap().image.meta.digest.to_string()
}

fn spec(fat: &Fat, store: &Store, name: &str, session: &str) -> VmSpec {
    serde_json::from_value(json!({
        "stratavm": 1, "name": name,
        "guest": {"os": "linux", "composition": "linux", "session": session},
        "layer": [
            {"name": "os", "role": "os", "image": image(fat, store, Role::Os, 1)},
            {"name": "office", "role": "apps", "image": image(fat, store, Role::Apps, 2)},
            {"name": "home", "role": "user-data", "size": "8 MiB"},
        ],
    }))
    .unwrap()
}

#[test]
fn session_disks_and_partitions_are_cut_too() {
    for kind in [Kind::Fat32, Kind::Exfat] {
        let fat = Fat::with_files_of(kind, MOST);
        let harness = Harness::at(&fat.folder);
        let mut volume = harness.store().volume().clone();
        volume.max_file = Some(MOST);
        let harness = harness.on_volume(volume);
        let store = harness.store();
        let spec = spec(&fat, store, "desk", "16 MiB");
        let machine = store.create(&spec, &fat.folder, &Default::default(), &Ctx::none());
        let machine = machine.unwrap();
        fat.holds(store);
        harness.run_of(&machine, &[("home", 3, 0x11)]);
        harness.run_of(&machine, &[("home", 4, 0x12), ("os", 2, 0x13)]);
        let session = files(&machine, "session", "head-");
        assert_eq!(session.iter().filter(|path| is_split(path)).count(), 1);
        machine.snapshot(&name("home"), None).unwrap();
        machine
            .remove_layer(&name("office"), Kept::Discard)
            .unwrap();
        machine.undo().unwrap();
        machine.rejuvenate().unwrap();
        harness.run_of(&machine, &[]);
        fat.holds(store);
        fat.translate(&machine, &["vmware", "virtualbox", "qemu"]);
    }
}

/// A `.hds` session disk is one file, which nothing says where to cut.
#[test]
fn a_session_that_outgrows_a_file_is_refused_where_it_cannot_be_cut() {
    let fat = Fat::of(Kind::Fat32);
    let harness = Harness::at(&fat.folder);
    let store = harness.store();
    let parallels = Product::named("parallels").unwrap();
    let registry = stratavm_builtin::registry();
    let backend = registry.get(&parallels).unwrap();
    for (session, fits) in [("4 GiB", false), ("4000 MiB", true)] {
        let spec = spec(&fat, store, "desk", session);
        let preview = Preview::new(&spec, &fat.folder, Some(store), &Ctx::none()).unwrap();
        let preview = preview.on_volume(store.volume().clone());
        let out = fat.folder.join("out");
        match preview.resolve(backend.as_ref(), &out) {
            Ok(resolved) => {
                assert!(fits);
                let plan = backend.translate(&resolved).unwrap();
                plan.apply(&resolved.volume, &Ctx::none()).unwrap();
            }
            Err(error) => {
                assert!(!fits && error.kind() == ErrorKind::Unsupported, "{error:?}");
                assert!(error.next_step().unwrap().contains("guest.session"));
            }
        }
        fat.holds(store);
    }
}

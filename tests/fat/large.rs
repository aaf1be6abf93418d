//! Disks of more than 4 GiB on the volumes' own limits: nobody tells the store what it lies on.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde_json::json;
use stratavm::image::{AddOptions, Image, add};
use stratavm::machine::{Kept, RunEnd};
use stratavm::spec::LayerSpec;
use stratavm::store::{PruneMode, PruneOptions};
use stratavm::{Ctx, State, Store, VmSpec, block_on};

use crate::desk::{Desk, soon};
use crate::harness::name;
use crate::report;
use crate::volume::{Fat, Kind, files, is_split};

const SIZE: u64 = 4100 << 20;

/// Without holes each of these disks is read and hashed in full: by one test on one kind of volume, on both where there
/// is time.
fn volumes(usual: Kind) -> impl Iterator<Item = Fat> {
    let both = [Kind::Fat32, Kind::Exfat];
    let chosen = both
        .into_iter()
        .filter(move |kind| *kind == usual || report::slow());
    chosen.map(Fat::of)
}

/// An image of more than 4 GiB, nearly all of it holes where it comes from.
fn added(fat: &Fat, store: &Store) -> Image {
    let path = fat.host.join("archive.raw");
    let file = File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"end", SIZE - 3).unwrap();
    let added = add::add(
        store.images(),
        &path,
        &AddOptions::default(),
        store.volume(),
        &Ctx::none(),
    );
    added.unwrap().image
}

fn layer(name: &str, role: &str, image: &Image) -> LayerSpec {
    let image = image.meta.digest.to_string();
    serde_json::from_value(json!({"name": name, "role": role, "image": image})).unwrap()
}

#[test]
fn machines_with_large_disks_start_and_stop_and_are_saved() {
    for fat in volumes(Kind::Fat32) {
        let desk = Desk::made_in(fat.folder.clone(), "on");
        let store = desk.store();
        fat.is_seen_by(&store);
        let image = added(&fat, &store);
        let sizes: Vec<_> = image
            .meta
            .extents
            .iter()
            .map(|extent| extent.bytes() >> 20)
            .collect();
        assert_eq!(sizes, [2047, 2047, 6]);
        let archive = name("archive");
        desk.machine()
            .add_layer(&layer("archive", "user-data", &image), &image.meta.digest)
            .unwrap();
        fat.holds(&store);
        for run in 0..2 {
            let started = desk.start();
            assert_eq!(desk.state(), State::Running);
            block_on(desk.machine().suspend(&desk.null(), &soon())).unwrap();
            assert_eq!(started.report().0.end, RunEnd::Suspended);
            assert_eq!(desk.state(), State::Suspended);
            fat.holds(&store);
            if run == 1 {
                block_on(desk.machine().discard_state(&desk.null(), &soon())).unwrap();
                continue;
            }
            let started = desk.start();
            desk.stop();
            assert_eq!(started.report().0.end, RunEnd::PowerOff);
        }
        desk.machine().snapshot(&archive, None).unwrap();
        desk.machine().snapshot(&name("home"), None).unwrap();
        desk.machine()
            .rollback(&archive, Some(1), Kept::Preserve)
            .unwrap();
        desk.machine().undo().unwrap();
        fat.holds(&store);

        // Small disks need no cutting; this one does, frozen and new.
        let machine = desk.machine();
        let heads = files(&machine, "archive", ".vmdk");
        let cut = heads.iter().filter(|path| is_split(path)).count();
        assert!(cut >= 2, "{heads:?}");
        assert_eq!(files(&machine, "archive", "-s0").len(), 3 * cut);
        assert_eq!(files(&machine, "home", "-s0").len(), 0);
        fat.translate(&machine, &["vmware", "virtualbox", "qemu"]);

        machine.remove_layer(&archive, Kept::Discard).unwrap();
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = store.prune(&options, &Ctx::none()).unwrap();
        assert!(pruned.failed.is_empty(), "{:?}", pruned.failed);
        machine.delete().unwrap();
        fat.holds(&store);
    }
}

#[test]
fn blank_layers_of_more_than_4_gib_are_cut() {
    for fat in volumes(Kind::Exfat) {
        let desk = Desk::made_in(fat.folder.clone(), "on");
        let spec: VmSpec = serde_json::from_value(json!({
            "stratavm": 1, "name": "large",
            "guest": {"os": "other", "composition": "disks"},
            "layer": [
                {"name": "os", "role": "os", "image": "os.raw"},
                {"name": "home", "role": "user-data", "size": format!("{} MiB", SIZE >> 20)},
            ],
        }))
        .unwrap();
        let store = desk.store();
        let machine = store.create(&spec, &fat.folder, &Default::default(), &Ctx::none());
        let machine = machine.unwrap();
        assert_eq!(files(&machine, "home", "-s0").len(), 3);
        fat.holds(&store);
        fat.preview(&spec, &store);
    }
}

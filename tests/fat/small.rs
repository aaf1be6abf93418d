//! The life of a machine in small: disks of 8 MiB where files end at 4 MiB, as disks of 8 GiB are on FAT32. What it
//! holds is written and read by `qemu-io` and `qemu-img` through the whole chain.

use std::fs;

use serde_json::json;
use stratavm::chain::Family;
use stratavm::machine::{AdoptOptions, Adoption, CreateOptions, Kept, RunOptions};
use stratavm::preview::Preview;
use stratavm::spec::LayerSpec;
use stratavm::store::{PruneMode, PruneOptions};
use stratavm::{Ctx, ErrorKind, Product, VmSpec};

use crate::harness::{Content, Ends, Harness, name};
use crate::tree::copy;
use crate::volume::{Fat, Kind, files, is_split};

const MOST: u64 = (4 << 20) - 1;

fn volumes() -> impl Iterator<Item = (Fat, Harness)> {
    [Kind::Fat32, Kind::Exfat].into_iter().map(|kind| {
        let fat = Fat::with_files_of(kind, MOST);
        let harness = Harness::at(&fat.folder);
        fat.is_seen_by(harness.store());
        let mut volume = harness.store().volume().clone();
        volume.max_file = Some(MOST);
        let harness = harness.on_volume(volume).populated(None);
        fat.holds(harness.store());
        (fat, harness)
    })
}

fn layer(name: &str, role: &str, image: &str) -> LayerSpec {
    serde_json::from_value(json!({"name": name, "role": role, "image": image})).unwrap()
}

#[test]
fn heads_are_cut() {
    for (fat, harness) in volumes() {
        let machine = harness.machine();
        for layer in ["os", "apps", "home"] {
            assert!(is_split(&harness.head(layer)), "{layer}");
            assert_eq!(files(&machine, layer, "-s0").len(), 3, "{layer}");
        }
        let writes: Vec<_> = (0..8).map(|mib| ("home", mib, 0x40 + mib as u8)).collect();
        harness.run(&writes);
        for (layer, mib, byte) in writes {
            assert_eq!(harness.read(layer, mib), Content::Byte(byte));
        }
        fat.holds(harness.store());
    }
}

#[test]
fn every_operation_is_taken() {
    for (fat, harness) in volumes() {
        let (machine, home) = (harness.machine(), name("home"));
        let held = |byte| {
            fat.holds(harness.store());
            assert_eq!(harness.read("home", 2), Content::Byte(byte));
        };
        harness.run(&[("home", 2, 0x11), ("os", 1, 0x77)]);
        held(0x11);
        let first = machine.snapshot(&home, Some("first".to_owned())).unwrap();
        harness.run_ending(&[("home", 2, 0x22)], &[Ends::Reboot, Ends::PowerOff]);
        machine.create_point(&name("calm"), None, &[]).unwrap();
        harness.run(&[("home", 2, 0x33)]);
        held(0x33);
        machine
            .rollback_to_point(&name("calm"), Kept::Preserve)
            .unwrap();
        held(0x22);
        machine.undo().unwrap();
        held(0x33);
        machine.remove_point(&name("calm")).unwrap();
        machine
            .rollback(&home, first.revision, Kept::Preserve)
            .unwrap();
        held(0x11);
        machine.undo().unwrap();
        held(0x33);

        let newer = harness.image("apps2", 0x66);
        machine
            .update(&name("apps"), &newer, Kept::Preserve)
            .unwrap();
        assert_eq!(harness.read("apps", 1), Content::Byte(0x66));
        let tools = harness.image("tools", 0x55);
        let spec = layer("tools", "apps", &tools.to_string());
        machine.add_layer(&spec, &tools).unwrap();
        harness.run(&[("tools", 1, 0x5a)]);
        machine
            .remove_layer(&name("tools"), Kept::Preserve)
            .unwrap();
        machine.undo().unwrap();
        machine.rejuvenate().unwrap();
        assert_eq!(harness.read("tools", 1), Content::Byte(0x55));
        held(0x33);

        // Staged while the guest runs, and taken at its next start.
        let (staged, base) = (harness.machine(), harness.image("apps3", 0x67));
        harness.run_with(move || {
            staged.update(&name("apps"), &base, Kept::Preserve).unwrap();
            staged.remove_layer(&name("tools"), Kept::Discard).unwrap();
        });
        harness.run(&[]);
        assert_eq!(harness.read("apps", 1), Content::Byte(0x67));
        assert!(files(&machine, "apps", "-s0").len() >= 3);
        held(0x33);

        // A session that is taken back.
        let options = RunOptions::default().revertible([home.clone()]);
        harness
            .run_during(options, &[("home", 2, 0x44)], &[Ends::PowerOff], || {})
            .unwrap();
        machine.decide(&[], std::slice::from_ref(&home)).unwrap();
        held(0x33);

        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = harness.store().prune(&options, &Ctx::none()).unwrap();
        assert!(pruned.failed.is_empty(), "{:?}", pruned.failed);
        held(0x33);
        for image in harness.store().images().list().unwrap() {
            let digest = image.unwrap().meta.digest;
            let verified = harness.store().images().verify(&digest, &Ctx::none());
            assert!(verified.unwrap().is_intact());
        }
        machine.delete().unwrap();
        fat.holds(harness.store());
    }
}

#[test]
fn folders_are_adopted_as_copies_and_as_moved() {
    for (fat, harness) in volumes() {
        let (store, home) = (harness.store(), name("home"));
        harness.run(&[("home", 2, 0x11)]);
        harness.machine().snapshot(&home, None).unwrap();
        harness.run(&[("home", 7, 0x12)]);
        let machines = store.home().join("machines");
        copy(&machines.join("desk"), &machines.join("lamp"));
        let new_id = AdoptOptions::new(Adoption::NewId);
        let lamp = store.adopt(&machines.join("lamp"), &new_id, &Ctx::none());
        let lamp = lamp.unwrap().machine;
        fs::rename(machines.join("desk"), machines.join("table")).unwrap();
        let moved = AdoptOptions::new(Adoption::Moved);
        let table = store.adopt(&machines.join("table"), &moved, &Ctx::none());
        let table = table.unwrap().machine;
        fat.holds(store);
        for machine in [lamp, table] {
            harness.run_of(&machine, &[("home", 5, 0x13)]);
            machine.snapshot(&home, None).unwrap();
            for (mib, byte) in [(2, 0x11), (5, 0x13), (7, 0x12)] {
                assert_eq!(harness.read_of(&machine, "home", mib), Content::Byte(byte));
            }
            fat.holds(store);
        }
    }
}

#[test]
fn every_product_is_translated_for() {
    for (fat, harness) in volumes() {
        harness.run(&[("home", 2, 0x11)]);
        harness.machine().snapshot(&name("home"), None).unwrap();
        harness.run(&[("home", 7, 0x12)]);
        let products = ["vmware", "virtualbox", "qemu"];
        for resolved in fat.translate(&harness.machine(), &products) {
            let heads = resolved.disks.iter().map(|disk| disk.chain.head().unwrap());
            assert!(heads.map(|head| head.extents.len()).eq([3, 3, 3]));
        }
        let spec: VmSpec = serde_json::from_value(json!({
            "stratavm": 1, "name": "leaf",
            "guest": {"os": "other", "composition": "disks"},
            "layer": [
                {"name": "os", "role": "os", "image": "os.raw"},
                {"name": "home", "role": "user-data", "size": "8 MiB"},
            ],
        }))
        .unwrap();
        let options = CreateOptions::default().family(Family::Hds);
        let store = harness.store();
        let leaf = store.create(&spec, &fat.folder, &options, &Ctx::none());
        let leaf = leaf.unwrap();
        leaf.snapshot(&name("os"), None).unwrap();
        fat.translate(&leaf, &["parallels"]);
        // An image in place would have one head that outgrows a file.
        let parallels = Product::named("parallels").unwrap();
        let registry = stratavm_builtin::registry();
        let backend = registry.get(&parallels).unwrap();
        let preview = Preview::new(&spec, &fat.folder, None, &Ctx::none()).unwrap();
        let preview = preview.on_volume(store.volume().clone());
        let error = preview.resolve(backend.as_ref(), &fat.folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.next_step().unwrap().starts_with("stratavm image add"));
        let mut spec = spec;
        let image = leaf.record().unwrap().layers[0].current().unwrap().image;
        spec.layers[0].image = Some(image.to_string());
        fat.preview(&spec, store);
    }
}

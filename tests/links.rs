//! Symbolic links planted in a store, at every place where it has a file or folder of its own, to a victim outside and
//! to nowhere: no operation changes, reads into the store, or removes what a link points to, and each says what is
//! wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]
#![cfg(unix)]

#[path = "common/report.rs"]
mod report;
#[path = "common/sim/mod.rs"]
mod sim;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sim::check;
use sim::model::{Kept, Op, Write};
use sim::world::World;
use stratavm::image::{AddOptions, add};
use stratavm::{Ctx, ErrorKind, Store};

const DESK: &str = "desk";

/// A store with a machine that ran, has a frozen delta and a configuration, and the places in it.
fn world(folder: &Path) -> World {
    let world = World::at(folder);
    let write = |layer: &str| Write {
        layer: layer.to_owned(),
        block: 1,
        pattern: 7,
    };
    let run = Op::run(vec![vec![write("os"), write("home")]]);
    let layer = "home".to_owned();
    for op in [Op::Create, run.clone(), Op::Snapshot { layer }, run] {
        world.try_perform(DESK, &op).unwrap();
    }
    let machine = world.machine_folder(DESK);
    for folder in ["products/fake/inner", "run"] {
        fs::create_dir_all(machine.join(folder)).unwrap();
    }
    for file in ["products/fake/machine.conf", "run/socket", "console.log"] {
        fs::write(machine.join(file), "a product's").unwrap();
    }
    world
}

/// Every file and folder of the machine, of one of its images, and of the store that says what is where.
fn places(world: &World) -> Vec<PathBuf> {
    let home = world.store.home();
    let machine = world.machine_folder(DESK);
    let record = world.store.machine(&DESK.parse().unwrap()).unwrap();
    let image = record.record().unwrap().layers[0].history.revisions[0].image;
    let image = world.store.image(&image).unwrap();
    let mut places = vec![
        home.join("machines"),
        home.join("images"),
        home.join("store.json"),
        home.join("store.lock"),
        machine.clone(),
        image.folder.clone(),
        image.folder.join("leases"),
        image.folder.join("image.json"),
        image.extents()[0].0.clone(),
    ];
    let mut left = vec![machine];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path.clone());
            }
            places.push(path);
        }
    }
    places
}

/// Everything that can be done to the machine and the store.
fn everything(folder: &Path) -> Vec<stratavm::Error> {
    let mut errors = Vec::new();
    let store = match Store::open(folder.join("home")) {
        Ok(store) => store,
        Err(error) => return vec![error],
    };
    let world = World {
        store,
        images: sim::world::noted(folder),
        pace: std::time::Duration::ZERO,
        violations: sim::product::Violations::default(),
    };
    let layer = |name: &str| name.to_owned();
    let ops = [
        Op::run(vec![Vec::new()]),
        Op::Snapshot {
            layer: layer("home"),
        },
        Op::Rollback {
            layer: layer("home"),
            to: Some(1),
            kept: Kept::Preserve,
        },
        Op::Update {
            layer: layer("os"),
            image: 2,
            kept: Kept::Preserve,
        },
        Op::Add {
            layer: layer("tools"),
            image: 3,
        },
        Op::Remove {
            layer: layer("cache"),
            kept: Kept::Preserve,
        },
        Op::Rejuvenate,
        Op::Create,
        Op::Delete,
    ];
    for op in ops {
        errors.extend(world.try_perform(DESK, &op).err());
    }
    let (images, volume) = (world.store.images(), world.store.volume());
    let disk = folder.join("image-2.raw");
    errors.extend(add::add(images, &disk, &AddOptions::default(), volume, &Ctx::none()).err());
    errors.extend(world.try_prune().err());
    errors
}

/// What a link points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// What stood there before, moved out of the store.
    Victim,
    /// Nothing.
    Nowhere,
}

#[test]
fn no_operation_follows_a_link_out_of_the_store() {
    let count = {
        let folder = sim::folder();
        places(&world(folder.path())).len()
    };
    assert!(count > 25, "{count} places");
    let mut tried = 0;
    for n in 0..count {
        for target in [Target::Victim, Target::Nowhere] {
            let folder = sim::folder();
            let place = {
                let world = world(folder.path());
                let mut places = places(&world);
                places.sort();
                places.swap_remove(n)
            };
            let victim = folder.path().join("victim");
            fs::rename(&place, &victim).unwrap();
            let before = check::files(&victim);
            let content = fs::read(&victim).ok();
            match target {
                Target::Victim => symlink(&victim, &place).unwrap(),
                Target::Nowhere => symlink(folder.path().join("nowhere"), &place).unwrap(),
            }
            let errors = everything(folder.path());
            let what = place.strip_prefix(folder.path()).unwrap().display();
            // Told without what the files hold.
            let after = check::files(&victim);
            let changed = before
                .iter()
                .find(|(path, bytes)| after.get(*path) != Some(bytes));
            let changed = changed.map(|(path, _)| path);
            assert_eq!(changed, None, "{what}");
            assert_eq!(before.len(), after.len(), "{what}");
            assert!(content == fs::read(&victim).ok(), "{what}");
            assert!(!folder.path().join("nowhere").exists(), "{what}");
            // An extent that is no file counts as missing.
            let told = [ErrorKind::Malformed, ErrorKind::Mismatch];
            assert!(
                errors.iter().any(|e| told.contains(&e.kind())),
                "{what}: {errors:?}"
            );
            tried += 1;
        }
    }
    report::counted("links", "planted links", tried, None);
}

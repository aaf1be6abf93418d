//! Machine folders that somebody else made to do harm: each is refused by name, and the store stays
//! byte for byte what it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

mod cases;
#[path = "../common/machine.rs"]
mod harness;
#[path = "../common/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use cases::{CASES, LINKS, record};
use harness::{Harness, name};
use stratavm::machine::{AdoptOptions, Adoption};
use stratavm::store::{PruneMode, PruneOptions};
use stratavm::{Ctx, Error};
use tree::{copy_and, is_lock, walk};

fn copy(from: &Path, to: &Path) {
    copy_and(from, to, &|_, made| {
        if !made.is_dir() {
            // A stranger's files are as a stranger likes them.
            fs::set_permissions(made, fs::Permissions::from_mode(0o666)).unwrap();
        }
    });
}

/// Every file and folder below a folder, by its path and content; locks are empty.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let seen = |path: PathBuf| {
        let content = match path.is_dir() {
            true => Vec::new(),
            false => fs::read(&path).unwrap(),
        };
        (path, content)
    };
    let found = walk(folder).into_iter();
    found
        .filter(|path| path.is_dir() || !is_lock(path))
        .map(seen)
        .collect()
}

/// What an error says, with its causes.
fn all(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!("\n{error}"));
        cause = error.source();
    }
    text
}

#[test]
fn every_hostile_folder_is_refused_by_name_and_the_store_stays_as_it_was() {
    let (here, there) = (Harness::new(), Harness::new());
    there.run(&[("home", 1, 0x11)]);
    there.machine().snapshot(&name("home"), None).unwrap();
    there.run(&[("home", 2, 0x12)]);
    let good = there.machine().folder();
    assert!(
        good.join("layers/home/head-3.vmdk").exists(),
        "the cases name it"
    );
    let before = snapshot(here.store().home());
    for (index, (what, harm, words)) in CASES.into_iter().chain(LINKS).enumerate() {
        for adoption in [Adoption::NewId, Adoption::Moved] {
            let folder = here.folder().join(format!("bad-{index}-{adoption:?}"));
            copy(&good, &folder);
            harm(&folder);
            let options = AdoptOptions::new(adoption).name(name("lamp"));
            let error = match here.store().adopt(&folder, &options, &Ctx::none()) {
                Ok(adopted) => panic!("{what}: {adopted:?}"),
                Err(error) => error,
            };
            let said = all(&error);
            assert!(said.contains(words), "{what}: {said}");
            assert!(said.contains(&format!("bad-{index}")), "{what}: {said}");
            let after = snapshot(here.store().home());
            assert!(before == after, "{what}: {:?}", after.keys());
            fs::remove_dir_all(&folder).unwrap();
        }
    }
    // The same folder without harm is taken.
    for (adoption, called) in [(Adoption::NewId, "lamp"), (Adoption::Moved, "sofa")] {
        let options = AdoptOptions::new(adoption).name(name(called));
        let adopted = here.store().adopt(&good, &options, &Ctx::none()).unwrap();
        assert_eq!(
            here.read_of(&adopted.machine, "home", 2),
            harness::Content::Byte(0x12)
        );
    }
}

#[test]
fn hard_links_into_a_folder_are_refused() {
    let (here, there) = (Harness::new(), Harness::new());
    there.run(&[("home", 1, 0x11)]);
    let folder = here.store().home().join("machines/lamp");
    copy(&there.machine().folder(), &folder);
    let head = there.head("home");
    let inside = folder.join("layers/home").join(head.file_name().unwrap());
    fs::hard_link(&inside, here.folder().join("second-name")).unwrap();
    let options = AdoptOptions::new(Adoption::Moved);
    let error = here
        .store()
        .adopt(&folder, &options, &Ctx::none())
        .unwrap_err();
    assert!(all(&error).contains("hard link"), "{}", all(&error));
}

#[test]
fn files_of_this_host_do_not_come_in_by_a_drive() {
    let (here, there) = (Harness::new(), Harness::new());
    let folder = here.folder().join("stick");
    copy(&there.machine().folder(), &folder);
    record(&folder, |r| {
        r["spec"]["hardware"]["cdrom"] = serde_json::json!([{"image": "/etc/shadow"}]);
    });
    let options = AdoptOptions::new(Adoption::NewId).name(name("lamp"));
    let adopted = here.store().adopt(&folder, &options, &Ctx::none()).unwrap();
    assert!(
        adopted
            .machine
            .record()
            .unwrap()
            .spec
            .hardware
            .cdrom
            .is_empty()
    );
    assert!(
        adopted
            .notes
            .iter()
            .any(|note| note.contains("/etc/shadow")),
        "{:?}",
        adopted.notes
    );
}

#[test]
fn a_part_of_the_store_is_no_machine() {
    let harness = Harness::new();
    let home = harness.store().home().to_owned();
    let options = AdoptOptions::new(Adoption::NewId).name(name("lamp"));
    for folder in [
        "",
        "images",
        "machines",
        "machines/.ids",
        "machines/desk/layers",
    ] {
        let folder = home.join(folder);
        let error = harness
            .store()
            .adopt(&folder, &options, &Ctx::none())
            .unwrap_err();
        assert!(all(&error).contains("part of the store"), "{}", all(&error));
    }
    let above = harness
        .store()
        .adopt(harness.folder(), &options, &Ctx::none());
    assert!(all(&above.unwrap_err()).contains("part of the store"));
    let link = harness.folder().join("link");
    symlink(home.join("machines/desk"), &link).unwrap();
    let error = harness
        .store()
        .adopt(&link, &options, &Ctx::none())
        .unwrap_err();
    assert!(all(&error).contains("link"), "{}", all(&error));
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    for place in ["", "layers", "layers/home", "products"] {
        let harness = Harness::new();
        harness.run(&[("home", 1, 0x11)]);
        let machine = harness.machine();
        let (folder, aside) = (machine.folder().join(place), harness.folder().join("aside"));
        fs::create_dir_all(&folder).unwrap();
        fs::rename(&folder, &aside).unwrap();
        // `join` of nothing ends in a separator, through which a link cannot be made.
        let folder: PathBuf = folder.components().collect();
        symlink(&aside, &folder).unwrap();
        let before = snapshot(&aside);
        for error in [
            machine.snapshot(&name("home"), None).unwrap_err(),
            machine.rejuvenate().unwrap_err(),
            machine.clone().delete().unwrap_err(),
        ] {
            assert!(
                all(&error).contains("symbolic link"),
                "{place}: {}",
                all(&error)
            );
        }
        let checked = harness
            .store()
            .fsck(&Default::default(), &Ctx::none())
            .unwrap();
        assert!(!checked.is_sound(), "{place}: {checked:?}");
        let options = PruneOptions::default().mode(PruneMode::Remove);
        harness.store().prune(&options, &Ctx::none()).unwrap();
        assert!(before == snapshot(&aside), "{place}");
        harness.check_images();
    }
}

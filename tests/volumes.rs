//! Machines on volumes with small files: heads in extents, moved to other volumes and back. On real files, with a
//! `Volume` that says what FAT32 says in small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;

use std::path::PathBuf;

use harness::{Content, Harness, name};
use stratavm::ErrorKind;
use stratavm::machine::Kept;
use stratavm_disk::Volume;

const MIB: u64 = 1 << 20;

/// Files of 4 MiB less 1 byte: for disks of 8 MiB what FAT32 is for disks of 8 GiB.
fn small() -> Volume {
    let mut volume = Volume::default();
    volume.max_file = Some(4 * MIB - 1);
    volume
}

/// The files of a layer whose names hold `part`.
fn files(harness: &Harness, layer: &str, part: &str) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(harness.layer_folder(layer)).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().contains(part));
    files.sort();
    files
}

fn largest(harness: &Harness) -> u64 {
    fn below(folder: &std::path::Path) -> u64 {
        let entries = std::fs::read_dir(folder).unwrap();
        let size = |path: PathBuf| match path.is_dir() {
            true => below(&path),
            false => path.metadata().unwrap().len(),
        };
        entries
            .map(|entry| size(entry.unwrap().path()))
            .max()
            .unwrap_or(0)
    }
    below(harness.store().home())
}

#[test]
fn heads_and_images_stay_below_the_largest_file() {
    let harness = Harness::made_on(small());
    assert_eq!(files(&harness, "home", "-s0").len(), 3);
    for image in harness.store().images().list().unwrap() {
        assert_eq!(image.unwrap().meta.extents.len(), 4);
    }
    let writes: Vec<_> = (0..8).map(|mib| ("home", mib, 0x40 + mib as u8)).collect();
    harness.run(&writes);
    harness.run(&[("os", 7, 0x99)]);
    for mib in 0..8 {
        assert_eq!(harness.read("home", mib), Content::Byte(0x40 + mib as u8));
    }
    assert_eq!(harness.read("os", 7), Content::Byte(0x99));
    assert_eq!(harness.read("os", 5), Content::Byte(0x05));
    assert!(largest(&harness) < 4 * MIB, "a full head is cut as well");
    harness.check_images();
}

#[test]
fn every_layer_operation_works_on_split_heads() {
    let harness = Harness::made_on(small());
    let machine = harness.machine();
    let home = name("home");
    harness.run(&[("home", 2, 0x11), ("apps", 1, 0x77)]);
    let first = machine.snapshot(&home, None).unwrap().revision;
    // Frozen for good: descriptor and extents.
    let frozen = harness.frozen("home");
    assert_eq!(frozen.len(), 4);
    for file in &frozen {
        assert!(file.metadata().unwrap().permissions().readonly());
    }
    harness.run(&[("home", 2, 0x22)]);
    machine.snapshot(&home, None).unwrap();
    assert_eq!(harness.read("home", 2), Content::Byte(0x22));
    machine.rollback(&home, first, Kept::Preserve).unwrap();
    assert_eq!(harness.read("home", 2), Content::Byte(0x11));
    harness.run(&[("home", 3, 0x33)]);
    assert_eq!(harness.read("home", 3), Content::Byte(0x33));
    let newer = harness.image("apps2", 0x66);
    machine
        .update(&name("apps"), &newer, Kept::Preserve)
        .unwrap();
    assert_eq!(harness.read("apps", 1), Content::Byte(0x66));
    machine.rejuvenate().unwrap();
    harness.run(&[]);
    assert_eq!(harness.read("home", 2), Content::Byte(0x11));
    // What nobody refers to is gone, extents too.
    assert_eq!(files(&harness, "os", "head-").len(), 4);
    machine.remove_layer(&home, Kept::Discard).unwrap();
    assert!(!harness.layer_folder("home").exists());
    harness.check_images();
}

#[test]
fn a_machine_that_moves_between_volumes_keeps_what_it_is() {
    let harness = Harness::made_on(small());
    harness.run(&[("home", 1, 0x11)]);
    // On a large volume: what is split stays split, what is new is one file.
    let harness = harness.on_volume(Volume::default());
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
    harness.run(&[("home", 2, 0x22)]);
    assert_eq!(files(&harness, "home", "-s0").len(), 3);
    assert_eq!(files(&harness, "os", "-s0").len(), 0);
    harness.machine().snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 3, 0x33)]);
    let one = files(&harness, "home", "head-").pop().unwrap();
    assert_eq!(harness.head("home"), one);
    // Back: a head that could outgrow the volume is not started on, and a snapshot is all it takes.
    let harness = harness.on_volume(small());
    let error = harness.try_run(&[("home", 4, 0x44)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error
            .next_step()
            .unwrap()
            .starts_with("stratavm snapshot desk home")
    );
    harness.machine().snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 4, 0x44)]);
    for (mib, byte) in [(1, 0x11), (2, 0x22), (3, 0x33), (4, 0x44)] {
        assert_eq!(harness.read("home", mib), Content::Byte(byte));
    }
    assert_eq!(harness.frozen("home").len(), 4 + 1);
    harness.check_images();
}

#[test]
fn a_descriptor_that_leads_elsewhere_is_not_started_on() {
    let harness = Harness::made_on(small());
    harness.run(&[("home", 1, 0x11)]);
    let head = harness.head("home");
    let good = std::fs::read(&head).unwrap();
    let end = good.iter().position(|b| *b == 0).unwrap_or(good.len());
    let text = String::from_utf8(good[..end].to_vec()).unwrap();
    let extent = files(&harness, "home", "-s002").pop().unwrap();
    let extent = extent.file_name().unwrap().to_str().unwrap();
    for bad in ["../os/secret.vmdk", "/etc/passwd"] {
        std::fs::write(&head, text.replace(extent, bad)).unwrap();
        let error = harness.try_run(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
    std::fs::write(&head, text).unwrap();
    harness.run(&[]);
    assert_eq!(harness.read("home", 1), Content::Byte(0x11));
}

//! Partition tables that the store writes, read by util-linux: wrapped images, blank layers, moved tables and session
//! disks. What is in the partitions is tested where they are made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::report;
use serde_json::Value;
use stratavm::identity::Identity;
use stratavm::image::{AddOptions, Blank, Image, ImageRoot, Wrap, add};
use stratavm::linux::{FileSystem, ManifestLine, SessionDisk};
use stratavm::spec::{Name, Role};
use stratavm_disk::{Ctx, Durability, ImageSpec, RawSpec, Volume, create};
use tempfile::TempDir;
use uuid::Uuid;

const SECTORS: u64 = 2048;
const LINUX_DATA: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

fn store() -> (TempDir, ImageRoot) {
    let dir = tempfile::tempdir().unwrap();
    let root = ImageRoot::create(dir.path().join("images")).unwrap();
    (dir, root)
}

/// Partitions as `(name, first MiB, MiB)`, or `None` where sfdisk is missing. Whatever sfdisk complains about fails.
fn read(what: &str, path: &Path) -> Option<Vec<(String, u64, u64)>> {
    let sfdisk = ["sfdisk", "/usr/sbin/sfdisk", "/sbin/sfdisk"]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok());
    let Some(sfdisk) = sfdisk else {
        report::skip("sfdisk", what, "not installed");
        return None;
    };
    let run = |option: &str| {
        let mut command = Command::new(sfdisk);
        let output = command
            .arg(option)
            .arg(path)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let complaints = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && complaints.is_empty(),
            "{complaints}"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run("--verify").contains("No errors detected"));
    let table: Value = serde_json::from_str(&run("--json")).unwrap();
    let table = &table["partitiontable"];
    assert_eq!(table["label"], "gpt");
    let sectors = fs::metadata(path).unwrap().len() / 512;
    assert_eq!(
        table["lastlba"],
        sectors - 34,
        "the backup table is at the end"
    );
    let partitions = table["partitions"].as_array().unwrap().iter();
    let found = partitions.map(|partition| {
        assert_eq!(partition["type"], LINUX_DATA);
        let number = |key: &str| partition[key].as_u64().unwrap();
        let name = partition["name"].as_str().unwrap().to_owned();
        (name, number("start") / SECTORS, number("size") / SECTORS)
    });
    let found = found.collect();
    report::ran("sfdisk", what);
    Some(found)
}

fn extent(image: &Image) -> PathBuf {
    image.extents().remove(0).0
}

/// What `image.json` says of the partitions.
fn said(image: &Image) -> Vec<(String, u64, u64)> {
    let partitions = image.meta.partitions.iter();
    partitions
        .map(|p| (p.name.to_string(), p.offset >> 20, p.length >> 20))
        .collect()
}

fn squashfs() -> Vec<u8> {
    let mut bytes = vec![5; 1_300_000];
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28..30].copy_from_slice(&[4, 0]);
    bytes[40..48].copy_from_slice(&1_300_000_u64.to_le_bytes());
    bytes
}

#[test]
fn wrapped_and_moved_tables() {
    let (dir, root) = store();
    let add = |path: &Path, options: &AddOptions| {
        let added = add::add(&root, path, options, &Volume::default(), &Ctx::none());
        added.unwrap().image
    };
    let source = dir.path().join("apps.squashfs");
    fs::write(&source, squashfs()).unwrap();
    let mut options = AddOptions::default();
    let name = Name::new("office").unwrap();
    options.wrap = Some(Wrap {
        fs: FileSystem::Squashfs,
        role: Role::Apps,
        name,
    });
    let wrapped = add(&source, &options);
    let Some(found) = read("wrapped image", &extent(&wrapped)) else {
        return;
    };
    assert_eq!(found, said(&wrapped));
    assert_eq!((found[0].1, found[0].2), (1, 2));

    let odd = dir.path().join("odd.raw");
    let mut bytes = fs::read(extent(&wrapped)).unwrap();
    bytes.resize(bytes.len() + 700_000, 0);
    fs::write(&odd, bytes).unwrap();
    let moved = add(&odd, &AddOptions::default());
    assert_eq!(moved.meta.size, 5 << 20);
    assert_eq!(read("moved table", &extent(&moved)).unwrap(), found);
}

#[test]
fn blank_layers_and_session_disks() {
    let (dir, root) = store();
    let name = Name::new("home").unwrap();
    for size in [3 << 20, 8 << 30, 1 << 40] {
        let blank = Blank::layer(Role::UserData, &name, size).unwrap();
        let image = blank.store(&root, &Volume::default(), &Ctx::none());
        let image = image.unwrap().image;
        if let Some(found) = read("blank layer", &extent(&image)) {
            assert_eq!(found, said(&image));
            assert_eq!((found[0].1, found[0].2), (1, (size >> 20) - 2));
        }
    }
    let identity = Identity::Machine(Uuid::from_u128(9));
    let id = "0123456789abcdef".parse().unwrap();
    let os = ManifestLine::new(Role::Os, id, FileSystem::Ext4, Name::new("os").unwrap());
    let session = SessionDisk::new(identity, 1, 4 << 30, vec![os]).unwrap();
    let path = dir.path().join("session.raw");
    let spec = ImageSpec::Raw(RawSpec {
        size: session.size,
        patches: session.patches,
    });
    create(&path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
    if let Some(found) = read("session disk", &path) {
        let [manifest, area] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert!(manifest.0.starts_with("strata.manifest.") && manifest.1 == 1);
        assert!(area.0.starts_with("strata.session.") && (area.1, area.2) == (2, 4093));
        assert!(
            session
                .manifest
                .contains(area.0.rsplit('.').next().unwrap())
        );
    }
}

//! `.hdd` bundles that the engine made and wrote guest data to, level by level, read whole by parsers that are not ours:
//! three levels with parts of clusters, whole ones and zeros over data. Writing by turns with QEMU is tested in
//! `disk/tests/qemu_hds.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../disk/tests/common/bundle.rs"]
mod bundle;
mod common;

use std::fs;
use std::path::Path;

use bundle::{Write, fill, ids, make, of, snapshot};
use common::readers::{Reader, pieces_digest};
use stratavm_disk::hdd::NewBundle;
use stratavm_disk::{Access, Durability};

const MIB: u64 = 1 << 20;
/// dissect and the tests' digests read pieces of 1 MiB.
const SECTORS: u64 = 12 * 2048;

fn writes() -> Vec<Write> {
    let write = |level, at, len, with| Write {
        level,
        at,
        len,
        with,
    };
    vec![
        write(0, 0, 5 * MIB, 1),
        write(0, SECTORS * 512 - 5, 5, 2),
        write(1, MIB + 100, 7, 3),
        write(1, 2 * MIB, MIB, 0),
        write(1, 6 * MIB - 9000, 2 * MIB, 4),
        write(2, 10, MIB, 0),
        write(2, 2 * MIB + 9, 4096, 5),
        // A cluster in the middle of the file is given before those below it.
        write(2, 9 * MIB, 3, 6),
        write(2, 8 * MIB, 3, 7),
    ]
}

/// The digest that readers must find for these bytes as a disk.
fn digest(folder: &Path, disk: &[u8]) -> String {
    let path = folder.join("expected.raw");
    fs::write(&path, disk).unwrap();
    pieces_digest(&[(path, disk.len() as u64)]).unwrap()
}

fn read_by(readers: &[Reader], what: &str, folder: &Path, bundle: &Path, disk: &[u8]) {
    let expected = digest(folder, disk);
    for reader in readers {
        let Some(mut seen) = reader.accepts(what, &[bundle]) else {
            continue;
        };
        let seen = seen.remove(bundle).unwrap();
        assert_eq!(seen["sha256"], expected.as_str(), "{reader:?}: {what}");
        assert_eq!(seen["size"], disk.len() as u64, "{reader:?}: {what}");
    }
}

fn trial(new: &NewBundle, readers: &[Reader], what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = make(dir.path(), new);
    let mut disk = fill(&path, new, &writes()).pop().unwrap();
    read_by(readers, what, dir.path(), &path, &disk);

    // A second session: in place, into a hole, and over the end of a storage.
    let leaf = *ids(new).last().unwrap();
    let chain = snapshot(&path, leaf, Access::Write);
    for (at, len) in [
        (2 * MIB + 50, 20_000),
        (10 * MIB + 1, 1),
        (5 * MIB - 30, 60),
    ] {
        chain.write_at(&vec![9; len], at).unwrap();
        disk[at as usize..][..len].fill(9);
    }
    chain.close(Durability::Synced).unwrap();
    read_by(readers, what, dir.path(), &path, &disk);
}

#[test]
fn three_levels_are_read_whole() {
    use Reader::{DissectHdd, Libphdi, Ploop, QemuHds};
    let new = of("os é", SECTORS, 3, None);
    trial(
        &new,
        &[DissectHdd, QemuHds, Libphdi, Ploop],
        "hdd bundle, written",
    );
}

#[test]
fn three_levels_that_are_split_are_read_whole() {
    // None of the others reads a split bundle with snapshots.
    let new = of("os é", SECTORS, 3, Some(5 * 2048));
    trial(&new, &[Reader::DissectHdd], "split hdd bundle, written");
}

//! `.hdd` bundles: chains of several levels, split and whole, over plain roots, every snapshot of their trees; and what
//! is refused in them.
#![allow(clippy::unwrap_used, unused_crate_dependencies)]

#[path = "common/bundle.rs"]
mod bundle;

use bundle::{Write, content, fill, id, ids, make, of, snapshot};
use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::hdd::{DiskDescriptor, Image, ImageKind, LEAF_GUID, Shot, open_snapshot};
use stratavm_disk::{Access, Below, Chain, Closed, Durability, ErrorKind, Format, Kind, Result};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
/// Odd, and so is each storage where it is split.
const SECTORS: u64 = 9 * 2048 + 77;
const SPLIT: u64 = 4 * 2048 + 5;

/// Three levels: parts of clusters, whole ones, over the edges of storages and of the disk, zeros over data.
fn writes() -> Vec<Write> {
    let write = |level, at, len, with| Write {
        level,
        at,
        len,
        with,
    };
    vec![
        write(0, 0, 3 * MIB, 1),
        write(0, SPLIT * 512 - 5000, 10_000, 2),
        write(0, SECTORS * 512 - 1, 1, 3),
        write(1, MIB + 100, 7, 4),
        write(1, 2 * MIB, MIB, 0),
        write(1, 6 * MIB, 2 * MIB, 5),
        write(2, 10, MIB, 0),
        write(2, 2 * MIB + 9, 4096, 6),
        write(2, SECTORS * 512 - 3000, 2999, 7),
    ]
}

fn open(path: &Path, access: Access) -> Result<Chain> {
    Chain::open(path, Format::Hdd, access, &Below::beside(path).unwrap())
}

#[test]
fn every_level_of_a_bundle_reads_as_it_was_left() {
    for split in [None, Some(SPLIT)] {
        let dir = tempfile::tempdir().unwrap();
        let new = of("os é", SECTORS, 3, split);
        let path = make(dir.path(), &new);
        let contents = fill(&path, &new, &writes());
        for (id, want) in ids(&new).into_iter().zip(&contents) {
            assert!(content(&snapshot(&path, id, Access::Read)) == *want, "{id}");
        }
        // The leaf, by the folder and by the descriptor.
        for path in [path.clone(), path.join("DiskDescriptor.xml")] {
            let chain = open(&path, Access::Read).unwrap();
            assert_eq!(chain.depth(), 3);
            assert!(content(&chain) == contents[2]);
        }
        let formats: Vec<_> = open(&path, Access::Read)
            .unwrap()
            .images()
            .map(|(_, format)| format)
            .collect();
        let format = split.map_or(Format::Hds, |_| Format::Hdd);
        assert_eq!(formats, [format; 3]);
    }
}

#[test]
fn zeros_over_data_below_are_a_cluster_that_is_a_hole_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let new = of("d", 64 * 2048, 2, None);
    let path = make(dir.path(), &new);
    let write = |level, at, len, with| Write {
        level,
        at,
        len,
        with,
    };
    let data = write(0, MIB, 20 * MIB, 9);
    // What has no data below needs no cluster.
    let (zeroed, none) = (write(1, MIB, 20 * MIB, 0), write(1, 40 * MIB, 9 * MIB, 0));
    let writes = [data, zeroed, none];
    fill(&path, &new, &writes);
    let chain = open(&path, Access::Read).unwrap();
    let mut of_leaf = Vec::new();
    chain
        .map(0, 64 * MIB, &mut |range| {
            if range.depth == Some(0) {
                of_leaf.push((range.offset, range.len, range.kind));
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(of_leaf, [(MIB, 20 * MIB, Kind::Zero)]);
    let leaf = path.join(format!("d.hdd.0.{{{LEAF_GUID}}}.hds"));
    assert_eq!(fs::metadata(leaf).unwrap().len(), 21 * MIB);
}

/// A descriptor that a test changes.
struct Changed {
    _dir: tempfile::TempDir,
    path: PathBuf,
    disk: DiskDescriptor,
}

impl Changed {
    fn new(change: impl FnOnce(&mut DiskDescriptor, &Path)) -> Changed {
        let dir = tempfile::tempdir().unwrap();
        let path = make(dir.path(), &of("d", 8 * 2048, 2, Some(4 * 2048)));
        let xml = path.join("DiskDescriptor.xml");
        let mut disk = DiskDescriptor::parse(&fs::read(&xml).unwrap(), &xml).unwrap();
        change(&mut disk, &path);
        fs::write(&xml, disk.to_xml().unwrap()).unwrap();
        Changed {
            _dir: dir,
            path,
            disk,
        }
    }

    fn open(&self, access: Access) -> Result<Chain> {
        open(&self.path, access)
    }
}

#[test]
fn files_that_do_not_fit_the_descriptor_are_refused() {
    use ErrorKind::{Invalid, Malformed, Mismatch, NotFound};
    type Change = fn(&mut DiskDescriptor, &Path);
    let cases: &[(&str, Change, ErrorKind)] = &[
        (
            "a file that is not there",
            |disk, _| disk.storages[1].images[0].file = "no.hds".into(),
            NotFound,
        ),
        (
            "a file elsewhere",
            |disk, _| disk.storages[0].images[1].file = "../../../../etc/passwd".into(),
            Invalid,
        ),
        (
            "an absolute path elsewhere",
            |disk, _| disk.storages[0].images[1].file = "/etc/passwd".into(),
            Invalid,
        ),
        (
            "a storage of another size",
            |disk, _| {
                disk.storages[0].end -= 1;
                disk.storages[1].start -= 1;
            },
            Mismatch,
        ),
        (
            "another cluster size",
            |disk, _| disk.storages[1].blocksize = 1024,
            Mismatch,
        ),
        (
            "a parent that is the leaf's own file",
            |disk, _| disk.storages[0].images[1].file = disk.storages[0].images[0].file.clone(),
            Malformed,
        ),
        (
            "one file for two storages",
            |disk, _| disk.storages[1].images[0].file = disk.storages[0].images[0].file.clone(),
            Malformed,
        ),
        (
            "a plain file that is too short",
            |disk, path| {
                fs::write(path.join("short.raw"), [0; 512]).unwrap();
                let root = Uuid::from_u128(0xabc1);
                let of_root = |image: &&mut Image| image.guid == root;
                let image = disk.storages[1].images.iter_mut().find(of_root).unwrap();
                image.kind = ImageKind::Plain;
                image.file = "short.raw".into();
            },
            Malformed,
        ),
    ];
    for (what, change, kind) in cases {
        for access in [Access::Read, Access::Write] {
            let error = Changed::new(change).open(access).err().unwrap();
            let one_of = [*kind, ErrorKind::NotFound]; // where there is no /etc/passwd
            assert!(one_of.contains(&error.kind()), "{what}: {error}");
        }
    }
    let good = Changed::new(|_, _| {});
    assert!(good.open(Access::Write).is_ok());
    let closed = Chain::open(&good.path, Format::Hdd, Access::Read, &Closed);
    assert_eq!(closed.err().unwrap().kind(), Invalid);
}

#[test]
fn a_plain_root_elsewhere_is_read_and_only_a_leaf_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().join("golden.raw");
    let mut want = vec![0x5a; 8 << 20];
    fs::write(&golden, &want).unwrap();
    let changed = Changed::new(|disk, _| {
        // The root in two raw files: one absolute, as linked clones have it, the other relative.
        let half = dir.path().join("second half.raw");
        fs::write(&half, vec![0x5a; 4 << 20]).unwrap();
        for (storage, file) in disk.storages.iter_mut().zip([&golden, &half]) {
            storage.images[1].kind = ImageKind::Plain;
            storage.images[1].file = file.to_str().unwrap().to_owned();
        }
    });
    let gate = Below::new(&std::env::temp_dir()).unwrap();
    let chain = Chain::open(&changed.path, Format::Hdd, Access::Write, &gate).unwrap();
    chain.write_at(b"over the edge", 4 * MIB - 5).unwrap();
    want[4 * MIB as usize - 5..][..13].copy_from_slice(b"over the edge");
    assert!(content(&chain) == want);
    chain.close(Durability::Synced).unwrap();
    let root = open_snapshot(&changed.path, id(1), Access::Read, &gate).unwrap();
    assert!(content(&root).iter().all(|b| *b == 0x5a));
    let outside = Below::beside(&changed.path).unwrap();
    let refused = Chain::open(&changed.path, Format::Hdd, Access::Read, &outside);
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn branches_are_opened_by_their_ids() {
    let branch = Uuid::from_u128(0xb0b);
    let changed = Changed::new(|disk, path| {
        for (n, storage) in disk.storages.iter_mut().enumerate() {
            let file = format!("branch {n}.hds");
            fs::copy(path.join(&storage.images[0].file), path.join(&file)).unwrap();
            storage.images.push(Image {
                guid: branch,
                file,
                ..storage.images[0].clone()
            });
        }
        disk.shots.push(Shot {
            guid: branch,
            parent: Some(id(1)),
        });
    });
    let write = |id, at, with| {
        let chain = snapshot(&changed.path, id, Access::Write);
        chain.write_at(&[with], at).unwrap();
        chain.close(Durability::Unsynced).unwrap();
    };
    write(id(1), 0, 1);
    write(branch, 5 * MIB, 2);
    write(LEAF_GUID, 5 * MIB, 3);
    let seen = |id| {
        let all = content(&snapshot(&changed.path, id, Access::Read));
        (all[0], all[5 * MIB as usize])
    };
    assert_eq!(seen(id(1)), (1, 0));
    assert_eq!(seen(branch), (1, 2));
    assert_eq!(seen(LEAF_GUID), (1, 3));
    assert_eq!(changed.disk.chain_of(branch).unwrap(), [branch, id(1)]);

    let unknown = open_snapshot(&changed.path, Uuid::from_u128(1), Access::Read, &Closed);
    assert_eq!(unknown.err().unwrap().kind(), ErrorKind::NotFound);

    // A leaf that others lie on is no leaf.
    let xml = changed.path.join("DiskDescriptor.xml");
    let text = fs::read_to_string(&xml).unwrap();
    let top = format!("<Snapshots><TopGUID>{{{}}}</TopGUID>", id(1));
    fs::write(&xml, text.replace("<Snapshots>", &top)).unwrap();
    assert_eq!(content(&changed.open(Access::Read).unwrap())[0], 1);
    let error = changed.open(Access::Write).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}

#[test]
fn deltas_open_without_their_descriptor_in_the_order_given() {
    let dir = tempfile::tempdir().unwrap();
    let new = of("d", SECTORS, 3, None);
    let path = make(dir.path(), &new);
    let contents = fill(&path, &new, &writes());
    let files: Vec<_> = ids(&new)
        .iter()
        .map(|id| path.join(format!("d.hdd.0.{{{id}}}.hds")))
        .collect();
    let images: Vec<_> = files.iter().map(|f| (f.as_path(), Format::Hds)).collect();
    for n in 0..3 {
        let chain = Chain::open_all(&images[..=n], Access::Read, &Closed).unwrap();
        assert!(content(&chain) == contents[n]);
    }
    // The same file twice is no chain.
    let twice = [images[0], images[0]];
    let error = Chain::open_all(&twice, Access::Read, &Closed)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    // Nor are disks of two sizes.
    let other = make(dir.path(), &of("other", SECTORS + 1, 1, None));
    let other = other.join(format!("other.hdd.0.{{{LEAF_GUID}}}.hds"));
    let pair = [images[0], (other.as_path(), Format::Hds)];
    let error = Chain::open_all(&pair, Access::Read, &Closed).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}

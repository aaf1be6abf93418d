//! VDI images written by hand and by this crate: layouts that VirtualBox makes and this crate does not, ids and links,
//! what a killed writer left behind, and images that are refused.
#![allow(clippy::unwrap_used)]

mod common;

use common::{make, vdi};
use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::vdi::{Allocation, Ids, ParentIds, relink, renew_modification};
use stratavm_disk::{
    Access, Chain, Closed, Durability, ErrorKind, Format, ImageSpec, Kind, Patch,
    has_allocated_blocks, info, probe, verify,
};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const FREE: u32 = u32::MAX;
const ZERO: u32 = u32::MAX - 1;
/// Offsets of fields, and of the map in images of this crate.
const ALLOCATED: usize = 0x184;
const MAP: usize = 1 << 20;
const DATA: usize = 2 << 20;

fn open(path: &Path, access: Access) -> stratavm_disk::Result<Chain> {
    Chain::open(path, Format::Vdi, access, &Closed)
}

fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// An image of 6 blocks, the first three of which are written in another order; its bytes and its content.
fn image(folder: &Path) -> (PathBuf, Vec<u8>, Vec<u8>) {
    let path = folder.join("x.vdi");
    let spec = vdi(5 * 2048 + 9, 1, None);
    make(&path, &ImageSpec::Vdi(spec)).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    for block in [2, 0, 1] {
        let bytes = vec![block as u8 + 1; 1 << 20];
        chain.write_at(&bytes, block * MIB).unwrap();
    }
    let want = content(&chain);
    chain.close(Durability::Unsynced).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(word(&bytes, ALLOCATED), 3);
    assert_eq!([0, 4, 8].map(|n| word(&bytes, MAP + n)), [1, 2, 0]);
    (path, bytes, want)
}

#[test]
fn a_new_image_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.vdi");
    let spec = vdi(2048, 7, Some(Uuid::from_u128(6)));
    make(&path, &ImageSpec::Vdi(spec)).unwrap();
    assert_eq!(probe(&path).unwrap(), Format::Vdi);
    let found = serde_json::to_value(info(&path).unwrap()).unwrap();
    assert_eq!(
        (&found["format"], &found["size"]),
        (&"vdi".into(), &MIB.into())
    );
    let want = serde_json::json!({
        "image-type": "differencing",
        "block": MIB,
        "blocks-allocated": 0,
        "uuid": "00000000-0000-0000-0000-000000000007",
        "modification-uuid": "00000000-0000-0000-0000-000000010007",
        "parent-uuid": "00000000-0000-0000-0000-000000000006",
        "parent-modification-uuid": "00000000-0000-0000-0000-000000010006",
    });
    assert_eq!(found["vdi"], want);
    assert!(!has_allocated_blocks(&path, Format::Vdi).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    put(&mut bytes, MAP, ZERO);
    fs::write(&path, &bytes).unwrap();
    assert!(has_allocated_blocks(&path, Format::Vdi).unwrap());
}

#[test]
fn specs_that_cannot_be_made_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.vdi");
    let mut nil = vdi(1, 1, None);
    nil.ids.modification = Uuid::nil();
    let mut fixed_child = vdi(1, 1, Some(Uuid::from_u128(9)));
    fixed_child.allocation = Allocation::Fixed;
    let mut beyond = vdi(3, 1, None);
    beyond.patches.push(Patch {
        offset: 3 * 512 - 1,
        bytes: vec![1, 2],
    });
    let invalid = ErrorKind::Invalid;
    for (spec, kind) in [
        (vdi(0, 1, None), invalid),
        (vdi(1, 0, None), invalid),
        (vdi(1, 1, Some(Uuid::nil())), invalid),
        (nil, invalid),
        (fixed_child, invalid),
        (beyond, invalid),
        (vdi((1 << 37) + 1, 1, None), ErrorKind::Limit),
        (vdi(u64::MAX, 1, None), ErrorKind::Limit),
    ] {
        let error = make(&path, &ImageSpec::Vdi(spec)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!path.exists());
    }
}

/// Blocks of another size with something before each, data at odd places, and a disk that ends inside a block.
#[test]
fn other_layouts_are_read_and_written() {
    const BLOCK: usize = 128 << 10;
    let dir = tempfile::tempdir().unwrap();
    let (_, whole, _) = image(dir.path());
    for (map, data, extra) in [(512, 700, 512), (472, 496, 0), (4096, 1 << 20, 128 << 10)] {
        let mut bytes = whole[..512].to_vec();
        let entries = [3, FREE, ZERO, 0, 2, FREE];
        let size = 5 * BLOCK + 1000; // the part of a sector does not count
        for (at, value) in [
            (0x154, map),
            (0x158, data),
            (0x170, size),
            (0x178, BLOCK),
            (0x17c, extra),
            (0x180, entries.len()),
            (ALLOCATED, 4),
        ] {
            put(&mut bytes, at, value as u32);
        }
        bytes.resize(map, 0);
        bytes.extend(entries.iter().flat_map(|entry: &u32| entry.to_le_bytes()));
        bytes.resize(data, 0);
        for index in 0..4 {
            bytes.extend(vec![0xee; extra]);
            bytes.extend(vec![index + 1; BLOCK]);
        }
        let path = dir.path().join("by-hand.vdi");
        fs::write(&path, &bytes).unwrap();

        let mut want: Vec<u8> = entries
            .iter()
            .flat_map(|entry| match *entry {
                FREE | ZERO => vec![0; BLOCK],
                index => vec![index as u8 + 1; BLOCK],
            })
            .collect();
        want.truncate(size / 512 * 512);
        let chain = open(&path, Access::Write).unwrap();
        assert!(content(&chain) == want, "map at {map}");
        // Index 1 belongs to no block: it is taken before the file grows.
        for (at, len) in [(0, 10), (BLOCK - 5, 3 * BLOCK), (want.len() - 100, 100)] {
            chain.write_at(&vec![0x77; len], at as u64).unwrap();
            want[at..at + len].fill(0x77);
        }
        assert!(content(&chain) == want, "map at {map}");
        chain.close(Durability::Unsynced).unwrap();
        assert!(
            content(&open(&path, Access::Read).unwrap()) == want,
            "map at {map}"
        );
        let after = fs::read(&path).unwrap();
        assert_eq!(word(&after, ALLOCATED), 6);
        let found: Vec<u32> = (0..6).map(|n| word(&after, map + 4 * n)).collect();
        assert_eq!(found, [3, 1, 4, 0, 2, 5], "map at {map}");
        let before_block = |index: usize| &after[data + index * (BLOCK + extra)..][..extra];
        assert!((0..4).all(|index| before_block(index).iter().all(|b| *b == 0xee)));
    }
}

/// What a writer leaves that is killed between any two of its writes, and a count that VirtualBox would take for the next
/// free index.
#[test]
fn what_a_killed_writer_left_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, good, mut want) = image(dir.path());
    let mut bytes = good.clone();
    // Index 2 was never named; two more blocks were written, and counted, or not.
    put(&mut bytes, MAP + 4, FREE);
    want[MIB as usize..2 << 20].fill(0);
    bytes.resize(DATA + (5 << 20), 0xdd);
    for count in [0, 2, 5, 6] {
        put(&mut bytes, ALLOCATED, count);
        fs::write(&path, &bytes).unwrap();
        let chain = open(&path, Access::Write).unwrap();
        assert!(content(&chain) == want);
        chain.close(Durability::Unsynced).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "nothing was written");

        let chain = open(&path, Access::Write).unwrap();
        let mut want = want.clone();
        for block in 1..6 {
            let at = block * MIB as usize + 100;
            chain.write_at(&[block as u8; 9], at as u64).unwrap();
            want[at..at + 9].fill(block as u8);
        }
        assert!(content(&chain) == want, "count {count}");
        chain.close(Durability::Unsynced).unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(word(&after, ALLOCATED), 6);
        assert_eq!(after.len(), DATA + (6 << 20));
        assert!(content(&open(&path, Access::Read).unwrap()) == want);
    }
}

#[test]
fn damaged_maps_are_read_as_far_as_they_go_and_never_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (path, good, want) = image(dir.path());
    let offset = Some(MAP as u64 + 12);
    for (index, readable) in [(2, true), (5, false), (6, false), (FREE - 2, false)] {
        let mut bytes = good.clone();
        put(&mut bytes, MAP + 12, index);
        fs::write(&path, &bytes).unwrap();
        let chain = open(&path, Access::Read).unwrap();
        let mut found = vec![0; 3 << 20];
        chain.read_at(&mut found, 0).unwrap();
        assert!(found == want[..3 << 20]);
        let read = chain.read_at(&mut found[..512], 3 * MIB);
        assert_eq!(read.is_ok(), readable, "{index:#x}");
        for error in read
            .err()
            .into_iter()
            .chain(open(&path, Access::Write).err())
        {
            assert_eq!(
                (error.kind(), error.offset()),
                (ErrorKind::Malformed, offset),
                "{error}"
            );
        }
        assert!(open(&path, Access::Write).is_err(), "{index:#x}");
    }
    for len in [0, 0x44, 511, MAP, MAP + 23] {
        fs::write(&path, &good[..len]).unwrap();
        let error = open(&path, Access::Read).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{len}: {error}");
        assert_eq!(error.path(), Some(path.as_path()));
    }
}

#[test]
fn a_child_lies_on_the_image_that_it_names_and_on_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let ids = |n: u128| Uuid::from_u128(n);
    for (name, spec) in [
        ("base.vdi", vdi(100, 1, None)),
        ("other.vdi", vdi(100, 2, None)),
        ("smaller.vdi", vdi(99, 1, None)),
        ("child.vdi", vdi(100, 3, Some(ids(1)))),
    ] {
        make(&file(name), &ImageSpec::Vdi(spec)).unwrap();
    }
    let chain = |names: &[&str]| {
        let paths: Vec<_> = names.iter().map(|name| file(name)).collect();
        let list: Vec<_> = paths
            .iter()
            .map(|path| (path.as_path(), Format::Vdi))
            .collect();
        Chain::open_all(&list, Access::Read, &Closed)
    };
    assert_eq!(chain(&["base.vdi", "child.vdi"]).unwrap().depth(), 2);
    for (names, kind, says) in [
        (
            ["other.vdi", "child.vdi"],
            ErrorKind::Mismatch,
            "-000000000001",
        ),
        (
            ["smaller.vdi", "child.vdi"],
            ErrorKind::Mismatch,
            "50688 bytes",
        ),
        (["base.vdi", "other.vdi"], ErrorKind::Mismatch, "no parent"),
    ] {
        let error = chain(&names).err().unwrap();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(
            names.iter().all(|name| text.contains(name)) && text.contains(says),
            "{text}"
        );
    }
    let error = open(&file("child.vdi"), Access::Read).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("the base first"), "{error}");
}

#[test]
fn ids_are_renewed_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.vdi");
    let mut spec = vdi(4096, 7, Some(Uuid::from_u128(6)));
    spec.patches.push(Patch {
        offset: 0,
        bytes: vec![9; 1000],
    });
    make(&path, &ImageSpec::Vdi(spec.clone())).unwrap();

    spec.ids.modification = Uuid::from_u128(0xfeed);
    renew_modification(&path, spec.ids.modification, Durability::Synced).unwrap();
    verify(&path, &ImageSpec::Vdi(spec.clone())).unwrap();

    let parent = Ids {
        image: Uuid::from_u128(70),
        modification: Uuid::from_u128(71),
        parent: None,
    };
    spec.ids = Ids {
        image: Uuid::from_u128(80),
        modification: Uuid::from_u128(81),
        parent: Some(parent.as_parent()),
    };
    relink(&path, &spec.ids, Durability::Unsynced).unwrap();
    verify(&path, &ImageSpec::Vdi(spec.clone())).unwrap();

    let nil = Some(ParentIds {
        image: Uuid::nil(),
        modification: Uuid::nil(),
    });
    for (ids, kind) in [
        (parent, ErrorKind::Mismatch),
        (
            Ids {
                parent: nil,
                ..parent
            },
            ErrorKind::Invalid,
        ),
    ] {
        let error = relink(&path, &ids, Durability::Unsynced).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let error = renew_modification(&path, Uuid::nil(), Durability::Unsynced).unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::Invalid, Some(path.as_path()))
    );
    verify(&path, &ImageSpec::Vdi(spec)).unwrap();
}

#[test]
fn an_image_of_a_tebibyte_takes_no_more_room_than_its_map_and_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.vdi");
    let sectors = (1 << 31) + 5;
    make(&path, &ImageSpec::Vdi(vdi(sectors, 1, None))).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    let ends = [3, sectors * 512 - 3];
    for at in ends {
        chain.write_at(b"end", at).unwrap();
    }
    chain.close(Durability::Unsynced).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 6 * MIB + 2 * MIB);
    let chain = open(&path, Access::Read).unwrap();
    for at in ends {
        let mut found = [0; 3];
        chain.read_at(&mut found, at).unwrap();
        assert_eq!(&found, b"end");
    }
    let mut absent = 0;
    let size = chain.size();
    let mapped = chain.map(0, size, &mut |range| {
        absent += if range.kind == Kind::Absent {
            range.len
        } else {
            0
        };
        std::ops::ControlFlow::Continue(())
    });
    mapped.unwrap();
    assert_eq!(absent, size - MIB - 5 * 512);
}

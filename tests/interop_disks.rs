//! Chains that the disk engine makes, read by parsers that are not ours, whole disks at a time. Whole machines are in
//! `interop.rs`; writing by QEMU into such chains is tested in `disk/tests`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::readers::{Reader, pieces_digest};
use stratavm_disk::hdd::{DiskDescriptor, HdsSpec, Image, ImageKind, LEAF_GUID, Shot, Storage};
use stratavm_disk::vmdk::{
    AdapterType, Cid, FlatExtent, FlatKind, FlatSpec, ParentLink, SparseSpec,
};
use stratavm_disk::{Durability, ImageSpec, Patch, Volume, create};
use tempfile::TempDir;
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const GRAIN: usize = 64 << 10;

/// `images/` and `layers/os é/` side by side, as in a store; paths need quoting.
struct Store {
    _dir: TempDir,
    root: PathBuf,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("my store é");
        fs::create_dir_all(root.join("images")).unwrap();
        fs::create_dir_all(root.join("layers/os é")).unwrap();
        Self { _dir: dir, root }
    }

    fn layer(&self, file: &str) -> PathBuf {
        self.root.join("layers/os é").join(file)
    }

    /// Images of these sizes in MiB, each filled with its own bytes; their content as one disk.
    fn images(&self, mib: &[u64]) -> Vec<u8> {
        let mut disk = Vec::new();
        for (index, mib) in mib.iter().enumerate() {
            let bytes: Vec<u8> = (0..mib * MIB)
                .map(|at| (at >> 12) as u8 ^ (0x31 * (index as u8 + 1)))
                .collect();
            fs::write(self.root.join(image(index)), &bytes).unwrap();
            disk.extend(bytes);
        }
        disk
    }

    /// The digest that readers must find for these bytes as a disk.
    fn digest(&self, disk: &[u8]) -> String {
        let path = self.root.join("expected.raw");
        fs::write(&path, disk).unwrap();
        pieces_digest(&[(path, disk.len() as u64)]).unwrap()
    }
}

fn image(index: usize) -> String {
    format!("images/golden {index}.raw")
}

fn make(path: &Path, spec: ImageSpec) {
    create(path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
}

fn id(n: u32) -> Uuid {
    Uuid::from_u128(0x7000 + u128::from(n))
}

fn cid(n: u32) -> Cid {
    Cid::new(0x00ab_c000 + n).unwrap()
}

/// A base descriptor over the images and `depth` heads on it; head n holds its own number in grain n.
fn vmdk_chain(store: &Store, mib: &[u64], depth: u32) -> Vec<u8> {
    let mut disk = store.images(mib);
    let extents = mib.iter().enumerate().map(|(index, mib)| FlatExtent {
        file: format!("../../{}", image(index)),
        sectors: mib * 2048,
        offset: 0,
    });
    let base = FlatSpec {
        kind: FlatKind::Monolithic,
        extents: extents.collect(),
        cid: cid(0),
        uuid: id(0),
        adapter: AdapterType::LsiLogic,
    };
    make(&store.layer("base.vmdk"), ImageSpec::VmdkFlat(base));
    let mut hint = "base.vmdk".to_owned();
    for n in 1..=depth {
        let file = format!("head-{n}.vmdk");
        let patch = Patch {
            offset: u64::from(n) * GRAIN as u64,
            bytes: vec![n as u8; GRAIN],
        };
        disk[patch.offset as usize..][..GRAIN].copy_from_slice(&patch.bytes);
        let spec = SparseSpec {
            file: file.clone(),
            sectors: disk.len() as u64 / 512,
            cid: cid(n),
            uuid: id(n),
            parent: Some(ParentLink {
                hint,
                cid: cid(n - 1),
                uuid: id(n - 1),
            }),
            adapter: AdapterType::LsiLogic,
            patches: vec![patch],
        };
        make(&store.layer(&file), ImageSpec::VmdkSparse(spec));
        hint = file;
    }
    disk
}

#[test]
fn vmdk_chains_are_read_whole_by_three_readers() {
    for (mib, depth) in [(&[9][..], 1), (&[9], 3), (&[2, 4, 3], 2)] {
        let store = Store::new();
        let disk = vmdk_chain(&store, mib, depth);
        let expected = store.digest(&disk);
        let head = store.layer(&format!("head-{depth}.vmdk"));
        for reader in [Reader::QemuVmdk, Reader::DissectVmdk, Reader::Libvmdk] {
            let Some(mut seen) = reader.accepts("vmdk chain", &[&head]) else {
                continue;
            };
            let seen = seen.remove(&head).unwrap();
            assert_eq!(
                seen["sha256"],
                expected.as_str(),
                "{reader:?}, {mib:?}, depth {depth}"
            );
            assert_eq!(seen["size"], disk.len() as u64, "{reader:?}");
            assert_eq!(
                seen["chain"].as_array().unwrap().len(),
                depth as usize + 1,
                "{reader:?}"
            );
        }
    }
}

#[test]
fn a_parent_that_changed_is_noticed() {
    let store = Store::new();
    vmdk_chain(&store, &[4], 1);
    let base = store.layer("base.vmdk");
    let text = fs::read_to_string(&base).unwrap();
    fs::write(
        &base,
        text.replace(&format!("CID={}", cid(0)), "CID=0badcafe"),
    )
    .unwrap();
    let head = store.layer("head-1.vmdk");
    // dissect does not look at content ids.
    for reader in [Reader::QemuVmdk, Reader::Libvmdk] {
        let Some(mut seen) = reader.read("vmdk chain", &[&head]) else {
            continue;
        };
        assert!(seen.remove(&head).unwrap().is_err(), "{reader:?}");
    }
}

/// A bundle whose image n of each storage is `kinds[n]`, root first; member n holds its own number in cluster n.
fn hdd_chain(store: &Store, mib: &[u64], kinds: &[ImageKind]) -> (PathBuf, Vec<u8>) {
    let mut disk = store.images(mib);
    if kinds[0] != ImageKind::Plain {
        disk.fill(0);
    }
    let bundle = store.root.join("os é.hdd");
    fs::create_dir(&bundle).unwrap();
    let leaf = kinds.len() - 1;
    let guid = |member: usize| {
        if member == leaf {
            LEAF_GUID
        } else {
            id(member as u32 + 1)
        }
    };
    let mut start = 0;
    let mut storages = Vec::new();
    for (index, mib) in mib.iter().enumerate() {
        let mut images = Vec::new();
        for (member, kind) in kinds.iter().enumerate().rev() {
            let file = match kind {
                ImageKind::Plain => format!("../{}", image(index)),
                _ => format!("{member}-{index}.hds"),
            };
            images.push(Image {
                guid: guid(member),
                kind: *kind,
                file: file.clone(),
            });
            if *kind == ImageKind::Compressed {
                let patch = Patch {
                    offset: member as u64 * MIB,
                    bytes: vec![member as u8 + 1; MIB as usize],
                };
                make(
                    &bundle.join(file),
                    ImageSpec::Hds(HdsSpec {
                        sectors: mib * 2048,
                        patches: vec![patch],
                    }),
                );
            }
        }
        for (member, _) in kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| **kind == ImageKind::Compressed)
        {
            let at = (start * 512) as usize + member * MIB as usize;
            disk[at..at + MIB as usize].fill(member as u8 + 1);
        }
        let end = start + mib * 2048;
        storages.push(Storage {
            start,
            end,
            blocksize: 2048,
            images,
        });
        start = end;
    }
    let shot = |member: usize| Shot {
        guid: guid(member),
        parent: member.checked_sub(1).map(guid),
    };
    let descriptor = DiskDescriptor {
        sectors: start,
        uid: id(100),
        name: "os é".into(),
        storages,
        shots: (0..kinds.len()).rev().map(shot).collect(),
        top_guid: None,
    };
    fs::write(
        bundle.join("DiskDescriptor.xml"),
        descriptor.to_xml().unwrap(),
    )
    .unwrap();
    (bundle, disk)
}

#[test]
fn hdd_bundles_are_read_whole() {
    use ImageKind::{Compressed, Plain};
    // QEMU and libphdi do not read split bundles; libphdi does not read an expanding image over a plain one.
    let all = [Reader::DissectHdd, Reader::QemuHds, Reader::Libphdi];
    let trials: [(&[u64], &[ImageKind], &[Reader]); 4] = [
        (&[9], &[Plain, Compressed], &all[..2]),
        (&[9], &[Plain, Compressed, Compressed], &all[..2]),
        (&[9], &[Compressed, Compressed, Compressed], &all),
        (&[3, 4, 3], &[Plain, Compressed], &all[..1]),
    ];
    for (mib, kinds, readers) in trials {
        let store = Store::new();
        let (bundle, disk) = hdd_chain(&store, mib, kinds);
        let expected = store.digest(&disk);
        for reader in readers {
            let Some(mut seen) = reader.accepts("hdd bundle", &[&bundle]) else {
                continue;
            };
            let seen = seen.remove(&bundle).unwrap();
            assert_eq!(
                seen["sha256"],
                expected.as_str(),
                "{reader:?}, {mib:?}, {kinds:?}"
            );
            assert_eq!(seen["size"], disk.len() as u64, "{reader:?}");
        }
        let xml = bundle.join("DiskDescriptor.xml");
        Reader::Xmllint.accepts("DiskDescriptor.xml", &[&xml]);
    }
}

#[test]
fn a_broken_expanding_image_is_noticed() {
    let store = Store::new();
    let (bundle, _) = hdd_chain(&store, &[4], &[ImageKind::Plain, ImageKind::Compressed]);
    let leaf = bundle.join("1-0.hds");
    let mut bytes = fs::read(&leaf).unwrap();
    // The table entry of cluster 2 points behind the end of the file.
    bytes[72..76].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    fs::write(&leaf, bytes).unwrap();
    if let Some(mut seen) = Reader::QemuHds.read("hdd bundle", &[&bundle]) {
        assert!(seen.remove(&bundle).unwrap().is_err());
    }
}

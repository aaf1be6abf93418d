//! Split sparse images, for volumes with small files: made, read and written by QEMU's own driver, frozen, and refused
//! where no product could use them. Without QEMU's tools its parts are skipped, and counted as such.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unused_crate_dependencies
)]

mod common;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "common/qemu.rs"]
mod tools;

use common::{cid, flat, sparse};
use std::fs;
use std::path::Path;
use stratavm_disk::vmdk::{Cid, Descriptor, SparseSpec, extent_sectors_for, renew_cid};
use stratavm_disk::{
    Durability, ErrorKind, Format, ImageSpec, Patch, Volume, create, has_allocated_blocks, info,
    verify,
};
use tools::{content, missing, node, ok, qemu_reads, qemu_write};

const MIB: u64 = 1 << 20;
const EXTENT: u64 = 2 * 2048;

/// Makes the image and answers its files, the descriptor last.
fn make(dir: &Path, spec: &SparseSpec, extent: u64, volume: &Volume) -> Vec<String> {
    let parts = spec.split(extent).unwrap();
    for (name, part) in &parts {
        create(&dir.join(name), part, volume, Durability::Synced).unwrap();
        verify(&dir.join(name), part).unwrap();
    }
    parts.into_iter().map(|(name, _)| name).collect()
}

fn written(dir: &Path, extents: &[String]) -> Vec<bool> {
    let has = |name| has_allocated_blocks(&dir.join(name), Format::VmdkSparse).unwrap();
    extents.iter().map(has).collect()
}

fn text(path: &Path) -> Descriptor {
    let bytes = fs::read(path).unwrap();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    Descriptor::parse(&bytes[..end], path).unwrap()
}

/// A golden of 5 MiB of ones, the descriptor over it, and a head's spec with both links to that.
fn chain(dir: &Path) -> SparseSpec {
    fs::create_dir(dir.join("os base")).unwrap();
    fs::write(dir.join("golden.raw"), vec![1; 5 << 20]).unwrap();
    let base = ImageSpec::VmdkFlat(flat(&[("../golden.raw", 5 * 2048)]));
    common::make(&dir.join("os base/os-base.vmdk"), &base).unwrap();
    let mut head = sparse(5 * 2048);
    if let Some(parent) = &mut head.parent {
        parent.hint = "os base/os-base.vmdk".into();
    }
    head
}

#[test]
fn a_volume_with_small_files_takes_a_large_disk_in_extents() {
    let tmp = tempfile::tempdir().unwrap();
    let mut volume = Volume::default();
    volume.max_file = Some(u64::from(u32::MAX));
    let head = sparse(9 * 1024 * 2048); // 9 GiB
    let whole = ImageSpec::VmdkSparse(head.clone());
    let path = tmp.path().join(&head.file);
    let e = create(&path, &whole, &volume, Durability::Unsynced).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit);

    let cut = extent_sectors_for(head.sectors, volume.max_file).unwrap();
    let names = make(tmp.path(), &head, cut.unwrap(), &volume);
    assert_eq!(names.len(), 5 + 1);
    assert_eq!(names[4], "head-s005.vmdk");
    let found = info(&path).unwrap();
    assert_eq!(
        (found.format, found.size),
        (Format::VmdkDescriptor, 9 << 30)
    );
    let vmdk = found.vmdk.unwrap();
    assert_eq!(vmdk.create_type, "twoGbMaxExtentSparse");
    assert_eq!(vmdk.parent_hint.as_deref(), Some("../os base/os-base.vmdk"));
    assert!(vmdk.parent_uuid.is_some() && vmdk.parent_cid.is_some());
    assert!(vmdk.extents.iter().all(|e| e.size < 2 << 30));
    // Nothing was written for what nobody wrote: tables only.
    let bytes: u64 = names
        .iter()
        .map(|name| fs::metadata(tmp.path().join(name)).unwrap().len())
        .sum();
    assert!(bytes < 5 * 512 * 1024, "{bytes}");
    assert_eq!(written(tmp.path(), &names[..5]), [false; 5]);
}

#[test]
fn qemu_reads_and_writes_a_split_head_and_its_frozen_form() {
    if missing("split vmdk") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let head = chain(dir);
    let names = make(dir, &head, EXTENT, &Volume::default());
    let extents = &names[..3];
    let path = dir.join(&head.file);
    ok("qemu-img", &["check", "-f", "vmdk", path.to_str().unwrap()]);
    let base = node("vmdk", &dir.join("os base/os-base.vmdk"), None);
    let top = node("vmdk", &path, Some(base.clone()));
    let mut want = vec![1; 5 << 20];
    assert!(content(&top, dir) == want);
    assert_eq!(written(dir, extents), [false; 3]);

    // Over the boundary of two extents, and in the last one.
    qemu_write(&top, "0x22", "2031616", "131072");
    want[2_031_616..2_031_616 + 131_072].fill(0x22);
    qemu_write(&top, "0x33", "4980736", "65536");
    want[4_980_736..4_980_736 + 65_536].fill(0x33);
    assert!(content(&top, dir) == want);
    assert_eq!(written(dir, extents), [true; 3]);
    let before = text(&path);
    assert_ne!(
        before.cid, head.cid,
        "QEMU renews the CID at its first write"
    );
    ok("qemu-img", &["check", "-f", "vmdk", path.to_str().unwrap()]);

    // Frozen: a new id in the text, extents untouched, and a child that is taken for its child.
    let bytes = |name: &String| fs::read(dir.join(name)).unwrap();
    let kept: Vec<_> = extents.iter().map(bytes).collect();
    let frozen = Cid::new(0xf0f0_0001).unwrap();
    renew_cid(&path, frozen, Durability::Synced).unwrap();
    let after = text(&path);
    assert_eq!((after.cid, &after.extents), (frozen, &before.extents));
    assert!(
        after
            .ddb("ddb.longContentID")
            .unwrap()
            .ends_with("f0f00001")
    );
    assert_eq!(after.parent_uuid(), before.parent_uuid());
    assert!(extents.iter().map(bytes).eq(kept));
    let mut child = head.clone();
    child.file = "head-2.vmdk".into();
    child.uuid = uuid::Uuid::from_u128(2);
    child.cid = cid(77);
    child.parent = Some(stratavm_disk::vmdk::ParentLink {
        hint: head.file.clone(),
        cid: frozen,
        uuid: head.uuid,
    });
    make(dir, &child, EXTENT, &Volume::default());
    let child = node("vmdk", &dir.join("head-2.vmdk"), Some(top.clone()));
    assert!(content(&child, dir) == want);
    qemu_write(&child, "0x44", "0", "65536");
    assert!(qemu_reads(&child, "0x33", "4980736", "65536"));
    assert!(qemu_reads(&child, "0x44", "0", "65536"));
    assert!(qemu_reads(&top, "0x01", "0", "65536"));
}

#[test]
fn a_descriptor_keeps_its_text_whatever_cid_qemu_draws() {
    if missing("split vmdk") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let mut head = sparse(150 * 2048);
    head.parent = None;
    // 150 extents: close to the most text that a descriptor may have.
    let names = make(dir, &head, 2048, &Volume::default());
    let path = dir.join(&head.file);
    let extents = text(&path).extents;
    assert_eq!(extents.len(), 150);
    let top = node("vmdk", &path, None);
    for _ in 0..8 {
        qemu_write(&top, "0x55", "1048576", "65536");
        let now = text(&path);
        assert_eq!(now.extents, extents);
        assert_eq!(now.image_uuid(), Some(head.uuid));
        // What QEMU fills the file up with is no text of ours, and goes away.
        renew_cid(&path, cid(0x0000_00ab), Durability::Unsynced).unwrap();
        assert_eq!(info(&path).unwrap().vmdk.unwrap().cid, "000000ab");
    }
    assert_eq!(written(dir, &names[..3]), [false, true, false]);
}

#[test]
fn patches_reach_the_guest_at_their_places() {
    let tmp = tempfile::tempdir().unwrap();
    let mut spec = sparse(5 * 2048);
    spec.parent = None;
    spec.patches = vec![
        Patch {
            offset: 2 * MIB - 2,
            bytes: vec![7; 4],
        },
        Patch {
            offset: 5 * MIB - 1,
            bytes: vec![8],
        },
    ];
    let names = make(tmp.path(), &spec, EXTENT, &Volume::default());
    assert_eq!(written(tmp.path(), &names[..3]), [true; 3]);
    if missing("split vmdk") {
        return;
    }
    let got = content(
        &node("vmdk", &tmp.path().join(&spec.file), None),
        tmp.path(),
    );
    let mut want = vec![0; 5 << 20];
    want[2 * MIB as usize - 2..2 * MIB as usize + 2].fill(7);
    want[5 * MIB as usize - 1] = 8;
    assert!(got == want);
}

#[test]
fn only_a_head_of_ours_gets_a_new_id() {
    let tmp = tempfile::tempdir().unwrap();
    let mut head = sparse(5 * 2048);
    head.parent = None;
    make(tmp.path(), &head, EXTENT, &Volume::default());
    let path = tmp.path().join(&head.file);
    let good = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat"),
        ("parentCID=ffffffff", "parentCID=00000001"),
        ("ddb.uuid.image", "ddb.uuid.imago"),
        ("SPARSE \"head-s002", "VMFSSPARSE \"head-s002"),
        ("ddb.longContentID", "ddb.shortContentID"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        fs::write(&path, &bad).unwrap();
        renew_cid(&path, cid(9), Durability::Unsynced).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    // Text behind a NUL is no padding.
    fs::write(&path, format!("{good}\0x")).unwrap();
    let e = renew_cid(&path, cid(9), Durability::Unsynced).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Malformed);
}

//! Looking at existing images: what they say of themselves, whether they were written, and freezing them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{cid, flat, make, sparse};
use std::fs;
use stratavm_disk::hdd::{DiskDescriptor, HdsSpec, Image, ImageKind, LEAF_GUID, Shot, Storage};
use stratavm_disk::vmdk::renew_cid;
use stratavm_disk::{Durability, ErrorKind, Format, ImageSpec, has_allocated_blocks, info, verify};
use uuid::Uuid;

#[test]
fn a_head_carries_both_link_styles() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    make(&path, &ImageSpec::VmdkSparse(sparse(16384))).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 << 10);
    let found = info(&path).unwrap();
    let seen = serde_json::to_value(&found).unwrap();
    assert_eq!(
        (seen["format"].as_str(), found.size),
        (Some("vmdk-sparse"), 8 << 20)
    );
    let want = serde_json::json!({
        "create-type": "monolithicSparse",
        "cid": "0a0b0c0d",
        "parent-cid": "0000beef",
        "parent-hint": "../os base/os-base.vmdk",
        "uuid": "11111111-2222-3333-4444-555555555555",
        "parent-uuid": "99999999-2222-3333-4444-555555555555",
        "adapter": "lsilogic",
        "extents": [{"file": "head.vmdk", "size": 8 << 20}],
        "unclean": false,
    });
    assert_eq!(seen["vmdk"], want);
}

#[test]
fn a_head_whose_links_are_not_ours_is_not_frozen() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    make(&path, &ImageSpec::VmdkSparse(sparse(16384))).unwrap();
    let good = fs::read(&path).unwrap();
    let text = String::from_utf8(good[512..21 * 512].to_vec()).unwrap();
    let nil = "00000000-0000-0000-0000-000000000000";
    let hint = "parentFileNameHint=\"../os base/os-base.vmdk\"\n";
    let cases = [
        (
            "parentCID=0000beef\n",
            "parentCID=ffffffff\n",
            ErrorKind::Malformed,
        ),
        (hint, "", ErrorKind::Mismatch),
        (
            "99999999-2222-3333-4444-555555555555",
            nil,
            ErrorKind::Mismatch,
        ),
        (
            "11111111-2222-3333-4444-555555555555",
            nil,
            ErrorKind::Mismatch,
        ),
        ("monolithicSparse", "streamOptimized", ErrorKind::Mismatch),
        (
            "ddb.longContentID",
            "ddb.longContentXX",
            ErrorKind::Mismatch,
        ),
        ("55550a0b0c0d", "55550a0b0c", ErrorKind::Mismatch),
        ("CID=0a0b0c0d", "CID=", ErrorKind::Malformed),
        (
            "CID=0a0b0c0d",
            "CID=0a0b0c0d\nCID=0a0b0c0d",
            ErrorKind::Malformed,
        ),
        ("version=1", "version=3", ErrorKind::Unsupported),
    ];
    for (from, to, kind) in cases {
        assert!(text.contains(from), "{from}");
        let mut changed = text.replacen(from, to, 1).into_bytes();
        changed.resize(20 * 512, 0);
        let mut bytes = good.clone();
        bytes[512..21 * 512].copy_from_slice(&changed);
        fs::write(&path, &bytes).unwrap();
        let e = renew_cid(&path, cid(5), Durability::Unsynced).unwrap_err();
        assert_eq!(e.kind(), kind, "{to:?}: {e}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{to:?}");
    }
    fs::write(&path, &good).unwrap();
    renew_cid(&path, cid(0xfedc_ba98), Durability::Synced).unwrap();
    let mut renewed = sparse(16384);
    renewed.cid = cid(0xfedc_ba98);
    verify(&path, &ImageSpec::VmdkSparse(renewed)).unwrap();

    // What VirtualBox appends when it runs a head, and what may lie behind the text.
    let mut bytes = fs::read(&path).unwrap();
    let end = 512 + bytes[512..].iter().position(|b| *b == 0).unwrap();
    let more =
        format!("ddb.uuid.modification=\"{nil}\"\nddb.geometry.biosHeads=\"16\"\n\0left over\0");
    bytes[end..end + more.len()].copy_from_slice(more.as_bytes());
    fs::write(&path, &bytes).unwrap();
    renew_cid(&path, cid(7), Durability::Unsynced).unwrap();
    assert_eq!(info(&path).unwrap().vmdk.unwrap().cid, "00000007");
    let after = fs::read(&path).unwrap();
    let changed = (0..bytes.len()).filter(|i| bytes[*i] != after[*i]);
    assert!(changed.count() <= 16);
    assert_eq!(after[end..end + more.len()], *more.as_bytes());
}

#[test]
fn a_cid_that_qemu_wrote_without_leading_zeros_is_renewed() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    make(&path, &ImageSpec::VmdkSparse(sparse(16384))).unwrap();
    let good = fs::read(&path).unwrap();
    let end = 512 + good[512..].iter().position(|b| *b == 0).unwrap();
    for short in ["a0b0c0d", "d"] {
        let text = String::from_utf8(good[512..end].to_vec()).unwrap();
        let mut text = text
            .replacen("CID=0a0b0c0d", &format!("CID={short}"), 1)
            .into_bytes();
        text.resize(20 * 512, 0);
        // What was left behind a text that shrank must not come back with one that grows.
        text[end - 512..end].fill(b'x');
        let mut bytes = good.clone();
        bytes[512..21 * 512].copy_from_slice(&text);
        fs::write(&path, &bytes).unwrap();
        renew_cid(&path, cid(0xfedc_ba98), Durability::Synced).unwrap();
        let mut renewed = sparse(16384);
        renewed.cid = cid(0xfedc_ba98);
        let other = tmp.path().join(short).join("head.vmdk");
        fs::create_dir(tmp.path().join(short)).unwrap();
        make(&other, &ImageSpec::VmdkSparse(renewed)).unwrap();
        let (after, wanted) = (fs::read(&path).unwrap(), fs::read(&other).unwrap());
        assert_eq!(after[512..end + 1], wanted[512..end + 1]);
    }
}

#[test]
fn table_entries_outside_the_file_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    make(&path, &ImageSpec::VmdkSparse(sparse(16384))).unwrap();
    let empty = fs::read(&path).unwrap();
    let looked = |at: usize, value: u32| {
        let mut bytes = empty.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes.extend([0; 65536]); // room for one grain at sector 128
        fs::write(&path, &bytes).unwrap();
        has_allocated_blocks(&path, Format::VmdkSparse)
    };
    let (redundant, table) = (22 * 512 + 40, 27 * 512 + 40);
    assert!(!looked(table, 0).unwrap());
    assert!(looked(table, 128).unwrap() && looked(redundant, 128).unwrap());
    for (at, value) in [
        (table, 127),
        (table, 1),
        (table, 256),
        (table, u32::MAX),
        (26 * 512, 9999),
    ] {
        let e = looked(at, value).unwrap_err();
        assert_eq!(
            (e.kind(), e.offset()),
            (ErrorKind::Malformed, Some(at as u64)),
            "{value}: {e}"
        );
    }
    fs::write(&path, &empty[..13000]).unwrap();
    let e = has_allocated_blocks(&path, Format::VmdkSparse).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Malformed);

    let hds = tmp.path().join("x.hds");
    make(
        &hds,
        &ImageSpec::Hds(HdsSpec {
            sectors: 16384,
            patches: Vec::new(),
        }),
    )
    .unwrap();
    let empty = fs::read(&hds).unwrap();
    for (value, fits) in [
        (2048_u32, true),
        (2047, false),
        (4096, false),
        (u32::MAX, false),
    ] {
        let mut bytes = empty.clone();
        bytes[64 + 7 * 4..][..4].copy_from_slice(&value.to_le_bytes());
        bytes.extend(vec![0; 1 << 20]);
        fs::write(&hds, &bytes).unwrap();
        let found = has_allocated_blocks(&hds, Format::Hds);
        assert_eq!(found.is_ok_and(|yes| yes), fits, "{value}");
    }
    let e = has_allocated_blocks(&hds, Format::Raw).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[test]
fn info_tells_the_formats_apart() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let base = dir.join("base.vmdk");
    make(
        &base,
        &ImageSpec::VmdkFlat(flat(&[("not there.raw", 4096), ("nor this", 2048)])),
    )
    .unwrap();
    let found = info(&base).unwrap();
    assert_eq!(
        (found.format, found.size),
        (Format::VmdkDescriptor, 3 << 20)
    );
    assert_eq!(
        found.vmdk.unwrap().extents[1].file.as_deref(),
        Some("nor this")
    );

    let hds = dir.join("x.hds");
    make(
        &hds,
        &ImageSpec::Hds(HdsSpec {
            sectors: 8192,
            patches: Vec::new(),
        }),
    )
    .unwrap();
    let found = info(&hds).unwrap();
    assert_eq!((found.format, found.size), (Format::Hds, 4 << 20));
    assert_eq!(found.hds.unwrap().cluster, 1 << 20);

    let bundle = dir.join("d.hdd");
    fs::create_dir(&bundle).unwrap();
    let image = Image {
        guid: LEAF_GUID,
        kind: ImageKind::Compressed,
        file: "../gone.hds".into(),
    };
    let descriptor = DiskDescriptor {
        sectors: 8192,
        uid: Uuid::from_u128(7),
        name: "Überdisk & <co>".into(),
        storages: vec![Storage {
            start: 0,
            end: 8192,
            blocksize: 2048,
            images: vec![image],
        }],
        shots: vec![Shot {
            guid: LEAF_GUID,
            parent: None,
        }],
        top_guid: None,
    };
    fs::write(
        bundle.join("DiskDescriptor.xml"),
        descriptor.to_xml().unwrap(),
    )
    .unwrap();
    let found = info(&bundle).unwrap();
    assert_eq!((found.format, found.size), (Format::Hdd, 4 << 20));
    let hdd = found.hdd.unwrap();
    assert_eq!(
        (hdd.name.as_str(), hdd.chain, hdd.images.len()),
        ("Überdisk & <co>", vec![LEAF_GUID], 1)
    );

    for (name, bytes) in [("short", &b"KD"[..]), ("empty", b""), ("zeros", &[0; 5000])] {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        let found = info(&path).unwrap();
        assert_eq!(
            (found.format, found.size),
            (Format::Raw, bytes.len() as u64)
        );
    }
    fs::write(dir.join("cut"), b"KDMV").unwrap();
    assert_eq!(
        info(&dir.join("cut")).unwrap_err().kind(),
        ErrorKind::Malformed
    );
    assert_eq!(
        info(&dir.join("none")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(info(dir).unwrap_err().kind(), ErrorKind::NotFound);
}

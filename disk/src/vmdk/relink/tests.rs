//! Copies and images of products, relinked and compared with what a new image would be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::vmdk::{AdapterType, Cid, ParentLink};
use crate::{Access, Below, Chain, ErrorKind, Format, Patch, Volume, info, verify};
use std::fs;
use uuid::Uuid;

fn spec(name: &str, id: u128) -> SparseSpec {
    let parent = ParentLink {
        hint: format!("base-{id}.vmdk"),
        cid: Cid::new(id as u32 + 1).unwrap(),
        uuid: Uuid::from_u128(id + 1),
    };
    SparseSpec {
        file: format!("{name}.vmdk"),
        sectors: 4096 + 5,
        cid: Cid::new(id as u32).unwrap(),
        uuid: Uuid::from_u128(id),
        parent: Some(parent),
        adapter: AdapterType::Ide,
        patches: vec![Patch {
            offset: 1 << 16,
            bytes: vec![7; 1 << 16],
        }],
    }
}

fn make(path: &Path, spec: &ImageSpec) {
    crate::create(path, spec, &Volume::default(), Durability::Unsynced).unwrap();
}

fn parent_of(spec: &SparseSpec) -> Identity {
    let parent = spec.parent.as_ref().unwrap();
    Identity {
        cid: Some(parent.cid),
        uuid: Some(parent.uuid),
    }
}

/// Changes the descriptor inside a sparse file, or a text one.
fn edit(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let (start, room) = match bytes.starts_with(b"KDMV") {
        true => (512, 20 * 512),
        false => (0, bytes.len()),
    };
    let text = String::from_utf8(bytes[start..start + room].to_vec()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    let mut new = text.trim_end_matches('\0').replace(from, to).into_bytes();
    if start != 0 {
        new.resize(room, 0);
    }
    let mut out = bytes[..start].to_vec();
    out.extend(new);
    out.extend(&bytes[start + room..]);
    fs::write(path, out).unwrap();
}

/// As VirtualBox writes links: parentCID=ffffffff and no hint, an id of its own, the parent's id.
fn as_virtualbox(path: &Path, spec: &SparseSpec) {
    let parent = spec.parent.as_ref().unwrap();
    let cid = format!("parentCID={}", parent.cid);
    edit(path, &cid, "parentCID=ffffffff");
    edit(
        path,
        &format!("parentFileNameHint=\"{}\"\n", parent.hint),
        "",
    );
    let own = "11111111-2222-4333-8444-555555555555";
    edit(path, &spec.uuid.to_string(), own);
    edit(path, "encoding=\"UTF-8\"\n", "");
}

/// As VMware does: parentCID and a hint, no ids.
fn as_vmware(path: &Path, spec: &SparseSpec) {
    let parent = spec.parent.as_ref().unwrap();
    let line = |key: &str, id: Uuid| format!("{key} = \"{id}\"\n");
    edit(path, &line("ddb.uuid.image", spec.uuid), "");
    edit(path, &line("ddb.uuid.parent", parent.uuid), "");
}

#[test]
fn a_relinked_copy_is_what_a_new_image_with_the_same_data_would_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.vmdk");
    let made = dir.path().join("a.vmdk");
    make(&made, &ImageSpec::VmdkSparse(spec("a", 1)));
    fs::rename(&made, &path).unwrap();
    let new = spec("b", 1000);
    let image = ImageSpec::VmdkSparse(new.clone());
    relink(&path, &image, &Origin::Copy, Durability::Synced).unwrap();
    verify(&path, &image).unwrap();
    for sectors in [4096, 4096 + 128, 8192] {
        let other = ImageSpec::VmdkSparse(SparseSpec {
            sectors,
            patches: Vec::new(),
            ..new.clone()
        });
        let error = relink(&path, &other, &Origin::Copy, Durability::Unsynced).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{sectors}: {error}");
    }
    verify(&path, &image).unwrap();
}

#[test]
fn an_image_of_a_product_becomes_a_member_of_our_chain() {
    for style in [as_virtualbox, as_vmware] {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec("a", 1);
        let image = ImageSpec::VmdkSparse(spec.clone());
        let path = dir.path().join(&spec.file);
        make(&path, &image);
        style(&path, &spec);
        let origin = Origin::Product(parent_of(&spec));
        assert!(super::super::renew_cid(&path, spec.cid, Durability::Unsynced).is_err());
        relink(&path, &image, &origin, Durability::Synced).unwrap();
        verify(&path, &image).unwrap();
    }
}

#[test]
fn an_image_of_another_parent_or_still_open_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("a", 1);
    let image = ImageSpec::VmdkSparse(spec.clone());
    let path = dir.path().join(&spec.file);
    let none = "00000000-0000-0000-0000-000000000000";
    let parent = spec.parent.clone().unwrap();
    type Change<'a> = Box<dyn Fn() + 'a>;
    let byte = |at: usize, value: u8| {
        let path = &path;
        move || {
            let mut bytes = fs::read(path).unwrap();
            bytes[at] = value;
            fs::write(path, bytes).unwrap();
        }
    };
    let of_virtualbox = |from: String, to: &'static str| {
        let (path, spec) = (&path, &spec);
        move || {
            as_virtualbox(path, spec);
            edit(path, &from, to);
        }
    };
    let cases: Vec<(ErrorKind, Change<'_>)> = vec![
        (
            ErrorKind::Mismatch,
            Box::new(of_virtualbox(parent.uuid.to_string(), none)),
        ),
        (
            ErrorKind::Mismatch,
            Box::new(of_virtualbox(
                parent.uuid.to_string(),
                "99999999-2222-4333-8444-555555555555",
            )),
        ),
        (
            ErrorKind::Mismatch,
            Box::new(|| {
                edit(
                    &path,
                    &format!("parentCID={}", parent.cid),
                    "parentCID=0000abcd",
                )
            }),
        ),
        (
            ErrorKind::Mismatch,
            Box::new(|| edit(&path, "monolithicSparse", "streamOptimized")),
        ),
        (ErrorKind::Mismatch, Box::new(byte(72, 1))),
        (ErrorKind::Unsupported, Box::new(byte(4, 2))),
        (ErrorKind::Malformed, Box::new(byte(512, b'X'))),
    ];
    for (n, (kind, change)) in cases.into_iter().enumerate() {
        make(&path, &image);
        change();
        let before = fs::read(&path).unwrap();
        // What is unreadable is so in its first line only: nothing of the new text may stand behind it.
        let mut new = spec.clone();
        new.cid = Cid::new(0x77).unwrap();
        new.uuid = Uuid::from_u128(0x77);
        let new = ImageSpec::VmdkSparse(new);
        let origin = Origin::Product(parent_of(&spec));
        let error = relink(&path, &new, &origin, Durability::Unsynced).unwrap_err();
        assert_eq!(error.kind(), kind, "case {n}: {error}");
        assert!(fs::read(&path).unwrap() == before, "case {n}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_relink_that_was_cut_short_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("a", 1);
    let image = ImageSpec::VmdkSparse(spec.clone());
    let path = dir.path().join(&spec.file);
    make(&path, &image);
    let done = fs::read(&path).unwrap();
    as_virtualbox(&path, &spec);
    let before = fs::read(&path).unwrap();
    let origin = Origin::Product(parent_of(&spec));
    for sectors in 0..4 {
        let mut torn = before.clone();
        torn[512..512 + sectors * 512].copy_from_slice(&done[512..512 + sectors * 512]);
        fs::write(&path, torn).unwrap();
        relink(&path, &image, &origin, Durability::Unsynced).unwrap();
        assert!(fs::read(&path).unwrap() == done, "{sectors}");
    }
}

#[test]
fn a_split_image_of_a_product_gets_our_text_over_the_same_extents() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("a", 1);
    let path = dir.path().join(&spec.file);
    let files = spec.split(2048).unwrap();
    for (file, spec) in &files {
        make(&dir.path().join(file), spec);
    }
    let (_, image) = files.last().unwrap();
    as_virtualbox(&path, &spec);
    let theirs = fs::read(&path).unwrap();
    assert_eq!(info(&path).unwrap().vmdk.unwrap().parent_cid, None);
    let origin = Origin::Product(parent_of(&spec));
    relink(&path, image, &origin, Durability::Synced).unwrap();
    verify(&path, image).unwrap();
    // Other extents, one that is open, one that is gone.
    for (n, kind) in [
        ErrorKind::Mismatch,
        ErrorKind::Mismatch,
        ErrorKind::NotFound,
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&path, &theirs).unwrap();
        let extent = dir.path().join("a-s002.vmdk");
        match n {
            0 => edit(&path, "a-s002.vmdk", "b-s002.vmdk"),
            1 => {
                let mut bytes = fs::read(&extent).unwrap();
                bytes[72] = 1;
                fs::write(&extent, bytes).unwrap();
            }
            _ => fs::remove_file(&extent).unwrap(),
        }
        let error = relink(&path, image, &origin, Durability::Synced).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn a_relinked_child_reads_through_its_new_parent() {
    let dir = tempfile::tempdir().unwrap();
    let mut base = spec("base-1", 2);
    base.parent = None;
    base.patches[0].offset = 0;
    let child = spec("a", 1);
    for spec in [&base, &child] {
        make(
            &dir.path().join(&spec.file),
            &ImageSpec::VmdkSparse(spec.clone()),
        );
    }
    let path = dir.path().join(&child.file);
    as_virtualbox(&path, &child);
    let gate = Below::new(dir.path()).unwrap();
    let open = || Chain::open(&path, Format::VmdkSparse, Access::Read, &gate);
    assert_eq!(open().err().unwrap().kind(), ErrorKind::NotFound);
    let image = ImageSpec::VmdkSparse(child.clone());
    let origin = Origin::Product(parent_of(&child));
    relink(&path, &image, &origin, Durability::Unsynced).unwrap();
    let mut read = vec![0; 3 << 16];
    open().unwrap().read_at(&mut read, 0).unwrap();
    assert!(read[..2 << 16].iter().all(|byte| *byte == 7) && read[2 << 16..] == [0; 1 << 16]);
}

//! What an image lies on: another image than the one it was made over, or one that changed since.

use crate::common;
use crate::{copied, is_refused};
use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::qcow2::{Backing, Qcow2Spec};
use stratavm_disk::vmdk::{ParentLink, renew_cid};
use stratavm_disk::{
    Access, Below, Chain, Durability, ErrorKind, Format, ImageSpec, RawSpec, Result,
};
use uuid::Uuid;

const SECTORS: u64 = 4096;

fn base(folder: &Path, file: &str, cid: u32, sectors: u64) -> PathBuf {
    let path = folder.join(file);
    let mut spec = common::sparse(sectors);
    spec.file = file.into();
    spec.parent = None;
    spec.cid = common::cid(cid);
    spec.uuid = Uuid::from_u128(u128::from(cid));
    common::make(&path, &ImageSpec::VmdkSparse(spec)).unwrap();
    path
}

fn head(folder: &Path, on: &str, cid: u32) -> PathBuf {
    let path = folder.join("head.vmdk");
    let mut spec = common::sparse(SECTORS);
    spec.parent = Some(ParentLink {
        hint: on.into(),
        cid: common::cid(cid),
        uuid: Uuid::from_u128(u128::from(cid)),
    });
    common::make(&path, &ImageSpec::VmdkSparse(spec)).unwrap();
    path
}

#[test]
fn a_delta_over_another_base_or_a_changed_one_is_refused_naming_both() {
    let folder = tempfile::tempdir().unwrap();
    let right = base(folder.path(), "base.vmdk", 5, SECTORS);
    let path = head(folder.path(), "base.vmdk", 5);
    copied(&path, Format::VmdkSparse).unwrap();

    // The base was written to: every writer renews its content id then.
    renew_cid(&right, common::cid(6), Durability::Unsynced).unwrap();
    let found = copied(&path, Format::VmdkSparse);
    let words = ["base.vmdk", "CID 00000005", "has 00000006"];
    is_refused("changed", found, ErrorKind::Mismatch, &path, &words);

    // Another image of the same name.
    fs::remove_file(&right).unwrap();
    base(folder.path(), "base.vmdk", 7, SECTORS);
    let found = copied(&path, Format::VmdkSparse);
    let words = ["base.vmdk", "CID 00000005", "has 00000007"];
    is_refused("wrong base", found, ErrorKind::Mismatch, &path, &words);

    // The right ids, and another size.
    fs::remove_file(&right).unwrap();
    base(folder.path(), "base.vmdk", 5, SECTORS + 8);
    let found = copied(&path, Format::VmdkSparse);
    is_refused(
        "size",
        found,
        ErrorKind::Mismatch,
        &path,
        &["base.vmdk", "bytes"],
    );

    // Gone, and of a format that no VMDK lies on.
    fs::remove_file(&right).unwrap();
    let found = copied(&path, Format::VmdkSparse);
    is_refused("missing", found, ErrorKind::NotFound, &right, &[]);
    fs::write(&right, vec![1; (SECTORS * 512) as usize]).unwrap();
    let found = copied(&path, Format::VmdkSparse);
    is_refused("raw", found, ErrorKind::Mismatch, &right, &["raw"]);
}

#[test]
fn images_given_as_a_list_are_compared_as_far_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Below::new(folder.path()).unwrap();
    let make = |file: &str, spec: ImageSpec| {
        let path = folder.path().join(file);
        common::make(&path, &spec).unwrap();
        path
    };
    let hds = |sectors| {
        let patches = Vec::new();
        ImageSpec::Hds(HdsSpec { sectors, patches })
    };
    let vdi = |id, parent: Option<u128>| {
        ImageSpec::Vdi(common::vdi(SECTORS, id, parent.map(Uuid::from_u128)))
    };
    let backing = Backing {
        file: "raw".into(),
        format: Format::Raw,
    };
    let qcow2 = ImageSpec::Qcow2(Qcow2Spec {
        sectors: SECTORS,
        backing: Some(backing),
    });
    let raw = RawSpec {
        size: SECTORS * 512 + 512,
        patches: Vec::new(),
    };
    let (raw, base, other, child) = (
        make("raw", ImageSpec::Raw(raw)),
        make("base.vdi", vdi(1, None)),
        make("other.vdi", vdi(2, None)),
        make("child.vdi", vdi(3, Some(1))),
    );
    let (small, qcow2) = (make("small.hds", hds(SECTORS)), make("a.qcow2", qcow2));
    let open = |images: &[(&Path, Format)]| -> Result<()> {
        Chain::open_all(images, Access::Read, &gate).map(drop)
    };
    open(&[(&base, Format::Vdi), (&child, Format::Vdi)]).unwrap();
    for (what, below, above) in [
        ("another base", (&other, Format::Vdi), (&child, Format::Vdi)),
        ("no child", (&base, Format::Vdi), (&other, Format::Vdi)),
        ("upside down", (&child, Format::Vdi), (&base, Format::Vdi)),
        ("smaller", (&raw, Format::Raw), (&small, Format::Hds)),
        ("smaller", (&raw, Format::Raw), (&qcow2, Format::Qcow2)),
    ] {
        let found = open(&[(below.0, below.1), (above.0, above.1)]);
        let name = below.0.file_name().unwrap().to_str().unwrap();
        is_refused(what, found, ErrorKind::Mismatch, above.0, &[name]);
    }
    let found = open(&[(&base, Format::Vdi), (&base, Format::Vdi)]);
    is_refused("twice", found, ErrorKind::Mismatch, &base, &[]);
}

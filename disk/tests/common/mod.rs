//! Specs that the tests of this folder share.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use stratavm_disk::vdi::{Allocation, Ids, ParentIds, VdiSpec};
use stratavm_disk::vmdk::{
    AdapterType, Cid, FlatExtent, FlatKind, FlatSpec, ParentLink, SparseSpec,
};
use stratavm_disk::{Durability, ImageSpec, Result, Volume, create};
use uuid::Uuid;

pub(crate) fn cid(n: u32) -> Cid {
    Cid::new(n).unwrap()
}

pub(crate) fn sparse(sectors: u64) -> SparseSpec {
    SparseSpec {
        file: "head.vmdk".into(),
        sectors,
        cid: cid(0x0a0b_0c0d),
        uuid: Uuid::from_u128(0x11111111_2222_3333_4444_555555555555),
        parent: Some(ParentLink {
            hint: "../os base/os-base.vmdk".into(),
            cid: cid(0xbeef),
            uuid: Uuid::from_u128(0x99999999_2222_3333_4444_555555555555),
        }),
        adapter: AdapterType::LsiLogic,
        patches: Vec::new(),
    }
}

pub(crate) fn flat(files: &[(&str, u64)]) -> FlatSpec {
    let extent = |(file, sectors): &(&str, u64)| FlatExtent {
        file: (*file).to_owned(),
        sectors: *sectors,
        offset: 0,
    };
    FlatSpec {
        kind: FlatKind::Monolithic,
        extents: files.iter().map(extent).collect(),
        cid: cid(0xbeef),
        uuid: Uuid::from_u128(0x99999999_2222_3333_4444_555555555555),
        adapter: AdapterType::Ide,
    }
}

/// Bytes that are nowhere 0, and differ from 4 KiB to 4 KiB.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    for (n, part) in all.chunks_mut(4096).enumerate() {
        part.fill((n % 251) as u8 + 1);
    }
    all
}

pub(crate) fn vdi(sectors: u64, id: u128, parent: Option<Uuid>) -> VdiSpec {
    VdiSpec {
        sectors,
        allocation: Allocation::Dynamic,
        ids: Ids {
            image: Uuid::from_u128(id),
            modification: Uuid::from_u128(id + 0x1_0000),
            parent: parent.map(|image| ParentIds {
                image,
                modification: Uuid::from_u128(image.as_u128() + 0x1_0000),
            }),
        },
        patches: Vec::new(),
    }
}

pub(crate) fn make(path: &Path, spec: &ImageSpec) -> Result<()> {
    create(path, spec, &Volume::default(), Durability::Synced)
}

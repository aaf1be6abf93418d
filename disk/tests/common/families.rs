//! Chains of every format for tests that hold for all of them: how a base with a content and an empty head on it are
//! made. A new format is one more entry of [`FAMILIES`].
#![allow(dead_code, clippy::unwrap_used)]

#[path = "hdd_family.rs"]
mod hdd_family;

use crate::common;
pub(crate) use hdd_family::HDD;
use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::hdd::{HdsSpec, open_snapshot};
use stratavm_disk::qcow2::{Backing, Qcow2Spec};
use stratavm_disk::vdi::VdiSpec;
use stratavm_disk::vmdk::{AdapterType, Cid, FlatDiskSpec, ParentLink, SparseSpec};
use stratavm_disk::{Access, Below, Chain, Format, ImageSpec, Patch, Result, info};
use uuid::Uuid;

/// How a chain of images is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// By its top image: each names the one below.
    ByTop,
    /// By the one bundle that they all are in.
    Bundle,
    /// By a list of all.
    ByList,
}

/// One image of a chain.
#[derive(Clone)]
pub(crate) struct Image {
    /// What is opened: for an image of a bundle, the bundle.
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// The ids that a head on it records, where its format has them.
    pub(crate) cid: Option<Cid>,
    pub(crate) uuid: Option<Uuid>,
}

/// A way of making chains.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) opening: Opening,
    /// Bytes of the disk that tests make: odd where the format takes such a one.
    pub(crate) size: usize,
    /// Makes the lowest image, with this content, in a folder.
    pub(crate) base: fn(&Path, &[u8]) -> Image,
    /// Makes an empty image number `n` (never used before in this folder) on these, the base first.
    pub(crate) head: fn(&Path, n: usize, below: &[Image]) -> Image,
}

pub(crate) const VMDK: Family = Family {
    name: "vmdk over raw",
    opening: Opening::ByTop,
    size: (4 << 20) + 11 * 512,
    base: vmdk_flat,
    head: vmdk_sparse,
};

pub(crate) const VDI: Family = Family {
    name: "vdi",
    opening: Opening::ByList,
    size: (6 << 20) + 3 * 512,
    base: vdi_base,
    head: vdi_head,
};

/// Heads of one format on those of another.
pub(crate) const MIXED: Family = Family {
    name: "mixed",
    opening: Opening::ByList,
    size: 4 << 20,
    base: vmdk_flat,
    head: |folder, n, below| match n % 3 {
        0 => vmdk_sparse(folder, n, below),
        1 => hds(folder, n, below),
        _ => vdi_head(folder, n, below),
    },
};

pub(crate) const QCOW2: Family = Family {
    name: "qcow2 over raw",
    opening: Opening::ByTop,
    size: (4 << 20) - 512,
    base: raw,
    head: qcow2,
};

pub(crate) const VMDK_SPLIT: Family = Family {
    name: "split vmdk",
    opening: Opening::ByTop,
    size: (5 << 20) + 77 * 512,
    base: vmdk_flat_split,
    head: vmdk_split,
};

pub(crate) const HDS: Family = Family {
    name: "hds over raw",
    opening: Opening::ByList,
    size: (3 << 20) + 3 * 512,
    base: raw,
    head: hds,
};

pub(crate) const FAMILIES: &[&Family] = &[&VMDK, &VMDK_SPLIT, &VDI, &MIXED, &QCOW2, &HDS, &HDD];

/// Opens a chain of these images.
pub(crate) fn open(family: &Family, folder: &Path, images: &[Image], access: Access) -> Chain {
    try_open(family, folder, images, access).unwrap()
}

/// The same where it may fail.
pub(crate) fn try_open(
    family: &Family,
    folder: &Path,
    images: &[Image],
    access: Access,
) -> Result<Chain> {
    let gate = Below::new(folder)?;
    let list: Vec<_> = images
        .iter()
        .map(|i| (i.path.as_path(), i.format))
        .collect();
    match (family.opening, list.last()) {
        (Opening::ByTop, Some((path, format))) => Chain::open(path, *format, access, &gate),
        // The writable image by the bundle, those below it by their ids.
        (Opening::Bundle, Some((path, format))) => Chain::open(path, *format, access, &gate)
            .and_then(|chain| match chain.depth() == list.len() {
                true => Ok(chain),
                false => open_snapshot(path, images.last().unwrap().uuid.unwrap(), access, &gate),
            }),
        _ => Chain::open_all(&list, access, &gate),
    }
}

fn vmdk_flat(folder: &Path, content: &[u8]) -> Image {
    fs::write(folder.join("base.raw"), content).unwrap();
    let spec = common::flat(&[("base.raw", (content.len() / 512) as u64)]);
    let path = folder.join("base.vmdk");
    let image = Image {
        path: path.clone(),
        format: Format::VmdkDescriptor,
        cid: Some(spec.cid),
        uuid: Some(spec.uuid),
    };
    common::make(&path, &ImageSpec::VmdkFlat(spec)).unwrap();
    image
}

fn vmdk_sparse(folder: &Path, n: usize, below: &[Image]) -> Image {
    let spec = vmdk_head(n, below);
    let path = folder.join(&spec.file);
    let image = Image {
        path: path.clone(),
        format: Format::VmdkSparse,
        cid: Some(spec.cid),
        uuid: Some(spec.uuid),
    };
    common::make(&path, &ImageSpec::VmdkSparse(spec)).unwrap();
    image
}

fn vdi(folder: &Path, file: &str, spec: VdiSpec) -> Image {
    let path = folder.join(file);
    let image = Image {
        path: path.clone(),
        format: Format::Vdi,
        cid: None,
        uuid: Some(spec.ids.image),
    };
    common::make(&path, &ImageSpec::Vdi(spec)).unwrap();
    image
}

fn vdi_base(folder: &Path, content: &[u8]) -> Image {
    let patch = Patch {
        offset: 0,
        bytes: content.to_vec(),
    };
    let mut spec = common::vdi((content.len() / 512) as u64, 50, None);
    spec.patches.push(patch);
    vdi(folder, "base.vdi", spec)
}

fn vdi_head(folder: &Path, n: usize, below: &[Image]) -> Image {
    let size = info(&below[0].path).unwrap().size;
    let parent = below.last().unwrap().uuid.unwrap();
    let spec = common::vdi(size / 512, 100 + n as u128, Some(parent));
    vdi(folder, &format!("head-{n}.vdi"), spec)
}

fn raw(folder: &Path, content: &[u8]) -> Image {
    let path = folder.join("base.raw");
    fs::write(&path, content).unwrap();
    Image {
        path,
        format: Format::Raw,
        cid: None,
        uuid: None,
    }
}

fn qcow2(folder: &Path, n: usize, below: &[Image]) -> Image {
    let parent = below.last().unwrap();
    let spec = Qcow2Spec {
        sectors: (QCOW2.size / 512) as u64,
        backing: Some(Backing {
            file: parent.path.file_name().unwrap().to_str().unwrap().into(),
            format: parent.format,
        }),
    };
    let path = folder.join(format!("head-{n}.qcow2"));
    common::make(&path, &ImageSpec::Qcow2(spec)).unwrap();
    Image {
        path,
        format: Format::Qcow2,
        cid: None,
        uuid: None,
    }
}

/// Sectors of an extent of split images.
const EXTENT: u64 = 2 * 2048;

fn vmdk_flat_split(folder: &Path, content: &[u8]) -> Image {
    let spec = FlatDiskSpec {
        file: "base.vmdk".into(),
        sectors: (content.len() / 512) as u64,
        cid: common::cid(1),
        uuid: Uuid::from_u128(1),
        adapter: AdapterType::Ide,
        patches: vec![Patch {
            offset: 0,
            bytes: content.to_vec(),
        }],
    };
    make_all(folder, spec.split(EXTENT).unwrap());
    Image {
        path: folder.join(&spec.file),
        format: Format::VmdkDescriptor,
        cid: Some(spec.cid),
        uuid: Some(spec.uuid),
    }
}

fn vmdk_split(folder: &Path, n: usize, below: &[Image]) -> Image {
    let spec = vmdk_head(n, below);
    make_all(folder, spec.split(EXTENT).unwrap());
    Image {
        path: folder.join(&spec.file),
        format: Format::VmdkDescriptor,
        cid: Some(spec.cid),
        uuid: Some(spec.uuid),
    }
}

fn make_all(folder: &Path, files: Vec<(String, ImageSpec)>) {
    for (file, spec) in files {
        common::make(&folder.join(file), &spec).unwrap();
    }
}

fn vmdk_head(n: usize, below: &[Image]) -> SparseSpec {
    let parent = below.last().unwrap();
    let mut spec = common::sparse(info(&below[0].path).unwrap().size / 512);
    spec.file = format!("head-{n}.vmdk");
    spec.cid = common::cid(100 + n as u32);
    spec.uuid = Uuid::from_u128(100 + n as u128);
    spec.parent = Some(ParentLink {
        hint: parent.path.file_name().unwrap().to_str().unwrap().into(),
        // No other format has one, so any will do.
        cid: parent.cid.unwrap_or(common::cid(1)),
        uuid: parent.uuid.unwrap(),
    });
    spec
}

fn hds(folder: &Path, n: usize, below: &[Image]) -> Image {
    let path = folder.join(format!("{n}.hds"));
    let spec = HdsSpec {
        sectors: info(&below[0].path).unwrap().size / 512,
        patches: Vec::new(),
    };
    common::make(&path, &ImageSpec::Hds(spec)).unwrap();
    Image {
        path,
        format: Format::Hds,
        cid: None,
        // It has none, so any will do.
        uuid: Some(Uuid::from_u128(1)),
    }
}

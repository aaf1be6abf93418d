//! What a new image is to be ([`ImageSpec`]), and its exact content as a value ([`ImageBytes`]) that creating, verifying,
//! hashing and golden tests share.

use crate::hdd::{self, HdsSpec};
use crate::qcow2::{self, Qcow2Spec};
use crate::raw::{self, RawSpec};
use crate::vdi::{self, VdiSpec};
use crate::vmdk::{self, ExtentSpec, FlatSpec, ParentLink, SparseSpec, SplitSpec};
use crate::{Error, Patch, Result};
use std::collections::BTreeMap;

/// A new image, in full: the same spec always gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSpec {
    /// A text descriptor over raw files.
    VmdkFlat(FlatSpec),
    /// A sparse VMDK, with or without a parent.
    VmdkSparse(SparseSpec),
    /// The text descriptor of a sparse VMDK in several extents.
    VmdkSplit(SplitSpec),
    /// One of those extents.
    VmdkExtent(ExtentSpec),
    /// A Parallels expanding image.
    Hds(HdsSpec),
    /// A VDI, with or without a parent.
    Vdi(VdiSpec),
    /// A raw image.
    Raw(RawSpec),
    /// A qcow2 image.
    Qcow2(Qcow2Spec),
}

impl ImageSpec {
    /// Size of the guest disk (for an extent or a `.hds`: of its own range) in bytes.
    pub fn disk_size(&self) -> u64 {
        let sectors = match self {
            ImageSpec::VmdkFlat(s) => s
                .extents
                .iter()
                .fold(0, |n: u64, e| n.saturating_add(e.sectors)),
            ImageSpec::VmdkSparse(s) => s.sectors,
            ImageSpec::VmdkSplit(s) => s.sectors(),
            ImageSpec::VmdkExtent(s) => s.sectors,
            ImageSpec::Hds(s) => s.sectors,
            ImageSpec::Vdi(s) => s.sectors,
            ImageSpec::Qcow2(s) => s.sectors,
            ImageSpec::Raw(s) => return s.size,
        };
        sectors.saturating_mul(vmdk::SECTOR)
    }

    /// One line for printed plans. Bytes of patches are counted, not shown: the content's digest says the rest.
    pub fn summary(&self) -> String {
        let size = self.disk_size();
        match self {
            ImageSpec::VmdkFlat(s) => {
                let files: Vec<_> = s
                    .extents
                    .iter()
                    .map(|e| format!("{:?}@{}+{}", e.file, e.offset, e.sectors))
                    .collect();
                let (adapter, files) = (s.adapter.as_str(), files.join(","));
                format!(
                    "vmdk-flat size={size} cid={} uuid={} adapter={adapter} extents={files}",
                    s.cid, s.uuid
                )
            }
            ImageSpec::VmdkSparse(s) => {
                format!(
                    "vmdk-sparse size={size} cid={} uuid={} adapter={} parent={}{}",
                    s.cid,
                    s.uuid,
                    s.adapter.as_str(),
                    linked(s.parent.as_ref()),
                    patched(&s.patches)
                )
            }
            ImageSpec::VmdkSplit(s) => {
                let files = s
                    .extents
                    .iter()
                    .map(|e| format!("{:?}+{}", e.file, e.sectors));
                format!(
                    "vmdk-split size={size} cid={} uuid={} adapter={} parent={} extents={}",
                    s.cid,
                    s.uuid,
                    s.adapter.as_str(),
                    linked(s.parent.as_ref()),
                    files.collect::<Vec<_>>().join(",")
                )
            }
            ImageSpec::VmdkExtent(s) => {
                format!("vmdk-extent size={size}{}", patched(&s.patches))
            }
            ImageSpec::Hds(s) => format!("hds size={size}{}", patched(&s.patches)),
            ImageSpec::Vdi(s) => {
                let allocation = match s.allocation {
                    vdi::Allocation::Dynamic => "dynamic",
                    vdi::Allocation::Fixed => "fixed",
                };
                let parent = s
                    .ids
                    .parent
                    .map_or_else(|| "none".to_owned(), |p| p.image.to_string());
                format!(
                    "vdi size={size} {allocation} uuid={} parent-uuid={parent}{}",
                    s.ids.image,
                    patched(&s.patches)
                )
            }
            ImageSpec::Raw(s) => format!("raw size={size}{}", patched(&s.patches)),
            ImageSpec::Qcow2(s) => {
                let parent = s.backing.as_ref();
                let parent = parent.map(|b| format!("{:?} ({})", b.file, b.format));
                format!(
                    "qcow2 size={size} parent={}",
                    parent.as_deref().unwrap_or("none")
                )
            }
        }
    }

    /// Bytes of the file once the guest has written everywhere.
    pub(crate) fn grown_len(&self, now: u64) -> u64 {
        match self {
            ImageSpec::VmdkSparse(s) => vmdk::sparse_grown_len(s.sectors),
            ImageSpec::VmdkExtent(s) => vmdk::extent_grown_len(s.sectors),
            ImageSpec::Hds(s) => hdd::grown_len(s),
            ImageSpec::Vdi(s) => vdi::grown_len(s),
            ImageSpec::Qcow2(s) => qcow2::grown_len(s),
            ImageSpec::VmdkFlat(_) | ImageSpec::VmdkSplit(_) | ImageSpec::Raw(_) => now,
        }
    }
}

fn linked(parent: Option<&ParentLink>) -> String {
    parent.map_or_else(
        || "none".to_owned(),
        |p| format!("{:?} parent-cid={} parent-uuid={}", p.hint, p.cid, p.uuid),
    )
}

fn patched(patches: &[Patch]) -> String {
    if patches.is_empty() {
        return String::new();
    }
    let bytes: u64 = patches.iter().map(|p| p.bytes.len() as u64).sum();
    format!(" patches={} ({bytes} bytes)", patches.len())
}

/// The content of a file as its length and the ranges that are not known to be zero. Grain tables and block tables
/// without entries take no memory, whatever the size of the disk; a VDI's are not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageBytes {
    /// Length of the file in bytes.
    pub len: u64,
    /// `(offset, bytes)` in order of offset, without overlap; everything between them is zero.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

impl ImageBytes {
    pub(crate) fn new(len: u64) -> ImageBytes {
        ImageBytes {
            len,
            pieces: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, offset: u64, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.pieces.push((offset, bytes));
        }
    }

    /// Puts 32-bit table entries in, one piece per run of neighbours, into a table that starts at byte `table`.
    pub(crate) fn push_entries(&mut self, table: u64, entries: &BTreeMap<u64, u64>) {
        let mut run: Option<(u64, Vec<u8>)> = None;
        for (&index, &value) in entries {
            // The specs are checked before: every value fits the 32 bits of an entry.
            let value = (value as u32).to_le_bytes();
            let at = table + index * 4;
            match &mut run {
                Some((start, bytes)) if *start + bytes.len() as u64 == at => bytes.extend(value),
                _ => self.pieces.extend(run.replace((at, value.to_vec()))),
            }
        }
        self.pieces.extend(run);
    }

    pub(crate) fn finish(mut self) -> ImageBytes {
        self.pieces.sort_by_key(|(offset, _)| *offset);
        self
    }
}

/// The exact content of a new image, without touching a disk: what [`create`](crate::create) writes. Memory follows the
/// patches, the grain directories (256 KiB for a 1 TiB sparse VMDK) and a VDI's block map (4 MiB at 1 TiB).
///
/// # Errors
/// `Invalid` or `Limit` if the spec cannot be made, naming the value at fault.
pub fn image_bytes(spec: &ImageSpec) -> Result<ImageBytes> {
    let (made, op) = match spec {
        ImageSpec::VmdkFlat(s) => (vmdk::render_flat(s), "make VMDK descriptor"),
        ImageSpec::VmdkSparse(s) => (vmdk::render_sparse(s), "make sparse VMDK"),
        ImageSpec::VmdkSplit(s) => (vmdk::render_split(s), "make VMDK descriptor"),
        ImageSpec::VmdkExtent(s) => (vmdk::render_extent(s), "make sparse VMDK extent"),
        ImageSpec::Hds(s) => (hdd::render(s), "make hds image"),
        ImageSpec::Vdi(s) => (vdi::render(s), "make VDI"),
        ImageSpec::Raw(s) => (raw::render(s), "make raw image"),
        ImageSpec::Qcow2(s) => (qcow2::render(s), "make qcow2 image"),
    };
    made.map_err(|e: Error| e.during(op))
}

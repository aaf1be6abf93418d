//! What new sparse VMDK files hold: both link styles (VMware's and QEMU's parentCID + hint, VirtualBox's ddb.uuid.*) in
//! one embedded descriptor. Flat images are in `flat`, split ones in `split`. Everything here is a pure function of the spec: no clock, no randomness, no file is touched.

use super::descriptor::new_ddb;
use super::header::{GRAIN_SECTORS, GT_SECTORS, GTES_PER_GT};
use super::{
    Access, AdapterType, Cid, CreateType, Descriptor, Extent, ExtentKind, MAX_EXTENT_NAME, SECTOR,
    SparseHeader, check_sectors,
};
use crate::image::ImageBytes;
use crate::patch::{self, Patch};
use crate::{Error, Result};
use std::collections::BTreeMap;
use uuid::Uuid;

/// QEMU refuses a longer hint.
const MAX_HINT: usize = 4095;
/// Sectors that 32-bit grain table entries can address.
const ADDRESSABLE: u64 = 1 << 32;

/// How a child finds and checks its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentLink {
    /// The parent's file as written: `/` separated, relative to the child's folder or absolute.
    pub hint: String,
    /// The parent's content id.
    pub cid: Cid,
    /// The parent's VirtualBox id.
    pub uuid: Uuid,
}

/// A new monolithicSparse image: a head over a parent, or a disk of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseSpec {
    /// The image's own file name, without folders: it stands in the embedded descriptor, so a file made under another
    /// name is refused.
    pub file: String,
    /// Size of the disk in sectors, equal to the parent's. At most about 2 TiB - 257 MiB, so that a full image can still
    /// be addressed with 32-bit sector numbers.
    pub sectors: u64,
    /// Content id of this image.
    pub cid: Cid,
    /// VirtualBox's id of this image.
    pub uuid: Uuid,
    /// The parent, if any.
    pub parent: Option<ParentLink>,
    /// Adapter, for the geometry.
    pub adapter: AdapterType,
    /// What stands in it, in order of offset. Over a parent only whole grains (64 KiB) can be put in, because the rest
    /// of a grain would hide the parent's data.
    pub patches: Vec<Patch>,
}

pub(crate) fn render_sparse(spec: &SparseSpec) -> Result<ImageBytes> {
    check_sparse(spec)?;
    let header = SparseHeader::for_new(spec.sectors);
    let text = sparse_descriptor(spec).to_text()?;
    let room = header.descriptor_size * SECTOR;
    if text.len() as u64 >= room {
        return Err(Error::limit(format!(
            "descriptor of {} bytes does not fit into {room}: the names in it are too long",
            text.len()
        )));
    }

    Ok(render_grains(&header, Some(text), &spec.patches))
}

/// Header, descriptor, directories and the grains that `patches` touch. The caller has checked all of them.
pub(super) fn render_grains(
    header: &SparseHeader,
    text: Option<String>,
    patches: &[Patch],
) -> ImageBytes {
    let mut grains = BTreeMap::new();
    let parts: Vec<_> = patch::by_block(patches, GRAIN_SECTORS * SECTOR).collect();
    for part in &parts {
        let next = header.overhead + grains.len() as u64 * GRAIN_SECTORS;
        grains.entry(part.block).or_insert(next);
    }
    let end = header.overhead + grains.len() as u64 * GRAIN_SECTORS;
    let mut out = ImageBytes::new(end * SECTOR);
    out.push(0, header.to_bytes().to_vec());
    if let Some(text) = text {
        out.push(header.descriptor_offset * SECTOR, text.into_bytes());
    }
    for directory in header.redundant_directory.iter().chain(&header.directory) {
        let tables = directory + header.directory_sectors();
        let mut entries = vec![0; header.table_count() as usize * 4];
        for (entry, table) in entries.chunks_exact_mut(4).zip(0..) {
            let sector = tables + table * GT_SECTORS;
            entry.copy_from_slice(&(sector as u32).to_le_bytes());
        }
        out.push(directory * SECTOR, entries);
        // Tables lie one behind the other, so grain g's entry is at a fixed place. Untouched ones stay holes.
        debug_assert_eq!(GT_SECTORS * SECTOR, GTES_PER_GT * 4);
        out.push_entries(tables * SECTOR, &grains);
    }
    for part in parts {
        if let Some(sector) = grains.get(&part.block) {
            out.push(sector * SECTOR + part.within, part.bytes.to_vec());
        }
    }
    out.finish()
}

/// Bytes of the file once every grain is written.
pub(crate) fn sparse_grown_len(sectors: u64) -> u64 {
    let header = SparseHeader::for_new(sectors);
    header.grown().saturating_mul(SECTOR)
}

pub(super) fn check_sparse(spec: &SparseSpec) -> Result<()> {
    check_sectors(spec.sectors)?;
    if SparseHeader::for_new(spec.sectors).grown() > ADDRESSABLE {
        return Err(Error::limit(format!(
            "disk of {} sectors: a full sparse VMDK of that size is beyond 32-bit sector numbers",
            spec.sectors
        )));
    }
    if !is_file_name(&spec.file) {
        return Err(Error::invalid(format!(
            "{:?} is no file name without folders",
            spec.file
        )));
    }
    check_links(spec.cid, spec.uuid, spec.parent.as_ref())?;
    check_patches(&spec.patches, spec.sectors, spec.parent.as_ref())
}

/// Whether a descriptor can name this file beside itself, and every product reads the name whole.
pub(super) fn is_file_name(file: &str) -> bool {
    !file.is_empty() && !file.contains(['/', '\\']) && file.len() <= MAX_EXTENT_NAME
}

/// The ids of an image and those of its parent.
pub(super) fn check_links(cid: Cid, uuid: Uuid, parent: Option<&ParentLink>) -> Result<()> {
    cid.check_usable()?;
    if uuid.is_nil() {
        return Err(Error::invalid("the image's UUID is null"));
    }
    let Some(parent) = parent else {
        return Ok(());
    };
    parent.cid.check_usable()?;
    if parent.uuid.is_nil() || parent.uuid == uuid {
        return Err(Error::invalid(
            "the parent's UUID is null or the child's own",
        ));
    }
    if parent.hint.is_empty() || parent.hint.len() > MAX_HINT {
        return Err(Error::invalid(format!(
            "parent hint of {} bytes",
            parent.hint.len()
        )));
    }
    Ok(())
}

/// Over a parent only whole grains can be put in.
pub(super) fn check_patches(
    patches: &[Patch],
    sectors: u64,
    parent: Option<&ParentLink>,
) -> Result<()> {
    patch::check(patches, sectors * SECTOR)?;
    match parent {
        Some(_) => whole_grains(patches, sectors * SECTOR),
        None => Ok(()),
    }
}

/// Adjacent patches count as one. The last grain ends with the disk.
fn whole_grains(patches: &[Patch], size: u64) -> Result<()> {
    let grain = GRAIN_SECTORS * SECTOR;
    let mut end = 0;
    for p in patches.iter().filter(|p| !p.bytes.is_empty()) {
        if p.offset != end && !(end.is_multiple_of(grain) && p.offset.is_multiple_of(grain)) {
            return Err(partial_grain(p.offset));
        }
        end = p.end();
    }
    if end.is_multiple_of(grain) || end == size {
        Ok(())
    } else {
        Err(partial_grain(end))
    }
}

fn partial_grain(at: u64) -> Error {
    Error::invalid(format!(
        "patches cover a part of the 64 KiB grain at {at} only: the rest would hide the parent's data"
    ))
}

pub(super) fn sparse_descriptor(spec: &SparseSpec) -> Descriptor {
    let parent = spec.parent.as_ref();
    Descriptor {
        cid: spec.cid,
        parent_cid: parent.map(|p| p.cid),
        create_type: CreateType::MonolithicSparse,
        parent_hint: parent.map(|p| p.hint.clone()),
        other: encoding(),
        extents: vec![Extent {
            access: Access::ReadWrite,
            sectors: spec.sectors,
            kind: ExtentKind::Sparse,
            file: Some(spec.file.clone()),
            offset: None,
        }],
        ddb: new_ddb(
            spec.sectors,
            spec.cid,
            spec.uuid,
            parent.map(|p| p.uuid),
            spec.adapter,
        ),
    }
}

pub(super) fn encoding() -> Vec<(String, String)> {
    vec![("encoding".to_owned(), "UTF-8".to_owned())]
}

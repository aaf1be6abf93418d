//! Giving an image the ids and links of its place in a chain: a copy of one of ours, or one that a product made with
//! links of its own style alone. Its descriptor is written anew from the spec of the image that it becomes; its grains
//! stay where they are.

use super::create::{check_sparse, sparse_descriptor};
use super::split::{check_extents, render_split};
use super::{
    CreateType, Descriptor, ExtentKind, MAX_DESCRIPTOR, SECTOR, Shutdown, SparseHeader, SparseSpec,
    SplitSpec, read_header, read_text,
};
use crate::chain::Identity;
use crate::durable::folder_of;
use crate::file::ImageFile;
use crate::{Durability, Error, ImageSpec, Result, write_atomic};
use std::path::Path;

/// Where an image comes from that is to be relinked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It is a copy of an image of ours: what it says of a parent is of no account.
    Copy,
    /// A product made it, on an image that had these ids then. It must say so, in VMware's way (parentCID) or in
    /// VirtualBox's (`ddb.uuid.parent`, while its parentCID is ffffffff), and must have been closed.
    Product(Identity),
}

/// Replaces the descriptor of a sparse image by that of `spec` ([`ImageSpec::VmdkSparse`]: inside the file;
/// [`ImageSpec::VmdkSplit`]: the text file): name, ids, links, adapter. Nothing of the old one is kept, and `spec`'s
/// patches are not looked at.
///
/// A text file is replaced as a whole. A descriptor inside a file is written in place: cut short by a crash, the same
/// call goes on with it.
///
/// # Errors
/// `Mismatch` if the file is no image of the spec's kind, size and extents, if it says that it lies on another image
/// than `origin` does, or if its writer did not close it; `Unsupported` for one with zeroed grains or packed ones,
/// which not every product reads in a chain; `Limit` if the descriptor has no room; `Invalid` for a spec that cannot be
/// made; `Malformed` from reading; else what the system reports.
pub fn relink(
    file: &Path,
    spec: &ImageSpec,
    origin: &Origin,
    durability: Durability,
) -> Result<()> {
    let done = match spec {
        ImageSpec::VmdkSparse(spec) => sparse(file, spec, origin, durability),
        ImageSpec::VmdkSplit(spec) => split(file, spec, origin, durability),
        _ => Err(Error::invalid("an image of this kind has no links")),
    };
    done.map_err(|e| e.at_path(file).during("relink image"))
}

fn sparse(path: &Path, spec: &SparseSpec, origin: &Origin, durability: Durability) -> Result<()> {
    check_sparse(spec)?;
    let file = ImageFile::open_rw(path)?;
    let header = read_header(&file)?;
    check_header(&header, spec.sectors, origin)?;
    let room = header.descriptor_size * SECTOR;
    let mut new = sparse_descriptor(spec).to_text()?.into_bytes();
    if new.len() as u64 >= room {
        return Err(Error::limit(format!(
            "descriptor of {} bytes does not fit into {room}",
            new.len()
        )));
    }
    // At most 1 MiB: the header's bound.
    new.resize(room as usize, 0);
    let mut old = vec![0; new.len()];
    file.read_exact_at(&mut old, header.descriptor_offset * SECTOR)?;
    let text = old.split(|byte| *byte == 0).next().unwrap_or_default();
    match Descriptor::parse(text, path) {
        Ok(found) => {
            let one = matches!(found.extents.as_slice(), [only] if only.kind == ExtentKind::Sparse);
            if found.create_type != CreateType::MonolithicSparse || !one {
                return Err(Error::mismatch("not a monolithicSparse image"));
            }
            header.check_sectors(found.sectors())?;
            if found.sectors() != spec.sectors {
                return Err(sizes(found.sectors(), spec.sectors));
            }
            check_parent(&found, origin)?;
        }
        // It was all right when this was begun.
        Err(_) if is_begun(&old, &new) => {}
        Err(error) => return Err(error),
    }
    file.write_all_at(&new, header.descriptor_offset * SECTOR)?;
    match durability {
        Durability::Synced => file.sync(),
        Durability::Unsynced => Ok(()),
    }
}

/// Whether a part of the new descriptor stands in its place already.
fn is_begun(old: &[u8], new: &[u8]) -> bool {
    let sectors = old.chunks(SECTOR as usize).zip(new.chunks(SECTOR as usize));
    let mut written = sectors.filter(|(_, new)| new.iter().all(|byte| *byte != 0));
    written.any(|(old, new)| old == new)
}

fn split(path: &Path, spec: &SplitSpec, origin: &Origin, durability: Durability) -> Result<()> {
    let new = render_split(spec)?;
    let file = ImageFile::open(path)?;
    if file.len() > MAX_DESCRIPTOR as u64 {
        return Err(Error::mismatch("not a text descriptor"));
    }
    let found = Descriptor::parse(&read_text(&file)?, path)?;
    drop(file); // Windows renames over no open file
    if found.create_type != CreateType::TwoGbMaxExtentSparse {
        return Err(Error::mismatch("not a twoGbMaxExtentSparse image"));
    }
    match origin {
        // Its extents were renamed with it.
        Origin::Copy if found.sectors() == spec.sectors() => {}
        Origin::Copy => return Err(sizes(found.sectors(), spec.sectors())),
        Origin::Product(_) => check_extents(&found, &spec.extents)?,
    }
    for extent in &spec.extents {
        // A name without folders: the spec was checked.
        let file = ImageFile::open(&folder_of(path).join(&extent.file))?;
        let header = read_header(&file)?;
        check_header(&header, extent.sectors, origin).map_err(|e| e.at_path(file.path()))?;
    }
    check_parent(&found, origin)?;
    let text: Vec<u8> = new.pieces.into_iter().flat_map(|(_, text)| text).collect();
    write_atomic(path, &text, durability)
}

fn check_header(header: &SparseHeader, sectors: u64, origin: &Origin) -> Result<()> {
    header
        .check_sectors(sectors)
        .map_err(|_| sizes(header.capacity, sectors))?;
    if header.version != 1 {
        return Err(Error::unsupported(format!(
            "a sparse image of version {}, which VirtualBox takes for no member of a chain: convert it",
            header.version
        )));
    }
    let closed = header.shutdown == Shutdown::Clean || *origin == Origin::Copy;
    match closed {
        true => Ok(()),
        false => Err(Error::mismatch(
            "its last writer did not close it, or has it open: check and repair it first",
        )),
    }
}

/// Whether it says that it lies on the image that it is to lie on.
fn check_parent(found: &Descriptor, origin: &Origin) -> Result<()> {
    let Origin::Product(parent) = origin else {
        return Ok(());
    };
    let (cid, uuid) = (found.parent_cid, found.parent_uuid());
    // What one product says must hold; what it leaves out the other one says.
    let other = |what: &str, found: &dyn std::fmt::Display| {
        Err(Error::mismatch(format!(
            "it was made over another image, of {what} {found}"
        )))
    };
    match (cid, parent.cid) {
        (Some(found), Some(want)) if found != want => return other("CID", &found),
        _ => {}
    }
    match (uuid, parent.uuid) {
        (Some(found), Some(want)) if found != want => return other("UUID", &found),
        _ => {}
    }
    let named = cid.is_some() && parent.cid.is_some() || uuid.is_some() && parent.uuid.is_some();
    match named {
        true => Ok(()),
        false => Err(Error::mismatch("it names no parent")),
    }
}

fn sizes(found: u64, want: u64) -> Error {
    Error::mismatch(format!("disk of {found} sectors, not {want}"))
}

#[cfg(test)]
mod tests;

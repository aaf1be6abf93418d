//! Giving a copied image the ids of its own: its descriptor is written anew from the spec of the new image, its grains
//! stay where they are.

use super::create::{check_sparse, sparse_descriptor};
use super::{CreateType, ExtentKind, Head, SECTOR, SparseSpec};
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use std::path::Path;

/// Replaces the embedded descriptor of a monolithicSparse file by that of `spec`: name, ids, links, adapter. Nothing of
/// the old one is kept. For a copy that nobody knows yet: the write is not one that a crash leaves whole or undone.
///
/// # Errors
/// `Mismatch` if the file is no monolithicSparse image of the spec's size; `Limit` if the descriptor has no room;
/// `Invalid` for a spec that cannot be made; `Malformed` and `Unsupported` from reading; else what the system reports.
pub fn relink(file: &Path, spec: &SparseSpec, durability: Durability) -> Result<()> {
    replace(file, spec, durability).map_err(|e| e.at_path(file).during("relink image"))
}

fn replace(path: &Path, spec: &SparseSpec, durability: Durability) -> Result<()> {
    check_sparse(spec)?;
    let file = ImageFile::open_rw(path)?;
    let head = Head::read(&file)?;
    let (found, header) = (&head.descriptor, &head.header);
    let sparse = matches!(found.extents.as_slice(), [only] if only.kind == ExtentKind::Sparse);
    if found.create_type != CreateType::MonolithicSparse || !sparse {
        return Err(Error::mismatch("not a monolithicSparse image"));
    }
    if header.capacity != spec.sectors || found.sectors() != spec.sectors {
        return Err(Error::mismatch(format!(
            "disk of {} sectors, not {}",
            header.capacity, spec.sectors
        )));
    }
    let room = header.descriptor_size * SECTOR;
    let mut text = sparse_descriptor(spec).to_text()?.into_bytes();
    if text.len() as u64 >= room {
        return Err(Error::limit(format!(
            "descriptor of {} bytes does not fit into {room}",
            text.len()
        )));
    }
    // At most 1 MiB: the header's bound.
    text.resize(room as usize, 0);
    file.write_all_at(&text, header.descriptor_offset * SECTOR)?;
    match durability {
        Durability::Synced => file.sync(),
        Durability::Unsynced => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::vmdk::{AdapterType, Cid, ParentLink};
    use crate::{ImageSpec, Patch, Volume};
    use uuid::Uuid;

    fn spec(name: &str, id: u128, patches: Vec<Patch>) -> SparseSpec {
        let parent = ParentLink {
            hint: format!("base-{id}.vmdk"),
            cid: Cid::new(id as u32 + 1).unwrap(),
            uuid: Uuid::from_u128(id + 1),
        };
        SparseSpec {
            file: format!("{name}.vmdk"),
            sectors: 4096,
            cid: Cid::new(id as u32).unwrap(),
            uuid: Uuid::from_u128(id),
            parent: Some(parent),
            adapter: AdapterType::Ide,
            patches,
        }
    }

    #[test]
    fn a_relinked_copy_is_what_a_new_image_with_the_same_data_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let grain = Patch {
            offset: 1 << 16,
            bytes: vec![7; 1 << 16],
        };
        let path = dir.path().join("b.vmdk");
        let old = spec("a", 1, vec![grain.clone()]);
        let made = dir.path().join("a.vmdk");
        let volume = Volume::default();
        crate::create(
            &made,
            &ImageSpec::VmdkSparse(old),
            &volume,
            Durability::Unsynced,
        )
        .unwrap();
        std::fs::rename(&made, &path).unwrap();
        let new = spec("b", 1000, vec![grain]);
        relink(&path, &new, Durability::Synced).unwrap();
        crate::verify(&path, &ImageSpec::VmdkSparse(new.clone())).unwrap();
        let other = SparseSpec {
            sectors: 8192,
            ..new
        };
        let error = relink(&path, &other, Durability::Unsynced).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Mismatch);
    }
}

//! Ids of existing images: renewed when a head becomes a parent, replaced when an image gets another place in a chain.
//! One write inside the first sector: nothing else of the file changes.

use super::header::{Header, Ids, PLACE};
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use std::path::Path;
use uuid::Uuid;

/// Gives an image that becomes a parent a new modification id, so that what is written to it afterwards can be told from
/// what its children were made over. Its own id and its parent's stay.
///
/// # Errors
/// `Invalid` for a nil id; `Malformed` and `Unsupported` from reading; else what the operating system reports. The file
/// is unchanged unless the write itself failed.
pub fn renew_modification(file: &Path, new: Uuid, durability: Durability) -> Result<()> {
    change(file, durability, |old| Ids {
        modification: new,
        ..old
    })
    .map_err(|e| e.at_path(file).during("renew modification UUID"))
}

/// Replaces all ids of an image. Whether it has a parent must not change: a base holds no marks that would let one shine
/// through, and a child is not whole without one.
///
/// # Errors
/// `Mismatch` if it has a parent and is to have none, or the other way round; else as for [`renew_modification`].
pub fn relink(file: &Path, ids: &Ids, durability: Durability) -> Result<()> {
    change(file, durability, |_| *ids).map_err(|e| e.at_path(file).during("relink image"))
}

fn change(path: &Path, durability: Durability, new: impl FnOnce(Ids) -> Ids) -> Result<()> {
    let file = ImageFile::open_rw(path)?;
    let old = Header::read(&file)?.ids;
    let new = new(old);
    new.check()?;
    if old.parent.is_some() != new.parent.is_some() {
        return Err(Error::mismatch(match old.parent {
            Some(_) => "it has a parent",
            None => "it has no parent",
        }));
    }
    let mut sector = [0; 512];
    new.put(&mut sector);
    file.write_all_at(&sector[PLACE], PLACE.start as u64)?;
    match durability {
        Durability::Synced => file.sync(),
        Durability::Unsynced => Ok(()),
    }
}

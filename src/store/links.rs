//! Symbolic links have no place in a store: followed, one would lead an operation, or a product, out
//! of it. They are looked for before anything in a folder is used.
//!
//! The store is its user's alone, so nobody else plants one between the look and the use; what this
//! is for are folders that came from somebody else.

use std::fs;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Refuses a link at `path`; what is not there is no error.
///
/// # Errors
/// [`ErrorKind::Malformed`], naming the link.
pub(crate) fn refuse_link(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(is_link(path)),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("the store cannot be looked at", path, error))
        }
        _ => Ok(()),
    }
}

/// Refuses a link at `folder` or anywhere below it.
///
/// # Errors
/// [`ErrorKind::Malformed`], naming the first link found.
pub(crate) fn refuse_links_below(folder: &Path) -> Result<()> {
    refuse_link(folder)?;
    let failed = |error| Error::io("the folder cannot be listed", folder, error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let kind = match entry.file_type() {
            // Gone since the folder was read: products remove files of theirs at any time.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            kind => kind.map_err(failed)?,
        };
        if kind.is_symlink() {
            return Err(is_link(&entry.path()));
        }
        if kind.is_dir() {
            refuse_links_below(&entry.path())?;
        }
    }
    Ok(())
}

fn is_link(path: &Path) -> Error {
    let message = "a symbolic link stands where the store keeps its own files";
    Error::new(ErrorKind::Malformed, message)
        .at(path)
        .next("remove the link, and bring back what it took the place of")
}

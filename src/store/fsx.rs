//! The few file operations of the store that are more than one call: each names its path in its
//! error and knows what must be on disk before the next one.

use std::io::Read as _;
use std::path::Path;

use stratavm_disk::fs::{self, Access, File};
use stratavm_disk::{Permissions, Volume};

use crate::error::{Error, ErrorKind, Result};

/// Makes a folder, and those above it, that only the user can enter; one that is there stays.
pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io("the folder could not be made", path, error))
}

/// Reads a file of the store that is expected to be small; a larger one is refused before it is
/// read, and so is anything but a regular file: a link would lead elsewhere, a pipe would block.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |error| Error::io("the file could not be read", path, error);
    if !std::fs::symlink_metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new(ErrorKind::Malformed, "this is no regular file").at(path));
    }
    let file = File::open(path).map_err(failed)?.into_std();
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!("the file is over {most} bytes"),
        )
        .at(path));
    }
    Ok(bytes)
}

/// Takes the permission to write: images, frozen files and base descriptors are never edited again.
/// Where the volume knows no such thing, nothing is asked of it: it may refuse, or do nothing.
pub(crate) fn seal(path: &Path, volume: &Volume) -> Result<()> {
    let failed = |error| Error::io("the file could not be made read-only", path, error);
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if volume.permissions == Permissions::None || found.permissions().readonly() {
        return Ok(());
    }
    fs::set_access(path, Access::ReadOnly).map_err(failed)
}

/// Gives the permission to write back.
pub(crate) fn unseal(path: &Path, volume: &Volume) -> Result<()> {
    if volume.permissions == Permissions::None {
        return Ok(());
    }
    fs::set_access(path, Access::Private)
        .map_err(|error| Error::io("the file could not be made writable", path, error))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    Ok(stratavm_disk::fsync_dir(path)?)
}

/// Removes a folder with all that is in it; one that is gone already is no error.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("the folder could not be removed", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes a file's name; one that is gone already is no error.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("the file could not be removed", path, error))
        }
        _ => Ok(()),
    }
}

//! What things in the store take on the volume, and taking them away as a whole.
//!
//! What may go is decided in [`super::prune`].

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use stratavm_disk::fs as layer;

use super::sync_dir;
use crate::error::{Error, Result};

/// What the names of things start with that were renamed out of the way to be removed.
pub(crate) const GONE: &str = ".gone-";

/// The bytes that a file takes on its volume; its length where the system does not say.
pub(crate) fn allocated(found: &Metadata) -> u64 {
    layer::allocated(found).unwrap_or(found.len())
}

/// The bytes that a file, or a folder with all that is in it, takes on its volume. No link is
/// followed, a file of several names counts once, what cannot be read counts nothing.
pub(crate) fn tree_bytes(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if counted_before(&found, &mut seen) {
            continue;
        }
        bytes = bytes.saturating_add(allocated(&found));
        if found.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(unix)]
fn counted_before(found: &Metadata, seen: &mut HashSet<(u64, u64)>) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    found.nlink() > 1 && found.is_file() && !seen.insert((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn counted_before(_: &Metadata, _: &mut HashSet<(u64, u64)>) -> bool {
    false
}

/// Removes a folder so that a kill in between leaves it whole or gone: it gets a name that stands
/// for nothing first. `name` tells it from others that wait to be removed.
pub(crate) fn take_away(folder: &Path, name: &str) -> Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    let gone = parent.join(format!("{GONE}{name}"));
    // The rest of a removal that was cut short; its place is needed.
    remove_tree(&gone)?;
    layer::rename(folder, &gone).map_err(|error| {
        Error::io(
            "the folder could not be moved out of the way",
            folder,
            error,
        )
    })?;
    sync_dir(parent)?;
    remove_tree(&gone)
}

/// Removes a file or a folder with all that is in it, read-only files too; one that is gone
/// already is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => layer::remove_dir_all(path),
        Ok(_) => layer::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("it could not be removed", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_folder_goes_as_a_whole_and_its_size_is_what_it_takes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("image");
        fs::create_dir_all(folder.join("leases")).unwrap();
        let sparse = fs::File::create(folder.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        fs::write(folder.join("data"), vec![7; 1 << 20]).unwrap();
        let taken = tree_bytes(&folder);
        assert!(
            cfg!(not(unix)) || (1 << 20..2 << 20).contains(&taken),
            "{taken}"
        );
        fs::create_dir(dir.path().join(".gone-x")).unwrap();
        take_away(&folder, "x").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove_tree(&folder).unwrap();
        assert!(take_away(&folder, "x").is_err());
    }
}

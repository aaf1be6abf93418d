//! Getting names and bytes onto the volume for good: folders, and files that are replaced as a whole.

use crate::file::ImageFile;
use crate::{Error, ErrorKind, Result, fs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a call returns only when its bytes would outlive a crash of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The file is flushed to the volume. Its name is not: flush the folder with [`fsync_dir`].
    Synced,
    /// Left to the operating system.
    Unsynced,
}

/// Flushes a folder, so that names made, renamed or removed in it outlive a crash.
///
/// # Errors
/// What the operating system reports, with the path.
pub fn fsync_dir(path: &Path) -> Result<()> {
    fs::sync_dir(path).map_err(|e| Error::from(e).at_path(path).during("flush folder"))
}

/// Replaces a file, or makes it: readers see the old bytes or the new ones, never a part. The bytes go into a file
/// `.stratavm-tmp-PID-N` of the same folder, which is then renamed; on failure it is removed. With
/// [`Durability::Synced`] the file is flushed before the rename and the folder after it.
///
/// # Errors
/// What the operating system reports, with the path.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    replace(path, bytes, durability).map_err(|e| e.renamed_to(path).during("write file"))
}

fn replace(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let folder = folder_of(path);
    let (temporary, file) = new_temporary(folder)?;
    let guard = Partial::new(&temporary);
    file.write_all_at(bytes, 0)?;
    if durability == Durability::Synced {
        file.sync()?;
    }
    drop(file); // Windows renames no open file
    fs::rename(&temporary, path)?;
    guard.keep();
    match durability {
        Durability::Synced => fsync_dir(folder),
        Durability::Unsynced => Ok(()),
    }
}

/// The folder a path lies in; `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn new_temporary(folder: &Path) -> Result<(PathBuf, ImageFile)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".stratavm-tmp-{}-{n}", std::process::id()));
        match ImageFile::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            // Left behind by a process of the same number that was killed: take the next.
            Err(e) if e.kind() == ErrorKind::Exists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Removes a file that is not finished when it goes out of scope.
pub(crate) struct Partial(Option<PathBuf>);

impl Partial {
    pub(crate) fn new(path: &Path) -> Partial {
        Partial(Some(path.to_owned()))
    }

    /// The file is complete.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // The error that led here is the one to report.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(?path, %error, "an unfinished file could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.json");
        for (bytes, durability) in [
            (&b"old"[..], Durability::Synced),
            (b"new", Durability::Unsynced),
        ] {
            write_atomic(&path, bytes, durability).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_rename_that_fails_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("x"), "x").unwrap();
        let e = write_atomic(&target, b"x", Durability::Synced).unwrap_err();
        assert_eq!(e.path(), Some(target.as_path()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/x");
        let e = write_atomic(&path, b"", Durability::Synced).unwrap_err();
        assert_eq!(
            (e.kind(), e.path()),
            (ErrorKind::NotFound, Some(path.as_path()))
        );
        assert_eq!(
            fsync_dir(&dir.path().join("no")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        fsync_dir(dir.path()).unwrap();
    }
}

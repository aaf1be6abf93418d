//! All or nothing: new files are made in a folder of their own beside the target, and get their names there when all of
//! them are complete; the one that stands for the image comes last.

use crate::durable::folder_of;
use crate::{Durability, Error, ErrorKind, Result, fs, fsync_dir};
use std::path::{Path, PathBuf};

/// A folder for files that are not complete yet. It goes, with what is in it, when this is dropped.
pub(super) struct Staging {
    folder: PathBuf,
    into: PathBuf,
}

impl Staging {
    /// One for files that are to stand beside `target`.
    pub(super) fn beside(target: &Path) -> Result<Staging> {
        let into = folder_of(target).to_owned();
        for n in 0..u32::MAX {
            let folder = into.join(format!(".stratavm-new-{}-{n}", std::process::id()));
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Staging { folder, into }),
                // Another thread's, or left behind by a process of the same number that was killed.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::from(e).at_path(&into)),
            }
        }
        Err(Error::new(ErrorKind::Exists, "no name is free").at_path(&into))
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Gives the files their names beside `target`, in order. None of them may be there; if one is, or another error comes up, those
    /// that were moved go again.
    pub(super) fn publish(
        self,
        target: &Path,
        files: &[String],
        durability: Durability,
    ) -> Result<Vec<PathBuf>> {
        let targets = files.iter().map(|file| target.with_file_name(file));
        let targets: Vec<_> = targets.collect();
        for (n, (file, target)) in files.iter().zip(&targets).enumerate() {
            let moved = must_be_free(target)
                .and_then(|()| fs::rename(&self.folder.join(file), target).map_err(Error::from));
            if let Err(error) = moved {
                for done in &targets[..n] {
                    drop(fs::remove_file(done));
                }
                return Err(error.at_path(target));
            }
        }
        if durability == Durability::Synced {
            fsync_dir(&self.into)?;
        }
        Ok(targets)
    }

    /// Makes the folder the bundle `target`, which must not be there.
    pub(super) fn become_folder(
        self,
        target: &Path,
        durability: Durability,
    ) -> Result<Vec<PathBuf>> {
        if durability == Durability::Synced {
            fsync_dir(&self.folder)?;
        }
        must_be_free(target)?;
        fs::rename(&self.folder, target).map_err(|e| Error::from(e).at_path(target))?;
        if durability == Durability::Synced {
            fsync_dir(&self.into)?;
        }
        Ok(vec![target.to_owned()])
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.folder.exists() {
            return; // it became a bundle
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = ?self.folder, %error, "unfinished files could not be removed");
        }
    }
}

/// Refuses a name that is taken, by a link too.
pub(super) fn must_be_free(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::from(e).at_path(path)),
        Ok(_) => Err(Error::new(ErrorKind::Exists, "it is there already").at_path(path)),
    }
}

//! Advisory locks on files, held until they are dropped or their process ends.
//!
//! Who waits for a lock may get it on a file that was deleted, with its folder, meanwhile; another
//! one of that name would then be free for somebody else. So a lock counts only while its path
//! leads to the file that is locked.

use std::io;
use std::path::Path;

use stratavm_disk::fs::File;

use crate::error::{Error, ErrorKind, Result};

/// A held lock. Let go when it is dropped, whoever shares its file: a child that another thread is
/// about to start has every file of this process for a moment.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    on_drop: OnDrop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    Unlock,
    Close,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Unlock
            && let Err(error) = self.file.as_std().unlock()
        {
            tracing::debug!(%error, "a lock is let go by closing its file");
        }
    }
}

impl FileLock {
    /// Waits for the lock, side by side with other shared ones. For moments only.
    pub(crate) fn shared(path: &Path) -> Result<Self> {
        take(path, File::lock_shared)
    }

    /// Waits for the lock, alone. For moments only.
    pub(crate) fn exclusive(path: &Path) -> Result<Self> {
        take(path, File::lock)
    }

    /// Takes the lock, alone; [`ErrorKind::Busy`] at once if somebody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Self> {
        take(path, File::try_lock)
    }

    /// The lock's file once more: who inherits it shares the lock.
    pub(crate) fn share(&self) -> io::Result<std::fs::File> {
        self.file.as_std().try_clone()
    }

    /// Closes the file, but leaves the lock to those who share it.
    pub(crate) fn leave(mut self) {
        self.on_drop = OnDrop::Close;
    }
}

/// Locks the file that has the path's name at the time the lock is held.
///
/// [`ErrorKind::NotFound`] if its folder is gone.
fn take(path: &Path, how: impl Fn(&File) -> io::Result<()>) -> Result<FileLock> {
    loop {
        let file = open(path)
            .map_err(|error| Error::io("the lock file could not be opened", path, error))?;
        let failed = |error| Error::io("the lock could not be taken", path, error);
        match how(&file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::new(ErrorKind::Busy, "somebody else holds the lock").at(path));
            }
            taken => taken.map_err(failed)?,
        }
        if file.has_its_name().map_err(failed)? {
            return Ok(FileLock {
                file,
                on_drop: OnDrop::Unlock,
            });
        }
    }
}

/// Where nothing can be written there is still something to look at, and a lock to respect.
fn open(path: &Path) -> io::Result<File> {
    File::open_lock(path).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_| error)
        }
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn who_waited_for_a_lock_that_was_deleted_gets_the_new_one_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("machine");
        let path = folder.join("lock");
        for remade in [true, false] {
            std::fs::create_dir(&folder).unwrap();
            let held = FileLock::exclusive(&path).unwrap();
            let (started, starts) = channel();
            let waiter = std::thread::spawn({
                let path = path.clone();
                move || {
                    // Has the file that is about to go open, as a waiter would.
                    let dead = File::open_lock(&path).unwrap();
                    started.send(()).unwrap();
                    dead.lock().unwrap();
                    assert!(!dead.has_its_name().unwrap());
                    FileLock::exclusive(&path)
                }
            });
            starts.recv().unwrap();
            std::fs::rename(&folder, dir.path().join(format!("gone-{remade}"))).unwrap();
            if remade {
                std::fs::create_dir(&folder).unwrap();
            }
            drop(held);
            let taken = waiter.join().unwrap();
            if remade {
                assert!(FileLock::try_exclusive(&path).is_err());
                drop(taken.unwrap());
                FileLock::try_exclusive(&path).unwrap();
                std::fs::remove_dir_all(&folder).unwrap();
            } else {
                assert_eq!(taken.unwrap_err().kind(), ErrorKind::NotFound);
            }
        }
    }
}

//! Advisory locks on files, held until they are dropped or their process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// A held lock.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock, side by side with other shared ones. For moments only.
    pub(crate) fn shared(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock_shared()
            .map_err(|error| Error::io("the lock could not be taken", path, error))?;
        Ok(Self { _file: file })
    }

    /// Waits for the lock, alone. For moments only.
    pub(crate) fn exclusive(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock()
            .map_err(|error| Error::io("the lock could not be taken", path, error))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock, alone; [`ErrorKind::Busy`] at once if somebody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Self> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(ErrorKind::Busy, "somebody else holds the lock").at(path))
            }
            Err(TryLockError::Error(error)) => {
                Err(Error::io("the lock could not be taken", path, error))
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let opened = options.open(path).or_else(|error| {
        // Where nothing can be written there is still something to look at, and a lock to respect.
        let denied = matches!(
            error.kind(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
        );
        let read = File::open(path);
        if denied && read.is_ok() {
            read
        } else {
            Err(error)
        }
    });
    opened.map_err(|error| Error::io("the lock file could not be opened", path, error))
}

//! Finding out what the file system below a folder can do, by trying it.
//!
//! What a [`Volume`] says is in [`stratavm_disk`]; writers are handed one and never ask themselves.

use std::path::Path;

use stratavm_disk::fs::Trial;
use stratavm_disk::{Holes, Volume};

use crate::error::{Error, Result};

/// Largest file in bytes where the system does not tell and holes are missing: FAT32's.
const SMALL_FILE: u64 = u32::MAX as u64;

/// Tries out the volume of `folder` in a temporary folder of its own, which is removed again. Costs
/// a few small files, no flush.
///
/// What cannot be told is taken for what does less harm: a volume without holes is taken to hold
/// files of 4 GiB less 1 byte, as FAT32 does, unless the system says otherwise.
///
/// # Errors
/// What the operating system reports: [`crate::ErrorKind::PermissionDenied`] where nothing can be
/// written.
pub fn probe(folder: &Path) -> Result<Volume> {
    let trial = Trial::new(folder)
        .map_err(|error| Error::io("the folder cannot be written to", folder, error))?;
    let failed = |error| Error::io("the volume cannot be tried out", folder, error);
    let mut volume = Volume::default();
    volume.holes = trial.holes().map_err(failed)?;
    volume.max_file = max_file(folder, volume.holes);
    volume.links = trial.links().map_err(failed)?;
    volume.rename_over_open = trial.rename_over_open().map_err(failed)?;
    volume.permissions = trial.permissions().map_err(failed)?;
    volume.case = trial.case().map_err(failed)?;
    Ok(volume)
}

/// Tries out the volume that `folder` is on, or will be on once it is made: as [`probe`] of the
/// nearest folder that is there.
///
/// # Errors
/// As for [`probe`].
pub fn probe_for(folder: &Path) -> Result<Volume> {
    let folder = std::path::absolute(folder)
        .map_err(|error| Error::io("the folder has no absolute path", folder, error))?;
    let there = folder.ancestors().find(|folder| folder.is_dir());
    probe(there.unwrap_or(&folder))
}

/// Largest file in bytes. Linux names the file system, unless a process stands behind it (FUSE);
/// there and elsewhere holes tell FAT32 from the others.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn max_file(folder: &Path, holes: Holes) -> Option<u64> {
    // In `linux/magic.h`; FAT's is of every width.
    const MSDOS_SUPER_MAGIC: i64 = 0x4d44;
    const EXFAT_SUPER_MAGIC: i64 = 0x2011_bab0;
    // Another type on some architectures, this one on most.
    #[allow(clippy::unnecessary_cast)]
    let kind = rustix::fs::statfs(folder).map(|volume| volume.f_type as i64);
    match kind {
        Ok(MSDOS_SUPER_MAGIC) => Some(SMALL_FILE),
        Ok(EXFAT_SUPER_MAGIC) => None,
        _ => (holes == Holes::None).then_some(SMALL_FILE),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn max_file(_: &Path, holes: Holes) -> Option<u64> {
    (holes == Holes::None).then_some(SMALL_FILE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        probe(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = probe(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let later = dir.path().join("not/there/yet");
        assert_eq!(probe_for(&later).unwrap(), probe(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_of_linux_is_a_full_volume() {
        // `TMPFS_MAGIC` in `linux/magic.h`.
        let folder = Path::new("/dev/shm");
        if !rustix::fs::statfs(folder).is_ok_and(|volume| volume.f_type == 0x0102_1994) {
            return;
        }
        let dir = tempfile::tempdir_in(folder).unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Volume::default());
    }
}

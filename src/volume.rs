//! Finding out what the file system below a folder can do, by trying it.
//!
//! What a [`Volume`] says is in [`stratavm_disk`]; writers are handed one and never ask themselves.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use stratavm_disk::{Case, Holes, ImageSpec, Links, Permissions, RawSpec, RenameOverOpen, Volume};

use crate::error::{Error, Result};

/// Largest file in bytes where the system does not tell and holes are missing: FAT32's.
const SMALL_FILE: u64 = u32::MAX as u64;

/// Length in bytes of the file that shows whether there are holes: below any volume's free space.
const HOLE: u64 = 4 << 20;

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
    volume.holes = trial.holes()?;
    volume.max_file = max_file(folder, volume.holes);
    volume.links = trial.links().map_err(failed)?;
    volume.rename_over_open = trial.rename_over_open().map_err(failed)?;
    volume.permissions = trial.permissions().map_err(failed)?;
    volume.case = trial.case().map_err(failed)?;
    Ok(volume)
}

/// A temporary folder; it goes away with the value.
struct Trial(PathBuf);

impl Trial {
    fn new(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".stratavm-probe-{}-{n}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A long file with a byte at its end takes little room, or all of it.
    fn holes(&self) -> Result<Holes> {
        let path = self.path("holes");
        let last = stratavm_disk::Patch {
            offset: HOLE - 1,
            bytes: vec![1],
        };
        let spec = ImageSpec::Raw(RawSpec {
            size: HOLE,
            patches: vec![last],
        });
        stratavm_disk::create(
            &path,
            &spec,
            &Volume::default(),
            stratavm_disk::Durability::Unsynced,
        )?;
        Ok(match allocated(&path) {
            Some(bytes) if bytes >= HOLE => Holes::None,
            // Unix says; of other systems' volumes, NTFS is the one that stores are on.
            _ => Holes::Sparse,
        })
    }

    fn links(&self) -> io::Result<Links> {
        let target = self.path("target");
        File::create(&target)?;
        if fs::hard_link(&target, self.path("hard")).is_err() {
            return Ok(Links::None);
        }
        Ok(match symlink(&target, &self.path("symbolic")) {
            Ok(()) => Links::HardAndSymbolic,
            Err(_) => Links::Hard,
        })
    }

    fn rename_over_open(&self) -> io::Result<RenameOverOpen> {
        let (new, old) = (self.path("new"), self.path("old"));
        File::create(&new)?;
        let open = File::create(&old)?;
        let renamed = fs::rename(&new, &old);
        drop(open);
        Ok(if renamed.is_ok() {
            RenameOverOpen::Allowed
        } else {
            RenameOverOpen::Refused
        })
    }

    #[cfg(unix)]
    fn permissions(&self) -> io::Result<Permissions> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("mode");
        File::create(&path)?;
        let kept = [0o600, 0o444].into_iter().all(|mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).is_ok()
                && fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o777 == mode)
        });
        Ok(if kept {
            Permissions::Posix
        } else {
            Permissions::ReadOnlyMark
        })
    }

    #[cfg(not(unix))]
    fn permissions(&self) -> io::Result<Permissions> {
        Ok(Permissions::ReadOnlyMark)
    }

    fn case(&self) -> io::Result<Case> {
        File::create(self.path("case"))?;
        let same = self.path("CASE").exists();
        Ok(if same {
            Case::Insensitive
        } else {
            Case::Sensitive
        })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = ?self.0, %error, "a folder for trials cannot be removed");
        }
    }
}

/// Bytes that a file takes on the volume, where the system says so.
#[cfg(unix)]
fn allocated(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path)
        .ok()
        .map(|file| file.blocks().saturating_mul(512))
}

#[cfg(not(unix))]
fn allocated(_: &Path) -> Option<u64> {
    None
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
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
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = probe(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
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

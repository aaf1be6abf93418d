//! Trying out what a volume can do, in a folder of its own. Nothing else makes links, or files of every mode; and none
//! of this is a point of fault injection, since what is met here says what the volume is.

use super::change::{self, Change};
use super::{Access, File, allocated, sys};
use crate::volume::{Case, Holes, Links, Permissions, RenameOverOpen};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Length in bytes of the file that shows whether there are holes: below any volume's free space.
const HOLE: u64 = 4 << 20;

/// A temporary folder for trials; it goes away with the value.
#[derive(Debug)]
pub struct Trial(PathBuf);

impl Trial {
    /// Makes the folder `.stratavm-probe-PID-N` in `folder`.
    ///
    /// # Errors
    /// What the operating system reports: `PermissionDenied` where nothing can be written.
    pub fn new(folder: &Path) -> io::Result<Trial> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".stratavm-probe-{}-{n}", std::process::id()));
            match change::try_out(Change::CreateDir(&path), || sys::create_dir(&path)) {
                Ok(()) => return Ok(Trial(path)),
                // Left behind by a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn create(&self, name: &str) -> io::Result<(PathBuf, std::fs::File)> {
        let path = self.0.join(name);
        let create = || std::fs::File::create_new(&path);
        let file = change::try_out(Change::CreateFile(&path), create)?;
        Ok((path, file))
    }

    /// A long file with a byte at its end takes little room, or all of it.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn holes(&self) -> io::Result<Holes> {
        let (_, file) = self.create("holes")?;
        sys::make_sparse(&file)?;
        sys::write_all_at(&file, &[1], HOLE - 1)?;
        Ok(match allocated(&file.metadata()?) {
            Some(bytes) if bytes >= HOLE => Holes::None,
            // Unix says; of other systems' volumes, NTFS is the one that stores are on.
            _ => Holes::Sparse,
        })
    }

    /// Whether there are links; any refusal is a no.
    ///
    /// # Errors
    /// What the operating system reports about files.
    pub fn links(&self) -> io::Result<Links> {
        let (target, _) = self.create("target")?;
        let hard = self.0.join("hard");
        if change::try_out(Change::Link(&hard), || std::fs::hard_link(&target, &hard)).is_err() {
            return Ok(Links::None);
        }
        let symbolic = self.0.join("symbolic");
        let made = change::try_out(Change::Link(&symbolic), || sys::symlink(&target, &symbolic));
        Ok(if made.is_ok() {
            Links::HardAndSymbolic
        } else {
            Links::Hard
        })
    }

    /// Whether a file takes the name of one that is open.
    ///
    /// # Errors
    /// What the operating system reports about files.
    pub fn rename_over_open(&self) -> io::Result<RenameOverOpen> {
        let (from, new) = self.create("new")?;
        drop(new);
        let (to, open) = self.create("old")?;
        let change = Change::Rename {
            from: &from,
            to: &to,
        };
        let renamed = change::try_out(change, || std::fs::rename(&from, &to));
        drop(open);
        Ok(if renamed.is_ok() {
            RenameOverOpen::Allowed
        } else {
            RenameOverOpen::Refused
        })
    }

    /// Whether modes are kept, or at least the mark that a file is only read.
    ///
    /// # Errors
    /// What the operating system reports about files.
    pub fn permissions(&self) -> io::Result<Permissions> {
        let (path, _) = self.create("mode")?;
        let set = |access| -> io::Result<std::fs::Permissions> {
            let mut permissions = path.metadata()?.permissions();
            sys::set_access(&mut permissions, access);
            let change = Change::SetAccess(&path);
            // A refusal is an answer too: nothing has changed then.
            let _ = change::try_out(change, || std::fs::set_permissions(&path, permissions));
            Ok(path.metadata()?.permissions())
        };
        let before = path.metadata()?.permissions();
        let sealed = set(Access::ReadOnly)?;
        let opened = set(Access::Private)?;
        Ok(match (before.readonly(), sealed.readonly()) {
            _ if sys::is_mode(&sealed, 0o444) && sys::is_mode(&opened, 0o600) => Permissions::Posix,
            (false, true) => Permissions::ReadOnlyMark,
            _ => Permissions::None,
        })
    }

    /// Whether another spelling finds the same file.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn case(&self) -> io::Result<Case> {
        self.create("case")?;
        match File::open(&self.0.join("CASE")) {
            Ok(_) => Ok(Case::Insensitive),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Case::Sensitive),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let remove = || std::fs::remove_dir_all(&self.0);
        if let Err(error) = change::try_out(Change::RemoveDir(&self.0), remove) {
            tracing::warn!(path = ?self.0, %error, "a folder for trials cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let trial = Trial::new(dir.path()).unwrap();
        trial.holes().unwrap();
        trial.links().unwrap();
        trial.rename_over_open().unwrap();
        trial.permissions().unwrap();
        trial.case().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(trial);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = Trial::new(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

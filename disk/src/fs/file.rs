//! An open file of the file layer. Reading needs none; what changes a file goes through one.

use super::change::{self, Change};
use super::{IsLink, sys};
use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Which file it is, whatever its name: two that are open at the same time are the same file if these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub(super) volume: u64,
    pub(super) file: u64,
}

/// An open regular file, with the path that it was opened by.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    path: PathBuf,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// What the operating system reports; [`IsLink`]; `InvalidInput` for what is no regular file, without waiting for
    /// whoever is at the other end of a pipe.
    pub fn open(path: &Path) -> io::Result<File> {
        Self::open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file for reading whose path a person gave: links are followed.
    ///
    /// # Errors
    /// As for [`open`](Self::open), links apart.
    pub fn open_following(path: &Path) -> io::Result<File> {
        Self::regular(std::fs::File::open(change::found_as(path))?, path)
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_rw(path: &Path) -> io::Result<File> {
        Self::open_with(path, OpenOptions::new().read(true).write(true))
    }

    /// Creates a file that must not be there yet, for its user alone.
    ///
    /// # Errors
    /// What the operating system reports; `AlreadyExists` whatever is there.
    pub fn create_new(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        sys::private(&mut options);
        let found = change::found_as(path);
        let file = change::make(Change::CreateFile(path), || options.open(&found))?;
        Ok(File {
            file,
            path: path.to_owned(),
        })
    }

    /// Opens a file to lock it, and makes it for its user alone if it is not there. It is never written to.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_lock(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        sys::private(&mut options);
        change::make(Change::OpenLock(path), || {
            Self::open_with(path, &mut options)
        })
    }

    fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        Self::regular(sys::open_no_link(&change::found_as(path), options)?, path)
    }

    fn regular(file: std::fs::File, path: &Path) -> io::Result<File> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            ));
        }
        Ok(File {
            file,
            path: path.to_owned(),
        })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For reading: the standard library's file.
    #[must_use]
    pub fn as_std(&self) -> &std::fs::File {
        &self.file
    }

    /// For reading: gives the standard library's file away.
    #[must_use]
    pub fn into_std(self) -> std::fs::File {
        self.file
    }

    /// Its length in bytes now.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Asks the volume for holes in this file where that needs asking.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn make_sparse(&self) -> io::Result<()> {
        sys::make_sparse(&self.file)
    }

    /// Makes the file this long, in bytes; what is added reads as zeros.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        change::make(Change::SetLen { file: self, len }, || {
            self.file.set_len(len)
        })
    }

    /// Writes all of `bytes` at byte `at`, in one call where the system takes it in one.
    ///
    /// # Errors
    /// What the operating system reports. A part may have been written then.
    pub fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let change = Change::Write {
            file: self,
            at,
            bytes,
        };
        change::make(change, || sys::write_all_at(&self.file, bytes, at))
    }

    /// Makes `len` bytes from byte `at` on, which lie in the file, read as zeros; their blocks go back to the volume where
    /// it can take them.
    ///
    /// # Errors
    /// What the operating system reports. A part may read as zeros then.
    pub fn zero(&self, at: u64, len: u64) -> io::Result<()> {
        let change = Change::Zero {
            file: self,
            at,
            len,
        };
        change::make(change, || sys::zero(&self.file, at, len))
    }

    /// Makes this file share all blocks of `source`, and be as long as it. False, and nothing done, where the volume
    /// cannot.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn clone_from(&self, source: &std::fs::File) -> io::Result<bool> {
        if !change::may_share_blocks(self) {
            return Ok(false);
        }
        let len = source.metadata()?.len();
        let change = Change::Copy {
            file: self,
            at: 0,
            len,
        };
        change::make(change, || sys::clone_file(source, &self.file))
    }

    /// Copies `len` bytes of `source` from byte `from` to byte `to` of this file, inside the kernel where it can.
    ///
    /// # Errors
    /// What the operating system reports; `UnexpectedEof` if the source ends before.
    pub fn copy_range(
        &self,
        source: &std::fs::File,
        from: u64,
        to: u64,
        len: u64,
    ) -> io::Result<()> {
        let change = Change::Copy {
            file: self,
            at: to,
            len,
        };
        change::make(change, || {
            sys::copy_range(source, from, &self.file, to, len)
        })
    }

    /// Flushes content, length and mode to the volume. The name is the folder's: see [`sync_dir`](super::sync_dir).
    ///
    /// # Errors
    /// What the operating system reports. What was written before may then be lost, also after a later success.
    pub fn sync(&self) -> io::Result<()> {
        change::flush(Change::Sync(self), || self.file.sync_all())
    }

    /// Waits until nobody else holds a lock on the file, and holds it until the file is closed.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn lock(&self) -> io::Result<()> {
        change::make(Change::Lock(self), || self.file.lock())
    }

    /// As [`lock`](Self::lock), side by side with others of this kind.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn lock_shared(&self) -> io::Result<()> {
        change::make(Change::Lock(self), || self.file.lock_shared())
    }

    /// As [`lock`](Self::lock) without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if somebody holds it; what the operating system reports.
    pub fn try_lock(&self) -> io::Result<()> {
        change::make(Change::Lock(self), || {
            self.file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
                TryLockError::Error(error) => error,
            })
        })
    }

    /// Takes the file for this process alone, until any descriptor of it is closed here: programs that lock parts of
    /// their images, as QEMU does, are seen, and see it.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds such a lock; what the operating system reports.
    pub fn try_alone(&self) -> io::Result<()> {
        change::make(Change::Lock(self), || sys::try_alone(&self.file))
    }

    /// Whether its path still leads to this file: it may have been removed or renamed, and another one may have its
    /// name since.
    ///
    /// # Errors
    /// What the operating system reports; a path that leads nowhere is no error.
    pub fn has_its_name(&self) -> io::Result<bool> {
        let there = match sys::open_no_link(&self.path, OpenOptions::new().read(true)) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if IsLink::is_in(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(sys::identity(&there)? == sys::identity(&self.file)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::fs;

    #[test]
    fn a_file_knows_whether_its_name_still_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = File::open_lock(&path).unwrap();
        assert!(file.has_its_name().unwrap());
        fs::rename(&path, &dir.path().join("elsewhere")).unwrap();
        assert!(!file.has_its_name().unwrap());
        let other = File::open_lock(&path).unwrap();
        assert!(!file.has_its_name().unwrap() && other.has_its_name().unwrap());
    }

    #[test]
    fn locks_keep_each_other_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (one, two) = (
            File::open_lock(&path).unwrap(),
            File::open_lock(&path).unwrap(),
        );
        one.lock().unwrap();
        assert_eq!(
            two.try_lock().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(one);
        two.try_lock().unwrap();
    }

    #[test]
    fn ranges_are_copied_and_a_short_source_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        std::fs::write(&source, [7; 5000]).unwrap();
        let source = File::open(&source).unwrap().into_std();
        let target = File::create_new(&dir.path().join("target")).unwrap();
        target.copy_range(&source, 1000, 10, 4000).unwrap();
        let mut copied = [1; 4010];
        sys::read_exact_at(target.as_std(), &mut copied, 0).unwrap();
        assert_eq!(
            (&copied[..10], &copied[10..]),
            (&[0; 10][..], &[7; 4000][..])
        );
        let short = target.copy_range(&source, 4999, 0, 2).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_zeroed_reads_as_zeros_and_is_no_data_where_the_volume_has_holes() {
        const MIB: usize = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(&dir.path().join("file")).unwrap();
        file.make_sparse().unwrap();
        let mut want = vec![9; 4 * MIB];
        file.write_all_at(&want, 0).unwrap();
        file.set_len(6 * MIB as u64).unwrap();
        want.resize(6 * MIB, 0);
        for (at, len) in [(100, 50), (MIB - 3, 2 * MIB), (4 * MIB - 1, 1)] {
            file.zero(at as u64, len as u64).unwrap();
            want[at..at + len].fill(0);
        }
        let mut have = vec![1; want.len()];
        sys::read_exact_at(file.as_std(), &mut have, 0).unwrap();
        assert!(have == want);
        // There may be no holes at all; what is in one is zero.
        let (mut at, mut data) = (0, 0);
        while let Some(start) = fs::next_data(file.as_std(), at).unwrap() {
            assert!(want[at as usize..start as usize].iter().all(|b| *b == 0));
            at = fs::next_hole(file.as_std(), start).unwrap();
            assert!(at > start);
            data += at - start;
            if at >= want.len() as u64 {
                break;
            }
        }
        assert!(want[at as usize..].iter().all(|b| *b == 0));
        assert!(data >= 2 * MIB as u64);
        let taken = fs::allocated_of(file.as_std());
        assert!(taken.is_none_or(|taken| taken >= MIB as u64), "{taken:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_volume_is_told_when_content_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        std::fs::write(&source, [1; 4096]).unwrap();
        let source = std::fs::File::open(&source).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = sys::copy_range(&source, 0, &full, 0, 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

//! Positioned I/O on one image file, with path and offset in every error, and a walk over the parts that are not holes.

use crate::fs::{self, File};
use crate::{Error, Result};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Bytes read at a time when a range is looked through.
const CHUNK: usize = 64 << 10;

/// An open image file.
pub(crate) struct ImageFile {
    file: File,
    path: PathBuf,
    /// Length in bytes, as far as this program has seen to it.
    len: AtomicU64,
}

impl ImageFile {
    /// Opens an existing regular file for reading; a pipe, a device or a folder is refused before it is opened. A link
    /// is followed: it may be a path that a person gave.
    pub(crate) fn open(path: &Path) -> Result<ImageFile> {
        let opened = || {
            if !std::fs::metadata(path)?.is_file() {
                return Err(Error::unsupported("not a regular file"));
            }
            Ok(File::open_following(path)?)
        };
        Self::new(path, opened())
    }

    /// Opens one for reading and writing; a link is refused.
    pub(crate) fn open_rw(path: &Path) -> Result<ImageFile> {
        let opened = || {
            if !std::fs::symlink_metadata(path)?.is_file() {
                return Err(Error::unsupported("not a regular file"));
            }
            Ok(File::open_rw(path)?)
        };
        Self::new(path, opened())
    }

    /// Creates a file that must not be there yet.
    pub(crate) fn create_new(path: &Path) -> Result<ImageFile> {
        Self::new(path, File::create_new(path).map_err(Error::from))
    }

    fn new(path: &Path, opened: Result<File>) -> Result<ImageFile> {
        let opened = opened.and_then(|file| Ok((file.size()?, file)));
        let (len, file) = opened.map_err(|e| e.at_path(path))?;
        Ok(ImageFile {
            file,
            path: path.to_owned(),
            len: AtomicU64::new(len),
        })
    }

    /// Length in bytes when the file was opened, or as set and written since.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Which file it is, whatever its name.
    pub(crate) fn identity(&self) -> Result<fs::Identity> {
        fs::identity(self.file.as_std()).map_err(|e| self.error(e, 0))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes now, and when it was last changed.
    pub(crate) fn stamp(&self) -> Result<(u64, SystemTime)> {
        let found = self.file.as_std().metadata();
        let stamp = found.and_then(|found| Ok((found.len(), found.modified()?)));
        stamp.map_err(|e| self.error(e, 0))
    }

    /// Bytes that the file takes on the volume, where the system says so.
    pub(crate) fn allocated(&self) -> Option<u64> {
        fs::allocated_of(self.file.as_std())
    }

    /// Asks the volume for holes in this file where that needs asking.
    pub(crate) fn make_sparse(&self) -> Result<()> {
        self.file.make_sparse().map_err(|e| self.error(e, 0))
    }

    /// Makes the file this long; what is added reads as zeros.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        self.file
            .set_len(len)
            .map_err(|e| Error::from(e).at_path(&self.path))?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Makes the file at least this long; what is added reads as zeros.
    pub(crate) fn grow_to(&self, len: u64) -> Result<()> {
        match self.len() < len {
            true => self.set_len(len),
            false => Ok(()),
        }
    }

    /// Fills `buf` from `offset`; a file that ends before is malformed.
    pub(crate) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        fs::read_exact_at(self.file.as_std(), buf, offset).map_err(|e| self.error(e, offset))
    }

    /// Writes all of `buf` at `offset` in one call where the system takes it in one.
    pub(crate) fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(buf, offset)
            .map_err(|e| self.error(e, offset))?;
        self.len
            .fetch_max(offset + buf.len() as u64, Ordering::AcqRel);
        Ok(())
    }

    /// Fills `buf` from `offset`; what lies behind the end of the file reads as zeros.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let there = self.len().saturating_sub(offset);
        let there = usize::try_from(there).map_or(buf.len(), |n| n.min(buf.len()));
        let (there, behind) = buf.split_at_mut(there);
        behind.fill(0);
        match there.is_empty() {
            true => Ok(()),
            false => self.read_exact_at(there, offset),
        }
    }

    /// Makes a range that lies in the file read as zeros, and gives its blocks back where the volume takes them.
    pub(crate) fn zero(&self, at: u64, len: u64) -> Result<()> {
        self.file.zero(at, len).map_err(|e| self.error(e, at))
    }

    /// Takes the file for this process alone, as long as it is open.
    ///
    /// # Errors
    /// `Mismatch` if another program has it.
    pub(crate) fn take_alone(&self) -> Result<()> {
        self.file.try_alone().map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => {
                Error::mismatch("another program has it open: close that first").at_path(&self.path)
            }
            _ => self.error(e, 0),
        })
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file
            .sync()
            .map_err(|e| Error::from(e).at_path(&self.path))
    }

    /// The first byte at or behind `offset` that may be other than zero; `None` if a hole reaches to the end.
    pub(crate) fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        if offset >= self.len() {
            return Ok(None);
        }
        fs::next_data(self.file.as_std(), offset).map_err(|e| self.error(e, offset))
    }

    /// The first byte at or behind `offset` that lies in a hole; the end of the file if there is none.
    pub(crate) fn next_hole(&self, offset: u64) -> Result<u64> {
        fs::next_hole(self.file.as_std(), offset).map_err(|e| self.error(e, offset))
    }

    /// The first byte in `range` that is not zero. Holes are skipped where the system shows them.
    pub(crate) fn first_nonzero(&self, range: Range<u64>) -> Result<Option<u64>> {
        let mut buf = vec![0; CHUNK];
        let mut at = range.start;
        while at < range.end {
            at = match self.next_data(at)? {
                Some(data) if data < range.end => data,
                _ => return Ok(None),
            };
            let take = usize::try_from(range.end - at).map_or(CHUNK, |n| n.min(CHUNK));
            self.read_exact_at(&mut buf[..take], at)?;
            if let Some(i) = buf[..take].iter().position(|b| *b != 0) {
                return Ok(Some(at + i as u64));
            }
            at += take as u64;
        }
        Ok(None)
    }

    fn error(&self, e: io::Error, offset: u64) -> Error {
        Error::from(e).at_path(&self.path).at_offset(offset)
    }
}

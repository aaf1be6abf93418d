//! A disk as it lies in files: an ordered list of extents that is read like one.
//!
//! Opening, reading and finding holes only; hashing is in [`super::hash`], copying in
//! [`super::staging`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use stratavm_disk::fs;

use super::sys;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;

/// A disk of one or more extents, open for reading.
#[derive(Debug)]
pub(crate) struct Extents {
    parts: Vec<Part>,
    len: u64,
}

/// One extent: a whole file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Where it begins in the disk, in bytes.
    start: u64,
    len: u64,
    stamp: sys::Stamp,
}

impl Part {
    /// Where in the disk this extent lies, in bytes.
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.start + self.len
    }
}

impl Extents {
    /// Opens one file as a whole disk.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Invalid`] for what is no regular file (nothing else is
    /// ever opened: a pipe would block) or empty.
    pub(crate) fn open_file(path: &Path) -> Result<Self> {
        let mut extents = Self {
            parts: Vec::new(),
            len: 0,
        };
        let len = extents.push(path)?;
        if len == 0 {
            return Err(Error::invalid("the file is empty, so it is no disk").at(path));
        }
        Ok(extents)
    }

    /// Opens a list of files, each of which must be just as long as the list says, in bytes.
    ///
    /// # Errors
    /// As for [`Self::open_file`]; [`ErrorKind::Mismatch`] for another length.
    pub(crate) fn open<P: AsRef<Path>>(list: impl IntoIterator<Item = (P, u64)>) -> Result<Self> {
        let mut extents = Self {
            parts: Vec::new(),
            len: 0,
        };
        for (path, expected) in list {
            let path = path.as_ref();
            let len = extents.push(path)?;
            if len != expected {
                let message = format!("the extent is {len} bytes long, not {expected}");
                return Err(Error::new(ErrorKind::Mismatch, message).at(path));
            }
        }
        Ok(extents)
    }

    fn push(&mut self, path: &Path) -> Result<u64> {
        let failed = |error| Error::io("the file cannot be opened", path, error);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::invalid("this is a folder, no disk image").at(path));
        }
        if !metadata.is_file() {
            return Err(Error::invalid("this is no regular file, so no disk image").at(path));
        }
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let stamp = sys::stamp(&file).map_err(failed)?;
        let start = self.len;
        self.len = start
            .checked_add(len)
            .ok_or_else(|| Error::invalid("the extents are too long together").at(path))?;
        self.parts.push(Part {
            file,
            path: path.to_owned(),
            start,
            len,
            stamp,
        });
        Ok(len)
    }

    /// The disk's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The name of the first file without its folders, if it is Unicode.
    pub(super) fn file_name(&self) -> Option<String> {
        let name = self.parts.first()?.path.file_name()?;
        name.to_str().map(str::to_owned)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Fills `buf` from byte `at` of the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if a file has become shorter since it was opened, or what the
    /// operating system reports.
    pub(crate) fn read_at(&self, mut at: u64, mut buf: &mut [u8]) -> Result<()> {
        let first = self.parts.partition_point(|part| part.range().end <= at);
        for part in self.parts.iter().skip(first) {
            if buf.is_empty() {
                return Ok(());
            }
            let room = usize::try_from(part.range().end - at).unwrap_or(usize::MAX);
            let (here, rest) = buf.split_at_mut(room.min(buf.len()));
            fs::read_exact_at(&part.file, here, at - part.start)
                .map_err(|error| part.failed("cannot be read", error))?;
            at += here.len() as u64;
            buf = rest;
        }
        if buf.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid("read beyond the end of the disk"))
        }
    }

    /// The first range at or behind byte `at` that may hold something other than zeros; `None` if
    /// only holes follow. It ends at a hole or at the end of an extent.
    pub(crate) fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let first = self.parts.partition_point(|part| part.range().end <= at);
        for part in self.parts.iter().skip(first) {
            let failed = |error| part.failed("cannot be searched for holes", error);
            let from = at.saturating_sub(part.start);
            let Some(data) = fs::next_data(&part.file, from).map_err(failed)? else {
                continue;
            };
            if data >= part.len {
                continue;
            }
            let hole = fs::next_hole(&part.file, data)
                .map_err(failed)?
                .min(part.len);
            return Ok(Some(part.start + data..part.start + hole.max(data + 1)));
        }
        Ok(None)
    }

    /// Refuses if a file was written to since it was opened.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] naming the file.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        for part in &self.parts {
            let now = sys::stamp(&part.file).map_err(|e| part.failed("cannot be looked at", e))?;
            if now != part.stamp {
                return Err(part.changed());
            }
        }
        Ok(())
    }
}

impl Part {
    fn failed(&self, what: &str, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.changed();
        }
        Error::io(format!("the disk image {what}"), &self.path, error)
    }

    fn changed(&self) -> Error {
        Error::new(
            ErrorKind::Mismatch,
            "the file was changed while it was being read",
        )
        .at(&self.path)
        .next("stop whatever writes to it and try again")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn extents_read_like_one_disk() {
        let dir = tempfile::tempdir().unwrap();
        let list: Vec<_> = [b"abc".as_slice(), b"de", b"fghi"]
            .iter()
            .enumerate()
            .map(|(n, bytes)| {
                let path = dir.path().join(n.to_string());
                std::fs::write(&path, bytes).unwrap();
                (path, bytes.len() as u64)
            })
            .collect();
        let disk = Extents::open(list).unwrap();
        assert_eq!(disk.len(), 9);
        for at in 0..9_usize {
            for end in at..=9 {
                let mut buf = vec![0; end - at];
                disk.read_at(at as u64, &mut buf).unwrap();
                assert_eq!(buf, b"abcdefghi"[at..end]);
            }
        }
        assert!(disk.read_at(8, &mut [0; 2]).is_err());
        assert_eq!(disk.next_data(4).unwrap(), Some(4..5));
        assert_eq!(disk.next_data(9).unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn holes_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 1 << 39).unwrap();
        let disk = Extents::open_file(&path).unwrap();
        let data = disk.next_data(0).unwrap().unwrap();
        assert!(data.contains(&(1 << 39)));
        assert_eq!(disk.next_data(data.end).unwrap(), None);
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |path: &Path| Extents::open_file(path).unwrap_err().kind();
        assert_eq!(kind(dir.path()), ErrorKind::Invalid);
        assert_eq!(kind(&dir.path().join("none")), ErrorKind::NotFound);
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(kind(&empty), ErrorKind::Invalid);
        let wrong = Extents::open([(&empty, 512)]).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Mismatch);
    }

    #[test]
    fn a_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, vec![1; 1024]).unwrap();
        let disk = Extents::open_file(&path).unwrap();
        disk.check_unchanged().unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(512)
            .unwrap();
        assert_eq!(
            disk.check_unchanged().unwrap_err().kind(),
            ErrorKind::Mismatch
        );
        assert_eq!(
            disk.read_at(0, &mut [0; 1024]).unwrap_err().kind(),
            ErrorKind::Mismatch
        );
    }
}

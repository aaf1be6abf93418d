//! The grain directory of a sparse extent and its second copy: where each grain table stands, and new tables for
//! extents of others that have none yet. What the tables say is in `grains`.
//!
//! A directory entry of 0 is a table that nobody needed so far (VMware's and VirtualBox's growing images). VirtualBox
//! refuses an extent where only one of the two copies has a table, or both have the same one.

use super::SECTOR;
use super::header::{GT_SECTORS, GTES_PER_GT, SparseHeader};
use crate::engine::{PageAt, Use};
use crate::file::ImageFile;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of a grain table.
const TABLE: u64 = GT_SECTORS * SECTOR;

/// Where the grain tables stand.
pub(super) struct Directory {
    main: Copy,
    /// Kept up by writers only: readers go by the first copy.
    redundant: Option<Copy>,
    new: Mutex<New>,
}

/// One of the two copies.
struct Copy {
    /// Byte offset in the file.
    at: u64,
    /// Sector of each grain table; 0 where there is none.
    tables: Vec<AtomicU32>,
}

/// Tables that were added.
#[derive(Default)]
struct New {
    /// Room for more, in bytes.
    room: Range<u64>,
    /// Entries that are not in the file yet.
    entries: BTreeSet<usize>,
}

impl Directory {
    /// Reads the directory of an extent, whose header or footer says where it is.
    ///
    /// # Errors
    /// `Malformed` if it is cut off.
    pub(super) fn read(file: &ImageFile, header: &SparseHeader, used: Use) -> Result<Directory> {
        let read = |sector: u64| Copy::read(file, sector * SECTOR, header.table_count());
        let Some(main) = header.directory else {
            return Err(Error::malformed("no grain directory").at_path(file.path()));
        };
        let redundant = match used {
            Use::Write => header.redundant_directory.map(read).transpose()?,
            Use::Read => None,
        };
        Ok(Directory {
            main: read(main)?,
            redundant,
            new: Mutex::default(),
        })
    }

    /// Where a table stands; `None` where there is none.
    pub(super) fn page(&self, file: &ImageFile, page: u64) -> Result<Option<PageAt>> {
        let Some(offset) = self.main.table(page) else {
            return Ok(None);
        };
        let mirror = self.redundant.as_ref().and_then(|r| r.table(page));
        for at in mirror.iter().chain([&offset]) {
            if at + TABLE > file.len() {
                return Err(Error::malformed(format!("grain table {page} is cut off"))
                    .at_path(file.path())
                    .at_offset(*at));
            }
        }
        Ok(Some(PageAt {
            offset,
            mirror,
            entries: GTES_PER_GT,
        }))
    }

    /// Gives a table to an entry that has none; `take` answers where there is room of `len` bytes.
    pub(super) fn add(
        &self,
        page: u64,
        len: u64,
        take: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        for copy in [&self.main].into_iter().chain(&self.redundant) {
            if new.room.end - new.room.start < TABLE {
                let start = take()?;
                new.room = start..start + len;
            }
            let sector = u32::try_from(new.room.start / SECTOR)
                .map_err(|_| Error::limit("a sparse VMDK holds no grain table beyond 2 TiB"))?;
            let entry = usize::try_from(page).unwrap_or(usize::MAX);
            let Some(table) = copy.tables.get(entry) else {
                return Err(Error::invalid("a grain behind the end of the extent"));
            };
            table.store(sector, Ordering::Release);
            new.room.start += TABLE;
            new.entries.insert(entry);
        }
        Ok(())
    }

    /// Writes the entries of tables that were added. The tables are in the file; now they get onto the volume first,
    /// so that no entry names anything else. The second copy goes first: what only it names was never flushed, and a check
    /// may drop it.
    pub(super) fn flush(&self, file: &ImageFile) -> Result<()> {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        if new.entries.is_empty() {
            return Ok(());
        }
        for copy in self.redundant.iter().chain([&self.main]) {
            file.sync()?;
            for entry in &new.entries {
                copy.write(file, *entry)?;
            }
        }
        new.entries.clear();
        Ok(())
    }
}

impl Copy {
    fn read(file: &ImageFile, at: u64, count: u64) -> Result<Copy> {
        let bytes = count.saturating_mul(4);
        if at.checked_add(bytes).is_none_or(|end| end > file.len()) {
            return Err(Error::malformed("grain directory is cut off")
                .at_path(file.path())
                .at_offset(at));
        }
        // Not more than the file has.
        let mut bytes = vec![0; usize::try_from(bytes).unwrap_or(0)];
        file.read_exact_at(&mut bytes, at)?;
        let (words, _) = bytes.as_chunks::<4>();
        let tables = words.iter().map(|w| u32::from_le_bytes(*w).into());
        Ok(Copy {
            at,
            tables: tables.collect(),
        })
    }

    /// Byte offset of a table.
    fn table(&self, page: u64) -> Option<u64> {
        let table = usize::try_from(page).ok().and_then(|n| self.tables.get(n));
        let sector = table.map(|t| t.load(Ordering::Acquire));
        sector.filter(|s| *s != 0).map(|s| u64::from(s) * SECTOR)
    }

    fn write(&self, file: &ImageFile, entry: usize) -> Result<()> {
        let Some(table) = self.tables.get(entry) else {
            return Ok(());
        };
        let sector = table.load(Ordering::Acquire);
        file.write_all_at(&sector.to_le_bytes(), self.at + entry as u64 * 4)
    }
}

//! Whether anything was ever written into a delta: its grain tables or its block table are looked through for the first
//! entry. Holes are skipped, buffers are bounded, entries are checked against the file.

use crate::file::ImageFile;
use crate::hdd::{self, HdsHeader};
use crate::info::Format;
use crate::vdi;
use crate::vmdk::{self, SECTOR, SparseHeader};
use crate::{Error, Result};
use std::path::Path;

/// Bytes of a directory or block table read at a time.
const CHUNK: u64 = 64 << 10;
/// Bytes of a grain table: 512 entries of 4.
const TABLE: u64 = 2048;

/// Whether a sparse VMDK, a `.hds` image or a VDI holds any block of its own. Both grain directories of a VMDK count, so a
/// `false` is safe to act on: formatting such a disk loses nothing that this file holds.
///
/// The answer is of the file at rest: the caller sees to it that no one writes.
///
/// # Errors
/// `Unsupported` for any other format and for streamOptimized; `Malformed` for a damaged header or an entry that points
/// outside the file, with its offset.
pub fn has_allocated_blocks(path: &Path, format: Format) -> Result<bool> {
    let look = || {
        let file = ImageFile::open(path)?;
        match format {
            Format::VmdkSparse => sparse(&file, &vmdk::read_header(&file)?),
            Format::Hds => hds(&file),
            Format::Vdi => vdi::has_blocks(&file),
            other => Err(Error::unsupported(format!("{other} has no block table"))),
        }
    };
    look().map_err(|e| e.at_path(path).during("look for written blocks"))
}

fn sparse(file: &ImageFile, header: &SparseHeader) -> Result<bool> {
    let Some(directory) = header.directory else {
        return Err(Error::unsupported("streamOptimized image"));
    };
    let mut tables = Tables {
        file,
        header,
        hole: 0..0,
        buf: vec![0; TABLE as usize],
    };
    for directory in header.redundant_directory.into_iter().chain([directory]) {
        let start = directory * SECTOR;
        for entry in entries(file, start, header.table_count()) {
            let (at, table) = entry?;
            if table != 0 && tables.has_grain(u64::from(table) * SECTOR, at)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Grain tables, with the last hole seen: empty tables of new files lie in one.
struct Tables<'a> {
    file: &'a ImageFile,
    header: &'a SparseHeader,
    hole: std::ops::Range<u64>,
    buf: Vec<u8>,
}

impl Tables<'_> {
    /// Whether the table at byte `start`, which the directory entry at `from` names, has an entry.
    fn has_grain(&mut self, start: u64, from: u64) -> Result<bool> {
        let end = start + TABLE;
        if end > self.file.len() {
            return Err(Error::malformed("grain table lies outside the file").at_offset(from));
        }
        if self.hole.start <= start && end <= self.hole.end {
            return Ok(false);
        }
        let data = self.file.next_data(start)?.unwrap_or(self.file.len());
        if data >= end {
            self.hole = start..data;
            return Ok(false);
        }
        self.file.read_exact_at(&mut self.buf, start)?;
        for (i, entry) in words(&self.buf).enumerate() {
            let sector = u64::from(entry);
            match sector {
                0 => {}
                // A grain of zeros, in images that may have them.
                1 if self.header.flags & vmdk::FLAG_ZERO_GRAIN != 0 => return Ok(true),
                _ => {
                    // The last grain may be cut short by a writer that died: its start must be there.
                    if sector < self.header.overhead || sector * SECTOR >= self.file.len() {
                        return Err(Error::malformed(format!("grain at sector {sector}"))
                            .at_offset(start + i as u64 * 4));
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn hds(file: &ImageFile) -> Result<bool> {
    let header = hdd::read_header(file)?;
    for entry in entries(file, HdsHeader::SIZE, u64::from(header.entries)) {
        let (at, entry) = entry?;
        if entry == 0 {
            continue;
        }
        let sector = u64::from(entry) * header.entry_unit();
        if sector < header.data_offset || sector.saturating_mul(SECTOR) >= file.len() {
            return Err(Error::malformed(format!("cluster at sector {sector}")).at_offset(at));
        }
        return Ok(true);
    }
    Ok(false)
}

/// `(offset, value)` of every 32-bit entry of a table of `count` at byte `start`, without those in holes. The caller has
/// checked that the table lies in the file.
pub(crate) fn entries(
    file: &ImageFile,
    start: u64,
    count: u64,
) -> impl Iterator<Item = Result<(u64, u32)>> {
    let end = start + count * 4;
    let mut at = start;
    let mut chunk = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(entry) = chunk.next() {
                return Some(Ok(entry));
            }
            match next_chunk(file, start, at, end) {
                Ok(Some(found)) => {
                    at = found.last().map_or(end, |(offset, _)| offset + 4);
                    chunk = found.into_iter();
                }
                Ok(None) => return None,
                Err(e) => {
                    at = end;
                    return Some(Err(e));
                }
            }
        }
    })
}

fn next_chunk(file: &ImageFile, start: u64, at: u64, end: u64) -> Result<Option<Vec<(u64, u32)>>> {
    if at >= end {
        return Ok(None);
    }
    let Some(data) = file.next_data(at)?.filter(|data| *data < end) else {
        return Ok(None);
    };
    // A hole may end inside an entry only on odd volumes; begin with the whole entry then.
    let at = start + (data - start) / 4 * 4;
    let mut buf = vec![0; usize::try_from((end - at).min(CHUNK)).unwrap_or(0)];
    file.read_exact_at(&mut buf, at)?;
    Ok(Some(
        words(&buf)
            .enumerate()
            .map(|(i, v)| (at + i as u64 * 4, v))
            .collect(),
    ))
}

fn words(buf: &[u8]) -> impl Iterator<Item = u32> {
    buf.as_chunks::<4>()
        .0
        .iter()
        .map(|w| u32::from_le_bytes(*w))
}

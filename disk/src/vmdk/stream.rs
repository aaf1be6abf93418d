//! Reading what only streamOptimized extents have: the footer at the end of the file, and grains that lie deflated
//! behind a marker. Their writer is in `stream_writer`.
//!
//! Source: libyal's VMDK documentation, "Stream optimized"; QEMU's `block/vmdk.c`; open-vmdk's `sparse.c`.

use super::header::{FLAG_COMPRESSED, FLAG_MARKERS};
use super::{SECTOR, SparseHeader};
use crate::bytes::{le_u32, le_u64};
use crate::file::ImageFile;
use crate::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};

/// Kinds of markers that stand in a sector of their own.
pub(super) const MARKER_END: u32 = 0;
pub(super) const MARKER_TABLE: u32 = 1;
pub(super) const MARKER_DIRECTORY: u32 = 2;
pub(super) const MARKER_FOOTER: u32 = 3;

/// Bytes of the marker before a grain: its first sector (64 bits) and the bytes of its packed form (32 bits).
pub(super) const GRAIN_MARKER: usize = 12;

/// The header with the places of the directory, which stand in the footer where the header leaves them open. The file
/// ends with a marker, the footer and the end-of-stream marker, a sector each.
///
/// # Errors
/// `Malformed` if the footer is missing, or says something else than the header; `Unsupported` for grains that are
/// packed without markers, or not packed with them.
pub(super) fn with_footer(file: &ImageFile, header: SparseHeader) -> Result<SparseHeader> {
    let flags = FLAG_COMPRESSED | FLAG_MARKERS;
    if header.flags & flags != flags {
        return Err(Error::unsupported(format!(
            "flags {:#x}: markers without packed grains, or the other way round",
            header.flags
        ))
        .at_offset(8));
    }
    if header.directory.is_some() {
        return Ok(header);
    }
    let cut =
        || Error::malformed("no footer at the end: the file is cut off").at_offset(file.len());
    let start = file.len().checked_sub(3 * SECTOR).ok_or_else(cut)?;
    let mut bytes = [0; 3 * SECTOR as usize];
    file.read_exact_at(&mut bytes, start)?;
    // Number of sectors, 0 in place of a packed size, kind.
    let is = |sector: usize, kind| {
        let at = sector * SECTOR as usize;
        le_u32(&bytes, at + 8) == 0 && le_u32(&bytes, at + 12) == kind
    };
    if !is(0, MARKER_FOOTER) || !is(2, MARKER_END) || le_u64(&bytes, 2 * SECTOR as usize) != 0 {
        return Err(cut());
    }
    let footer = &bytes[SECTOR as usize..2 * SECTOR as usize];
    let footer = SparseHeader::parse(footer, file.path())?;
    let same = (footer.capacity, footer.grain_size) == (header.capacity, header.grain_size)
        && footer.flags & flags == flags;
    if !same || footer.directory.is_none() {
        return Err(
            Error::malformed("the footer does not go with the header").at_offset(start + SECTOR)
        );
    }
    Ok(SparseHeader {
        directory: footer.directory,
        redundant_directory: None,
        ..header
    })
}

/// Whether the marker of the grain that starts at `sector` of the disk stands at byte `at`.
pub(super) fn check_marker(file: &ImageFile, at: u64, sector: u64, grain: u64) -> Result<()> {
    marker(file, at, sector, grain).map(drop)
}

/// Reads a grain's marker: the bytes of its packed form, which lie in the file.
fn marker(file: &ImageFile, at: u64, sector: u64, grain: u64) -> Result<u64> {
    let mut marker = [0; GRAIN_MARKER];
    file.read_exact_at(&mut marker, at)?;
    let (lba, len) = (le_u64(&marker, 0), u64::from(le_u32(&marker, 8)));
    let bad = |what: String| Err(Error::malformed(what).at_path(file.path()).at_offset(at));
    if lba != sector {
        return bad(format!("marker of the grain at sector {lba}, not {sector}"));
    }
    let there = file.len().saturating_sub(at + GRAIN_MARKER as u64);
    // What does not get smaller grows by little; QEMU's bound is the same.
    if len == 0 || len > there || len > 2 * grain {
        return bad(format!("packed grain of {len} bytes"));
    }
    Ok(len)
}

/// Reads the grain that starts at `sector` of the disk from byte `at` of the file. At least its first `needed` bytes
/// must be there: the last grain may end with the disk.
pub(super) fn read_grain(
    file: &ImageFile,
    at: u64,
    sector: u64,
    needed: usize,
    grain: &mut [u8],
) -> Result<()> {
    let len = marker(file, at, sector, grain.len() as u64)?;
    let start = at + GRAIN_MARKER as u64;
    let bad = |what: String| Err(Error::malformed(what).at_path(file.path()).at_offset(at));
    let mut packed = vec![0; len as usize];
    file.read_exact_at(&mut packed, start)?;
    let mut inflate = Decompress::new(true);
    let done = inflate.decompress(&packed, grain, FlushDecompress::Finish);
    let found = inflate.total_out() as usize;
    match done {
        Ok(Status::StreamEnd) if found >= needed => {}
        Ok(Status::StreamEnd) => return bad(format!("grain of {found} bytes, not {needed}")),
        Ok(_) => return bad("packed grain that does not end, or is too large".to_owned()),
        Err(e) => {
            let error = Error::malformed("packed grain is damaged").caused_by(e);
            return Err(error.at_path(file.path()).at_offset(at));
        }
    }
    if let Some(behind) = grain.get_mut(found..) {
        behind.fill(0);
    }
    Ok(())
}

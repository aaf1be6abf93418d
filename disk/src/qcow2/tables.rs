//! The tables that say where an image's other tables lie, looked through before imago follows them: an entry that leads
//! out of the file, into the header or twice to one place is refused.

use super::header::Header;
use crate::file::ImageFile;
use crate::{Error, Result};
use std::collections::HashSet;

/// Bytes of a table that are read at a time.
const CHUNK: u64 = 64 << 10;
/// Bits of an L1 entry that hold the place of its table.
pub(super) const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
/// Set in an L1 entry whose table is this image's alone.
const L1_OWN: u64 = 1 << 63;

/// Set in an L2 entry of a compressed cluster.
const PACKED: u64 = 1 << 62;

/// Whether an image is opened for reading alone, or its tables are to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    Reading,
    Writing,
}

/// Checks the L1 table. For writing: the places of the L2 tables.
pub(super) fn l2_tables(
    file: &ImageFile,
    header: &Header,
    strictness: Strictness,
) -> Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let bytes = u64::from(header.l1_entries) * 8;
    entries(file, header.l1_offset, bytes, &mut |at, entry| {
        let place = entry & PLACE;
        if entry & !(PLACE | L1_OWN) != 0 {
            return Err(bad(at, format!("L1 entry {entry:#x}")));
        }
        inside(file, header, at, place, "L2 table")?;
        if strictness == Strictness::Writing {
            if entry & L1_OWN == 0 {
                return Err(bad(at, "an L2 table that is not this image's alone".into()));
            }
            if !found.insert(place) {
                return Err(bad(at, format!("L2 table at byte {place} twice")));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Checks an L2 table that is to be changed: every cluster starts in the file, those with a mark for zeros too.
pub(super) fn clusters(file: &ImageFile, header: &Header, table: &[u8], at: u64) -> Result<()> {
    let packed_bits = 62 - (header.cluster_bits - 8);
    for (n, word) in table.as_chunks::<8>().0.iter().enumerate() {
        let entry = u64::from_be_bytes(*word);
        let place = match entry & PACKED != 0 {
            true => entry & ((1 << packed_bits) - 1) & (PLACE | 0x1ff),
            false => entry & PLACE,
        };
        if place != 0 && (place < header.cluster() || place >= file.len()) {
            let why = format!("a cluster at byte {place}");
            return Err(bad(at + n as u64 * 8, why).at_path(file.path()));
        }
    }
    Ok(())
}

/// Checks the refcount table: the places of its blocks. They must follow each other from the first one on: room for
/// new ones is looked for in the older ones.
pub(super) fn refcount_blocks(
    file: &ImageFile,
    header: &Header,
    table: std::ops::Range<u64>,
) -> Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let len = table.end - table.start;
    entries(file, table.start, len, &mut |at, place| {
        inside(file, header, at, place, "refcount block")?;
        if at != table.start + found.len() as u64 * 8 {
            return Err(bad(at, "a refcount block before it is missing".into()));
        }
        match found.insert(place) {
            true => Ok(()),
            false => Err(bad(at, format!("refcount block at byte {place} twice"))),
        }
    })?;
    Ok(found)
}

/// Refuses a place of a cluster that does not lie in the file, behind its header.
fn inside(file: &ImageFile, header: &Header, from: u64, place: u64, what: &str) -> Result<()> {
    let cluster = header.cluster();
    let end = place.checked_add(cluster);
    let inside = place >= cluster && end.is_some_and(|end| end <= file.len());
    match inside && place.is_multiple_of(cluster) {
        true => Ok(()),
        false => Err(bad(from, format!("{what} at byte {place}"))),
    }
}

/// Shows the entries of a table that are not 0, with their places. Holes are skipped; what is cut off is malformed.
fn entries(
    file: &ImageFile,
    start: u64,
    bytes: u64,
    see: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let end = start + bytes;
    let mut at = start;
    let mut buf = Vec::new();
    while at < end {
        at = match file.next_data(at)? {
            Some(data) if data < end => start + (data - start) / 8 * 8,
            _ => return Ok(()),
        };
        buf.resize((end - at).min(CHUNK) as usize, 0);
        file.read_exact_at(&mut buf, at)?;
        for (n, word) in buf.as_chunks::<8>().0.iter().enumerate() {
            match u64::from_be_bytes(*word) {
                0 => {}
                entry => {
                    see(at + n as u64 * 8, entry).map_err(|e| e.at_path(file.path()))?;
                }
            }
        }
        at += buf.len() as u64;
    }
    Ok(())
}

fn bad(at: u64, why: String) -> Error {
    Error::malformed(why).at_offset(at)
}

//! Partition tables read from bytes in memory, for the fuzz target: what the library does with an image's table.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::gpt;

/// Name and byte range of every partition of `disk`, and the byte ranges that would be written if the disk were grown
/// to `grown` bytes; `None` where there is no table.
///
/// # Errors
/// As reading an image's table: [`crate::ErrorKind::Malformed`] for one that breaks the rules.
#[allow(clippy::type_complexity)]
pub fn partitions(
    disk: &[u8],
    grown: u64,
) -> Result<Option<(Vec<(String, Range<u64>)>, Vec<Range<u64>>)>> {
    let found = gpt::read(disk.len() as u64, |at, into| {
        let at = usize::try_from(at).ok();
        let from = at.and_then(|at| disk.get(at..at.checked_add(into.len())?));
        let from = from.ok_or_else(|| Error::invalid("the table is read outside its disk"))?;
        into.copy_from_slice(from);
        Ok(())
    })?;
    let Some(table) = found else { return Ok(None) };
    let partitions = table
        .partitions()
        .map(|found| (found.name, found.offset..found.offset + found.length));
    // A table that cannot be moved is refused when an image is added; it can still be read.
    let patches = table.moved_to(grown).unwrap_or_default();
    let written = patches
        .iter()
        .map(|patch| patch.offset..patch.offset + patch.bytes.len() as u64);
    Ok(Some((partitions.collect(), written.collect())))
}

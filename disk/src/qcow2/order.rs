//! The order in which an image's tables reach its file. imago hands its writes over one by one; two of them come too
//! early for a file that must be valid wherever a writer is killed:
//!
//! * an L1 entry, written as soon as its L2 table has room, while the refcount of that room is still in memory: it is
//!   kept here until the image is flushed;
//! * the entry of a new refcount block that lies in room which an older block counts: its own count is put into the file
//!   first.
//!
//! For the rest imago writes counts before the tables that need them, and tables before counts that are lowered. A sync
//! stands between those, so that the same holds when the power fails.

use super::header::{Header, MAGIC};
use super::tables;
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// L1 entries that are kept before the image has to be flushed.
const MOST_ROOTS: usize = 64;
const SECTOR: usize = 512;
/// Where the header has the place and size of the refcount table.
const COUNTS_FIELDS: Range<usize> = 48..60;

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Data,
    Counts,
    Tables,
    Roots,
}

pub(super) struct Order {
    header: Header,
    last: Step,
    /// Whether steps are synced before the next one begins.
    barriers: Durability,
    /// The L2 tables that the L1 table in the file names.
    tables: HashSet<u64>,
    /// The refcount blocks.
    blocks: HashSet<u64>,
    /// The L1 entries that wait, by their places.
    roots: BTreeMap<u64, u64>,
    l1: Range<u64>,
    counts: Range<u64>,
}

impl Order {
    /// # Errors
    /// `Malformed` for tables that no writer may go by.
    pub(super) fn new(file: &ImageFile, header: &Header) -> Result<Order> {
        let start = header.counts_offset;
        let counts = start..start + (u64::from(header.counts_clusters) << header.cluster_bits);
        Ok(Order {
            tables: tables::l2_tables(file, header, tables::Strictness::Writing)?,
            blocks: tables::refcount_blocks(file, header, counts.clone())?,
            header: header.clone(),
            last: Step::Data,
            barriers: Durability::Synced,
            roots: BTreeMap::new(),
            l1: header.l1_offset..header.l1_offset + u64::from(header.l1_entries) * 8,
            counts,
        })
    }

    /// Guest data was written.
    pub(super) fn wrote_data(&mut self) {
        self.last = Step::Data;
    }

    /// What was written last is on the volume before data is written into room that was in use.
    pub(super) fn before_reuse(&mut self, file: &ImageFile) -> Result<()> {
        self.step(file, Step::Data)
    }

    /// Whether so many L1 entries wait that the image should be flushed.
    pub(super) fn is_full(&self) -> bool {
        self.roots.len() >= MOST_ROOTS
    }

    pub(super) fn set_barriers(&mut self, barriers: Durability) {
        self.barriers = barriers;
    }

    /// Whether the L1 table, as it will be, has an entry for this byte of the disk.
    pub(super) fn has_table(&self, file: &ImageFile, offset: u64) -> Result<bool> {
        let at = self.l1.start + offset / self.header.table_covers() * 8;
        if self.roots.contains_key(&at) {
            return Ok(true);
        }
        Ok(read_word(file, at)? != 0)
    }

    /// Refuses room that holds a table, or the header: the counts that gave it away are wrong.
    pub(super) fn check_room(&self, file: &ImageFile, range: &Range<u64>) -> Result<()> {
        match self.is_taken(range) {
            true => Err(no_room(file, range.start)),
            false => Ok(()),
        }
    }

    /// Checks an L2 table that imago reads.
    pub(super) fn check_table(&self, file: &ImageFile, table: &[u8], at: u64) -> Result<()> {
        match self.tables.contains(&at) {
            true => tables::clusters(file, &self.header, table, at),
            false => Ok(()),
        }
    }

    fn is_taken(&self, range: &Range<u64>) -> bool {
        let meets = |other: &Range<u64>| range.start < other.end && other.start < range.end;
        let cluster = self.header.cluster();
        let mut clusters = (range.start..range.end).step_by(cluster as usize);
        range.start < cluster
            || meets(&self.l1)
            || meets(&self.counts)
            || clusters.any(|at| self.tables.contains(&at) || self.blocks.contains(&at))
            || self
                .roots
                .values()
                .any(|root| range.contains(&(root & tables::PLACE)))
    }

    /// Takes a write of imago's.
    pub(super) fn write(&mut self, file: &ImageFile, bytes: &[u8], at: u64) -> Result<()> {
        if at < self.header.cluster() {
            return self.move_counts(file, bytes);
        }
        let word = <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes);
        match word {
            Ok(entry) if self.l1.contains(&at) => {
                self.roots.insert(at, entry);
                return Ok(());
            }
            Ok(block) if self.counts.contains(&at) => return self.add_block(file, block, at),
            _ => {}
        }
        let waits = |root: &u64| root & tables::PLACE == at;
        if self.blocks.contains(&at) {
            self.step(file, Step::Counts)?;
        } else if self.tables.contains(&at) {
            self.step(file, Step::Tables)?;
        } else if self.roots.values().any(waits) {
            self.last = Step::Data;
        } else {
            // Nothing in the file names it yet.
            self.check_room(file, &(at..at + bytes.len() as u64))?;
            self.last = Step::Data;
        }
        file.write_all_at(bytes, at)
    }

    /// Writes the L1 entries that wait: all that they lead to is in the file.
    pub(super) fn write_roots(&mut self, file: &ImageFile) -> Result<()> {
        if self.roots.is_empty() {
            return Ok(());
        }
        self.step(file, Step::Roots)?;
        while let Some((at, entry)) = self.roots.first_key_value() {
            put(file, &entry.to_be_bytes(), *at)?;
            self.tables.insert(entry & tables::PLACE);
            self.roots.pop_first();
        }
        Ok(())
    }

    fn step(&mut self, file: &ImageFile, next: Step) -> Result<()> {
        if self.last != next && self.barriers == Durability::Synced {
            file.sync()?;
        }
        self.last = next;
        Ok(())
    }

    /// Names a new refcount block.
    fn add_block(&mut self, file: &ImageFile, block: u64, at: u64) -> Result<()> {
        self.count(file, block)?;
        self.last = Step::Data;
        self.step(file, Step::Counts)?;
        put(file, &block.to_be_bytes(), at)?;
        self.blocks.insert(block);
        Ok(())
    }

    /// Sees to it that the count of a cluster is not 0 in the file. A block that counts itself was written so.
    fn count(&self, file: &ImageFile, place: u64) -> Result<()> {
        let bits = 1_u64 << self.header.count_order;
        let per_block = self.header.cluster() * 8 / bits;
        let cluster = place / self.header.cluster();
        let entry = self.counts.start + cluster / per_block * 8;
        let block = match self.counts.contains(&entry) {
            true => read_word(file, entry)?,
            false => 0,
        };
        if block == 0 {
            return Ok(());
        }
        let first = cluster % per_block * bits;
        let at = block + first / 8;
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..(bits / 8).max(1) as usize];
        file.read_exact_at(bytes, at)?;
        // Narrow counts begin at the lowest bit of a byte, wide ones are big-endian.
        let (mask, one) = match bits {
            ..8 => (((1_u16 << bits) - 1) << (first % 8), 1 << (first % 8)),
            _ => (0xff, 1),
        };
        if bytes.iter().any(|byte| u16::from(*byte) & mask != 0) {
            return Ok(());
        }
        if let Some(last) = bytes.last_mut() {
            *last |= one;
        }
        file.write_all_at(bytes, at)
    }

    /// Follows the refcount table to a larger place. Of the header only its place and size are written: imago knows no
    /// other field.
    fn move_counts(&mut self, file: &ImageFile, bytes: &[u8]) -> Result<()> {
        // A table there would begin with something else.
        let fields = bytes.get(COUNTS_FIELDS);
        let fields = fields.filter(|_| bytes.starts_with(MAGIC) && bytes.len() < SECTOR);
        let fields = fields.ok_or_else(|| no_room(file, 0))?;
        let number = |part: &[u8]| {
            part.iter()
                .fold(0, |n: u64, byte| n << 8 | u64::from(*byte))
        };
        let (offset, clusters) = (number(&fields[..8]), number(&fields[8..]));
        let counts = offset..offset.saturating_add(clusters << self.header.cluster_bits);
        self.blocks = tables::refcount_blocks(file, &self.header, counts.clone())?;
        self.last = Step::Data;
        self.step(file, Step::Counts)?;
        put(file, fields, COUNTS_FIELDS.start as u64)?;
        self.counts = counts;
        Ok(())
    }
}

fn no_room(file: &ImageFile, at: u64) -> Error {
    Error::malformed(
        "a table lies in room that its refcounts call free: check and repair the image first",
    )
    .at_path(file.path())
    .at_offset(at)
}

fn read_word(file: &ImageFile, at: u64) -> Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Changes bytes of one sector, and writes the whole of it: no disk and no kernel tears one apart.
fn put(file: &ImageFile, bytes: &[u8], at: u64) -> Result<()> {
    let mut sector = [0; SECTOR];
    let within = (at % SECTOR as u64) as usize;
    let start = at - within as u64;
    file.read_at(&mut sector, start)?;
    match sector.get_mut(within..within + bytes.len()) {
        Some(part) => part.copy_from_slice(bytes),
        None => return Err(Error::invalid("a change of two sectors").at_offset(at)),
    }
    file.write_all_at(&sector, start)
}

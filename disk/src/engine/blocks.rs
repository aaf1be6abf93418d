//! The driver that VMDK grains, VDI blocks and Parallels clusters share: a disk in units of one size, and a table that
//! says for each unit where in the file it lies. What differs is a [`Layout`].

use super::table::{PER_PAGE, Page, PageAt, Table};
use super::{Allocate, Map, Mapping, Place, Room};
use crate::check::{Contents, Inspection, Mark, Walk, walk};
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Changed pages of the table that are kept before they are written back.
const MOST_WAITING: usize = 3072;

/// What an entry of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The unit is not in this image.
    Absent,
    /// It reads as zeros.
    Zero,
    /// It lies at this byte of the file.
    At(u64),
    /// It lies packed at this byte of the file.
    Packed(u64),
}

/// What one format's table looks like. Offsets are in bytes from the start of the file.
pub(crate) trait Layout: Send + Sync {
    /// Size of the guest disk in bytes, not 0.
    fn size(&self) -> u64;

    /// Bytes of a unit, not 0.
    fn unit(&self) -> u64;

    /// Where the page of the table with the entries from `page * 512` on stands; `None` where there is none, and all of
    /// its entries are absent. Checked: it lies in the file.
    fn page(&self, file: &ImageFile, page: u64) -> Result<Option<PageAt>>;

    /// What an entry means. `At` is checked by the caller against [`data`](Self::data) and the length of the file.
    fn decode(&self, entry: u32) -> Entry;

    /// The entry for a unit at byte `at`.
    ///
    /// # Errors
    /// `Limit` where the format cannot name such a place.
    fn encode(&self, at: u64) -> Result<u32>;

    /// The entry for a unit that is not in the image.
    fn absent(&self) -> u32 {
        0
    }

    /// The entry for a unit of zeros, where the format has one that all its readers know.
    fn zero(&self) -> Option<u32> {
        None
    }

    /// The first byte where units may lie.
    fn data(&self) -> u64;

    /// The distance of neighbouring units in the file: more than a unit where each has something before it.
    fn stride(&self) -> u64 {
        self.unit()
    }

    /// The first byte for new units: the end of the file where the layout knows no better.
    fn free_from(&self, file: &ImageFile) -> u64 {
        file.len()
    }

    /// A unit's place before [`free_from`](Self::free_from) that no entry names, with anything in it. It is not offered
    /// again.
    fn take_lost(&self) -> Option<u64> {
        None
    }

    /// Says in the header that a writer is at work.
    fn begin(&self, _file: &ImageFile) -> Result<()> {
        Ok(())
    }

    /// Says in the header, before any table does, what is taken: all before byte `next`.
    fn claim(&self, _file: &ImageFile, _next: u64) -> Result<()> {
        Ok(())
    }

    /// Brings the header up to date; `next` is the first byte that no unit was ever given.
    fn flush(&self, _file: &ImageFile, _next: u64) -> Result<()> {
        Ok(())
    }

    /// Takes back what [`begin`](Self::begin) said.
    fn finish(&self, _file: &ImageFile) -> Result<()> {
        Ok(())
    }

    /// Makes room for a page that has none; [`page`](Self::page) names it from then on, the file not before
    /// [`flush`](Self::flush). `take` gives the room of one unit, zeros up to its end, and answers where it starts.
    fn add_page(
        &self,
        file: &ImageFile,
        _page: u64,
        _take: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        Err(
            Error::unsupported("writing where the image has no table of its own for")
                .at_path(file.path()),
        )
    }

    /// Reads the whole of unit `number`, which lies packed at byte `at`.
    fn unpack(&self, _file: &ImageFile, at: u64, _number: u64, _unit: &mut [u8]) -> Result<()> {
        Err(Error::unsupported("packed unit").at_offset(at))
    }

    /// What stands in the file behind the first byte of data, for a check.
    fn contents(&self) -> Contents {
        Contents::Known
    }

    /// Where the header says that a writer is at work, if it does.
    fn unclean(&self) -> Option<Mark> {
        None
    }

    /// Whether unit `number` lies packed at byte `at`, as far as can be told without unpacking it.
    fn inspect_packed(&self, _file: &ImageFile, _at: u64, _number: u64) -> Result<()> {
        Ok(())
    }

    /// Shows a check what only this format has, once every entry was looked at.
    fn inspect(&self, _walk: &mut Walk<'_, '_>) -> Result<()> {
        Ok(())
    }
}

/// Whether an image is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// An image in units.
pub(crate) struct Blocks<L> {
    file: ImageFile,
    layout: L,
    table: Table,
    used: Use,
    /// The first byte that no unit was ever given.
    next: AtomicU64,
    begun: AtomicBool,
}

impl<L: Layout> Blocks<L> {
    pub(crate) fn new(file: ImageFile, layout: L, used: Use) -> Blocks<L> {
        let (data, stride) = (layout.data(), layout.stride());
        let end = layout.free_from(&file).max(data);
        let next = data + (end - data).div_ceil(stride) * stride;
        Blocks {
            file,
            layout,
            table: Table::default(),
            used,
            next: AtomicU64::new(next),
            begun: AtomicBool::new(false),
        }
    }

    /// How many units the disk has; the last may reach beyond its end.
    pub(crate) fn units(&self) -> u64 {
        self.layout.size().div_ceil(self.layout.unit())
    }

    /// What the table says of a run of units from `unit` on, `most` at most: the first one's entry, and how many follow
    /// it in the same way, those with a place side by side.
    pub(crate) fn run(&self, unit: u64, most: u64) -> Result<(Entry, u64)> {
        let mut first = None;
        let mut found = 0;
        while found < most {
            let (page, index) = ((unit + found) / PER_PAGE, (unit + found) % PER_PAGE);
            let here = (PER_PAGE - index).min(most - found);
            let Some((entries, at)) = self.page(page)? else {
                match first {
                    None => first = Some(Entry::Absent),
                    Some(Entry::Absent) => {}
                    Some(_) => break,
                }
                found += here;
                continue;
            };
            for n in 0..here {
                let entry = self.layout.decode(entries.get(index + n));
                match first {
                    None => {
                        self.check(entry, || at.offset + (index + n) * 4)?;
                        first = Some(entry);
                    }
                    Some(first) if !follows(first, entry, found, self.layout.stride()) => {
                        return Ok((first, found));
                    }
                    // The first of a run was checked, so that its neighbours start inside the file only if told so.
                    Some(_) => self.check(entry, || at.offset + (index + n) * 4)?,
                }
                found += 1;
                // Packed units are read one by one; so are those with something between them.
                let alone = matches!(entry, Entry::Packed(_))
                    || (matches!(entry, Entry::At(_))
                        && self.layout.stride() != self.layout.unit());
                if alone {
                    return Ok((entry, 1));
                }
            }
        }
        Ok((first.unwrap_or(Entry::Absent), found))
    }

    /// A page, and where it stands; `None` where all of its entries are absent.
    fn page(&self, page: u64) -> Result<Option<(Arc<Page>, PageAt)>> {
        let Some(at) = self.layout.page(&self.file, page)? else {
            return Ok(None);
        };
        let entries = self.table.page(&self.file, page, &at)?;
        let absent = entries.is_hole() && self.layout.absent() == 0;
        Ok((!absent).then_some((entries, at)))
    }

    /// Refuses a place before the data or behind the end of the file. The last unit of a file may be cut short by a
    /// writer that died, or that wrote no more than it had: it starts in the file.
    fn check(&self, entry: Entry, from: impl Fn() -> u64) -> Result<()> {
        let (Entry::At(at) | Entry::Packed(at)) = entry else {
            return Ok(());
        };
        if at < self.layout.data() || at >= self.file.len() {
            return Err(Error::malformed(format!("a table entry names byte {at}"))
                .at_path(self.file.path())
                .at_offset(from()));
        }
        // Units need not lie at whole strides from the first; one that is cut short there could reach into new room.
        let end = at.saturating_add(self.layout.unit());
        if self.used == Use::Write
            && matches!(entry, Entry::At(_))
            && end > self.next.load(Ordering::Acquire)
        {
            return Err(Error::malformed(format!(
                "the unit at byte {at} reaches into room that is free"
            ))
            .at_path(self.file.path())
            .at_offset(from()));
        }
        Ok(())
    }

    fn set(&self, unit: u64, value: u32) -> Result<()> {
        let (page, index) = (unit / PER_PAGE, unit % PER_PAGE);
        let at = match self.layout.page(&self.file, page)? {
            Some(at) => at,
            None => {
                self.layout
                    .add_page(&self.file, page, &mut || self.take_unit())?;
                self.page_at(page)?
            }
        };
        self.table.set(&self.file, page, &at, index, value)
    }

    /// Where a page stands that is there.
    fn page_at(&self, page: u64) -> Result<PageAt> {
        let at = self.layout.page(&self.file, page)?;
        at.ok_or_else(|| Error::malformed("a table has gone").at_path(self.file.path()))
    }

    /// Room for one unit that is used for something else.
    fn take_unit(&self) -> Result<u64> {
        let start = self.next.load(Ordering::Acquire);
        let end = start.checked_add(self.layout.stride());
        let end = end.ok_or_else(|| Error::limit("the image is as long as it can be"))?;
        self.file.grow_to(end)?;
        self.next.store(end, Ordering::Release);
        Ok(start)
    }

    fn write_tables(&self, durability: Durability) -> Result<()> {
        let next = self.next.load(Ordering::Acquire);
        if self.begun.load(Ordering::Acquire) {
            self.layout.claim(&self.file, next)?;
        }
        if durability == Durability::Synced {
            self.file.sync()?;
        }
        self.table
            .write_back(&self.file, |page| self.page_at(page))?;
        self.layout
            .flush(&self.file, self.next.load(Ordering::Acquire))
    }
}

/// Whether `entry`, `n` units behind `first`, goes on where it is.
fn follows(first: Entry, entry: Entry, n: u64, stride: u64) -> bool {
    match (first, entry) {
        (Entry::Absent, Entry::Absent) | (Entry::Zero, Entry::Zero) => true,
        (Entry::At(a), Entry::At(b)) => n
            .checked_mul(stride)
            .and_then(|far| a.checked_add(far))
            .is_some_and(|next| next == b),
        _ => false,
    }
}

impl<L: Layout> Map for Blocks<L> {
    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn map(&self, offset: u64, len: u64) -> Result<Mapping<'_>> {
        let unit = self.layout.unit();
        let (first, within) = (offset / unit, offset % unit);
        let most = (within.saturating_add(len)).div_ceil(unit);
        let (entry, units) = self.run(first, most.min(self.units() - first))?;
        let place = match entry {
            Entry::Absent => Place::Absent,
            Entry::Zero => Place::Zero,
            Entry::Packed(_) => Place::Packed,
            Entry::At(at) => Place::Data {
                file: &self.file,
                offset: at + within,
            },
        };
        let len = (units * unit - within).min(len);
        Ok(Mapping { place, len })
    }

    fn files(&self, see: &mut dyn FnMut(&ImageFile)) {
        see(&self.file);
    }

    fn inspect(&self, out: &mut Inspection<'_>) -> Result<()> {
        walk(&self.file, &self.layout, out)
    }

    fn unpack(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let size = self.layout.unit();
        let mut apart = Vec::new();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let within = (at % size) as usize;
            let take = (size as usize - within).min(buf.len() - done);
            let Entry::Packed(place) = self.run(at / size, 1)?.0 else {
                return Err(Error::invalid("not a packed unit").at_offset(at));
            };
            let part = &mut buf[done..done + take];
            let unpack = |unit: &mut [u8]| self.layout.unpack(&self.file, place, at / size, unit);
            if take as u64 == size {
                unpack(part)?;
            } else {
                apart.resize(size as usize, 0);
                unpack(&mut apart)?;
                part.copy_from_slice(&apart[within..within + take]);
            }
            done += take;
        }
        Ok(())
    }

    fn writer(&self) -> Option<&dyn Allocate> {
        (self.used == Use::Write).then_some(self)
    }
}

impl<L: Layout> Allocate for Blocks<L> {
    fn unit(&self, offset: u64) -> Range<u64> {
        let unit = self.layout.unit();
        let start = offset / unit * unit;
        start..(start + unit).min(self.layout.size())
    }

    fn begin(&self) -> Result<()> {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.layout.begin(&self.file)?;
        }
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<Room<'_>> {
        let (unit, stride) = (self.layout.unit(), self.layout.stride());
        if let Some(at) = self.layout.take_lost() {
            self.file.zero(at, unit)?;
            return Ok(Room {
                file: &self.file,
                at,
                len: unit,
                units: offset..(offset + unit).min(self.layout.size()),
                commit: None,
            });
        }
        let most = match stride == unit {
            true => len.div_ceil(unit).max(1),
            false => 1,
        };
        let start = self.next.load(Ordering::Acquire);
        let end = start.checked_add(most * stride);
        let end = end.ok_or_else(|| Error::limit("the image is as long as it can be"))?;
        let at = start + (stride - unit);
        self.layout.encode(end - unit)?;
        self.next.store(end, Ordering::Release);
        Ok(Room {
            file: &self.file,
            at,
            len: most * unit,
            units: offset..(offset + most * unit).min(self.layout.size()),
            commit: None,
        })
    }

    fn link(&self, room: Room<'_>) -> Result<()> {
        let unit = self.layout.unit();
        let first = room.units.start / unit;
        for n in 0..room.len / unit {
            self.set(first + n, self.layout.encode(room.at + n * unit)?)?;
        }
        if self.table.waiting() >= MOST_WAITING {
            self.write_tables(Durability::Synced)?;
        }
        Ok(())
    }

    fn mark_zero(&self, units: Range<u64>) -> Result<bool> {
        let Some(zero) = self.layout.zero() else {
            return Ok(false);
        };
        let unit = self.layout.unit();
        for n in units.start / unit..units.end.div_ceil(unit) {
            self.set(n, zero)?;
        }
        Ok(true)
    }

    fn flush(&self, durability: Durability) -> Result<()> {
        self.write_tables(durability)?;
        match durability {
            Durability::Synced => self.file.sync(),
            Durability::Unsynced => Ok(()),
        }
    }

    fn finish(&self, durability: Durability) -> Result<()> {
        self.flush(durability)?;
        if self.begun.swap(false, Ordering::AcqRel) {
            self.layout.finish(&self.file)?;
            if durability == Durability::Synced {
                self.file.sync()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_side_by_side_and_never_beyond_what_can_be_counted() {
        let at = Entry::At(4096);
        assert!(follows(at, Entry::At(4096 + 3 * 512), 3, 512));
        assert!(!follows(at, Entry::At(4096 + 2 * 512), 3, 512));
        assert!(
            !follows(at, Entry::Absent, 1, 512) && !follows(Entry::Zero, Entry::Absent, 1, 512)
        );
        assert!(follows(Entry::Absent, Entry::Absent, u64::MAX, u64::MAX));
        assert!(!follows(Entry::Packed(0), Entry::Packed(512), 1, 512));
        assert!(!follows(at, Entry::At(0), u64::MAX, 512));
        assert!(!follows(Entry::At(u64::MAX), Entry::At(511), 1, 512));
    }
}

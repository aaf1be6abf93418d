//! The one walk over every image that is a table of units: each entry is looked at once, and what it names is claimed.
//! What only one format has (second copies, counters, marks) its layout adds.

use super::claims::Claims;
use super::finding::Fault;
use super::inspection::{Edit, Inspection, Mend};
use crate::Result;

use crate::engine::{Entry, Layout, PER_PAGE};
use crate::file::ImageFile;
use std::ops::Range;

/// Bytes of tables that are read in one call.
const AHEAD: usize = 64 << 10;
/// Pages between two reports of progress.
const REPORT: u64 = 64;

/// What stands in a file behind the first byte of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Units, and what the layout [claims](Walk::claim): the rest is leaked.
    Known,
    /// Other things too, which no table names.
    Mixed,
}

/// A mark that a writer has an image open, or died: the 32-bit word at byte `at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    pub(crate) clean: u32,
}

/// A walk, for layouts that add to it.
pub(crate) struct Walk<'a, 'b> {
    pub(crate) file: &'a ImageFile,
    out: &'a mut Inspection<'b>,
    claims: Claims,
    /// Units that lie in the file.
    units: u64,
    /// The first byte behind the last unit.
    end: u64,
}

/// Looks at an image.
pub(crate) fn walk<L: Layout>(
    file: &ImageFile,
    layout: &L,
    out: &mut Inspection<'_>,
) -> Result<()> {
    out.begin(file);
    let claims = Claims::new(layout.data(), layout.stride(), file.len());
    let mut walk = Walk {
        file,
        out,
        claims: claims.map_err(|e| e.at_path(file.path()))?,
        units: 0,
        end: layout.data(),
    };
    walk.entries(layout)?;
    layout.inspect(&mut walk)?;
    walk.finish(layout)
}

impl Walk<'_, '_> {
    /// The first byte behind the last unit; where data starts if there is none.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// A fault of the file.
    pub(crate) fn find(
        &mut self,
        fault: Fault,
        offset: u64,
        detail: impl FnOnce() -> String,
        mend: Mend,
    ) -> Result<()> {
        self.out.find(fault, Some(offset), detail, mend)
    }

    /// Claims bytes that are no unit; they are named at byte `by`.
    pub(crate) fn claim(&mut self, range: Range<u64>, by: u64) -> Result<()> {
        if !self.claims.claim(range.clone(), by)? {
            self.overlap(by, range.start)?;
        }
        Ok(())
    }

    /// Whether an entry names the place of a unit that lies in the file and is nobody's.
    pub(crate) fn is_free<L: Layout>(&self, layout: &L, entry: Entry) -> bool {
        match entry {
            Entry::At(at) => at < self.file.len() && self.claims.is_free(&slot(layout, at)),
            _ => false,
        }
    }

    fn overlap(&mut self, by: u64, at: u64) -> Result<()> {
        let detail = || format!("byte {at} has two owners");
        self.out.find(Fault::Overlap, Some(by), detail, Mend::Never)
    }

    fn entries<L: Layout>(&mut self, layout: &L) -> Result<()> {
        let (unit, size) = (layout.unit(), layout.size());
        let units = size.div_ceil(unit);
        let mut ahead = Ahead::new(self.file);
        for page in 0..units.div_ceil(PER_PAGE) {
            let first = page * PER_PAGE;
            if page % REPORT == 0 {
                self.out.progress(first * unit, size)?;
            }
            let at = match layout.page(self.file, page) {
                Ok(Some(at)) => at,
                Ok(None) => continue,
                Err(error) => {
                    let detail = || error.detail().to_owned();
                    self.out
                        .find(Fault::Table, error.offset(), detail, Mend::Never)?;
                    continue;
                }
            };
            let entries = at.entries.min(PER_PAGE);
            self.claim(at.offset..at.offset + entries * 4, at.offset)?;
            if layout.absent() == 0 && ahead.is_hole(at.offset, entries * 4)? {
                continue;
            }
            for n in 0..entries.min(units - first) {
                let by = at.offset + n * 4;
                let word = ahead.word(by)?;
                self.entry(layout, first + n, word, by)?;
            }
        }
        self.out.progress(size, size)
    }

    fn entry<L: Layout>(&mut self, layout: &L, number: u64, word: u32, by: u64) -> Result<()> {
        let (at, packed) = match layout.decode(word) {
            Entry::Absent | Entry::Zero => return Ok(()),
            Entry::At(at) => (at, false),
            Entry::Packed(at) => (at, true),
        };
        if at >= self.file.len() {
            let drop = Edit::Word {
                at: by,
                old: word,
                new: layout.absent(),
            };
            let mend = match packed {
                true => Mend::Never,
                false => Mend::DropLost(drop),
            };
            let detail = || format!("unit {number} is said to lie at byte {at}, behind the end");
            return self.find(Fault::Outside, by, detail, mend);
        }
        if at < layout.data() {
            let detail = || format!("unit {number} is said to lie at byte {at}, before the data");
            return self.find(Fault::BeforeData, by, detail, Mend::Never);
        }
        self.units += 1;
        if packed {
            return match layout.inspect_packed(self.file, at, number) {
                Ok(()) => Ok(()),
                Err(error) => {
                    let detail = || format!("unit {number}: {}", error.detail());
                    self.find(Fault::Packed, by, detail, Mend::Never)
                }
            };
        }
        let slot = slot(layout, at);
        self.end = self.end.max(slot.end);
        let off = (slot.start.saturating_sub(layout.data())) % layout.stride();
        if off != 0 {
            let detail = || format!("unit {number} lies {off} bytes behind a place of units");
            self.find(Fault::Misaligned, by, detail, Mend::Never)?;
        }
        self.claim(slot, by)
    }

    fn finish<L: Layout>(mut self, layout: &L) -> Result<()> {
        let mut collisions = Vec::new();
        self.claims
            .overlaps(&mut |by, at| collisions.push((by, at)));
        for (by, at) in collisions {
            self.overlap(by, at)?;
        }
        self.out.units += self.units;
        if layout.contents() == Contents::Known {
            let free = self.claims.free();
            if let Some((first, bytes)) = free.between {
                self.out.leaked += bytes;
                let detail = || format!("{bytes} bytes between units are named by no entry");
                self.out
                    .find(Fault::Leak, Some(first), detail, Mend::Never)?;
            }
            let bytes = free.tail.end - free.tail.start;
            if bytes != 0 {
                self.out.leaked += bytes;
                let detail = || format!("{bytes} bytes at the end are named by no entry");
                let cut = Edit::Cut {
                    len: free.tail.start,
                };
                // Where an entry is damaged, what it should name may be there.
                let mend = match self.out.is_mendable() {
                    true => Mend::Safe(cut),
                    false => Mend::Never,
                };
                self.out
                    .find(Fault::Leak, Some(free.tail.start), detail, mend)?;
            }
        }
        if let Some(mark) = layout.unclean() {
            let mut word = [0; 4];
            self.file.read_exact_at(&mut word, mark.at)?;
            let edit = Edit::Word {
                at: mark.at,
                old: u32::from_le_bytes(word),
                new: mark.clean,
            };
            let detail = "its last writer did not close it, or has it open";
            self.out.mark(mark.at, detail, edit);
        }
        Ok(())
    }
}

/// The bytes that the unit at byte `at` takes, with what stands before each.
fn slot<L: Layout>(layout: &L, at: u64) -> Range<u64> {
    let before = layout.stride() - layout.unit();
    at.saturating_sub(before)..at.saturating_add(layout.unit())
}

/// Words of tables, read some way ahead.
pub(crate) struct Ahead<'a> {
    file: &'a ImageFile,
    start: u64,
    bytes: Vec<u8>,
    /// A range that is known to be a hole.
    hole: Range<u64>,
    /// A range that is known to be none.
    data: Range<u64>,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(file: &'a ImageFile) -> Ahead<'a> {
        Ahead {
            file,
            start: 0,
            bytes: Vec::new(),
            hole: 0..0,
            data: 0..0,
        }
    }

    /// Whether these bytes are in a hole of the file, and so zeros: tables of large disks are mostly holes.
    pub(crate) fn is_hole(&mut self, at: u64, len: u64) -> Result<bool> {
        let end = at.saturating_add(len);
        if self.data.contains(&at) {
            return Ok(false);
        }
        if !self.hole.contains(&at) {
            let data = self.file.next_data(at)?.unwrap_or(self.file.len());
            self.hole = at..data;
            if data <= at {
                self.data = at..self.file.next_hole(at)?;
            }
        }
        Ok(self.hole.start <= at && end <= self.hole.end)
    }

    /// The word at a byte of the file.
    pub(crate) fn word(&mut self, at: u64) -> Result<u32> {
        let have = |ahead: &Ahead<'_>| {
            let from = usize::try_from(at.checked_sub(ahead.start)?).ok()?;
            let word = ahead.bytes.get(from..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*word))
        };
        if let Some(word) = have(self) {
            return Ok(word);
        }
        let left = self.file.len().saturating_sub(at);
        let take = usize::try_from(left).map_or(AHEAD, |left| left.clamp(4, AHEAD));
        self.bytes.resize(take, 0);
        self.start = at;
        self.file.read_exact_at(&mut self.bytes, at)?;
        Ok(have(self).unwrap_or(0))
    }
}

//! Reading through a chain, and saying where each range of it lies.

use super::{Chain, Level};
use crate::engine::{Mapping, Place};
use crate::file::ImageFile;
use crate::{Error, Result};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// What a range of a chain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Data, as the guest sees it, in a file.
    Data,
    /// Data in a packed form.
    Packed,
    /// An image says that it reads as zeros, or its file has a hole there.
    Zero,
    /// No image of the chain has it: it reads as zeros.
    Absent,
}

/// Where a range of a chain lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappedRange<'a> {
    /// First byte of the range on the disk.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub kind: Kind,
    /// Which image has it: 0 is the top one. `None` where none has.
    pub depth: Option<usize>,
    /// The file and the byte in it, for [`Kind::Data`].
    pub at: Option<(&'a Path, u64)>,
}

/// A range that one image has, or none.
pub(crate) struct Found<'a> {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) place: Place<'a>,
    /// Counted from the base; `None` where no image has it.
    pub(crate) level: Option<usize>,
}

type Next = ControlFlow<()>;

impl Chain {
    /// Fills `buf` with what the guest sees from byte `offset` on.
    ///
    /// # Errors
    /// `Invalid` for a range beyond the disk; `Malformed` naming file and offset for a damaged image.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check_range(offset, buf.len() as u64)?;
        let _places = self.shared();
        self.read_from(self.depth(), buf, offset)
    }

    /// Says where a range of the disk lies, part by part in order, holes of the files included. It stops early when
    /// `see` breaks.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    pub fn map(
        &self,
        offset: u64,
        len: u64,
        see: &mut dyn FnMut(&MappedRange<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check_range(offset, len)?;
        let _places = self.shared();
        let depth = self.depth();
        self.visit_holes(depth, offset, len, &mut |found| {
            let (kind, at) = match found.place {
                Place::Data { file, offset } => (Kind::Data, Some((file.path(), offset))),
                Place::Packed => (Kind::Packed, None),
                Place::Zero => (Kind::Zero, None),
                Place::Absent => (Kind::Absent, None),
            };
            Ok(see(&MappedRange {
                offset: found.offset,
                len: found.len,
                kind,
                depth: found.level.map(|level| depth - 1 - level),
                at,
            }))
        })
        .map(drop)
    }

    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.places.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the lowest `levels` images hold together.
    pub(crate) fn read_from(&self, levels: usize, buf: &mut [u8], offset: u64) -> Result<()> {
        self.visit(levels, offset, buf.len() as u64, &mut |found| {
            let start = (found.offset - offset) as usize;
            let part = &mut buf[start..start + found.len as usize];
            match (found.place, found.level) {
                (Place::Data { file, offset }, _) => file.read_at(part, offset)?,
                (Place::Packed, Some(level)) => {
                    self.levels[level].map.unpack(found.offset, part)?
                }
                _ => part.fill(0),
            }
            Ok(Next::Continue(()))
        })
        .map(drop)
    }

    /// As [`visit`](Self::visit), with the holes of the files as zeros.
    pub(crate) fn visit_holes<'a>(
        &'a self,
        levels: usize,
        offset: u64,
        len: u64,
        see: &mut dyn FnMut(Found<'a>) -> Result<Next>,
    ) -> Result<Next> {
        let mut seen: Option<DataRun<'a>> = None;
        self.visit(levels, offset, len, &mut |found| {
            let Place::Data {
                file,
                offset: start,
            } = found.place
            else {
                return see(found);
            };
            let mut done = 0;
            while done < found.len {
                let at = start + done;
                let run = match seen.take().filter(|run| run.holds(file, at)) {
                    Some(run) => run,
                    None => DataRun::find(file, at)?,
                };
                let (place, until) = match run.data.start > at {
                    true => (Place::Zero, run.data.start),
                    false => (Place::Data { file, offset: at }, run.data.end),
                };
                seen = Some(run);
                // A file that changes meanwhile must not keep us here.
                let len = until.saturating_sub(at).max(1).min(found.len - done);
                let part = Found {
                    offset: found.offset + done,
                    len,
                    place,
                    level: found.level,
                };
                if see(part)?.is_break() {
                    return Ok(Next::Break(()));
                }
                done += len;
            }
            Ok(Next::Continue(()))
        })
    }

    /// Shows the parts of a range in order: what the lowest `levels` images have of it. Each image is asked once for
    /// each of its runs.
    pub(crate) fn visit<'a>(
        &'a self,
        levels: usize,
        offset: u64,
        len: u64,
        see: &mut dyn FnMut(Found<'a>) -> Result<Next>,
    ) -> Result<Next> {
        let Some(level) = levels.checked_sub(1) else {
            let place = Place::Absent;
            return see(Found {
                offset,
                len,
                place,
                level: None,
            });
        };
        let image = &self.levels[level];
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let Mapping { place, len: run } = image.run(at, len - done)?;
            let next = match place {
                Place::Absent => self.visit(level, at, run, see)?,
                place => see(Found {
                    offset: at,
                    len: run,
                    place,
                    level: Some(level),
                })?,
            };
            if next.is_break() {
                return Ok(next);
            }
            done += run;
        }
        Ok(Next::Continue(()))
    }
}

/// A run of data in a file, and the hole before it. Kept from one range to the next: systems look through a run from
/// its start to its end each time they are asked for that end.
struct DataRun<'a> {
    file: &'a ImageFile,
    /// Where the hole starts that the data follows, as far as it was asked for.
    from: u64,
    data: Range<u64>,
}

impl<'a> DataRun<'a> {
    fn find(file: &'a ImageFile, from: u64) -> Result<DataRun<'a>> {
        let data = match file.next_data(from)? {
            Some(start) => start..file.next_hole(start)?,
            None => u64::MAX..u64::MAX,
        };
        Ok(DataRun { file, from, data })
    }

    fn holds(&self, file: &ImageFile, at: u64) -> bool {
        std::ptr::eq(self.file, file) && self.from <= at && at < self.data.end
    }
}

impl Level {
    /// What this image alone says of a range that lies in the disk.
    pub(crate) fn run(&self, offset: u64, len: u64) -> Result<Mapping<'_>> {
        let run = self.map.map(offset, len);
        let run = run.map_err(|e| e.at_path(&self.path).during("look up data"))?;
        match run.len {
            1.. if run.len <= len => Ok(run),
            _ => Err(Error::malformed("the image says nothing of a range")
                .at_path(&self.path)
                .at_offset(offset)),
        }
    }
}

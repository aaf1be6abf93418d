//! Writing to the top image of a chain: in place where it has the data, else into new units that are filled up from below
//! before the image names them.

use super::Chain;
use crate::engine::{Allocate, Mapping, Place, Room};
use crate::{Error, ErrorKind, Result};
use std::ops::{ControlFlow, Range};

/// Bytes that pass through memory at a time when a unit is filled up.
const CHUNK: u64 = 1 << 20;

/// New room, and the guest bytes that are to be written into it.
struct New<'a> {
    room: Room<'a>,
    data: Range<u64>,
}

impl New<'_> {
    /// How many bytes of the caller's go into it.
    fn taken(&self) -> usize {
        (self.data.end - self.data.start) as usize
    }

    /// Whether they fill it.
    fn is_whole(&self) -> bool {
        self.data == self.room.units && self.room.len == self.data.end - self.data.start
    }
}

impl Chain {
    /// Writes `buf` from byte `offset` on. What is not flushed may be lost when the process dies; the image stays valid.
    ///
    /// # Errors
    /// `PermissionDenied` if the chain is open for reading; `Invalid` for a range beyond the disk; else what the
    /// operating system reports: a part may have been written then.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check_range(offset, buf.len() as u64)?;
        let writer = self.writer()?;
        let mut done = 0;
        {
            let _places = self.shared();
            while done < buf.len() {
                match self.write_in_place(writer, &buf[done..], offset + done as u64)? {
                    0 => break,
                    n => done += n,
                }
            }
        }
        if done == buf.len() {
            return Ok(());
        }
        let _places = self.exclusive();
        while done < buf.len() {
            let (part, at) = (&buf[done..], offset + done as u64);
            done += match self.write_in_place(writer, part, at)? {
                0 => {
                    let new = self.take_room(writer, part, at)?;
                    self.fill(&new, part)?;
                    let taken = new.taken();
                    writer.link(new.room)?;
                    taken
                }
                n => n,
            };
        }
        Ok(())
    }

    /// As [`write_at`](Self::write_at), for a caller that sees to it that no other thread writes to the same units: others
    /// take room and write meanwhile.
    pub(crate) fn write_alone(&self, buf: &[u8], offset: u64) -> Result<()> {
        let writer = self.writer()?;
        if writer.takes_one_room_at_a_time() {
            return self.write_at(buf, offset);
        }
        let mut done = 0;
        while done < buf.len() {
            let (part, at) = (&buf[done..], offset + done as u64);
            let places = self.shared();
            let n = self.write_in_place(writer, part, at)?;
            drop(places);
            done += match n {
                0 => {
                    let new = {
                        let _places = self.exclusive();
                        self.take_room(writer, part, at)?
                    };
                    self.fill(&new, part)?;
                    let taken = new.taken();
                    let _places = self.exclusive();
                    writer.link(new.room)?;
                    taken
                }
                n => n,
            };
        }
        Ok(())
    }

    /// Makes `len` bytes from byte `offset` on read as zeros, and takes no more room for that than the format needs: no
    /// zeros are written where a hole will do.
    ///
    /// # Errors
    /// As for [`write_at`](Self::write_at).
    pub fn zero(&self, offset: u64, len: u64) -> Result<()> {
        self.check_range(offset, len)?;
        let writer = self.writer()?;
        let _places = self.exclusive();
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let Mapping { place, len } = self.top().run(at, end - at)?;
            at = match place {
                Place::Data { file, offset } => {
                    writer.begin()?;
                    let inside = file.len().saturating_sub(offset).min(len);
                    file.zero(offset, inside)?;
                    at + len
                }
                Place::Zero => at + len,
                Place::Absent if self.is_zero(at..at + len)? => at + len,
                Place::Absent | Place::Packed => self.zero_anew(writer, at..at + len)?,
            };
        }
        Ok(())
    }

    fn writer(&self) -> Result<&dyn Allocate> {
        self.top().map.writer().ok_or_else(|| {
            Error::new(
                ErrorKind::PermissionDenied,
                "the image is not open for writing",
            )
            .at_path(&self.top().path)
        })
    }

    /// Writes what lies in units that the top image has; how many bytes that were.
    fn write_in_place(&self, writer: &dyn Allocate, buf: &[u8], at: u64) -> Result<usize> {
        let Mapping { place, len } = self.top().run(at, buf.len() as u64)?;
        let Place::Data { file, offset } = place else {
            return Ok(0);
        };
        writer.begin()?;
        file.write_all_at(&buf[..len as usize], offset)?;
        Ok(len as usize)
    }

    /// Takes room for as many of the bytes at `at` as lie in units that the top image does not have.
    fn take_room<'a>(&'a self, writer: &'a dyn Allocate, buf: &[u8], at: u64) -> Result<New<'a>> {
        let run = self.top().run(at, buf.len() as u64)?.len;
        let first = writer.unit(at).start;
        writer.begin()?;
        let room = writer.allocate(first, at + run - first)?;
        let new = New {
            data: at..(at + run).min(room.units.end),
            room,
        };
        if !new.is_whole() {
            new.room.file.grow_to(new.room.at + new.room.len)?;
        }
        Ok(new)
    }

    /// Writes the first bytes of `buf` into new room, and around them what the guest sees there now.
    fn fill(&self, new: &New<'_>, buf: &[u8]) -> Result<()> {
        let New { room, data } = new;
        if !new.is_whole() {
            self.copy_up(room, room.units.start..data.start)?;
            self.copy_up(room, data.end..room.units.end)?;
        }
        let at = room.at + (data.start - room.units.start);
        room.file.write_all_at(&buf[..new.taken()], at)
    }

    /// Makes a range read as zeros that the top image does not have, or its first part; up to where.
    fn zero_anew(&self, writer: &dyn Allocate, range: Range<u64>) -> Result<u64> {
        let unit = writer.unit(range.start);
        writer.begin()?;
        if unit.start < range.start || range.end < unit.end {
            // Part of a unit: the rest of it stays what it is.
            let room = writer.allocate(unit.start, unit.end - unit.start)?;
            room.file.grow_to(room.at + room.len)?;
            let end = range.end.min(unit.end);
            self.copy_up(&room, unit.start..range.start)?;
            self.copy_up(&room, end..unit.end)?;
            writer.link(room)?;
            return Ok(end);
        }
        let last = writer.unit(range.end - 1);
        let whole = range.start..match last.end == range.end {
            true => range.end,
            false => last.start,
        };
        if writer.mark_zero(whole.clone())? {
            return Ok(whole.end);
        }
        // No mark: room that nothing is written into.
        let room = writer.allocate(whole.start, whole.end - whole.start)?;
        room.file.grow_to(room.at + room.len)?;
        let end = room.units.end;
        writer.link(room)?;
        Ok(end)
    }

    /// Fills a part of new room with what the guest sees there now; zeros are there already.
    fn copy_up(&self, room: &Room<'_>, range: Range<u64>) -> Result<()> {
        let mut buf = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + CHUNK);
            if !self.is_zero(at..end)? {
                buf.resize((end - at) as usize, 0);
                self.read_from(self.depth(), &mut buf, at)?;
                room.file
                    .write_all_at(&buf, room.at + (at - room.units.start))?;
            }
            at = end;
        }
        Ok(())
    }

    /// Whether the images say that a range reads as zeros; their data is not looked at.
    fn is_zero(&self, range: Range<u64>) -> Result<bool> {
        let len = range.end - range.start;
        let seen = self.visit(self.depth(), range.start, len, &mut |found| {
            Ok(match found.place {
                Place::Zero | Place::Absent => ControlFlow::Continue(()),
                Place::Data { .. } | Place::Packed => ControlFlow::Break(()),
            })
        })?;
        Ok(seen.is_continue())
    }
}

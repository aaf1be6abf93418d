//! What a format has to answer so that the shared engine can do all data I/O: where guest data lies ([`Map`]), and how
//! new room for it is taken ([`Allocate`]). No byte of guest data is read or written by a driver, packed grains aside.

use crate::check::Inspection;
use crate::file::ImageFile;
use crate::{Error, Result};
use std::ops::Range;

/// Where the guest data of a range lies in one image.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Not in this image: the parent has it; where there is no parent it reads as zeros.
    Absent,
    /// It reads as zeros, whatever the parent has.
    Zero,
    /// In `file` from byte `offset` on, as the guest sees it. What lies behind the end of the file reads as zeros.
    Data { file: &'a ImageFile, offset: u64 },
    /// In another form, which only the driver can read: see [`Map::unpack`].
    Packed,
}

/// A place, and for how many bytes from the one asked for it goes on.
#[derive(Clone, Copy)]
pub(crate) struct Mapping<'a> {
    pub(crate) place: Place<'a>,
    /// Never 0.
    pub(crate) len: u64,
}

/// One image's guest data, without its parent's. A driver checks every number of its file before it answers.
pub(crate) trait Map: Send + Sync {
    /// Size of the guest disk in bytes.
    fn size(&self) -> u64;

    /// The place of byte `offset`, and how far it goes on: at most `len` bytes. The caller sees to it that `len` is not
    /// 0 and that the range lies in the disk.
    fn map(&self, offset: u64, len: u64) -> Result<Mapping<'_>>;

    /// Shows every file that the image consists of.
    fn files(&self, see: &mut dyn FnMut(&ImageFile));

    /// Shows a check what its tables and marks say; nothing for an image that has none.
    fn inspect(&self, _out: &mut Inspection<'_>) -> Result<()> {
        Ok(())
    }

    /// Reads a range whose place is [`Place::Packed`].
    fn unpack(&self, offset: u64, _buf: &mut [u8]) -> Result<()> {
        Err(Error::unsupported("packed data").at_offset(offset))
    }

    /// How it is written to; `None` for an image that is open for reading, or that its format allows no writes to.
    fn writer(&self) -> Option<&dyn Allocate> {
        None
    }
}

/// New room for units: nothing in the image names it until [`Allocate::link`].
pub(crate) struct Room<'a> {
    pub(crate) file: &'a ImageFile,
    /// Where in the file it starts, in bytes.
    pub(crate) at: u64,
    /// Its bytes: whole units.
    pub(crate) len: u64,
    /// The guest bytes it is for: as many, but where the disk ends inside the last unit.
    pub(crate) units: Range<u64>,
    /// How a driver enters it that keeps more of it than its place; dropped instead, the room is free again.
    pub(crate) commit: Option<Commit<'a>>,
}

/// Enters room into an image's tables.
pub(crate) type Commit<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// How an image takes new room. The engine sees to it that one thread at a time allocates and links.
pub(crate) trait Allocate: Map {
    /// The guest bytes of the unit of allocation that holds byte `offset`; the last one ends with the disk.
    fn unit(&self, offset: u64) -> Range<u64>;

    /// Says in the image, where the format can, that a writer is at work. Called before each change; only the first one
    /// does anything.
    fn begin(&self) -> Result<()>;

    /// Room for units that have none, from the one at `offset` (its first byte) on: for at least one, and for no more
    /// than `len` bytes need. It lies side by side in one file, and reads as zeros until it is written.
    fn allocate(&self, offset: u64, len: u64) -> Result<Room<'_>>;

    /// Whether room has to be linked or dropped before more is taken.
    fn takes_one_room_at_a_time(&self) -> bool {
        false
    }

    /// Gives its units to the room: everything in it is written.
    fn link(&self, room: Room<'_>) -> Result<()>;

    /// Notes that units without room read as zeros. False, and nothing done, where the format has no mark for that.
    fn mark_zero(&self, _units: Range<u64>) -> Result<bool> {
        Ok(false)
    }

    /// Writes what is kept in memory, in an order that leaves a valid image wherever it is cut short: data, then tables.
    /// With [`Durability::Synced`](crate::Durability::Synced) all of it is on the volume afterwards.
    fn flush(&self, durability: crate::Durability) -> Result<()>;

    /// Flushes, and takes back what [`begin`](Self::begin) said.
    fn finish(&self, durability: crate::Durability) -> Result<()>;
}

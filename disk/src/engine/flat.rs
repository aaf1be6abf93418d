//! Drivers for data that lies as the guest sees it: a range of a file, and a range of zeros without a file.

use super::blocks::Use;
use super::{Allocate, Map, Mapping, Place, Room};
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use std::ops::Range;

/// A range of a file: a raw image, a flat extent.
pub(crate) struct Flat {
    file: ImageFile,
    start: u64,
    size: u64,
    used: Use,
}

impl Flat {
    /// The `size` bytes of `file` from `start` on, which must be there.
    pub(crate) fn new(file: ImageFile, start: u64, size: u64, used: Use) -> Result<Flat> {
        if start.checked_add(size).is_none_or(|end| end > file.len()) {
            return Err(
                Error::malformed(format!("no {size} bytes from byte {start} on"))
                    .at_path(file.path())
                    .at_offset(file.len()),
            );
        }
        Ok(Flat {
            file,
            start,
            size,
            used,
        })
    }
}

impl Map for Flat {
    fn size(&self) -> u64 {
        self.size
    }

    fn map(&self, offset: u64, len: u64) -> Result<Mapping<'_>> {
        let place = Place::Data {
            file: &self.file,
            offset: self.start + offset,
        };
        Ok(Mapping { place, len })
    }

    fn files(&self, see: &mut dyn FnMut(&ImageFile)) {
        see(&self.file);
    }

    fn writer(&self) -> Option<&dyn Allocate> {
        (self.used == Use::Write).then_some(self)
    }
}

impl Allocate for Flat {
    fn unit(&self, offset: u64) -> Range<u64> {
        offset..offset + 1
    }

    fn begin(&self) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, offset: u64, _: u64) -> Result<Room<'_>> {
        Err(Error::invalid("a flat extent has all the room it needs").at_offset(offset))
    }

    fn link(&self, _: Room<'_>) -> Result<()> {
        Ok(())
    }

    fn flush(&self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Synced => self.file.sync(),
            Durability::Unsynced => Ok(()),
        }
    }

    fn finish(&self, durability: Durability) -> Result<()> {
        self.flush(durability)
    }
}

/// A range that reads as zeros and cannot be written to.
pub(crate) struct Zeros {
    /// In bytes.
    pub(crate) size: u64,
}

impl Map for Zeros {
    fn size(&self) -> u64 {
        self.size
    }

    fn map(&self, _: u64, len: u64) -> Result<Mapping<'_>> {
        Ok(Mapping {
            place: Place::Zero,
            len,
        })
    }

    fn files(&self, _: &mut dyn FnMut(&ImageFile)) {}
}

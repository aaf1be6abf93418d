//! An image in parts, one after another: the extents of a VMDK, the storages of a Parallels bundle.

use super::{Allocate, Map, Mapping, Room};
use crate::check::Inspection;
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use std::ops::Range;

/// Parts, each with the guest byte it starts at.
pub(crate) struct Concat {
    parts: Vec<(u64, Box<dyn Map>)>,
    size: u64,
}

impl Concat {
    /// The disk that these parts make up together.
    ///
    /// # Errors
    /// `Malformed` if there is none, if one is empty, or if they are larger than can be counted.
    pub(crate) fn new(parts: Vec<Box<dyn Map>>) -> Result<Concat> {
        let mut size: u64 = 0;
        let mut placed = Vec::with_capacity(parts.len());
        for part in parts {
            let (start, len) = (size, part.size());
            let end = size.checked_add(len).filter(|_| len != 0);
            size = end.ok_or_else(|| Error::malformed("an empty or immense extent"))?;
            placed.push((start, part));
        }
        if placed.is_empty() {
            return Err(Error::malformed("an image without extents"));
        }
        Ok(Concat {
            parts: placed,
            size,
        })
    }

    /// The part that holds byte `offset` of the disk, and where it starts.
    fn part(&self, offset: u64) -> Result<(u64, &dyn Map)> {
        let behind = self.parts.partition_point(|(start, _)| *start <= offset);
        let part = behind.checked_sub(1).and_then(|n| self.parts.get(n));
        let part = part.filter(|_| offset < self.size);
        part.map(|(start, part)| (*start, part.as_ref()))
            .ok_or_else(|| Error::invalid("behind the end of the disk").at_offset(offset))
    }

    fn part_writer(&self, offset: u64) -> Result<(u64, &dyn Allocate)> {
        let (start, part) = self.part(offset)?;
        let writer = part.writer();
        let writer = writer.ok_or_else(|| Error::unsupported("this extent cannot be written to"));
        Ok((start, writer?))
    }

    fn writers(&self) -> impl Iterator<Item = &dyn Allocate> {
        self.parts.iter().filter_map(|(_, part)| part.writer())
    }
}

impl Map for Concat {
    fn size(&self) -> u64 {
        self.size
    }

    fn map(&self, offset: u64, len: u64) -> Result<Mapping<'_>> {
        let (start, part) = self.part(offset)?;
        part.map(offset - start, len.min(start + part.size() - offset))
    }

    fn files(&self, see: &mut dyn FnMut(&ImageFile)) {
        self.parts.iter().for_each(|(_, part)| part.files(see));
    }

    fn inspect(&self, out: &mut Inspection<'_>) -> Result<()> {
        self.parts
            .iter()
            .try_for_each(|(_, part)| part.inspect(out))
    }

    fn unpack(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (start, part) = self.part(at)?;
            let left = usize::try_from(start + part.size() - at).unwrap_or(usize::MAX);
            let take = left.min(buf.len() - done);
            part.unpack(at - start, &mut buf[done..done + take])?;
            done += take;
        }
        Ok(())
    }

    fn writer(&self) -> Option<&dyn Allocate> {
        self.writers().next().map(|_| self as &dyn Allocate)
    }
}

impl Allocate for Concat {
    fn unit(&self, offset: u64) -> Range<u64> {
        match self.part_writer(offset) {
            Ok((start, part)) => {
                let unit = part.unit(offset - start);
                unit.start + start..unit.end + start
            }
            Err(_) => offset..offset + 1,
        }
    }

    fn begin(&self) -> Result<()> {
        self.writers().try_for_each(Allocate::begin)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<Room<'_>> {
        let (start, part) = self.part_writer(offset)?;
        let room = part.allocate(offset - start, len.min(start + part.size() - offset))?;
        Ok(Room {
            units: room.units.start + start..room.units.end + start,
            ..room
        })
    }

    fn link(&self, room: Room<'_>) -> Result<()> {
        let (start, part) = self.part_writer(room.units.start)?;
        part.link(Room {
            units: room.units.start - start..room.units.end - start,
            ..room
        })
    }

    fn takes_one_room_at_a_time(&self) -> bool {
        self.writers().any(Allocate::takes_one_room_at_a_time)
    }

    fn mark_zero(&self, units: Range<u64>) -> Result<bool> {
        let (start, part) = self.part_writer(units.start)?;
        part.mark_zero(units.start - start..units.end - start)
    }

    fn flush(&self, durability: Durability) -> Result<()> {
        self.writers().try_for_each(|part| part.flush(durability))
    }

    fn finish(&self, durability: Durability) -> Result<()> {
        self.writers().try_for_each(|part| part.finish(durability))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ErrorKind;
    use crate::engine::Zeros;

    fn parts(sizes: &[u64]) -> Vec<Box<dyn Map>> {
        let zeros = |size: &u64| -> Box<dyn Map> { Box::new(Zeros { size: *size }) };
        sizes.iter().map(zeros).collect()
    }

    #[test]
    fn a_range_ends_where_its_part_does() {
        let disk = Concat::new(parts(&[512, 1, 1000])).unwrap();
        assert_eq!(disk.size(), 1513);
        for (at, len, want) in [
            (0, 1513, 512),
            (511, 9, 1),
            (512, 9, 1),
            (513, 9, 9),
            (1512, 1, 1),
        ] {
            assert_eq!(disk.map(at, len).unwrap().len, want, "{at}");
        }
        let error = disk.map(1513, 1).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        // None of the parts can be written to.
        assert!(disk.writer().is_none());
        assert_eq!(disk.unit(600), 600..601);
    }

    #[test]
    fn parts_that_add_up_to_no_disk_are_refused() {
        for sizes in [&[][..], &[512, 0], &[u64::MAX, 1]] {
            let error = Concat::new(parts(sizes)).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{sizes:?}");
        }
    }
}

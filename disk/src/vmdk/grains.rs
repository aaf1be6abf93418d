//! The grains of a sparse VMDK extent as a layout for the engine: what the entries of grain tables mean. Where the tables
//! stand is in `directory`, the header in `header`, deflated grains in `stream`.
//!
//! Source: libyal's VMDK documentation, "COWD and VMDK sparse extent data file"; QEMU's `block/vmdk.c`.

use super::directory::Directory;
use super::header::{FLAG_ZERO_GRAIN, NEWLINES, SparseHeader};
use super::{SECTOR, Shutdown, inspect, stream};
use crate::check::{Ahead, Contents, Mark, Walk};
use crate::engine::{Blocks, Entry, Layout, PER_PAGE, PageAt, Use};
use crate::file::ImageFile;
use crate::{Error, Result};

/// Byte of the header that says whether a writer has the file open.
const UNCLEAN: u64 = 72;

/// Directory and tables of one sparse extent.
pub(crate) struct Grains {
    header: SparseHeader,
    /// Of the disk; the header may count up to the end of the last grain.
    sectors: u64,
    directory: Directory,
}

impl Grains {
    /// Opens an extent of so many sectors.
    ///
    /// # Errors
    /// `Mismatch` if its header says another size, or if it is to be written and its last writer did not close it;
    /// `Unsupported` for a streamOptimized one that is to be written; `Malformed` for a footer or a directory that is cut
    /// off.
    pub(crate) fn open(
        file: ImageFile,
        header: SparseHeader,
        sectors: u64,
        used: Use,
    ) -> Result<Blocks<Grains>> {
        let opened = Grains::read(&file, header, sectors, used);
        let grains = opened.map_err(|e| e.at_path(file.path()))?;
        Ok(Blocks::new(file, grains, used))
    }

    fn read(file: &ImageFile, header: SparseHeader, sectors: u64, used: Use) -> Result<Grains> {
        header.check_sectors(sectors)?;
        if used == Use::Write && header.is_stream() {
            return Err(Error::unsupported(
                "a streamOptimized image cannot be written to: convert it into another one first",
            ));
        }
        if used == Use::Write && header.shutdown == Shutdown::Unclean {
            return Err(Error::mismatch(
                "its last writer did not close it, or has it open: check and repair it first",
            ));
        }
        let header = match header.is_stream() {
            true => stream::with_footer(file, header)?,
            false => header,
        };
        let grains = Grains {
            directory: Directory::read(file, &header, used)?,
            sectors,
            header,
        };
        if used == Use::Write {
            grains.check_ends(file)?;
        }
        Ok(grains)
    }

    /// Refuses an entry behind the end of the file: the next new grain would lie there, and what is written to it would
    /// show in two places of the disk. Tables in holes of the file are passed over.
    fn check_ends(&self, file: &ImageFile) -> Result<()> {
        let mut ahead = Ahead::new(file);
        let pages = self.size().div_ceil(self.unit() * PER_PAGE);
        for page in 0..pages {
            let Some(at) = self.directory.page(file, page)? else {
                continue;
            };
            if ahead.is_hole(at.offset, at.entries * 4)? {
                continue;
            }
            for entry in (0..at.entries).map(|n| at.offset + n * 4) {
                match self.decode(ahead.word(entry)?) {
                    Entry::At(place) if place >= file.len() => {
                        return Err(Error::malformed(format!(
                            "a grain at byte {place}, behind the end of the file: check the image"
                        ))
                        .at_offset(entry));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Layout for Grains {
    fn size(&self) -> u64 {
        self.sectors * SECTOR
    }

    fn unit(&self) -> u64 {
        self.header.grain_size * SECTOR
    }

    fn page(&self, file: &ImageFile, page: u64) -> Result<Option<PageAt>> {
        self.directory.page(file, page)
    }

    fn decode(&self, entry: u32) -> Entry {
        match entry {
            0 => Entry::Absent,
            1 if self.header.flags & FLAG_ZERO_GRAIN != 0 => Entry::Zero,
            sector if self.header.is_stream() => Entry::Packed(u64::from(sector) * SECTOR),
            sector => Entry::At(u64::from(sector) * SECTOR),
        }
    }

    fn encode(&self, at: u64) -> Result<u32> {
        u32::try_from(at / SECTOR)
            .map_err(|_| Error::limit("a sparse VMDK holds no grain beyond 2 TiB"))
    }

    fn data(&self) -> u64 {
        match self.header.is_stream() {
            // Writers disagree on what counts as overhead there.
            true => SECTOR,
            false => self.header.overhead * SECTOR,
        }
    }

    fn begin(&self, file: &ImageFile) -> Result<()> {
        file.write_all_at(&[1], UNCLEAN)
    }

    fn flush(&self, file: &ImageFile, _next: u64) -> Result<()> {
        self.directory.flush(file)
    }

    fn finish(&self, file: &ImageFile) -> Result<()> {
        file.write_all_at(&[0], UNCLEAN)
    }

    fn add_page(
        &self,
        _file: &ImageFile,
        page: u64,
        take: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        self.directory.add(page, self.unit(), take)
    }

    fn unpack(&self, file: &ImageFile, at: u64, number: u64, grain: &mut [u8]) -> Result<()> {
        let sector = number * self.header.grain_size;
        let needed = ((self.sectors - sector) * SECTOR).min(self.unit());
        stream::read_grain(file, at, sector, needed as usize, grain)
    }

    fn contents(&self) -> Contents {
        match self.header.is_stream() {
            true => Contents::Mixed,
            false => Contents::Known,
        }
    }

    fn unclean(&self) -> Option<Mark> {
        (self.header.shutdown == Shutdown::Unclean).then_some(Mark {
            at: UNCLEAN,
            clean: u32::from_le_bytes([0, NEWLINES[0], NEWLINES[1], NEWLINES[2]]),
        })
    }

    fn inspect_packed(&self, file: &ImageFile, at: u64, number: u64) -> Result<()> {
        stream::check_marker(file, at, number * self.header.grain_size, self.unit())
    }

    fn inspect(&self, walk: &mut Walk<'_, '_>) -> Result<()> {
        inspect::second_copy(self, &self.header, walk)
    }
}

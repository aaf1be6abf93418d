//! The block map of a VDI as a layout for the engine: entries are indices of blocks behind the header, and the header's
//! count says which index comes next. The header itself is read in `header`.

use super::header::{ALLOCATED_AT, Header};
use crate::check::{Edit, Fault, Mend, Walk};
use crate::engine::{Blocks, Entry, Layout, PageAt, Use};
use crate::file::ImageFile;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The map's entry for a block that is not in this image.
pub(super) const FREE: u32 = u32::MAX;
/// The entry for one that reads as zeros.
const ZERO: u32 = u32::MAX - 1;
/// Entries of the map that are read at a time.
const CHUNK: u64 = 16 << 10;
/// Entries of a page of the engine's table.
const PER_PAGE: u64 = 512;

/// Header and block map of one image.
pub(crate) struct BlockMap {
    header: Header,
    /// What a writer has to know; `None` for an image that is read.
    room: Option<Room>,
}

/// Which indices have a block.
struct Room {
    /// The first index that the map named none from on when the image was opened.
    end: u64,
    /// What the header in the file says.
    allocated: AtomicU32,
    /// Indices below `end` that no block has: a writer died before it named them.
    lost: Mutex<Lost>,
}

struct Lost {
    taken: Vec<u64>,
    from: u64,
}

impl BlockMap {
    /// Opens an image by its header.
    ///
    /// # Errors
    /// For writing, `Malformed` for a map in which two blocks share a place, or that names one outside the file: what is
    /// written to one block would change another.
    pub(super) fn open(file: ImageFile, header: Header, used: Use) -> Result<Blocks<BlockMap>> {
        let room = match used {
            Use::Read => None,
            Use::Write => Some(Room::find(&file, &header)?),
        };
        Ok(Blocks::new(file, BlockMap { header, room }, used))
    }
}

impl Room {
    fn find(file: &ImageFile, header: &Header) -> Result<Room> {
        let mut taken = vec![0_u64; header.blocks.div_ceil(64) as usize];
        let mut end = 0;
        each_entry(file, header, &mut |block, entry| {
            if entry >= ZERO {
                return Ok(ControlFlow::Continue(()));
            }
            let index = u64::from(entry);
            let why = match (taken.get_mut((index / 64) as usize), 1 << (index % 64)) {
                (Some(word), bit) if index < header.blocks && *word & bit == 0 => {
                    *word |= bit;
                    end = end.max(index + 1);
                    match header.place(entry) < file.len() {
                        true => return Ok(ControlFlow::Continue(())),
                        false => "lies behind the end of the file",
                    }
                }
                (Some(_), _) if index < header.blocks => "belongs to another block too",
                _ => "is beyond what the disk needs",
            };
            Err(Error::malformed(format!(
                "block {block} has index {index}, which {why}: check and repair the image first"
            ))
            .at_path(file.path())
            .at_offset(header.map + block * 4))
        })?;
        Ok(Room {
            end,
            allocated: AtomicU32::new(header.allocated),
            lost: Mutex::new(Lost { taken, from: 0 }),
        })
    }

    /// The next index below `end` that no block has.
    fn take_lost(&self) -> Option<u64> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |index: &u64| {
            let word = lost.taken.get((index / 64) as usize);
            word.is_some_and(|word| word & (1 << (index % 64)) == 0)
        };
        let found = (lost.from..self.end).find(is_free);
        lost.from = found.map_or(self.end, |index| index + 1);
        found
    }
}

/// Shows every block's number and its entry of the map, which lies in the file.
fn each_entry(
    file: &ImageFile,
    header: &Header,
    see: &mut dyn FnMut(u64, u32) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut block = 0;
    while block < header.blocks {
        bytes.resize(((header.blocks - block).min(CHUNK) * 4) as usize, 0);
        file.read_exact_at(&mut bytes, header.map + block * 4)?;
        for entry in bytes.as_chunks::<4>().0 {
            if see(block, u32::from_le_bytes(*entry))?.is_break() {
                return Ok(());
            }
            block += 1;
        }
    }
    Ok(())
}

/// Whether any block has room or is marked as zeros.
pub(crate) fn has_blocks(file: &ImageFile) -> Result<bool> {
    let mut found = false;
    each_entry(file, &Header::read(file)?, &mut |_, entry| {
        found = entry != FREE;
        Ok(match found {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    Ok(found)
}

impl Header {
    /// Bytes from one block to the next.
    fn stride(&self) -> u64 {
        self.extra + self.block
    }

    /// Where the block with this index stands: below 2^60, as every factor is bounded.
    fn place(&self, index: u32) -> u64 {
        self.data + u64::from(index) * self.stride() + self.extra
    }
}

impl Layout for BlockMap {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn unit(&self) -> u64 {
        self.header.block
    }

    fn page(&self, _: &ImageFile, page: u64) -> Result<Option<PageAt>> {
        let first = page * PER_PAGE;
        Ok(Some(PageAt {
            offset: self.header.map + first * 4,
            mirror: None,
            entries: self.header.blocks.saturating_sub(first).min(PER_PAGE),
        }))
    }

    fn decode(&self, entry: u32) -> Entry {
        match entry {
            FREE => Entry::Absent,
            ZERO => Entry::Zero,
            index => Entry::At(self.header.place(index)),
        }
    }

    fn encode(&self, at: u64) -> Result<u32> {
        let index = (at - self.header.extra - self.header.data) / self.header.stride();
        match index < self.header.blocks {
            true => Ok(index as u32),
            false => Err(Error::limit(
                "room was lost when writing failed: close the image and open it again",
            )),
        }
    }

    fn absent(&self) -> u32 {
        FREE
    }

    fn zero(&self) -> Option<u32> {
        Some(ZERO)
    }

    fn data(&self) -> u64 {
        self.header.data
    }

    fn stride(&self) -> u64 {
        self.header.stride()
    }

    fn free_from(&self, file: &ImageFile) -> u64 {
        let end = self.room.as_ref().map(|room| room.end);
        end.map_or(file.len(), |end| {
            self.header.data + end * self.header.stride()
        })
    }

    fn take_lost(&self) -> Option<u64> {
        let index = self.room.as_ref()?.take_lost()?;
        Some(self.header.place(index as u32))
    }

    /// Cuts off what a writer left behind that died before it named it: new room must read as zeros.
    fn begin(&self, file: &ImageFile) -> Result<()> {
        let end = self.free_from(file).max(self.header.data);
        match file.len() > end {
            true => file.set_len(end),
            false => Ok(()),
        }
    }

    /// VirtualBox and QEMU give the next block the index that the header counts up to: it must be behind all that the
    /// map names, at any time.
    fn claim(&self, file: &ImageFile, next: u64) -> Result<()> {
        let Some(room) = &self.room else {
            return Ok(());
        };
        let count = ((next - self.header.data) / self.header.stride()) as u32;
        if room.allocated.load(Ordering::Acquire) != count {
            file.write_all_at(&count.to_le_bytes(), ALLOCATED_AT as u64)?;
            room.allocated.store(count, Ordering::Release);
        }
        Ok(())
    }

    /// The header counts up to the last block: VirtualBox and QEMU put the next one behind that many.
    fn inspect(&self, walk: &mut Walk<'_, '_>) -> Result<()> {
        let behind = walk.end().saturating_sub(self.header.data) / self.header.stride();
        let (Ok(count), said) = (u32::try_from(behind), self.header.allocated) else {
            return Ok(());
        };
        if count == said {
            return Ok(());
        }
        let at = ALLOCATED_AT as u64;
        let detail = || format!("the header counts {said} blocks, the map ends behind {count}");
        let edit = Edit::Word {
            at,
            old: said,
            new: count,
        };
        walk.find(Fault::Counter, at, detail, Mend::Safe(edit))
    }
}

//! The grains of a sparse VMDK extent as a layout for the engine: grain directory, grain tables and their second copies.
//! The header is read in `header`, compressed grains in `stream`.
//!
//! Source: libyal's VMDK documentation, "COWD and VMDK sparse extent data file"; QEMU's `block/vmdk.c`.

use super::SECTOR;
use super::header::{FLAG_ZERO_GRAIN, GT_SECTORS, GTES_PER_GT, SparseHeader};
use crate::engine::{Blocks, Entry, Layout, PageAt, Use};
use crate::file::ImageFile;
use crate::{Error, Result};

/// Byte of the header that says whether a writer has the file open.
const UNCLEAN: u64 = 72;

/// Directory and tables of one sparse extent.
pub(crate) struct Grains {
    header: SparseHeader,
    /// Sector of each grain table; 0 where there is none.
    directory: Vec<u32>,
    /// Sector of each table's second copy; empty where the file has none.
    redundant: Vec<u32>,
}

impl Grains {
    /// Opens an extent whose header says where its directory is.
    ///
    /// # Errors
    /// `Unsupported` for streamOptimized; `Malformed` for a directory that is cut off.
    pub(crate) fn open(file: ImageFile, header: SparseHeader, used: Use) -> Result<Blocks<Grains>> {
        let Some(directory) = header.directory else {
            return Err(Error::unsupported("streamOptimized extent").at_path(file.path()));
        };
        let read = |sector: u64| read_words(&file, sector * SECTOR, header.table_count());
        let grains = Grains {
            directory: read(directory)?,
            redundant: header
                .redundant_directory
                .map_or_else(|| Ok(Vec::new()), read)?,
            header,
        };
        Ok(Blocks::new(file, grains, used))
    }
}

/// 32-bit words of a directory, which the header's check found to lie in the file.
fn read_words(file: &ImageFile, at: u64, count: u64) -> Result<Vec<u32>> {
    if at.saturating_add(count * 4) > file.len() {
        return Err(Error::malformed("grain directory is cut off")
            .at_path(file.path())
            .at_offset(at));
    }
    let mut bytes = vec![0; (count * 4) as usize];
    file.read_exact_at(&mut bytes, at)?;
    let words = bytes.chunks_exact(4);
    Ok(words
        .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
        .collect())
}

fn entry(directory: &[u32], page: u64) -> Option<u64> {
    let entry = usize::try_from(page).ok().and_then(|n| directory.get(n));
    entry.map(|e| u64::from(*e)).filter(|e| *e != 0)
}

impl Layout for Grains {
    fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    fn unit(&self) -> u64 {
        self.header.grain_size * SECTOR
    }

    fn page(&self, file: &ImageFile, page: u64) -> Result<Option<PageAt>> {
        let Some(sector) = entry(&self.directory, page) else {
            return Ok(None);
        };
        let mirror = entry(&self.redundant, page);
        for sector in mirror.iter().chain([&sector]) {
            if (sector + GT_SECTORS) * SECTOR > file.len() {
                return Err(Error::malformed(format!(
                    "grain table {page} at sector {sector} is cut off"
                ))
                .at_path(file.path()));
            }
        }
        Ok(Some(PageAt {
            offset: sector * SECTOR,
            mirror: mirror.map(|m| m * SECTOR),
            entries: GTES_PER_GT,
        }))
    }

    fn decode(&self, entry: u32) -> Entry {
        match entry {
            0 => Entry::Absent,
            1 if self.header.flags & FLAG_ZERO_GRAIN != 0 => Entry::Zero,
            sector => Entry::At(u64::from(sector) * SECTOR),
        }
    }

    fn encode(&self, at: u64) -> Result<u32> {
        u32::try_from(at / SECTOR)
            .map_err(|_| Error::limit("a sparse VMDK holds no grain beyond 2 TiB"))
    }

    fn data(&self) -> u64 {
        self.header.overhead * SECTOR
    }

    fn begin(&self, file: &ImageFile) -> Result<()> {
        file.write_all_at(&[1], UNCLEAN)
    }

    fn finish(&self, file: &ImageFile) -> Result<()> {
        file.write_all_at(&[0], UNCLEAN)
    }
}

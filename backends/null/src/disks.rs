//! What guests wrote, sector by sector, and how a sector is read through a chain.
//!
//! Writes are kept by the id of the head they went to, in the table of machines; no file of a chain
//! is ever opened for writing. Images are read from their raw files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use serde::{Deserialize, Serialize};
use stratavm::chain::{Chain, Member, MemberRole};
use stratavm::{Error, Result};
use uuid::Uuid;

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

pub(crate) type Sector = [u8; SECTOR];

/// The sectors that were written, by the id of their head.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Written(BTreeMap<Uuid, BTreeMap<u64, Content>>);

/// A sector up to its last byte that is not zero.
#[derive(Debug, Serialize, Deserialize)]
struct Content(Vec<u8>);

impl Content {
    fn of(sector: &Sector) -> Self {
        let used = sector.iter().rposition(|byte| *byte != 0);
        Self(sector[..used.map_or(0, |last| last + 1)].to_vec())
    }

    fn sector(&self) -> Sector {
        let mut sector = [0; SECTOR];
        for (to, from) in sector.iter_mut().zip(&self.0) {
            *to = *from;
        }
        sector
    }
}

impl Written {
    /// The sector as the guest sees it; `None` beyond the end of the disk.
    pub(crate) fn read(&self, chain: &Chain, lba: u64) -> Result<Option<Sector>> {
        if lba >= chain.sectors {
            return Ok(None);
        }
        for member in chain.members.iter().rev() {
            if let Some(sector) = self.0.get(&member.uuid).and_then(|delta| delta.get(&lba)) {
                return Ok(Some(sector.sector()));
            }
            if matches!(member.role, MemberRole::Image(_)) {
                return read_image(member, lba).map(Some);
            }
        }
        Ok(Some([0; SECTOR]))
    }

    /// Takes a write of the guest. Beyond the end of the disk, or without a head, nothing happens.
    pub(crate) fn write(&mut self, chain: &Chain, lba: u64, sector: Sector) {
        if let Some(head) = chain.head().filter(|_| lba < chain.sectors) {
            self.0
                .entry(head.uuid)
                .or_default()
                .insert(lba, Content::of(&sector));
        }
    }
}

fn read_image(image: &Member, lba: u64) -> Result<Sector> {
    let mut first = 0;
    for file in &image.files {
        if lba < first + file.sectors {
            let failed = |error| Error::io("the image could not be read", &file.path, error);
            let mut sector = [0; SECTOR];
            let mut raw = File::open(&file.path).map_err(failed)?;
            raw.seek(SeekFrom::Start((lba - first) * SECTOR as u64))
                .map_err(failed)?;
            raw.read_exact(&mut sector).map_err(failed)?;
            return Ok(sector);
        }
        first += file.sectors;
    }
    Ok([0; SECTOR])
}

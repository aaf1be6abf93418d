//! The clusters of a `.hds` image as a layout for the engine: one block table (BAT) behind the header, in both variants.
//! The header's fields are read in `header`, what may be dropped from a file in `extension`.
//!
//! Source: QEMU's `docs/interop/parallels.rst`; the order of writes is that of ploop's `ploop1_image.h`.

use super::extension;
use super::header::{DIRTY, HdsHeader, InUse};
use crate::check::{Contents, Mark};
use crate::engine::{Blocks, Entry, Layout, PER_PAGE, PageAt, Use};
use crate::file::ImageFile;
use crate::vmdk::SECTOR;
use crate::{Error, Result, alloc};

/// Bytes of the header that say whether a writer has the file open.
const IN_USE: u64 = 44;
/// Flags; the place of the format extension follows them.
const FLAGS: u64 = 52;
/// The image is to be taken for empty, whatever its table says. Its readers look at the table all the same.
const EMPTY: u32 = 1;
/// Another program was changing the file into the other variant.
const CONVERTING: u32 = 2;

/// Header and table of one image.
pub(crate) struct Clusters {
    header: HdsHeader,
}

impl Clusters {
    /// Opens an image whose header was read.
    ///
    /// # Errors
    /// `Unsupported` for an image amid a conversion and, for writing, for flags and extensions that are not known;
    /// `Mismatch` for writing one that its last writer did not close; `Malformed` for writing one whose clusters share a
    /// place, or lie where new ones would.
    pub(super) fn open(file: ImageFile, header: HdsHeader, used: Use) -> Result<Blocks<Clusters>> {
        check(&file, &header, used).map_err(|e| e.at_path(file.path()))?;
        Ok(Blocks::new(file, Clusters { header }, used))
    }

    /// Bytes that a table entry counts in.
    fn entry_bytes(&self) -> u64 {
        self.header.entry_unit() * SECTOR
    }
}

fn check(file: &ImageFile, header: &HdsHeader, used: Use) -> Result<()> {
    if header.flags & CONVERTING != 0 {
        let what = "a conversion of it to the other variant was never finished";
        return Err(Error::unsupported(what).at_offset(FLAGS));
    }
    if used == Use::Read {
        return Ok(());
    }
    if header.in_use == InUse::Dirty {
        return Err(Error::mismatch(
            "its last writer did not close it, or has it open: check and repair it first",
        )
        .at_offset(IN_USE));
    }
    if header.flags & !EMPTY != 0 {
        let what = format!("writing to an image with flags {:#x}", header.flags);
        return Err(Error::unsupported(what).at_offset(FLAGS));
    }
    if header.extension != 0 {
        extension::may_be_dropped(file, header.extension, header.cluster_sectors)?;
    }
    check_apart(file, header)
}

/// Refuses a table in which clusters share a place, or would share one with clusters that are to come: what is written to
/// one would change the other. Memory follows the clusters that are stored, 4 bytes each.
fn check_apart(file: &ImageFile, header: &HdsHeader) -> Result<()> {
    let mut places = Vec::new();
    for entry in alloc::entries(file, HdsHeader::SIZE, header.entries.into()) {
        let (_, place) = entry?;
        if place != 0 {
            places.push(place);
        }
    }
    places.sort_unstable();
    let refuse = |place: u32, what: &str| {
        let at = u64::from(place) * header.entry_unit() * SECTOR;
        let what = format!("the cluster at byte {at} {what}");
        Err(Error::malformed(what).at_offset(HdsHeader::SIZE))
    };
    let per_cluster = u64::from(header.cluster_sectors) / header.entry_unit();
    let shared = |pair: &&[u32]| matches!(**pair, [a, b] if u64::from(b - a) < per_cluster);
    if let Some([place, _]) = places.windows(2).find(shared) {
        return refuse(
            *place,
            "shares its place: flatten what the disk shows into a new image",
        );
    }
    // New clusters are taken from there on, at whole ones from the first.
    let (data, cluster) = (
        header.data_offset * SECTOR,
        u64::from(header.cluster_sectors) * SECTOR,
    );
    let free = data + file.len().saturating_sub(data).div_ceil(cluster) * cluster;
    match places.last() {
        Some(last) if u64::from(*last) * header.entry_unit() * SECTOR + cluster > free => {
            refuse(*last, "reaches behind the end of the file: check the image")
        }
        _ => Ok(()),
    }
}

impl Layout for Clusters {
    fn size(&self) -> u64 {
        self.header.sectors * SECTOR
    }

    fn unit(&self) -> u64 {
        u64::from(self.header.cluster_sectors) * SECTOR
    }

    fn page(&self, _: &ImageFile, page: u64) -> Result<Option<PageAt>> {
        let first = page * PER_PAGE;
        let entries = u64::from(self.header.entries).saturating_sub(first);
        Ok((entries != 0).then(|| PageAt {
            offset: HdsHeader::SIZE + first * 4,
            mirror: None,
            entries: entries.min(PER_PAGE),
        }))
    }

    fn decode(&self, entry: u32) -> Entry {
        match entry {
            0 => Entry::Absent,
            n => Entry::At(u64::from(n) * self.entry_bytes()),
        }
    }

    fn encode(&self, at: u64) -> Result<u32> {
        u32::try_from(at / self.entry_bytes())
            .map_err(|_| Error::limit("the file's block table names no cluster beyond 2^32"))
    }

    fn data(&self) -> u64 {
        self.header.data_offset * SECTOR
    }

    fn begin(&self, file: &ImageFile) -> Result<()> {
        // Readers that honour them would not see what is written now.
        if self.header.flags != 0 || self.header.extension != 0 {
            file.write_all_at(&[0; 12], FLAGS)?;
        }
        file.write_all_at(&DIRTY.to_le_bytes(), IN_USE)
    }

    fn finish(&self, file: &ImageFile) -> Result<()> {
        // Not `v2.1`, which says that an extension is up to date, and which ploop 1.15 takes for an image in use.
        file.write_all_at(&[0; 4], IN_USE)
    }

    /// An extension holds clusters that the table does not name.
    fn contents(&self) -> Contents {
        match self.header.extension {
            0 => Contents::Known,
            _ => Contents::Mixed,
        }
    }

    fn unclean(&self) -> Option<Mark> {
        (self.header.in_use == InUse::Dirty).then_some(Mark {
            at: IN_USE,
            clean: 0,
        })
    }
}

//! The 64-byte header of a `.hds` expanding image, version 2, both variants, read and written with every field
//! bound-checked. What its flags and its extension mean for readers and writers stands in `clusters`. Layout: QEMU's `docs/interop/parallels.rst` and ploop's `ploop1_image.h`.

use crate::bytes::{le_u32, le_u64};
use crate::file::ImageFile;
use crate::vmdk::SECTOR;
use crate::{Error, Result};
use std::path::Path;

/// Sectors of a cluster in files that this crate makes: 1 MiB.
pub(crate) const CLUSTER_SECTORS: u64 = 2048;

pub(super) const DIRTY: u32 = 0x746F_6E59;
const CLOSED: u32 = 0x312e_3276;
/// QEMU's bound; 16 TiB of 1 MiB clusters are far below.
const MAX_ENTRIES: u32 = i32::MAX as u32 / 4;
/// 1 GiB; QEMU's own bound is near 2 GiB.
const MAX_CLUSTER: u32 = 1 << 21;

/// Variant of the format, by its magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Magic {
    /// `WithoutFreeSpace`, Parallels Desktop's: table entries in sectors, at most 2 TiB.
    WithoutFreeSpace,
    /// `WithouFreSpacExt`, Virtuozzo's and QEMU's: table entries in clusters.
    WithouFreSpacExt,
}

impl Magic {
    /// The 16 bytes at the start of the file.
    pub fn as_bytes(self) -> &'static [u8; 16] {
        match self {
            Magic::WithoutFreeSpace => b"WithoutFreeSpace",
            Magic::WithouFreSpacExt => b"WithouFreSpacExt",
        }
    }

    /// The variant of a file that starts with these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Magic> {
        [Magic::WithoutFreeSpace, Magic::WithouFreSpacExt]
            .into_iter()
            .find(|m| bytes.starts_with(m.as_bytes()))
    }
}

/// What the header says about a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InUse {
    /// 0: closed, or made by old software.
    No,
    /// `v2.1`: closed by new software.
    Closed,
    /// Open for writing, or its writer died.
    Dirty,
    /// Any other value, as in the file; QEMU takes those for closed.
    Other(u32),
}

/// The header of an expanding image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HdsHeader {
    /// Variant.
    pub magic: Magic,
    /// Cluster size in sectors, not 0, at most 1 GiB.
    pub cluster_sectors: u32,
    /// Entries of the block table (BAT) that follows the header.
    pub entries: u32,
    /// Size of the disk in sectors; never more than the table covers.
    pub sectors: u64,
    /// Whether a writer has it open.
    pub in_use: InUse,
    /// Where clusters start, in sectors; where the file says 0, the first sector behind the table.
    pub data_offset: u64,
    /// Bit 0 empty image, bit 1 conversion in progress.
    pub flags: u32,
    /// Where a format extension lies, in sectors; 0 if there is none.
    pub extension: u64,
}

impl HdsHeader {
    /// Bytes of the header; the block table follows at once.
    pub const SIZE: u64 = 64;

    /// The header of a new image of `sectors`, as many as the caller checked: table rounded up to a cluster.
    pub(crate) fn for_new(sectors: u64) -> HdsHeader {
        let entries = sectors.div_ceil(CLUSTER_SECTORS);
        let cluster = CLUSTER_SECTORS * SECTOR;
        HdsHeader {
            magic: Magic::WithoutFreeSpace,
            cluster_sectors: CLUSTER_SECTORS as u32,
            entries: entries as u32,
            sectors,
            in_use: InUse::No,
            data_offset: (Self::SIZE + entries * 4).div_ceil(cluster) * CLUSTER_SECTORS,
            flags: 0,
            extension: 0,
        }
    }

    /// Sectors per unit of a table entry.
    pub(crate) fn entry_unit(&self) -> u64 {
        match self.magic {
            Magic::WithoutFreeSpace => 1,
            Magic::WithouFreSpacExt => u64::from(self.cluster_sectors),
        }
    }

    /// Reads a header from the first 64 bytes of a file. `path` only serves errors. Checks that need the length of the
    /// file are made where one is open.
    ///
    /// # Errors
    /// `Malformed` with the offset of the field, `Unsupported` for another version.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<HdsHeader> {
        parse(bytes).map_err(|e| e.at_path(path).during("read hds header"))
    }

    /// The header as it stands in the file.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut b = [0; 64];
        let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
        let in_use = match self.in_use {
            InUse::No => 0,
            InUse::Closed => CLOSED,
            InUse::Dirty => DIRTY,
            InUse::Other(v) => v,
        };
        put(0, self.magic.as_bytes());
        put(16, &2_u32.to_le_bytes());
        // Heads and cylinders: ignored by readers; what Parallels Desktop writes for 32 sectors per track.
        put(20, &16_u32.to_le_bytes());
        put(
            24,
            &u32::try_from(self.sectors / 512)
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        put(28, &self.cluster_sectors.to_le_bytes());
        put(32, &self.entries.to_le_bytes());
        put(36, &self.sectors.to_le_bytes());
        put(44, &in_use.to_le_bytes());
        put(48, &(self.data_offset as u32).to_le_bytes());
        put(52, &self.flags.to_le_bytes());
        put(56, &self.extension.to_le_bytes());
        b
    }
}

/// Reads the header of an open file, whose table must be there in full.
pub(crate) fn read(file: &ImageFile) -> Result<HdsHeader> {
    let mut bytes = [0; HdsHeader::SIZE as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let header = HdsHeader::parse(&bytes, file.path())?;
    if HdsHeader::SIZE + u64::from(header.entries) * 4 > file.len() {
        return Err(Error::malformed("block table is cut off")
            .at_path(file.path())
            .at_offset(file.len()));
    }
    Ok(header)
}

fn parse(bytes: &[u8]) -> Result<HdsHeader> {
    let Some(b) = bytes.first_chunk::<64>() else {
        return Err(Error::malformed(format!(
            "header is {} bytes, not 64",
            bytes.len()
        )));
    };
    let bad = |at: u64, what: String| Err(Error::malformed(what).at_offset(at));
    let Some(magic) = Magic::of(b) else {
        return bad(
            0,
            "no Parallels magic (WithoutFreeSpace or WithouFreSpacExt)".into(),
        );
    };
    let version = le_u32(b, 16);
    if version != 2 {
        return Err(Error::unsupported(format!("hds version {version}")).at_offset(16));
    }
    let cluster_sectors = le_u32(b, 28);
    if cluster_sectors == 0 || cluster_sectors > MAX_CLUSTER {
        return bad(
            28,
            format!("cluster of {cluster_sectors} sectors is out of range"),
        );
    }
    let entries = le_u32(b, 32);
    if entries == 0 || entries > MAX_ENTRIES {
        return bad(
            32,
            format!("block table of {entries} entries is out of range"),
        );
    }
    let sectors = le_u64(b, 36);
    if magic == Magic::WithoutFreeSpace && sectors > u64::from(u32::MAX) {
        return bad(
            36,
            format!("{sectors} sectors are more than this variant can hold"),
        );
    }
    if sectors == 0 || sectors > u64::from(entries) * u64::from(cluster_sectors) {
        return bad(
            36,
            format!("{sectors} sectors are not covered by {entries} table entries"),
        );
    }
    let table_end = (HdsHeader::SIZE + u64::from(entries) * 4).div_ceil(SECTOR);
    let data_offset = match (u64::from(le_u32(b, 48)), magic) {
        (0, Magic::WithoutFreeSpace) => table_end,
        (at, _) if at < table_end => {
            return bad(48, format!("data offset {at} lies inside the block table"));
        }
        (at, Magic::WithouFreSpacExt) if !at.is_multiple_of(u64::from(cluster_sectors)) => {
            return bad(
                48,
                format!("data offset {at} is not a multiple of the cluster"),
            );
        }
        (at, _) => at,
    };
    let in_use = match le_u32(b, 44) {
        0 => InUse::No,
        CLOSED => InUse::Closed,
        DIRTY => InUse::Dirty,
        v => InUse::Other(v),
    };
    Ok(HdsHeader {
        magic,
        cluster_sectors,
        entries,
        sectors,
        in_use,
        data_offset,
        flags: le_u32(b, 52),
        extension: le_u64(b, 56),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn read(b: &[u8]) -> Result<HdsHeader> {
        HdsHeader::parse(b, Path::new("x.hds"))
    }

    #[test]
    fn data_starts_behind_the_table_on_a_cluster() {
        assert_eq!(HdsHeader::for_new(131_072).data_offset, 2048);
        // 262,128 entries are the most that fit beside the header into one cluster.
        assert_eq!(HdsHeader::for_new(262_128 * 2048).data_offset, 2048);
        assert_eq!(HdsHeader::for_new(262_129 * 2048).data_offset, 4096);
        let h = HdsHeader::for_new(131_072);
        assert_eq!(read(&h.to_bytes()).unwrap(), h);
    }

    #[test]
    fn each_damaged_field_is_refused_at_its_offset() {
        let good = HdsHeader::for_new(131_072).to_bytes();
        let mut ext = good;
        ext[..16].copy_from_slice(Magic::WithouFreSpacExt.as_bytes());
        assert!(read(&ext).is_ok());
        let cases: &[(&[u8; 64], usize, &[u8], u64)] = &[
            (&good, 0, b"W1", 0),
            (&good, 16, &[1], 16),
            (&good, 28, &[0; 4], 28),
            (&good, 28, &[0xff; 4], 28),
            (&good, 32, &[63], 36),
            (&good, 32, &[0; 4], 32),
            (&good, 32, &[0xff; 4], 32),
            (&good, 36, &[0; 8], 36),
            (&good, 40, &[1], 36),
            (&good, 48, &[0, 0], 48),
            (&ext, 48, &[1, 8], 48),
        ];
        for (base, at, with, offset) in cases {
            let mut b = **base;
            b[*at..at + with.len()].copy_from_slice(with);
            match read(&b) {
                Err(e) => assert_eq!(e.offset(), Some(*offset), "{e}"),
                // 0 means "behind the table" in the old variant.
                Ok(h) => assert_eq!((*at, h.data_offset), (48, 1)),
            }
        }
        assert!(read(&good[..63]).is_err());
    }

    #[test]
    fn a_writer_that_died_is_seen() {
        let mut b = HdsHeader::for_new(131_072).to_bytes();
        b[44..48].copy_from_slice(&DIRTY.to_le_bytes());
        assert_eq!(read(&b).unwrap().in_use, InUse::Dirty);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut b in proptest::collection::vec(any::<u8>(), 0..100), magic: bool) {
            if magic && b.len() > 20 {
                b[..20].copy_from_slice(b"WithoutFreeSpace\x02\0\0\0");
            }
            let _ = read(&b);
        }

        #[test]
        fn new_headers_round_trip(mib in 1_u64..2_000_000) {
            let h = HdsHeader::for_new(mib * 2048);
            prop_assert_eq!(read(&h.to_bytes()).unwrap(), h);
        }
    }
}

//! The 512-byte header of a sparse VMDK extent, version 1 to 3, read and written with every field bound-checked.
//! Layout: facts of VMware's open-vmdk (`SparseExtentHeaderOnDisk`), checked against files that QEMU makes.

use super::SECTOR;
use crate::bytes::{le_u16, le_u32, le_u64};
use crate::{Error, Result};
use std::path::Path;

/// Directory entries per grain table, the only figure in use.
pub(crate) const GTES_PER_GT: u64 = 512;
/// Sectors of a grain table.
pub(crate) const GT_SECTORS: u64 = 4;
/// Sectors of a grain in files that this crate makes: 64 KiB.
pub(crate) const GRAIN_SECTORS: u64 = 128;

const MAGIC: &[u8; 4] = b"KDMV";
pub(super) const NEWLINES: &[u8; 4] = b"\n \r\n";
const FLAG_NEWLINE: u32 = 1;
const FLAG_REDUNDANT: u32 = 2;
pub(crate) const FLAG_ZERO_GRAIN: u32 = 4;
pub(crate) const FLAG_COMPRESSED: u32 = 0x1_0000;
pub(crate) const FLAG_MARKERS: u32 = 0x2_0000;
/// Sectors of the room for an embedded descriptor in files that this crate makes.
const DESCRIPTOR_SECTORS: u64 = 20;
const GD_AT_END: u64 = u64::MAX;
/// 64 TiB: far above any hosted VMDK, and small enough that no sum below overflows.
const MAX_CAPACITY: u64 = 1 << 37;

/// Whether the last writer closed the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shutdown {
    /// It did, or it never marks files as open (QEMU).
    Clean,
    /// It did not, or has the file open now.
    Unclean,
}

/// The header of a sparse extent. Offsets and sizes are in sectors of 512 bytes from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SparseHeader {
    /// 1; 2 with zeroed grains; 3 for streamOptimized.
    pub version: u32,
    /// Bits: 1 newline test, 2 redundant directory in use, 4 zeroed-grain entries, 0x10000 compressed, 0x20000 markers.
    pub flags: u32,
    /// Size of the extent.
    pub capacity: u64,
    /// Size of a grain: a power of two, 8 to 2048.
    pub grain_size: u64,
    /// Place of the embedded descriptor; 0 if there is none.
    pub descriptor_offset: u64,
    /// Room of the embedded descriptor; 0 if there is none.
    pub descriptor_size: u64,
    /// Place of the redundant grain directory; `None` if there is none.
    pub redundant_directory: Option<u64>,
    /// Place of the grain directory; `None` if a footer at the end of the file has it (streamOptimized).
    pub directory: Option<u64>,
    /// First sector that may hold a grain.
    pub overhead: u64,
    /// Whether the last writer closed the file.
    pub shutdown: Shutdown,
    /// 0 none, 1 deflate.
    pub compression: u16,
}

impl SparseHeader {
    /// The header of a new, empty monolithicSparse file of `capacity` sectors, as VMware, VirtualBox and QEMU accept it: descriptor at sector 1, redundant directory and tables, directory and tables,
    /// rounded up to a grain.
    pub(crate) fn for_new(capacity: u64) -> SparseHeader {
        SparseHeader::laid_out(capacity, DESCRIPTOR_SECTORS)
    }

    /// The same for an extent of a split image: its descriptor is another file.
    pub(crate) fn for_extent(capacity: u64) -> SparseHeader {
        SparseHeader::laid_out(capacity, 0)
    }

    /// The header of a new streamOptimized file: descriptor at sector 1, one directory, which the footer has, and grains
    /// from the first whole grain on.
    pub(crate) fn for_stream(capacity: u64) -> SparseHeader {
        SparseHeader {
            version: 3,
            flags: FLAG_NEWLINE | FLAG_COMPRESSED | FLAG_MARKERS,
            redundant_directory: None,
            directory: None,
            overhead: GRAIN_SECTORS,
            compression: 1,
            ..SparseHeader::laid_out(capacity, DESCRIPTOR_SECTORS)
        }
    }

    fn laid_out(capacity: u64, descriptor_size: u64) -> SparseHeader {
        let tables_from = 1 + descriptor_size;
        let mut h = SparseHeader {
            version: 1,
            flags: FLAG_NEWLINE | FLAG_REDUNDANT,
            capacity,
            grain_size: GRAIN_SECTORS,
            descriptor_offset: u64::from(descriptor_size != 0),
            descriptor_size,
            redundant_directory: Some(tables_from),
            directory: None,
            overhead: 0,
            shutdown: Shutdown::Clean,
            compression: 0,
        };
        let tables = h.directory_sectors() + h.table_count() * GT_SECTORS;
        h.directory = Some(tables_from + tables);
        h.overhead = (tables_from + 2 * tables).next_multiple_of(GRAIN_SECTORS);
        h
    }

    /// Whether grains are deflated, each behind a marker.
    pub(crate) fn is_stream(&self) -> bool {
        self.flags & (FLAG_COMPRESSED | FLAG_MARKERS) != 0
    }

    /// Refuses a size that the descriptor says and the header does not. The header of some writers counts up to the end
    /// of the last grain; the disk ends where the descriptor says.
    ///
    /// # Errors
    /// `Mismatch`.
    pub(crate) fn check_sectors(&self, sectors: u64) -> Result<()> {
        let whole = sectors.next_multiple_of(self.grain_size);
        match self.capacity == sectors || self.capacity == whole {
            true => Ok(()),
            false => Err(Error::mismatch(format!(
                "the descriptor says {sectors} sectors, the header {}",
                self.capacity
            ))),
        }
    }

    /// Sectors of the file once every grain is written.
    pub(crate) fn grown(&self) -> u64 {
        let grains = self.capacity.div_ceil(self.grain_size);
        let data = grains.saturating_mul(self.grain_size);
        self.overhead.saturating_add(data)
    }

    /// How many grain tables the extent has.
    pub(crate) fn table_count(&self) -> u64 {
        self.capacity.div_ceil(self.grain_size * GTES_PER_GT)
    }

    /// Sectors of one grain directory.
    pub(crate) fn directory_sectors(&self) -> u64 {
        (self.table_count() * 4).div_ceil(SECTOR)
    }

    /// Reads a header from the first 512 bytes of a file. `path` only serves errors. Checks that need the length of
    /// the file are made where one is open.
    ///
    /// # Errors
    /// `Malformed` with the offset of the field, `Unsupported` for a valid form that is not handled.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<SparseHeader> {
        parse(bytes).map_err(|e| e.at_path(path).during("read sparse VMDK header"))
    }

    /// The header as it stands in the file.
    pub fn to_bytes(&self) -> [u8; 512] {
        let mut b = [0; 512];
        let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
        put(0, MAGIC);
        put(4, &self.version.to_le_bytes());
        put(8, &self.flags.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &self.grain_size.to_le_bytes());
        put(28, &self.descriptor_offset.to_le_bytes());
        put(36, &self.descriptor_size.to_le_bytes());
        put(44, &(GTES_PER_GT as u32).to_le_bytes());
        put(48, &self.redundant_directory.unwrap_or(0).to_le_bytes());
        put(56, &self.directory.unwrap_or(GD_AT_END).to_le_bytes());
        put(64, &self.overhead.to_le_bytes());
        put(72, &[u8::from(self.shutdown == Shutdown::Unclean)]);
        put(73, NEWLINES);
        put(77, &self.compression.to_le_bytes());
        b
    }
}

fn parse(bytes: &[u8]) -> Result<SparseHeader> {
    let Some(b) = bytes.first_chunk::<512>() else {
        return Err(Error::malformed(format!(
            "header is {} bytes, not 512",
            bytes.len()
        )));
    };
    let bad = |at: u64, what: String| Err(Error::malformed(what).at_offset(at));
    if &b[..4] != MAGIC {
        return bad(0, "no sparse VMDK magic (KDMV)".into());
    }
    let version = le_u32(b, 4);
    let flags = le_u32(b, 8);
    if !(1..=3).contains(&version) {
        return Err(Error::unsupported(format!("sparse VMDK version {version}")).at_offset(4));
    }
    let known = FLAG_NEWLINE | FLAG_REDUNDANT | FLAG_ZERO_GRAIN | FLAG_COMPRESSED | FLAG_MARKERS;
    if flags & !known != 0 {
        return Err(Error::unsupported(format!("sparse VMDK flags {flags:#x}")).at_offset(8));
    }
    if flags & FLAG_NEWLINE != 0 && &b[73..77] != NEWLINES {
        return bad(
            73,
            "newline bytes are damaged: the file went through a text transfer".into(),
        );
    }
    let capacity = le_u64(b, 12);
    let grain_size = le_u64(b, 20);
    if !grain_size.is_power_of_two() || !(8..=2048).contains(&grain_size) {
        return bad(
            20,
            format!("grain size {grain_size} is not a power of two from 8 to 2048"),
        );
    }
    if capacity == 0 || capacity > MAX_CAPACITY {
        return bad(
            12,
            format!("capacity of {capacity} sectors is out of range"),
        );
    }
    let per_table = le_u32(b, 44);
    if u64::from(per_table) != GTES_PER_GT {
        let e = Error::unsupported(format!("{per_table} entries per grain table, not 512"));
        return Err(e.at_offset(44));
    }
    let descriptor_offset = le_u64(b, 28);
    let descriptor_size = le_u64(b, 36);
    let none = descriptor_offset == 0 && descriptor_size == 0;
    if !none
        && (!(1..=1 << 32).contains(&descriptor_offset) || !(1..=2048).contains(&descriptor_size))
    {
        return bad(
            28,
            format!("descriptor of {descriptor_size} sectors at {descriptor_offset}"),
        );
    }
    let place = |at: usize| match le_u64(b, at) {
        v @ 1..=0xffff_ffff => Ok(v),
        v => Err(Error::malformed(format!("directory at sector {v}")).at_offset(at as u64)),
    };
    // Without the flag it is not in use, whatever stands there.
    let redundant_directory = match flags & FLAG_REDUNDANT {
        0 => None,
        _ => Some(place(48)?),
    };
    let directory = match le_u64(b, 56) {
        GD_AT_END if flags & FLAG_MARKERS != 0 => None,
        _ => Some(place(56)?),
    };
    let overhead = le_u64(b, 64);
    if overhead == 0 || overhead > u64::from(u32::MAX) {
        return bad(
            64,
            format!("overhead of {overhead} sectors is out of range"),
        );
    }
    let shutdown = match b[72] {
        0 => Shutdown::Clean,
        1 => Shutdown::Unclean,
        v => return bad(72, format!("unclean-shutdown byte is {v}")),
    };
    let compression = le_u16(b, 77);
    if compression > 1 || (compression == 1) != (flags & FLAG_COMPRESSED != 0) {
        return bad(
            77,
            format!("compression {compression} does not go with flags {flags:#x}"),
        );
    }
    Ok(SparseHeader {
        version,
        flags,
        capacity,
        grain_size,
        descriptor_offset,
        descriptor_size,
        redundant_directory,
        directory,
        overhead,
        shutdown,
        compression,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    fn read(b: &[u8]) -> Result<SparseHeader> {
        SparseHeader::parse(b, Path::new("x.vmdk"))
    }

    #[test]
    fn eight_mib_has_64_kib_of_metadata() {
        let h = SparseHeader::for_new(16384);
        assert_eq!(
            (h.redundant_directory, h.directory, h.overhead),
            (Some(21), Some(26), 128)
        );
        assert_eq!(read(&h.to_bytes()).unwrap(), h);
    }

    #[test]
    fn each_damaged_field_is_refused_at_its_offset() {
        let good = SparseHeader::for_new(16384).to_bytes();
        let cases: &[(usize, &[u8], u64)] = &[
            (0, b"COWD", 0),
            (4, &[9], 4),
            (8, &[0, 0, 0, 0x80], 8),
            (12, &[0xff; 8], 12),
            (12, &[0; 8], 12),
            (20, &[0; 8], 20),
            (20, &[3], 20),
            (20, &[0, 0x10], 20),
            (28, &[0; 8], 28),
            (36, &[0xff; 8], 28),
            (44, &[1], 44),
            (48, &[0; 8], 48),
            (56, &[0xff; 8], 56),
            (64, &[0; 8], 64),
            (72, &[2], 72),
            (73, b"\r\n", 73),
            (77, &[1], 77),
        ];
        for (at, with, offset) in cases {
            let mut b = good;
            b[*at..at + with.len()].copy_from_slice(with);
            let e = read(&b).unwrap_err();
            assert!(matches!(
                e.kind(),
                ErrorKind::Malformed | ErrorKind::Unsupported
            ));
            assert_eq!(e.offset(), Some(*offset), "{e}");
        }
        assert_eq!(read(&good[..511]).unwrap_err().kind(), ErrorKind::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut b in proptest::collection::vec(any::<u8>(), 0..600), magic: bool) {
            if magic && b.len() > 80 {
                b[..12].copy_from_slice(b"KDMV\x01\0\0\0\x03\0\0\0");
                b[73..77].copy_from_slice(b"\n \r\n");
            }
            let _ = read(&b);
        }

        #[test]
        fn new_headers_round_trip(mib in 1_u64..2_000_000) {
            for h in [SparseHeader::for_new(mib * 2048), SparseHeader::for_extent(mib * 2048)] {
                prop_assert_eq!(read(&h.to_bytes()).unwrap(), h);
            }
        }
    }
}

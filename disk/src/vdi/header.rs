//! The header of a VDI, read with every field bound-checked, and written for new images. What the block map behind it
//! says is read in `blocks`.

use crate::bytes::{le_u32, le_u64};
use crate::file::ImageFile;
use crate::vmdk::SECTOR;
use crate::{Error, Result};
use serde::Serialize;
use uuid::Uuid;

/// Where the signature stands that VDIs are known by; the text before it differs from writer to writer.
pub(crate) const SIGNATURE_AT: usize = 0x40;
pub(crate) const SIGNATURE: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();

/// Bytes before the part that the header's own size counts.
const PREHEADER: u32 = 0x48;
/// That size without and with the geometry at its end.
const HEADER_1_1: u32 = 384;
const HEADER_1_1_PLUS: u32 = 400;
const VERSION_1_1: u32 = 0x0001_0001;
/// `VD_VDI_IMAGE_FLAGS_MASK`: fixed, differencing, zero-expand. None of them changes where data lies.
const FLAGS: u32 = 0x0003_0100;
/// What VirtualBox 7.2.22 opens.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 1 << 17..=1 << 26;
/// A map of 256 MiB: 64 TiB in blocks of 1 MiB.
pub(super) const MAX_BLOCKS: u64 = 1 << 26;

/// Fields that are changed in existing images.
pub(super) const ALLOCATED_AT: usize = 0x184;
const CREATE_AT: usize = 0x188;
const MODIFY_AT: usize = 0x198;
const PARENT_AT: usize = 0x1a8;
const PARENT_MODIFY_AT: usize = 0x1b8;
/// Where the four ids stand.
pub(super) const PLACE: std::ops::Range<usize> = CREATE_AT..PARENT_MODIFY_AT + 16;

/// What kind of image the header says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ImageType {
    /// Blocks get room when they are written. With a parent's UUID it is a child all the same.
    Normal,
    /// All blocks have room, in order.
    Fixed,
    /// As normal; what has no room is the parent's.
    Differencing,
}

/// The ids of an image, `uuidCreate` and so on in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ids {
    /// The image's own id, which children and VirtualBox's registry know it by. Not nil.
    pub image: Uuid,
    /// Renewed when the content changed. Not nil.
    pub modification: Uuid,
    /// Those of the image below.
    pub parent: Option<ParentIds>,
}

/// What an image says of the one below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParentIds {
    /// Its id. Not nil.
    pub image: Uuid,
    /// Its modification id when the child was made. VirtualBox writes it and never compares it.
    pub modification: Uuid,
}

impl Ids {
    /// What a child of this image records.
    pub fn as_parent(&self) -> ParentIds {
        ParentIds {
            image: self.image,
            modification: self.modification,
        }
    }

    /// Refuses nil ids, which VirtualBox does not open.
    pub(super) fn check(&self) -> Result<()> {
        let parent = self.parent.map(|parent| parent.image);
        match [Some(self.image), Some(self.modification), parent].contains(&Some(Uuid::nil())) {
            true => Err(Error::invalid("a UUID of a VDI is nil")),
            false => Ok(()),
        }
    }

    /// Puts the ids into the first sector of an image.
    pub(super) fn put(&self, sector: &mut [u8; 512]) {
        let parent = self.parent.unwrap_or(ParentIds {
            image: Uuid::nil(),
            modification: Uuid::nil(),
        });
        for (at, id) in [
            (CREATE_AT, self.image),
            (MODIFY_AT, self.modification),
            (PARENT_AT, parent.image),
            (PARENT_MODIFY_AT, parent.modification),
        ] {
            sector[at..at + 16].copy_from_slice(&id.to_bytes_le());
        }
    }

    fn get(sector: &[u8; 512]) -> Result<Ids> {
        let id = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&sector[at..at + 16]);
            Uuid::from_bytes_le(bytes)
        };
        let own = |at: usize| match id(at) {
            nil if nil.is_nil() => {
                Err(Error::malformed("the image's UUID is nil").at_offset(at as u64))
            }
            id => Ok(id),
        };
        Ok(Ids {
            image: own(CREATE_AT)?,
            modification: own(MODIFY_AT)?,
            parent: Some(ParentIds {
                image: id(PARENT_AT),
                modification: id(PARENT_MODIFY_AT),
            })
            .filter(|parent| !parent.image.is_nil()),
        })
    }
}

/// A checked header. Offsets and sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) image_type: ImageType,
    /// Where the block map stands.
    pub(crate) map: u64,
    /// Where the first block may stand.
    pub(crate) data: u64,
    /// Size of the guest disk: whole sectors, as VirtualBox counts them.
    pub(crate) size: u64,
    pub(crate) block: u64,
    /// What stands before each block.
    pub(crate) extra: u64,
    /// Entries of the map: enough for the disk.
    pub(crate) blocks: u64,
    /// How many of them have room, as the header says: the first index that a writer takes.
    pub(crate) allocated: u32,
    pub(crate) ids: Ids,
}

impl Header {
    /// Reads the header of a file, and checks that the block map lies in it.
    pub(crate) fn read(file: &ImageFile) -> Result<Header> {
        if file.len() < u64::from(PREHEADER + HEADER_1_1) {
            return Err(Error::malformed("the header is cut off")
                .at_path(file.path())
                .at_offset(file.len()));
        }
        let mut sector = [0; 512];
        file.read_at(&mut sector, 0)?;
        let header = Header::parse(&sector).map_err(|e| e.at_path(file.path()))?;
        if header.map_end() > file.len() {
            return Err(Error::malformed(format!(
                "a map of {} blocks at byte {} is cut off",
                header.blocks, header.map
            ))
            .at_path(file.path())
            .at_offset(file.len()));
        }
        Ok(header)
    }

    fn map_end(&self) -> u64 {
        self.map + self.blocks * 4
    }

    /// Reads a header from the first sector of a file.
    pub(super) fn parse(b: &[u8; 512]) -> Result<Header> {
        let bad = |at: u64, what: String| Err(Error::malformed(what).at_offset(at));
        let refused = |at: u64, what: String| Err(Error::unsupported(what).at_offset(at));
        if b[SIGNATURE_AT..SIGNATURE_AT + 4] != SIGNATURE {
            return bad(0x40, "no VDI signature".into());
        }
        let version = le_u32(b, 0x44);
        if version != VERSION_1_1 {
            let (major, minor) = (version >> 16, version & 0xffff);
            return refused(0x44, format!("VDI version {major}.{minor}, not 1.1"));
        }
        let header = le_u32(b, 0x48);
        if header < HEADER_1_1 {
            return bad(0x48, format!("header of {header} bytes"));
        }
        let ids = Ids::get(b)?;
        let image_type = match (le_u32(b, 0x4c), ids.parent) {
            (1, _) => ImageType::Normal,
            (2, None) => ImageType::Fixed,
            (2, Some(_)) => return refused(0x4c, "a fixed image with a parent".into()),
            (3, _) => return refused(0x4c, "an undo image".into()),
            (4, Some(_)) => ImageType::Differencing,
            (4, None) => return bad(0x1a8, "a differencing image without a parent".into()),
            (other, _) => return bad(0x4c, format!("image type {other}")),
        };
        let flags = le_u32(b, 0x50);
        if flags & !FLAGS != 0 {
            return refused(0x50, format!("image flags {flags:#x}"));
        }
        // The older place of the geometry counts only where there is no newer one.
        let sector_at = match header >= HEADER_1_1_PLUS {
            true => 0x1d4,
            false => 0x168,
        };
        let sector = le_u32(b, sector_at);
        if sector != 512 {
            return refused(sector_at as u64, format!("sectors of {sector} bytes"));
        }
        let (map, data) = (le_u32(b, 0x154), le_u32(b, 0x158));
        if header > map.saturating_sub(PREHEADER) {
            return bad(0x154, format!("block map at byte {map}, inside the header"));
        }
        let size = le_u64(b, 0x170) / SECTOR * SECTOR;
        let (block, extra) = (le_u32(b, 0x178), le_u32(b, 0x17c));
        if !block.is_power_of_two() || !BLOCK_SIZES.contains(&block) {
            return refused(
                0x178,
                format!("blocks of {block} bytes, no power of two from 128 KiB to 64 MiB"),
            );
        }
        if extra != 0 && (!extra.is_power_of_two() || extra > block) {
            return bad(0x17c, format!("{extra} bytes before each block"));
        }
        let blocks = le_u32(b, 0x180);
        if u64::from(blocks) > MAX_BLOCKS {
            return refused(
                0x180,
                format!("a map of {blocks} blocks, more than {MAX_BLOCKS}"),
            );
        }
        if size == 0 || size.div_ceil(block.into()) > u64::from(blocks) {
            return bad(
                0x170,
                format!("a disk of {size} bytes in {blocks} blocks of {block}"),
            );
        }
        let allocated = le_u32(b, ALLOCATED_AT);
        if allocated > blocks {
            return bad(
                ALLOCATED_AT as u64,
                format!("{allocated} of {blocks} blocks have room"),
            );
        }
        let header = Header {
            image_type,
            map: map.into(),
            data: data.into(),
            size,
            block: block.into(),
            extra: extra.into(),
            blocks: blocks.into(),
            allocated,
            ids,
        };
        match header.map_end() <= header.data {
            true => Ok(header),
            false => bad(0x158, format!("data at byte {data}, inside the block map")),
        }
    }

    /// The first sector of a new file with this header: no comment, and no geometry, which VirtualBox works out at the
    /// first start.
    pub(super) fn to_bytes(&self) -> [u8; 512] {
        let mut b = [0; 512];
        self.ids.put(&mut b);
        let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
        put(0, b"<<< Oracle VM VirtualBox Disk Image >>>\n");
        put(SIGNATURE_AT, &SIGNATURE);
        let image_type = match self.image_type {
            ImageType::Normal => 1,
            ImageType::Fixed => 2,
            ImageType::Differencing => 4,
        };
        // The fields of new images, and of those that were read, fit into 32 bits.
        for (at, value) in [
            (0x44, VERSION_1_1),
            (0x48, HEADER_1_1_PLUS),
            (0x4c, image_type),
            (0x154, self.map as u32),
            (0x158, self.data as u32),
            (0x168, 512),
            (0x178, self.block as u32),
            (0x17c, self.extra as u32),
            (0x180, self.blocks as u32),
            (ALLOCATED_AT, self.allocated),
            (0x1d4, 512),
        ] {
            put(at, &value.to_le_bytes());
        }
        put(0x170, &self.size.to_le_bytes());
        b
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind::{self, Malformed, Unsupported};

    fn header(parent: bool) -> Header {
        let ids = Ids {
            image: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            modification: Uuid::from_u128(2),
            parent: None,
        };
        Header {
            image_type: match parent {
                true => ImageType::Differencing,
                false => ImageType::Normal,
            },
            map: 1 << 20,
            data: 2 << 20,
            size: 5 * (1 << 20) + 512,
            block: 1 << 20,
            extra: 512,
            blocks: 6,
            allocated: 3,
            ids: Ids {
                parent: parent.then(|| ids.as_parent()),
                ..ids
            },
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for header in [header(false), header(true)] {
            let bytes = header.to_bytes();
            assert_eq!(Header::parse(&bytes).unwrap(), header);
            // A GUID in memory form.
            let id = [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99];
            assert_eq!(bytes[0x188..0x192], id);
        }
    }

    #[test]
    fn the_older_header_has_its_sector_size_elsewhere() {
        let mut bytes = header(false).to_bytes();
        bytes[0x48..0x4c].copy_from_slice(&384_u32.to_le_bytes());
        bytes[0x1d4] = 7;
        assert!(Header::parse(&bytes).is_ok());
        bytes[0x169] = 0;
        assert_eq!(Header::parse(&bytes).unwrap_err().offset(), Some(0x168));
    }

    /// VirtualBox counts whole sectors of such disks, which an old version of it made.
    #[test]
    fn a_part_of_a_sector_at_the_end_is_no_part_of_the_disk() {
        let mut bytes = header(false).to_bytes();
        bytes[0x170] = 0xff;
        assert_eq!(Header::parse(&bytes).unwrap(), header(false));
    }

    #[test]
    fn each_bad_field_is_refused_where_it_stands() {
        let cases: &[(usize, u32, ErrorKind)] = &[
            (0x40, 0xbeda_107e, Malformed),
            (0x44, 0x0001_0000, Unsupported),
            (0x44, 0x0000_0002, Unsupported),
            (0x48, 383, Malformed),
            (0x4c, 0, Malformed),
            (0x4c, 2, Unsupported), // fixed with a parent
            (0x4c, 3, Unsupported),
            (0x4c, 5, Malformed),
            (0x50, 1, Unsupported),
            (0x154, 0, Malformed),
            (0x154, 0x1d7, Malformed),
            (0x158, (1 << 20) + 23, Malformed),
            (0x158, 0, Malformed),
            (0x170, (6 << 20) + 512, Malformed),
            (0x174, 1 << 16, Malformed), // the disk's upper half
            (0x178, 0, Unsupported),
            (0x178, 1 << 16, Unsupported),
            (0x178, 3 << 20, Unsupported),
            (0x178, 1 << 27, Unsupported),
            (0x17c, 513, Malformed),
            (0x17c, 1 << 21, Malformed),
            (0x180, 5, Malformed),
            (0x180, u32::MAX, Unsupported),
            (0x184, 7, Malformed),
            (0x1d4, 4096, Unsupported),
        ];
        for &(at, value, kind) in cases {
            let mut bytes = header(true).to_bytes();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let error = Header::parse(&bytes).expect_err(&format!("{value:#x} at {at:#x}"));
            let place = if at == 0x174 { 0x170 } else { at as u64 };
            // A map that is too small for the disk is told of at the disk's size.
            let place = if (at, value) == (0x180, 5) {
                0x170
            } else {
                place
            };
            assert_eq!(
                (error.kind(), error.offset()),
                (kind, Some(place)),
                "{error}"
            );
        }
        for at in [CREATE_AT, MODIFY_AT, PARENT_AT] {
            let mut bytes = header(true).to_bytes();
            bytes[at..at + 16].fill(0);
            let error = Header::parse(&bytes).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (Malformed, Some(at as u64)));
        }
    }
}

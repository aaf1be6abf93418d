//! VMDK: identifiers, geometry, and the modules for descriptor, sparse header, grains, creating, freezing and relinking.
//! Guest data is read and written by the engine; here stands where it lies, and how packed grains are unpacked.

mod create;
mod descriptor;
mod directory;
mod flat;
mod freeze;
mod grains;
mod head;
mod header;
mod inspect;
mod open;
mod parse;
mod relink;
mod split;
mod stream;
mod stream_writer;

pub use create::{ParentLink, SparseSpec};
pub(crate) use create::{render_sparse, sparse_grown_len};
pub use descriptor::{Access, CreateType, Descriptor, Extent, ExtentKind};
pub(crate) use flat::render_flat;
pub use flat::{FlatDiskSpec, FlatExtent, FlatKind, FlatSpec};
pub use freeze::renew_cid;
pub(crate) use grains::Grains;
pub(crate) use head::{
    Head, MAX_DESCRIPTOR, has_descriptor, read_header, read_text, read_text_descriptor,
};
pub(crate) use header::FLAG_ZERO_GRAIN;
pub use header::{Shutdown, SparseHeader};
pub(crate) use open::open;
pub use relink::{Origin, relink};
pub use split::{
    ExtentSpec, MAX_EXTENT_SECTORS, SparseExtent, SplitSpec, check_extent_sectors, check_split,
    extent_sectors_for, split_extents,
};
pub(crate) use split::{extent_grown_len, render_extent, render_split};
pub use stream_writer::{GrainPacker, PackedGrain, StreamSpec, StreamWriter};

use crate::{Error, Result};
use std::fmt;

/// Bytes of a sector, the unit of every VMDK field.
pub const SECTOR: u64 = 512;

/// The content id of a VMDK: a child records its parent's, and VMware and QEMU refuse a chain where they differ.
/// Shown as 8 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(u32);

impl Cid {
    /// A content id for a new image.
    ///
    /// # Errors
    /// `Invalid` for the reserved values: `0`, `ffffffff` (no parent) and `fffffffe` (never written).
    pub fn new(value: u32) -> Result<Cid> {
        let cid = Cid(value);
        if cid.is_reserved() {
            return Err(Error::invalid(format!("CID {cid} is reserved")));
        }
        Ok(cid)
    }

    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Whether this is a value that only a file of another program can hold.
    pub fn is_reserved(self) -> bool {
        matches!(self.0, 0 | 0xffff_ffff | 0xffff_fffe)
    }

    /// As read from a file, where reserved values occur (`fffffffe`: made by VMware, never written).
    pub(crate) fn from_file(value: u32) -> Cid {
        Cid(value)
    }

    pub(crate) fn check_usable(self) -> Result<()> {
        Cid::new(self.0).map(|_| ())
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

/// The adapter that a descriptor names; it decides the geometry. SATA, NVMe and pvscsi disks use `LsiLogic` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdapterType {
    /// `ide`
    Ide,
    /// `lsilogic`
    LsiLogic,
}

impl AdapterType {
    /// As written in `ddb.adapterType`.
    pub fn as_str(self) -> &'static str {
        match self {
            AdapterType::Ide => "ide",
            AdapterType::LsiLogic => "lsilogic",
        }
    }
}

/// `(cylinders, heads, sectors)` for a disk of this many sectors: 16/63 for IDE; for SCSI 64/32 up to 1 GiB, else
/// 255/63. Cylinders are cut at 16383 (IDE) and 65535 (SCSI). Readers take the size from the extents, not from this.
pub(crate) fn geometry(sectors: u64, adapter: AdapterType) -> (u64, u64, u64) {
    let (heads, per_track, most) = match adapter {
        AdapterType::Ide => (16, 63, 16383),
        AdapterType::LsiLogic if sectors <= 1 << 21 => (64, 32, 65535),
        AdapterType::LsiLogic => (255, 63, 65535),
    };
    (
        (sectors / (heads * per_track)).clamp(1, most),
        heads,
        per_track,
    )
}

/// QEMU reads at most this many bytes of an extent's file name and cuts the rest off.
pub(crate) const MAX_EXTENT_NAME: usize = 511;
/// 8 EiB in sectors: no file is larger.
pub(crate) const MAX_SECTORS: u64 = 1 << 54;

/// Refuses a disk without sectors, and one beyond 8 EiB. Which sizes a machine's disks may have is the store's rule.
pub(crate) fn check_sectors(sectors: u64) -> Result<()> {
    match sectors {
        0 => Err(Error::invalid("disk of 0 sectors")),
        1..=MAX_SECTORS => Ok(()),
        _ => Err(Error::limit(format!(
            "disk of {sectors} sectors is larger than 8 EiB"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn reserved_cids_are_refused_and_others_shown_in_eight_digits() {
        for v in [0, u32::MAX, u32::MAX - 1] {
            assert!(Cid::new(v).is_err());
        }
        assert_eq!(Cid::new(0xab).unwrap().to_string(), "000000ab");
    }

    #[test]
    fn geometry_follows_the_adapter_and_size() {
        assert_eq!(geometry(2048, AdapterType::LsiLogic), (1, 64, 32));
        assert_eq!(geometry(1 << 21, AdapterType::LsiLogic), (1024, 64, 32));
        assert_eq!(geometry(1 << 23, AdapterType::LsiLogic), (522, 255, 63));
        assert_eq!(geometry(1 << 31, AdapterType::Ide), (16383, 16, 63));
    }
}

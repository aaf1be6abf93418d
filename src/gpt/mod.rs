//! GUID partition tables (UEFI specification 2.10, section 5.3): reading those of images, which are
//! hostile until proved otherwise, and making new ones as patches for a disk image.
//!
//! The bytes themselves are gptman's affair; what it takes on trust is checked here first. Which
//! partitions a layer needs is known in [`crate::image`] and [`crate::linux`].

mod device;
mod read;
mod rename;
mod write;

pub(crate) use read::{Gpt, read};
pub(crate) use write::{NewPartition, create};

/// Bytes of a sector; disks with sectors of 4096 bytes are not used.
const SECTOR: u64 = 512;

/// Most entries of a partition table that is read; 128 is what everybody writes.
const MAX_ENTRIES: u32 = 1024;

/// Bytes of an entry; the specification allows more, nobody writes it.
const ENTRY: u32 = 128;

/// Bytes that the table takes at either end of the disk, rounded up to the alignment of partitions.
pub(crate) const MARGIN: u64 = 1 << 20;

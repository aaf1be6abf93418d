//! New partition tables.

use gptman::{GPT, GPTPartitionEntry};
use stratavm_disk::Patch;
use uuid::{Uuid, uuid};

use super::device::Recorder;
use super::{MARGIN, SECTOR};
use crate::error::{Error, Result};

/// The type of every partition that is made here: Linux file system data.
const LINUX_DATA: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

/// A partition of a new table. Offsets and lengths are in bytes, multiples of 1 MiB.
#[derive(Debug, Clone)]
pub(crate) struct NewPartition {
    pub(crate) name: String,
    pub(crate) guid: Uuid,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The patches that make an empty disk of `size` bytes one with these partitions: protective MBR,
/// both headers, both arrays of entries. The same arguments give the same bytes.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] if the partitions do not fit the disk, overlap, are not aligned to
/// 1 MiB, or a name is longer than the 36 UTF-16 units of an entry.
pub(crate) fn create(size: u64, disk: Uuid, partitions: &[NewPartition]) -> Result<Vec<Patch>> {
    if size < 3 * MARGIN || !size.is_multiple_of(MARGIN) {
        return Err(Error::invalid(format!(
            "a disk of {size} bytes is too small for a partition table, or no multiple of 1 MiB"
        )));
    }
    let mut device = Recorder::new(size);
    let failed = |error: gptman::Error| {
        Error::invalid("the partitions do not fit the disk").caused_by(error)
    };
    let mut gpt = GPT::new_from(&mut device, SECTOR, disk.to_bytes_le()).map_err(failed)?;
    for (number, partition) in (1..).zip(partitions) {
        if number > gpt.header.number_of_partition_entries {
            return Err(Error::invalid("more partitions than a table holds"));
        }
        gpt[number] = entry(partition, size)?;
    }
    gpt.write_into(&mut device).map_err(failed)?;
    GPT::write_protective_mbr_into(&mut device, SECTOR).map_err(failed)?;
    Ok(device.into_patches())
}

fn entry(partition: &NewPartition, size: u64) -> Result<GPTPartitionEntry> {
    let NewPartition {
        name,
        guid,
        offset,
        length,
    } = partition;
    let aligned = offset.is_multiple_of(MARGIN) && length.is_multiple_of(MARGIN);
    let end = offset
        .checked_add(*length)
        .filter(|end| *end <= size - MARGIN);
    if !aligned || *offset < MARGIN || *length == 0 || end.is_none() {
        return Err(Error::invalid(format!(
            "partition {name} of {length} bytes at {offset} does not fit a disk of {size} bytes"
        )));
    }
    if name.encode_utf16().count() > 36 {
        return Err(Error::invalid(format!(
            "{name:?} is too long for a partition's name"
        )));
    }
    Ok(GPTPartitionEntry {
        partition_type_guid: LINUX_DATA.to_bytes_le(),
        unique_partition_guid: guid.to_bytes_le(),
        starting_lba: offset / SECTOR,
        ending_lba: (offset + length) / SECTOR - 1,
        attribute_bits: 0,
        partition_name: name.as_str().into(),
    })
}

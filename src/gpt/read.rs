//! Reading a partition table that anybody may have written.

use std::io::Cursor;

use gptman::{GPTHeader, GPTPartitionEntry};
use stratavm_disk::Patch;

use super::device::Recorder;
use super::{ENTRY, MAX_ENTRIES, SECTOR};
use crate::error::{Error, ErrorKind, Result};

/// A partition table as it was read: sound in itself.
#[derive(Debug, Clone)]
pub(crate) struct Gpt {
    pub(super) header: GPTHeader,
    pub(super) entries: Vec<GPTPartitionEntry>,
    /// Where the protective MBR says how many sectors it protects, in bytes; `None` where the MBR
    /// is another one.
    protected: Option<u64>,
}

/// One partition. Its range is within the disk and overlaps no other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its name; what is no UTF-16 is replaced by U+FFFD.
    pub(crate) name: String,
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes, not 0.
    pub(crate) length: u64,
}

/// Reads the primary partition table of a disk of `size` bytes; `None` where there is none.
///
/// Only the primary one: that is the one a kernel uses.
///
/// # Errors
/// [`ErrorKind::Malformed`] with the offset for a table that calls itself one but breaks the rules;
/// what `read_at` reports.
pub(crate) fn read(
    size: u64,
    read_at: impl Fn(u64, &mut [u8]) -> Result<()>,
) -> Result<Option<Gpt>> {
    if size < 3 * SECTOR {
        return Ok(None);
    }
    let mut sector = [0; SECTOR as usize];
    read_at(SECTOR, &mut sector)?;
    if !sector.starts_with(b"EFI PART") {
        return Ok(None);
    }
    let header = GPTHeader::read_from(&mut Cursor::new(&sector))
        .map_err(|error| malformed("its header is damaged").caused_by(error))?;
    let (first, count) = (
        header.partition_entry_lba,
        header.number_of_partition_entries,
    );
    if header.primary_lba != 1 || header.size_of_partition_entry != ENTRY {
        return Err(malformed(
            "its header says that it lies elsewhere or has odd entries",
        ));
    }
    if count == 0 || count > MAX_ENTRIES {
        return Err(malformed(&format!(
            "it has {count} entries, not 1 to {MAX_ENTRIES}"
        )));
    }
    let array = u64::from(count) * u64::from(ENTRY);
    let begin = first.checked_mul(SECTOR).filter(|_| first >= 2);
    let Some(begin) = begin.filter(|begin| begin.checked_add(array).is_some_and(|e| e <= size))
    else {
        return Err(malformed(&format!(
            "its entries at sector {first} are not on the disk"
        )));
    };
    // gptman takes more bytes from its reader than an entry has: zeros behind the last one.
    let mut bytes = vec![0; array as usize + 256];
    read_at(begin, &mut bytes[..array as usize])?;
    let entries = (0..array as usize)
        .step_by(ENTRY as usize)
        .map(|at| GPTPartitionEntry::read_from(&mut Cursor::new(&bytes[at..])))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed("an entry is damaged").caused_by(error))?;
    if header.generate_partition_entry_array_crc32(&entries) != header.partition_entry_array_crc32 {
        return Err(malformed("the checksum of its entries is wrong"));
    }
    read_at(0, &mut sector)?;
    let gpt = Gpt {
        header,
        entries,
        protected: protected_sectors(&sector),
    };
    gpt.check(size)?;
    Ok(Some(gpt))
}

impl Gpt {
    /// The partitions in use, in order of their entries.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.entries
            .iter()
            .filter(|entry| entry.is_used())
            .map(|entry| Partition {
                name: entry.partition_name.as_str().to_owned(),
                // Checked when the table was read.
                offset: entry.starting_lba * SECTOR,
                length: (entry.ending_lba - entry.starting_lba + 1) * SECTOR,
            })
    }

    /// The patches that put the backup table at the end of the same disk grown to `size` bytes, and
    /// tell the primary one and the protective MBR so. Partitions stay where they are.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a table with its entries in an unusual place;
    /// [`ErrorKind::Malformed`] for a partition where the backup table goes.
    pub(crate) fn moved_to(&self, size: u64) -> Result<Vec<Patch>> {
        let mut header = self.header.clone();
        if header.partition_entry_lba != 2 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the partition table has its entries in an unusual place: it is not written anew",
            ));
        }
        let failed = |error: gptman::Error| {
            Error::invalid("the partition table does not fit the disk").caused_by(error)
        };
        let mut device = Recorder::new(size);
        header.update_from(&mut device, SECTOR).map_err(failed)?;
        let used = self.entries.iter().filter(|entry| entry.is_used());
        if let Some(entry) = used
            .into_iter()
            .find(|entry| entry.ending_lba > header.last_usable_lba)
        {
            return Err(malformed(&format!(
                "partition {:?} lies where its backup goes",
                entry.partition_name.as_str()
            )));
        }
        let mut backup = header.clone();
        backup.primary_lba = header.backup_lba;
        backup.backup_lba = header.primary_lba;
        backup.partition_entry_lba = header.last_usable_lba + 1;
        header
            .write_into(&mut device, SECTOR, &self.entries)
            .map_err(failed)?;
        backup
            .write_into(&mut device, SECTOR, &self.entries)
            .map_err(failed)?;
        let mut patches = device.into_patches();
        if let Some(offset) = self.protected {
            let sectors = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
            let bytes = sectors.to_le_bytes().to_vec();
            patches.insert(0, Patch { offset, bytes });
        }
        Ok(patches)
    }

    /// Partitions lie behind the table, on the disk and apart from each other.
    fn check(&self, size: u64) -> Result<()> {
        let sectors = size / SECTOR;
        let table = u64::from(self.header.number_of_partition_entries) * u64::from(ENTRY);
        let mut free_from = self.header.partition_entry_lba + table.div_ceil(SECTOR);
        let mut used: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.is_used())
            .collect();
        used.sort_by_key(|entry| entry.starting_lba);
        for entry in used {
            let (first, last) = (entry.starting_lba, entry.ending_lba);
            if first < free_from || last < first || last >= sectors {
                let name = &entry.partition_name;
                return Err(malformed(&format!(
                    "partition {name:?} from sector {first} to {last} overlaps another, or is not \
                     on the disk of {sectors} sectors",
                    name = name.as_str()
                )));
            }
            free_from = last + 1;
        }
        Ok(())
    }
}

/// The place of the length in an MBR whose only partition is the protective one (UEFI
/// specification, section 5.2.3): the last four bytes of the first entry.
fn protected_sectors(mbr: &[u8; SECTOR as usize]) -> Option<u64> {
    let (first, others) = mbr[446..510].split_at(16);
    let only = first[4] == 0xee && first[8..12] == [1, 0, 0, 0] && others.iter().all(|b| *b == 0);
    (only && mbr[510..] == [0x55, 0xaa]).then_some(446 + 12)
}

fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::Malformed,
        format!("the partition table at byte {SECTOR} is no good: {what}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{NewPartition, create};
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const MIB: u64 = 1 << 20;

    fn partition(name: &str, offset: u64, length: u64) -> NewPartition {
        let guid = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        NewPartition {
            name: name.into(),
            guid,
            offset,
            length,
        }
    }

    fn write(disk: &mut [u8], patches: &[Patch]) {
        for patch in patches {
            disk[patch.offset as usize..][..patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
    }

    fn read_bytes(disk: &[u8]) -> Result<Option<Gpt>> {
        read(disk.len() as u64, |at, buf| {
            buf.copy_from_slice(&disk[at as usize..][..buf.len()]);
            Ok(())
        })
    }

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 8 << 20];
        let parts = [
            partition("a", MIB, 2 * MIB),
            partition("b", 4 * MIB, 3 * MIB),
        ];
        write(
            &mut disk,
            &create(8 * MIB, Uuid::from_u128(1), &parts).unwrap(),
        );
        disk
    }

    #[test]
    fn what_is_created_is_read_back() {
        let gpt = read_bytes(&disk()).unwrap().unwrap();
        let found: Vec<_> = gpt.partitions().collect();
        let want = |name: &str, offset, length| Partition {
            name: name.into(),
            offset,
            length,
        };
        assert_eq!(
            found,
            [want("a", MIB, 2 * MIB), want("b", 4 * MIB, 3 * MIB)]
        );
        assert!(read_bytes(&[0; 4096]).unwrap().is_none());
        assert!(read_bytes(&[]).unwrap().is_none());
    }

    #[test]
    fn patches_are_in_order_and_deterministic() {
        let make = || create(8 * MIB, Uuid::from_u128(1), &[partition("a", MIB, MIB)]).unwrap();
        let patches = make();
        assert_eq!(patches, make());
        for pair in patches.windows(2) {
            assert!(pair[0].offset + pair[0].bytes.len() as u64 <= pair[1].offset);
        }
    }

    #[test]
    fn partitions_that_do_not_fit_are_refused() {
        let cases = [
            vec![partition("a", 0, MIB)],
            vec![partition("a", MIB, 7 * MIB)],
            vec![partition("a", MIB, u64::MAX - MIB + 1)],
            vec![partition("a", MIB, 0)],
            vec![partition("a", MIB + 512, MIB)],
            vec![partition("a", MIB, 2 * MIB), partition("b", 2 * MIB, MIB)],
            vec![partition(&"a".repeat(37), MIB, MIB)],
        ];
        for parts in cases {
            assert!(create(8 * MIB, Uuid::nil(), &parts).is_err(), "{parts:?}");
        }
        assert!(create(2 * MIB, Uuid::nil(), &[]).is_err());
    }

    #[test]
    fn the_backup_moves_to_the_end() {
        let before = disk();
        let gpt = read_bytes(&before).unwrap().unwrap();
        let mut after = before.clone();
        after.resize(9 << 20, 0);
        write(&mut after, &gpt.moved_to(9 * MIB).unwrap());
        let moved = read_bytes(&after).unwrap().unwrap();
        assert!(moved.partitions().eq(gpt.partitions()));
        assert_eq!(moved.header.backup_lba, 9 * 2048 - 1);
        assert_eq!(after[458..462], (9_u32 * 2048 - 1).to_le_bytes());
        // The backup is a table in its own right.
        let last = after.len() - 512;
        let backup = GPTHeader::read_from(&mut Cursor::new(&after[last..])).unwrap();
        assert_eq!(backup.backup_lba, 1);
        let entries = backup
            .read_partitions(&mut Cursor::new(&after), SECTOR)
            .unwrap();
        assert_eq!(entries, gpt.entries);
    }

    #[test]
    fn a_hostile_header_is_refused_before_memory_is_taken() {
        // Fields at their offsets in the header, with the checksum made right again.
        let fields: [(usize, &[u8]); 7] = [
            (80, &u32::MAX.to_le_bytes()), // entries
            (84, &4096_u32.to_le_bytes()), // size of an entry
            (72, &u64::MAX.to_le_bytes()), // where the entries are
            (72, &0_u64.to_le_bytes()),
            (24, &7_u64.to_le_bytes()),    // where the header is
            (12, &u32::MAX.to_le_bytes()), // size of the header
            (88, &0_u32.to_le_bytes()),    // checksum of the entries
        ];
        for (at, value) in fields {
            let mut disk = disk();
            disk[512 + at..][..value.len()].copy_from_slice(value);
            disk[512 + 16..][..4].fill(0);
            let sum = crc32(&disk[512..512 + 92]);
            disk[512 + 16..][..4].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(
                read_bytes(&disk).unwrap_err().kind(),
                ErrorKind::Malformed,
                "{at}"
            );
        }
    }

    /// CRC-32 as in the UEFI specification, bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
                crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_damage_makes_reading_panic(at in 512_usize..2048, value: u8) {
            let mut disk = disk();
            disk[at] = value;
            let _ = read_bytes(&disk);
        }
    }
}

//! Renaming partitions of a table that was read. What they are to be called is known in
//! [`crate::image`].

use uuid::Uuid;

use super::read::Gpt;
use crate::error::{Error, Result};

/// UTF-16 units that an entry has for its name.
const NAME: usize = 36;

impl Gpt {
    /// The same table with the partition `from` called `to`. Where its GUID, or the disk's, is the
    /// one that `guid` derives from "part" or "disk" and the old name, it becomes that of the new
    /// name; others stay.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a name longer than the 36 UTF-16 units of an entry.
    pub(crate) fn renamed(
        &self,
        from: &str,
        to: &str,
        guid: impl Fn(&str, &str) -> Uuid,
    ) -> Result<Self> {
        if to.encode_utf16().count() > NAME {
            return Err(Error::invalid(format!(
                "{to:?} is too long for a partition table"
            )));
        }
        let renew = |id: &mut [u8; 16], what: &str| {
            if *id == guid(what, from).to_bytes_le() {
                *id = guid(what, to).to_bytes_le();
            }
        };
        let mut table = self.clone();
        renew(&mut table.header.disk_guid, "disk");
        let used = table.entries.iter_mut().filter(|entry| entry.is_used());
        for entry in used.filter(|entry| entry.partition_name.as_str() == from) {
            entry.partition_name = to.into();
            renew(&mut entry.unique_partition_guid, "part");
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use stratavm_disk::Patch;

    use super::super::{NewPartition, create, read};
    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZE: u64 = 8 * MIB;

    fn guid(what: &str, name: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{what} {name}").as_bytes())
    }

    fn table(first: &str) -> Vec<Patch> {
        let part = |name: &str, offset| NewPartition {
            name: name.into(),
            guid: guid("part", name),
            offset,
            length: 2 * MIB,
        };
        create(
            SIZE,
            guid("disk", first),
            &[part(first, MIB), part("rest", 4 * MIB)],
        )
        .unwrap()
    }

    fn disk(tables: &[Vec<Patch>]) -> Vec<u8> {
        let mut disk = vec![0; SIZE as usize];
        for patch in tables.iter().flatten() {
            disk[patch.offset as usize..][..patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
        disk
    }

    fn read_disk(disk: &[u8]) -> Gpt {
        let read = read(SIZE, |at, buf| {
            buf.copy_from_slice(&disk[at as usize..][..buf.len()]);
            Ok(())
        });
        read.unwrap().unwrap()
    }

    #[test]
    fn a_renamed_table_is_the_one_that_is_made_by_the_new_name() {
        let old = disk(&[table("old")]);
        let renamed = read_disk(&old).renamed("old", "new", guid).unwrap();
        let now = disk(&[table("old"), renamed.moved_to(SIZE).unwrap()]);
        // Both tables, their checksums, and the GUIDs that follow from the name.
        assert!(now == disk(&[table("new")]));
    }

    #[test]
    fn guids_that_follow_from_nothing_stay() {
        let gpt = read_disk(&disk(&[table("old")]));
        let before = (gpt.header.disk_guid, gpt.entries[0].unique_partition_guid);
        let other = |what: &str, name: &str| guid(what, &format!("other {name}"));
        let renamed = gpt.renamed("old", "new", other).unwrap();
        let after = (
            renamed.header.disk_guid,
            renamed.entries[0].unique_partition_guid,
        );
        assert_eq!(before, after);
        let names: Vec<_> = renamed.partitions().map(|found| found.name).collect();
        assert_eq!(names, ["new", "rest"]);
        assert!(gpt.renamed("old", &"n".repeat(37), guid).is_err());
    }
}

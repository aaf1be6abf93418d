//! The session disk: made anew for every start, with the manifest and the area that takes what the
//! guest writes to its operating system.
//!
//! Here it is only described; the machine's operations create it in the family of the product.

use stratavm_disk::Patch;
use uuid::Uuid;

use super::ContentId;
use super::manifest::{Manifest, ManifestLine};
use crate::error::{Error, Result};
use crate::gpt::{self, MARGIN, NewPartition};
use crate::identity::Identity;

/// Smallest session disk in bytes: room for an ext4 with a journal.
pub const MIN_SESSION_SIZE: u64 = 16 << 20;

/// A session disk in full: zeros but for its patches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionDisk {
    /// Size in bytes.
    pub size: u64,
    /// All that is not zero, in order of offsets: partition table and manifest.
    pub patches: Vec<Patch>,
    /// The manifest, for people and logs.
    pub manifest: String,
}

impl SessionDisk {
    /// The session disk of a machine for the start of this generation: `size` bytes, a multiple of
    /// 1 MiB. The same arguments give the same disk.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a size below [`MIN_SESSION_SIZE`] or not a multiple of
    /// 1 MiB, and for lines that the guest would refuse.
    pub fn new(
        identity: Identity,
        generation: u64,
        size: u64,
        lines: Vec<ManifestLine>,
    ) -> Result<Self> {
        if size < MIN_SESSION_SIZE || !size.is_multiple_of(MARGIN) {
            return Err(Error::invalid(format!(
                "a session disk has a multiple of 1 MiB, at least {} MiB, not {size} bytes",
                MIN_SESSION_SIZE >> 20
            )));
        }
        let manifest = Manifest::new(lines)?;
        let derive = |what: &str| identity.derive(&format!("session/{generation}/{what}"));
        let partition = |what: &str, offset: u64, length: u64| {
            let guid = derive(what);
            let name = format!("strata.{what}.{}", content_id(guid));
            NewPartition {
                name,
                guid,
                offset,
                length,
            }
        };
        let mut partitions = vec![partition("manifest", MARGIN, MARGIN)];
        let session = if manifest.is_edit() {
            None
        } else {
            partitions.push(partition("session", 2 * MARGIN, size - 3 * MARGIN));
            Some(content_id(derive("session")))
        };
        let manifest = manifest.text(session)?;
        let mut patches = gpt::create(size, derive("disk"), &partitions)?;
        patches.push(Patch {
            offset: MARGIN,
            bytes: manifest.clone().into_bytes(),
        });
        patches.sort_by_key(|patch| patch.offset);
        Ok(Self {
            size,
            patches,
            manifest,
        })
    }
}

/// The first 64 bits of a derived UUID.
fn content_id(uuid: Uuid) -> ContentId {
    ContentId::from_bytes((uuid.as_u64_pair().0).to_be_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linux::{FileSystem, Flag};
    use crate::spec::{Name, Role};

    const MIB: u64 = 1 << 20;

    fn os() -> ManifestLine {
        let (id, name) = (ContentId::from_bytes([1; 8]), Name::new("os").unwrap());
        ManifestLine::new(Role::Os, id, FileSystem::Ext4, name)
    }

    fn disk(generation: u64, lines: Vec<ManifestLine>) -> SessionDisk {
        let identity = Identity::Machine(Uuid::from_u128(7));
        SessionDisk::new(identity, generation, 64 * MIB, lines).unwrap()
    }

    fn partitions(disk: &SessionDisk) -> Vec<(String, u64, u64)> {
        let mut bytes = vec![0; disk.size as usize];
        for patch in &disk.patches {
            bytes[patch.offset as usize..][..patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
        let gpt = gpt::read(disk.size, |at, buf| {
            buf.copy_from_slice(&bytes[at as usize..][..buf.len()]);
            Ok(())
        });
        let gpt = gpt.unwrap().unwrap();
        gpt.partitions()
            .map(|p| (p.name, p.offset / MIB, p.length / MIB))
            .collect()
    }

    #[test]
    fn it_has_the_manifest_and_the_session_area_it_names() {
        let disk = disk(3, vec![os()]);
        let found = partitions(&disk);
        let [(manifest, 1, 1), (session, 2, 61)] = found.as_slice() else {
            unreachable!("{found:?}")
        };
        assert!(manifest.starts_with("strata.manifest."));
        let id = session.strip_prefix("strata.session.").unwrap();
        assert!(
            disk.manifest
                .contains(&format!("\nsession {id} ext4 session\n"))
        );
        let text = disk
            .patches
            .iter()
            .find(|patch| patch.offset == MIB)
            .unwrap();
        assert_eq!(text.bytes, disk.manifest.as_bytes());
    }

    #[test]
    fn it_is_deterministic_and_differs_from_start_to_start() {
        assert_eq!(disk(3, vec![os()]), disk(3, vec![os()]));
        assert_ne!(
            partitions(&disk(3, vec![os()])),
            partitions(&disk(4, vec![os()]))
        );
        for pair in disk(3, vec![os()]).patches.windows(2) {
            assert!(pair[0].offset + pair[0].bytes.len() as u64 <= pair[1].offset);
        }
    }

    #[test]
    fn an_edited_os_has_no_session_area() {
        let mut os = os();
        os.flags.insert(Flag::Edit);
        let disk = disk(1, vec![os]);
        assert_eq!(partitions(&disk).len(), 1);
        assert_eq!(
            disk.manifest,
            "strata 1\nos 0101010101010101 ext4 os edit\nend\n"
        );
    }

    #[test]
    fn sizes_are_checked() {
        let identity = Identity::Machine(Uuid::nil());
        for size in [0, 15 * MIB, 64 * MIB + 512] {
            assert!(SessionDisk::new(identity, 1, size, vec![os()]).is_err());
        }
    }
}

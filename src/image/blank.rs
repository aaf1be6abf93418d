//! Blank images: what a layer with a `size` starts from. Ordinary images, shared by all machines.

use sha2::{Digest as _, Sha256};
use stratavm_disk::{Ctx, Patch, Volume};

use super::add::Added;
use super::hash::digest_of_patches;
use super::meta::{ALIGNMENT, MAX_SIZE, Origin, PartitionMeta, Provenance};
use super::root::ImageRoot;
use super::staging::Staging;
use super::{ImageDigest, table};
use crate::error::{Error, Result};
use crate::format::Unknown;
use crate::linux::{ContentId, FileSystem, PartitionName};
use crate::spec::{Name, Role};

/// What a blank image is, without any file: known in full from a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blank {
    /// The digest of its content.
    pub digest: ImageDigest,
    /// Size in bytes.
    pub size: u64,
    /// All that is not zero.
    pub patches: Vec<Patch>,
    /// The partition for the layer, in `linux` composition.
    pub partition: Option<PartitionMeta>,
}

impl Blank {
    /// A disk of zeros: for `disks` composition. `size` is in bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if `size` is no multiple of 1 MiB from 1 MiB to 2 TiB.
    pub fn disk(size: u64) -> Result<Self> {
        check(size, ALIGNMENT)?;
        let digest = digest_of_patches(size, &[]);
        Ok(Self {
            digest,
            size,
            patches: Vec::new(),
            partition: None,
        })
    }

    /// A disk with one empty partition for a layer: for `linux` composition. `size` is that of the
    /// disk, in bytes; the partition takes all but 2 MiB.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if `size` is no multiple of 1 MiB from 3 MiB to 2 TiB.
    pub fn layer(role: Role, layer: &Name, size: u64) -> Result<Self> {
        check(size, 3 * ALIGNMENT)?;
        let seed = format!("stratavm-blank 1 {role} {layer} {size}");
        let id = ContentId::from(&ImageDigest::from_bytes(Sha256::digest(seed).into()));
        let name = PartitionName { role, id };
        let patches = table::table(&name, size)?;
        let range = table::partition_range(size);
        let length = range.end - range.start;
        let partition = PartitionMeta {
            name,
            fs: FileSystem::Ext4,
            offset: range.start,
            length,
            digest: digest_of_patches(length, &[]),
            unknown: Unknown::new(),
        };
        let digest = digest_of_patches(size, &patches);
        Ok(Self {
            digest,
            size,
            patches,
            partition: Some(partition),
        })
    }

    /// Puts it into `root`, which lies on `volume`, unless it is there already.
    ///
    /// # Errors
    /// What the operating system reports; [`crate::ErrorKind::Cancelled`] by `ctx`.
    pub fn store(&self, root: &ImageRoot, volume: &Volume, ctx: &Ctx) -> Result<Added> {
        if let Some(image) = root.find(&self.digest)? {
            return Ok(Added::new((image, false)));
        }
        let mut staging = Staging::new(root, self.size, None, volume)?;
        staging.patch(&self.patches)?;
        // Also on disk it is what it should be: the digest is of what is stored.
        let digest = staging.flush_and_digest(ctx)?;
        staging.digest_extents(ctx)?;
        let partitions = self.partition.iter().cloned().collect();
        let provenance = Provenance::new(Origin::Blank);
        staging
            .commit(root, digest, partitions, provenance)
            .map(Added::new)
    }
}

fn check(size: u64, least: u64) -> Result<()> {
    if size < least || !size.is_multiple_of(ALIGNMENT) || size > MAX_SIZE {
        return Err(Error::invalid(format!(
            "a blank layer's size is a multiple of 1 MiB from {} MiB to 2 TiB, not {size} bytes",
            least >> 20
        )));
    }
    Ok(())
}

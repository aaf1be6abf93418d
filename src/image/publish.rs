//! A new image from another one and what was written over it.
//!
//! Which deltas those are is the machine's affair: `crate::machine` opens them.

use stratavm_disk::{Chain, Ctx, Volume};

use super::add::Added;
use super::extents::Extents;
use super::meta::Provenance;
use super::root::{Image, ImageRoot};
use super::staging::Staging;
use super::table;
use crate::error::Result;

/// What lies over a part of an image.
pub(crate) struct Overlay {
    /// Where the part begins in the disk, in bytes.
    pub(crate) start: u64,
    /// The part of the image, and the deltas on it.
    pub(crate) chain: Chain,
}

/// Puts into `root`, which lies on `volume`, what `overlays` show together: `image` with the deltas
/// on it. The partitions of layers are named by what they hold now.
///
/// Blocks are shared with `image` where the volume has reflinks; holes stay holes.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for an os or apps partition whose file system
/// was not unmounted, or that holds none that a layer may have;
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) for a damaged delta or partition table.
/// Nothing of a failed call stays in the store.
pub(crate) fn publish(
    root: &ImageRoot,
    image: &Image,
    overlays: &[Overlay],
    provenance: Provenance,
    volume: &Volume,
    ctx: &Ctx,
) -> Result<Added> {
    let extents = image.extents().into_iter();
    let below = Extents::open(extents.map(|(path, sectors)| (path, sectors * super::SECTOR)))?;
    let mut staging = Staging::new(root, below.len(), None, volume)?;
    staging.copy_from(&below, 0, ctx, |_| ())?;
    below.check_unchanged()?;
    for Overlay { start, chain } in overlays {
        staging.overlay(chain, *start, ctx)?;
    }
    let disk = staging.disk()?;
    let partitions = match table::read(&disk)? {
        Some(gpt) => {
            let (patches, partitions) = table::named_by_content(&disk, &gpt, ctx)?;
            staging.patch(&patches)?;
            partitions
        }
        None => Vec::new(),
    };
    let digest = staging.flush_and_digest(ctx)?;
    staging.digest_extents(ctx)?;
    let made = staging.commit(root, digest, partitions, provenance);
    made.map(Added::new)
}

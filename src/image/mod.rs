//! Images: immutable, content-addressed disks.
//!
//! An image is a list of raw extents in a folder of its own, named by the digest of its content,
//! with an `image.json` beside them. [`ImageRoot`] is the folder of images; [`add`](add::add) puts
//! one in; [`Blank`] makes empty ones; [`inspect`] looks at files that are not in the store.

pub mod add;
mod blank;
mod digest;
mod extents;
mod follow;
mod hash;
mod meta;
mod overlay;
mod probe;
mod publish;
mod root;
mod staging;
mod sys;
mod table;
#[cfg(test)]
mod tests;

pub use add::{AddOptions, Added, OddSize, Outcome, Wrap};
pub use blank::Blank;
pub use digest::{CHUNK_SIZE, DigestError, ImageDigest};
use extents::SECTOR;
pub use meta::{ExtentMeta, ImageMeta, Origin, PartitionMeta, Provenance};
pub use probe::{Inspected, Need, inspect};
pub(crate) use publish::{Overlay, publish};
pub use root::{Change, ChangedExtent, Image, ImageRoot, Verification};
pub(crate) use root::{LEASES, META_FILE};
pub(crate) use staging::{UNFINISHED, extent_lengths, lock_staging};

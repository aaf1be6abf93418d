//! The host's half of the `linux` composition: names of layer partitions, the manifest and the
//! session disk. The guest's half is in `guest/` at the top of the repository.

mod manifest;
mod partition;
mod session;

pub use manifest::{Flag, ManifestLine};
pub(crate) use partition::SuperBlock;
pub use partition::{
    ContentId, FileSystem, IdError, PartitionName, PartitionNameError, UnknownFileSystem,
};
pub use session::{MIN_SESSION_SIZE, SessionDisk};

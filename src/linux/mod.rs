//! The host's half of the `linux` composition: names of layer partitions, the manifest and the
//! session disk. The guest's half is in `guest/` at the top of the repository.

mod manifest;
mod partition;
mod session;

pub use manifest::{Flag, ManifestLine};
pub use partition::{
    ContentId, FileSystem, IdError, PartitionName, PartitionNameError, UnknownFileSystem,
};
pub(crate) use partition::{FsState, SuperBlock};
pub use session::{MIN_SESSION_SIZE, SessionDisk};

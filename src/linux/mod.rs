//! The host's half of the `linux` composition: names of layer partitions, the manifest and the
//! session disk. The guest's half is in `guest/` at the top of the repository.

mod partition;

pub(crate) use partition::SuperBlock;
pub use partition::{
    ContentId, FileSystem, IdError, PartitionName, PartitionNameError, UnknownFileSystem,
};

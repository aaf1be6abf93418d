//! Looking at a disk image that is not in the store: what it holds, and whether it could be used in
//! place.

use std::path::Path;

use stratavm_disk::Ctx;

use super::extents::Extents;
use super::hash::digest;
use super::meta::{ALIGNMENT, MAX_SIZE, PartitionMeta};
use super::{ImageDigest, table};
use crate::error::{Error, ErrorKind, Result};
use crate::linux::FileSystem;

/// What [`inspect`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// Size of the file in bytes.
    pub size: u64,
    /// The digest of the content; `None` where the file would have to be changed first.
    pub digest: Option<ImageDigest>,
    /// The partitions that hold layers.
    pub partitions: Vec<PartitionMeta>,
    /// The file system, if the file is a bare one: good as a disk, but not as a layer under
    /// `linux`.
    pub bare: Option<FileSystem>,
    /// What adding the file to the store would do to it.
    pub needs: Option<Need>,
}

/// What has to be done to a file before it can be an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// Its size is no multiple of 1 MiB.
    Pad,
    /// The same, and its partition table has to learn of its new end.
    MoveTable,
}

/// Looks at a raw disk image without changing or adding it. Content is hashed, holes are not.
///
/// # Errors
/// As for [`add`](super::add::add), of which this is the reading half.
pub fn inspect(path: &Path, ctx: &Ctx) -> Result<Inspected> {
    let disk = Extents::open_file(path)?;
    inspect_disk(&disk, ctx)
        .map_err(|error| error.during(format!("{} cannot be used as an image", path.display())))
}

fn inspect_disk(disk: &Extents, ctx: &Ctx) -> Result<Inspected> {
    let size = disk.len();
    if size > MAX_SIZE {
        let message = "it is larger than 2 TiB, which no VMDK can describe";
        return Err(Error::new(ErrorKind::NoSpace, message));
    }
    let gpt = table::read(disk)?;
    let needs = match &gpt {
        _ if size.is_multiple_of(ALIGNMENT) => None,
        Some(_) => Some(Need::MoveTable),
        None => Some(Need::Pad),
    };
    let partitions = match &gpt {
        Some(gpt) => table::layer_partitions(disk, gpt, ctx)?,
        None => Vec::new(),
    };
    let bare = match &gpt {
        Some(_) => None,
        None => table::detect(disk, &(0..size))?.map(|found| found.fs),
    };
    let digest = match needs {
        None => Some(digest(disk, 0..size, ctx)?),
        Some(_) => None,
    };
    disk.check_unchanged()?;
    Ok(Inspected {
        size,
        digest,
        partitions,
        bare,
        needs,
    })
}

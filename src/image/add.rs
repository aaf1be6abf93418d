//! Adding an image to the store: copied without its holes, padded, wrapped where asked for, hashed,
//! and there under its digest all at once or not at all.

use std::path::Path;

use stratavm_disk::{Ctx, Volume};

use super::extents::Extents;
use super::meta::{ALIGNMENT, MAX_SIZE, Origin, PartitionMeta, Provenance};
use super::root::{Image, ImageRoot};
use super::staging::Staging;
use super::table;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Unknown;
use crate::linux::{FileSystem, PartitionName};
use crate::spec::{Name, Role};

/// How an image is added. [`Default`] adds a disk as it is, but for padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddOptions {
    /// The file is a bare file system that is to become a layer's disk.
    pub wrap: Option<Wrap>,
    /// What to do with a disk whose size is no multiple of 1 MiB.
    pub size: OddSize,
    /// Largest extent in bytes, beside what the volume allows; at least 1 MiB. What does not fit
    /// is split into extents of a multiple of 1 MiB, at most 2047 MiB.
    pub max_extent: Option<u64>,
    /// Free text for people.
    pub label: Option<String>,
}

/// What a bare file system is, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// What it must be.
    pub fs: FileSystem,
    /// The role of the layer.
    pub role: Role,
    /// What the content is called.
    pub name: Name,
}

/// What to do with a disk whose size is no multiple of 1 MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OddSize {
    /// Pad it with zeros; a partition table learns of its new end.
    #[default]
    Pad,
    /// Refuse it.
    Refuse,
}

/// What [`add`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Added {
    /// The image.
    pub image: Image,
    /// Whether it was there already.
    pub outcome: Outcome,
}

/// Whether content was in the store already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is new.
    New,
    /// The same content was there: nothing was added.
    Existing,
}

impl Added {
    pub(super) fn new((image, new): (Image, bool)) -> Self {
        Self {
            image,
            outcome: if new { Outcome::New } else { Outcome::Existing },
        }
    }
}

/// Adds the disk or file system in `source` to `root`, which lies on `volume`.
///
/// The source is only read. Bytes are shared with it where the volume has reflinks, else copied;
/// holes stay holes. The digest is that of what is stored.
///
/// # Errors
/// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] for what is no regular file, empty, or not the
/// file system it should be; [`ErrorKind::NoSpace`] also for a disk above 2 TiB;
/// [`ErrorKind::Mismatch`] for a source that changes meanwhile, or a `strata.*` partition whose id
/// is not that of its content; [`ErrorKind::Malformed`] for a damaged partition table. Nothing of a
/// failed call stays in the store.
pub fn add(
    root: &ImageRoot,
    source: &Path,
    options: &AddOptions,
    volume: &Volume,
    ctx: &Ctx,
) -> Result<Added> {
    let disk = Extents::open_file(source)?;
    let added = match &options.wrap {
        Some(wrap) => wrapped(root, &disk, wrap, options, volume, ctx),
        None => plain(root, &disk, options, volume, ctx),
    };
    added
        .map(Added::new)
        .map_err(|error| error.during(format!("{} was not added to the store", source.display())))
}

fn plain(
    root: &ImageRoot,
    source: &Extents,
    options: &AddOptions,
    volume: &Volume,
    ctx: &Ctx,
) -> Result<(Image, bool)> {
    let size = padded(source.len())?;
    let gpt = table::read(source)?;
    if size != source.len() && options.size == OddSize::Refuse {
        return Err(Error::invalid(format!(
            "it is {} bytes long, which is no multiple of 1 MiB",
            source.len()
        ))
        .next("add it without --exact, which pads it with zeros"));
    }
    let mut staging = Staging::new(root, size, options.max_extent, volume)?;
    let digest = match gpt.as_ref().filter(|_| size != source.len()) {
        None => staging.copy_and_digest(source, 0, 0..size, ctx)?,
        Some(gpt) => {
            staging.copy_from(source, 0, ctx, |_| ())?;
            source.check_unchanged()?;
            staging.patch(&gpt.moved_to(size)?)?;
            staging.flush_and_digest(ctx)?
        }
    };
    let partitions = match &gpt {
        Some(gpt) => table::layer_partitions(&staging.disk()?, gpt, ctx)?,
        None => Vec::new(),
    };
    let provenance = provenance(Origin::Added, source, options);
    staging.digest_extents(ctx)?;
    staging.commit(root, digest, partitions, provenance)
}

fn wrapped(
    root: &ImageRoot,
    source: &Extents,
    wrap: &Wrap,
    options: &AddOptions,
    volume: &Volume,
    ctx: &Ctx,
) -> Result<(Image, bool)> {
    check_file_system(source, wrap.fs)?;
    let length = padded(source.len())?;
    let size = table::disk_size(length)
        .filter(|size| *size <= MAX_SIZE)
        .ok_or_else(too_large)?;
    let range = table::partition_range(size);
    let mut staging = Staging::new(root, size, options.max_extent, volume)?;
    let content = staging.copy_and_digest(source, range.start, range.clone(), ctx)?;
    let name = PartitionName {
        role: wrap.role,
        id: content.content_id(),
    };
    staging.patch(&table::table(&name, size)?)?;
    let partition = PartitionMeta {
        name,
        fs: wrap.fs,
        offset: range.start,
        length,
        digest: content,
        unknown: Unknown::new(),
    };
    let mut provenance = provenance(Origin::Wrapped, source, options);
    provenance.name = Some(wrap.name.clone());
    let digest = staging.flush_and_digest(ctx)?;
    staging.digest_extents(ctx)?;
    staging.commit(root, digest, vec![partition], provenance)
}

/// The file is what it should be, and all of it is there.
fn check_file_system(source: &Extents, fs: FileSystem) -> Result<()> {
    let found = table::detect(source, &(0..source.len()))?;
    let Some(found) = found.filter(|found| found.fs == fs) else {
        let is = match found {
            Some(found) => format!("a file system {}", found.fs),
            None if table::read(source)?.is_some() => "a disk with a partition table".to_owned(),
            None => "no file system that a layer may have".to_owned(),
        };
        return Err(Error::invalid(format!(
            "it should be a bare {fs}, but it is {is}"
        )));
    };
    if found.bytes > source.len() {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!(
                "its {fs} takes {} bytes, the file has {}",
                found.bytes,
                source.len()
            ),
        )
        .next("the file was cut: copy it again"));
    }
    Ok(())
}

/// The next multiple of 1 MiB, if an image may be that large.
fn padded(len: u64) -> Result<u64> {
    len.checked_next_multiple_of(ALIGNMENT)
        .filter(|size| *size <= MAX_SIZE)
        .ok_or_else(too_large)
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::NoSpace,
        "it is larger than 2 TiB, which no VMDK can describe",
    )
}

fn provenance(origin: Origin, source: &Extents, options: &AddOptions) -> Provenance {
    let mut provenance = Provenance::new(origin);
    provenance.source = source.file_name();
    provenance.label.clone_from(&options.label);
    provenance
}

//! Whole images into new ones: a chain as one image ([`flatten`]), or each image of it as one of another format
//! ([`convert_chain`]), so that every layer and revision stays one. The content of the source is only read.

mod copy;
mod new;
mod pack;
mod staging;
mod target;
mod zeros;

pub use target::Target;
pub use zeros::{Content, zero_runs};

use crate::chain::Chain;
use crate::{Ctx, Durability, Error, Result, Volume};
use copy::{Job, Part};
use new::New;
use staging::Staging;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How a new image is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// What the ids of the new images follow from: the same one gives the same ids.
    pub id: Uuid,
    /// What the volume of the new image can do.
    pub volume: Volume,
    /// Whether it outlives a crash of the host once the call returns.
    pub durability: Durability,
}

impl ConvertOptions {
    /// Ids that follow from `id`, on a volume that can do all, flushed.
    pub fn new(id: Uuid) -> ConvertOptions {
        ConvertOptions {
            id,
            volume: Volume::default(),
            durability: Durability::Synced,
        }
    }
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// The new files; the last one stands for the image, or for the top one.
    pub files: Vec<PathBuf>,
    /// How many images they are.
    pub images: usize,
    /// Bytes of data that were written. Zeros take none.
    pub written: u64,
}

/// Makes one image of a chain: what the guest sees, in a file that lies on nothing.
///
/// Time and room follow the data; neither holes nor zeros are written. Until all of it is there, nothing stands under
/// the target's name.
///
/// # Errors
/// `Exists` if there is something under a name that would be taken; `Unsupported` for a size that the format does not
/// have; `Mismatch` if the source changes meanwhile; `Cancelled` and `TimedOut` as `ctx` says; else as for reading and
/// writing. The target is not there then.
pub fn flatten(
    source: &Chain,
    target: &Path,
    to: Target,
    options: &ConvertOptions,
    ctx: &Ctx,
) -> Result<Converted> {
    let parts = [Part::Whole(source.depth())];
    make(source, &parts, target, to, options, ctx).map_err(|e| e.at_path(target).during("flatten"))
}

/// Makes a new image of each image of a chain: as many in as out, and each prefix of the new chain reads as that of the
/// old one. Where units are larger than the source's, they are filled up from below.
///
/// # Errors
/// As for [`flatten`]; `Unsupported` if images of that format lie on no other.
pub fn convert_chain(
    source: &Chain,
    target: &Path,
    to: Target,
    options: &ConvertOptions,
    ctx: &Ctx,
) -> Result<Converted> {
    let above = (1..source.depth()).map(Part::Own);
    let parts: Vec<_> = [Part::Whole(1)].into_iter().chain(above).collect();
    make(source, &parts, target, to, options, ctx)
        .map_err(|e| e.at_path(target).during("convert chain"))
}

/// Makes an image of `size` bytes without data, which lies on nothing. Until all of its files are there, nothing stands
/// under the target's name.
///
/// # Errors
/// `Exists`; `Unsupported` for a size that the format does not have, and for streamOptimized VMDKs, which cannot be
/// written to; else what the operating system reports.
pub fn create_blank(
    target: &Path,
    to: Target,
    size: u64,
    options: &ConvertOptions,
) -> Result<Converted> {
    let made = || {
        if to == Target::VmdkStream {
            return Err(Error::unsupported(
                "a streamOptimized VMDK is not written to: make another image, and convert it when it is full",
            ));
        }
        let new = New::plan(to, name(target)?, size, 1, options.id)?;
        publish(target, &new, options, |staging| {
            new.make(staging, &options.volume, options.durability)?;
            Ok(0)
        })
    };
    made().map_err(|e| e.at_path(target).during("create image"))
}

fn make(
    source: &Chain,
    parts: &[Part],
    target: &Path,
    to: Target,
    options: &ConvertOptions,
    ctx: &Ctx,
) -> Result<Converted> {
    let new = New::plan(to, name(target)?, source.size(), parts.len(), options.id)?;
    let before = source.stamps()?;
    publish(target, &new, options, |staging| {
        let written = fill(source, parts, &new, staging, options, ctx)?;
        if source.stamps()? != before {
            return Err(Error::mismatch("the source changed while it was read"));
        }
        Ok(written)
    })
}

fn name(target: &Path) -> Result<&str> {
    let name = target.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Error::invalid("the target needs a name in Unicode"))
}

/// Makes the files in a folder of their own, by `fill`, which answers how many bytes it wrote; then they get their names.
fn publish(
    target: &Path,
    new: &New,
    options: &ConvertOptions,
    fill: impl FnOnce(&Staging) -> Result<u64>,
) -> Result<Converted> {
    let names = match new.is_bundle() {
        true => vec![name(target)?.to_owned()],
        false => new.files.iter().map(|(file, _)| file.clone()).collect(),
    };
    for file in &names {
        staging::must_be_free(&target.with_file_name(file))?;
    }
    let staging = Staging::beside(target)?;
    let written = fill(&staging)?;
    let images = new.images();
    let files = match new.is_bundle() {
        true => staging.become_folder(target, options.durability),
        false => staging.publish(target, &names, options.durability),
    }?;
    Ok(Converted {
        files,
        images,
        written,
    })
}

/// Makes the new files and copies the data. How many bytes of it were written.
fn fill(
    source: &Chain,
    parts: &[Part],
    new: &New,
    staging: &Staging,
    options: &ConvertOptions,
    ctx: &Ctx,
) -> Result<u64> {
    if let Some(spec) = new.stream() {
        let path = staging.path(&spec.file);
        return pack::pack(source, &path, spec, options.durability, ctx);
    }
    new.make(staging, &options.volume, options.durability)?;
    let mut written = 0;
    for (n, part) in parts.iter().enumerate() {
        let target = new.open(staging, n)?;
        let job = Job {
            source,
            part: *part,
            target: &target,
            ctx,
        };
        written += job.run()?;
        target.close(options.durability)?;
    }
    Ok(written)
}

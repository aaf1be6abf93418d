//! A chain of images as one disk: opened level by level, read through all of them, written to in the top one. How each
//! format lays its data out is the drivers' affair; whole-image operations (convert, check, compare) stand beside this.

mod links;
mod read;
mod write;

pub use links::{Identity, Link};
pub(crate) use read::Found;
pub use read::{Kind, MappedRange};

use crate::gate::{Gate, Named, Role};
use crate::info::Format;
use crate::open::{self, Opened};
use crate::{Durability, Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::SystemTime;

/// The longest chain that is opened: products stop far below.
pub const MAX_DEPTH: usize = 64;

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing; of a chain, the top image alone.
    Write,
}

/// One image of a chain.
pub(crate) type Level = Opened;

/// One image of a chain, as it describes itself.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Member<'a> {
    /// Its file; of an image in several files, the one that was named.
    pub path: &'a Path,
    /// Its format.
    pub format: Format,
    /// Size of the guest disk in bytes.
    pub size: u64,
    /// The ids that a child knows it by.
    pub identity: &'a Identity,
    /// What it says about the image below.
    pub link: Option<&'a Link>,
}

/// A chain of images, one of them at least. Reads and writes take any offset and length in bytes, from any thread.
///
/// A chain that was written to should be [closed](Chain::close): only that tells whether all of it reached the file.
pub struct Chain {
    /// The base first.
    levels: Vec<Level>,
    /// Held exclusively by whoever changes where data lies.
    places: RwLock<()>,
}

impl Chain {
    /// Opens an image and all that it lies on, as far as the images themselves say. `format` is that of the image at
    /// `path`; each name in it goes through `gate` before it is opened.
    ///
    /// # Errors
    /// `Mismatch` naming both files where two do not belong together; `Limit` for a chain of more than [`MAX_DEPTH`]
    /// images, or one that leads back to itself; what the gate says; else as for reading the formats.
    pub fn open(path: &Path, format: Format, access: Access, gate: &dyn Gate) -> Result<Chain> {
        let mut levels = Vec::new();
        follow(path, format, access, gate, &mut levels)?;
        levels.reverse();
        Chain::of(levels)
    }

    /// Opens images in the order given, the base first; what they name as parents is not looked for. The way to open
    /// chains whose images name no parent: VDI, `.hds`.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Invalid` without an image.
    pub fn open_all(images: &[(&Path, Format)], access: Access, gate: &dyn Gate) -> Result<Chain> {
        Chain::of(open_each(images, access, gate)?)
    }

    /// The chain of these images, the base first.
    pub(crate) fn of(levels: Vec<Level>) -> Result<Chain> {
        if levels.is_empty() {
            return Err(Error::invalid("a chain without an image"));
        }
        links::check(&levels)?;
        links::check_files(&levels)?;
        Ok(Chain {
            levels,
            places: RwLock::new(()),
        })
    }

    /// Size of the guest disk in bytes.
    pub fn size(&self) -> u64 {
        self.top().map.size()
    }

    /// How many images it has.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The images' files and formats, the base first. Of an image in several files, the one that was named.
    pub fn images(&self) -> impl Iterator<Item = (&Path, Format)> {
        self.levels.iter().map(|l| (l.path.as_path(), l.format))
    }

    /// Length and time of the last change of every file: two that are alike are of content that nobody changed between.
    pub(crate) fn stamps(&self) -> Result<Vec<(u64, SystemTime)>> {
        let mut stamps = Vec::new();
        for level in &self.levels {
            level.map.files(&mut |file| stamps.push(file.stamp()));
        }
        stamps.into_iter().collect()
    }

    /// One of its images, counted from the base; the caller knows how many there are.
    pub(crate) fn level(&self, level: usize) -> &Level {
        &self.levels[level]
    }

    /// What the images say of themselves and of the one below, the base first.
    pub fn members(&self) -> impl DoubleEndedIterator<Item = Member<'_>> {
        self.levels.iter().map(|level| Member {
            path: &level.path,
            format: level.format,
            size: level.map.size(),
            identity: &level.identity,
            link: level.link.as_ref(),
        })
    }

    /// The image that is written to. There is one always.
    pub(crate) fn top(&self) -> &Level {
        &self.levels[self.levels.len() - 1]
    }

    /// Writes what is kept in memory. With [`Durability::Synced`] all that was written before is on the volume afterwards.
    ///
    /// # Errors
    /// What the operating system reports; nothing that was flushed before is lost.
    pub fn flush(&self, durability: Durability) -> Result<()> {
        let _places = self.exclusive();
        match self.top().map.writer() {
            Some(writer) => writer.flush(durability),
            None => Ok(()),
        }
    }

    /// Flushes, and marks the top image as closed where its format has a mark for that.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub fn close(self, durability: Durability) -> Result<()> {
        self.finish(durability)
    }

    fn finish(&self, durability: Durability) -> Result<()> {
        let _places = self.exclusive();
        match self.top().map.writer() {
            Some(writer) => writer.finish(durability),
            None => Ok(()),
        }
    }

    /// Refuses a range that does not lie in the disk.
    fn check_range(&self, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{len} bytes from there on reach beyond the disk of {} bytes",
                    self.size()
                ),
            )
            .at_offset(offset)
            .at_path(&self.top().path)),
        }
    }
}

/// Opens an image and what it lies on, as far as the images say, the top one first. Those that were opened before an error
/// are in `levels`.
fn follow(
    path: &Path,
    format: Format,
    access: Access,
    gate: &dyn Gate,
    levels: &mut Vec<Level>,
) -> Result<()> {
    let mut next = Some((path.to_owned(), format, access));
    while let Some((path, format, access)) = next.take() {
        let opened = open::open(&path, format, access, gate)?;
        // Of a bundle, the top one comes last.
        levels.extend(opened.into_iter().rev());
        if levels.len() > MAX_DEPTH {
            return Err(Error::limit(format!(
                "a chain of more than {MAX_DEPTH} images, or one that leads back to itself"
            ))
            .at_path(&path));
        }
        let Some(level) = levels.last() else { break };
        if let Some(name) = level.link.as_ref().and_then(|l| l.hint.as_deref()) {
            let named = Named {
                by: &level.path,
                name,
                role: Role::Parent,
            };
            let parent = gate.allow(&named)?;
            let format = open::parent_format(&parent, level).map_err(|e| e.at_path(&parent))?;
            next = Some((parent, format, Access::Read));
        }
    }
    Ok(())
}

/// Opens images in the order given, the base first.
fn open_each(images: &[(&Path, Format)], access: Access, gate: &dyn Gate) -> Result<Vec<Level>> {
    let mut levels = Vec::new();
    for (n, (path, format)) in images.iter().enumerate() {
        let access = match n + 1 == images.len() {
            true => access,
            false => Access::Read,
        };
        let mut opened = open::open(path, *format, access, gate)?;
        let one = opened.pop().filter(|_| opened.is_empty());
        let one =
            one.ok_or_else(|| Error::invalid("a bundle holds a chain of its own").at_path(path))?;
        levels.push(one);
    }
    if levels.len() > MAX_DEPTH {
        return Err(Error::limit(format!(
            "a chain of more than {MAX_DEPTH} images"
        )));
    }
    Ok(levels)
}

/// For a check: the images of a chain, the base first, and what is wrong with their links. Where an image below cannot
/// be opened, the chain ends above it. `below` are the images that it lies on if they are given.
///
/// # Errors
/// What keeps the image at `path` itself, or one that was given, from being opened.
pub(crate) fn levels(
    path: &Path,
    format: Format,
    below: &[(PathBuf, Format)],
    gate: &dyn Gate,
) -> Result<(Vec<Level>, Vec<Error>)> {
    if !below.is_empty() {
        let given = below.iter().map(|(path, format)| (path.as_path(), *format));
        let all: Vec<_> = given.chain([(path, format)]).collect();
        let levels = open_each(&all, Access::Read, gate)?;
        let faults = links::faults(&levels).collect();
        return Ok((levels, faults));
    }
    let mut levels = Vec::new();
    let opened = follow(path, format, Access::Read, gate, &mut levels);
    let Some(last) = levels.last() else {
        return Err(opened
            .err()
            .unwrap_or_else(|| Error::invalid("a chain without an image")));
    };
    let missing = opened.err().map(|error| {
        Error::mismatch(format!("what it lies on cannot be used: {error}")).at_path(&last.path)
    });
    levels.reverse();
    let mut faults: Vec<_> = links::faults(&levels).collect();
    if let Some(missing) = missing {
        // That the base lies on something is what was found out already.
        if levels.first().is_some_and(|base| base.link.is_some()) {
            faults.pop();
        }
        faults.push(missing);
    }
    Ok((levels, faults))
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Whoever wants to know closes it.
        if let Err(error) = self.finish(Durability::Unsynced) {
            tracing::warn!(%error, "an image could not be closed");
        }
    }
}

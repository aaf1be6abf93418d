//! An image that is being made: a folder beside the others that becomes one of them by one rename,
//! or goes away.
//!
//! What goes into it is decided in [`super::add`], [`super::blank`] and [`super::publish`]; single
//! ranges of it are written in [`super::overlay`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use stratavm_disk::fs::{self, File};
use stratavm_disk::{Ctx, Durability, ImageSpec, Phase, RawSpec, Volume, fsync_dir};

use super::ImageDigest;
use super::extents::{Extents, SECTOR};
use super::follow::Written;
use super::hash::{digest, digest_following};
use super::meta::{ALIGNMENT, ExtentMeta, ImageMeta, PartitionMeta, Provenance};
use super::root::{Image, ImageRoot, META_FILE};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{FileLock, seal};

/// What the names of unfinished images start with.
pub(crate) const UNFINISHED: &str = ".new-";

/// Held shared while an image is made, so that nobody takes its folder for one that was left.
const STAGING_LOCK: &str = ".staging.lock";

/// Largest extent of an image that is split, in bytes: below 2 GiB, which every file system and
/// every descriptor can express.
const MAX_SPLIT: u64 = 2047 << 20;

/// Bytes that are copied between two looks at the caller's wishes.
pub(super) const STRIDE: u64 = 16 << 20;

/// An unfinished image. Dropping it removes what was written.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    extents: Vec<ExtentMeta>,
    pub(super) size: u64,
    volume: Volume,
    _lock: FileLock,
}

/// Keeps images from being made below `root`; none while one is.
pub(crate) fn lock_staging(root: &Path) -> Option<FileLock> {
    FileLock::try_exclusive(&root.join(STAGING_LOCK)).ok()
}

impl Staging {
    /// Makes the folder and the extents of a disk of `size` bytes of zeros, split where the volume
    /// or `max_extent` (in bytes) asks for it.
    pub(super) fn new(
        root: &ImageRoot,
        size: u64,
        max_extent: Option<u64>,
        volume: &Volume,
    ) -> Result<Self> {
        let lengths = extent_lengths(size, max_extent, volume)?;
        let lock = FileLock::shared(&root.folder().join(STAGING_LOCK))?;
        let mut staging = Self {
            folder: new_folder(root.folder())?,
            extents: Vec::new(),
            size,
            volume: volume.clone(),
            _lock: lock,
        };
        for (n, len) in lengths.into_iter().enumerate() {
            let file = format!("extent-{n}.raw");
            let spec = ImageSpec::Raw(RawSpec {
                size: len,
                patches: Vec::new(),
            });
            let path = staging.folder.join(&file);
            stratavm_disk::create(&path, &spec, volume, Durability::Unsynced)?;
            staging
                .extents
                .push(ExtentMeta::new(file, len / SECTOR, None));
        }
        Ok(staging)
    }

    /// Copies all of `source` to byte `to` of the disk, which is zeros so far, and gives the digest
    /// of a part of the disk. What is copied already is hashed meanwhile, and in the end flushed.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if the source was changed meanwhile; what the system reports.
    pub(super) fn copy_and_digest(
        &self,
        source: &Extents,
        to: u64,
        part: Range<u64>,
        ctx: &Ctx,
    ) -> Result<ImageDigest> {
        let (disk, written) = (self.disk()?, Written::default());
        thread::scope(|scope| {
            let copy = scope.spawn(|| {
                let writer = written.writer();
                self.copy_from(source, to, ctx, |at| written.advance(at))?;
                source.check_unchanged()?;
                writer.finish();
                self.flush()
            });
            let digest = digest_following(&disk, part, &written, ctx);
            // If copying failed, hashing knows no reason of its own.
            join(copy).and(digest)
        })
    }

    /// Copies all of `source` to byte `to` of the disk, holes left out, blocks shared where the
    /// volume can. `final_up_to` is told the byte of the disk before which all is done.
    pub(super) fn copy_from(
        &self,
        source: &Extents,
        to: u64,
        ctx: &Ctx,
        final_up_to: impl Fn(u64),
    ) -> Result<()> {
        if let ([part], [extent], 0) = (source.parts(), self.extents.as_slice(), to) {
            let target = self.open(extent)?;
            let failed = |error| self.failed(extent, error);
            if target.clone_from(&part.file).map_err(failed)? {
                // A clone of a shorter file may have cut what was longer.
                target.set_len(self.size).map_err(failed)?;
                ctx.report(Phase::Copy, source.len(), Some(source.len()));
                return Ok(());
            }
        }
        let mut at = 0;
        while let Some(data) = source.next_data(at)? {
            at = data.start;
            final_up_to(to + at);
            while at < data.end {
                ctx.check()?;
                let end = data.end.min(at + STRIDE);
                self.copy(source, at..end, to)?;
                at = end;
                final_up_to(to + at);
                ctx.report(Phase::Copy, at, Some(source.len()));
            }
        }
        ctx.report(Phase::Copy, source.len(), Some(source.len()));
        Ok(())
    }

    /// Copies a range that is all data.
    fn copy(&self, source: &Extents, range: Range<u64>, to: u64) -> Result<()> {
        for part in source.parts() {
            let from = overlap(&part.range(), &range);
            for (start, extent) in self.starts() {
                let target = start..start + extent.bytes();
                let both = overlap(&(from.start + to..from.end + to), &target);
                if both.is_empty() {
                    continue;
                }
                let file = self.open(extent)?;
                let begin = both.start - to - part.range().start;
                let len = both.end - both.start;
                file.copy_range(&part.file, begin, both.start - start, len)
                    .map_err(|error| self.failed(extent, error))?;
            }
        }
        Ok(())
    }

    /// The disk as it stands in the files.
    pub(super) fn disk(&self) -> Result<Extents> {
        Extents::open(
            self.extents
                .iter()
                .map(|e| (self.folder.join(&e.file), e.bytes())),
        )
    }

    /// Flushes the files while their content is hashed.
    pub(super) fn flush_and_digest(&self, ctx: &Ctx) -> Result<ImageDigest> {
        let disk = self.disk()?;
        thread::scope(|scope| {
            let flush = scope.spawn(|| self.flush());
            let whole = digest(&disk, 0..disk.len(), ctx);
            join(flush).and(whole)
        })
    }

    /// Notes the digest of each extent, where there are several.
    pub(super) fn digest_extents(&mut self, ctx: &Ctx) -> Result<()> {
        if self.extents.len() == 1 {
            return Ok(());
        }
        let disk = self.disk()?;
        let mut start = 0;
        for extent in &mut self.extents {
            let end = start + extent.bytes();
            extent.digest = Some(digest(&disk, start..end, ctx)?);
            start = end;
        }
        Ok(())
    }

    /// Makes it an image of the root. False with the image that is there already, if one is.
    pub(super) fn commit(
        self,
        root: &ImageRoot,
        digest: ImageDigest,
        partitions: Vec<PartitionMeta>,
        provenance: Provenance,
    ) -> Result<(Image, bool)> {
        if let Some(image) = root.find(&digest)? {
            return Ok((image, false));
        }
        let meta = ImageMeta::new(digest, self.extents.clone(), partitions, provenance);
        self.write_meta(&meta)?;
        for file in self
            .extents
            .iter()
            .map(|e| e.file.as_str())
            .chain([META_FILE])
        {
            let path = self.folder.join(file);
            seal(&path, &self.volume)?;
        }
        fsync_dir(&self.folder)?;
        let folder = root.folder_of(&digest);
        if let Err(error) = fs::rename(&self.folder, &folder) {
            // Somebody else was faster.
            return match root.find(&digest)? {
                Some(image) => Ok((image, false)),
                None => Err(Error::io("the image cannot get its name", folder, error)),
            };
        }
        fsync_dir(root.folder())?;
        let image = Image {
            meta,
            folder,
            elsewhere: None,
        };
        Ok((image, true))
    }

    fn write_meta(&self, meta: &ImageMeta) -> Result<()> {
        let path = self.folder.join(META_FILE);
        let write = |bytes: &[u8]| {
            let file = File::create_new(&path)?;
            file.write_all_at(bytes, 0)?;
            file.sync()
        };
        write(&meta.to_bytes()?).map_err(|e| Error::io("cannot be written", &path, e))
    }

    fn flush(&self) -> Result<()> {
        self.extents.iter().try_for_each(|extent| {
            self.open(extent)?
                .sync()
                .map_err(|error| self.failed(extent, error))
        })
    }

    /// The extents with where they begin, in bytes.
    pub(super) fn starts(&self) -> impl Iterator<Item = (u64, &ExtentMeta)> {
        self.extents.iter().scan(0, |next, extent| {
            let start = *next;
            *next += extent.bytes();
            Some((start, extent))
        })
    }

    pub(super) fn open(&self, extent: &ExtentMeta) -> Result<File> {
        File::open_rw(&self.folder.join(&extent.file)).map_err(|error| self.failed(extent, error))
    }

    pub(super) fn failed(&self, extent: &ExtentMeta, error: std::io::Error) -> Error {
        Error::io(
            "the image cannot be written",
            self.folder.join(&extent.file),
            error,
        )
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Not there any more once it was renamed.
        if let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = ?self.folder, %error, "an unfinished image cannot be removed");
        }
    }
}

/// The result of a thread.
fn join(thread: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Io,
            "the thread that writes the image ended early",
        ))
    })
}

/// How long the files of a disk of `size` bytes are on `volume`: one file, or several where that or
/// `max_extent` asks for it. All in bytes.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a limit below 1 MiB.
pub(crate) fn extent_lengths(
    size: u64,
    max_extent: Option<u64>,
    volume: &Volume,
) -> Result<Vec<u64>> {
    let limit = extent_limit(size, max_extent, volume)?.max(1);
    let starts = (0..size).step_by(limit as usize);
    Ok(starts.map(|start| limit.min(size - start)).collect())
}

/// Largest extent in bytes for a disk of `size` bytes: the disk itself where nothing is in the way.
fn extent_limit(size: u64, max_extent: Option<u64>, volume: &Volume) -> Result<u64> {
    // A `.hds` head is cut where its image is, and longer than what it covers by its block table.
    let room = |most: u64| most.saturating_sub((64 + 4 * (most >> 20)).next_multiple_of(ALIGNMENT));
    let limit = match (max_extent, volume.max_file.map(room)) {
        (Some(a), Some(b)) => a.min(b),
        (Some(limit), None) | (None, Some(limit)) => limit,
        (None, None) => return Ok(size),
    };
    if size <= limit {
        return Ok(size);
    }
    let limit = limit.min(MAX_SPLIT) / ALIGNMENT * ALIGNMENT;
    if limit == 0 {
        return Err(Error::invalid("an extent of an image is at least 1 MiB"));
    }
    Ok(limit)
}

fn new_folder(root: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{UNFINISHED}{}-{n}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            // Left behind by a process of the same number that was killed: take the next.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("no image can be made here", root, error)),
        }
    }
}

pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn extents_are_split_only_where_they_must_be() {
        let limit = |size: u64, max, max_file| {
            let mut volume = Volume::default();
            volume.max_file = max_file;
            extent_limit(size << 20, max, &volume).map(|limit| limit >> 20)
        };
        assert_eq!(limit(9000, None, None).unwrap(), 9000);
        assert_eq!(limit(3000, None, Some(u64::from(u32::MAX))).unwrap(), 3000);
        for size in [4095, 9000] {
            assert_eq!(limit(size, None, Some(u64::from(u32::MAX))).unwrap(), 2047);
        }
        assert_eq!(limit(9, Some((3 << 20) + 5), None).unwrap(), 3);
        assert_eq!(limit(9, Some(5 << 20), Some(3 << 20)).unwrap(), 2);
        assert!(limit(9, Some(5), None).is_err());
    }
}

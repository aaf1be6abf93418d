//! Making and removing the files of a layer: base descriptors and heads.
//!
//! Nothing here changes the record; callers make files first, then save, then remove.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

use stratavm_disk::{Durability, ErrorKind as DiskErrorKind, ImageSpec};

use super::folder::Machine;
use super::layer::LayerState;
use super::record::Record;
use super::revision::DeltaId;
use crate::chain::{DiskName, Family, MemberFile, Source};
use crate::error::{Error, Result};
use crate::hypervisor::Product;
use crate::image::ImageDigest;
use crate::layout::{DeltaRef, DiskLayout, FrozenRef, ImageRef, Reach};
use crate::resolved::Paths;
use crate::spec::{Controller, Name, Size, Writes};
use crate::store::{make_private_dir, remove_file, seal, sync_dir};

/// Layouts of one machine's disks.
pub(super) struct Files<'a> {
    machine: &'a Machine,
    paths: Paths,
    /// Images that were looked up: an operation asks for the same one again and again.
    images: RefCell<BTreeMap<ImageDigest, ImageRef>>,
    flushes: Flushes,
}

/// Who sees to it that new files and their names are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushes {
    /// Whoever makes them, one by one.
    Each,
    /// The caller, all at once, before any record names them.
    ByCaller,
}

impl<'a> Files<'a> {
    pub(super) fn new(machine: &'a Machine) -> Self {
        // Only the layers' folder is used here, and it is the same for every product.
        let paths = machine.paths(&Product::new("any"));
        let (images, flushes) = (RefCell::default(), Flushes::Each);
        Self {
            machine,
            paths,
            images,
            flushes,
        }
    }

    /// The same, with this one to flush what is made.
    pub(super) fn flushed(mut self, flushes: Flushes) -> Self {
        self.flushes = flushes;
        self
    }

    /// The same for a folder that is (not yet) the machine's own.
    pub(super) fn below(machine: &'a Machine, folder: &Path) -> Self {
        let mut files = Self::new(machine);
        let (products, console) = (folder.join("products"), folder.join("console.log"));
        files.paths = Paths::new(folder.join("layers"), products, console);
        files
    }

    /// The machine whose files they are.
    pub(super) fn machine(&self) -> &Machine {
        self.machine
    }

    /// The folder of all layers.
    pub(super) fn layers(&self) -> &Path {
        &self.paths.layers
    }

    /// The image of this digest as chains refer to it.
    pub(super) fn image(&self, digest: &ImageDigest) -> Result<ImageRef> {
        if let Some(found) = self.images.borrow().get(digest) {
            return Ok(found.clone());
        }
        let image = self.machine.store().image(digest)?;
        let found = ImageRef {
            digest: *digest,
            extents: image.extents(),
            reach: match image.is_elsewhere() {
                true => Reach::Absolute,
                false => Reach::Relative,
            },
        };
        self.images.borrow_mut().insert(*digest, found.clone());
        Ok(found)
    }

    /// The layout of `disk` in `family`.
    pub(super) fn layout(&self, record: &Record, disk: DiskName, family: Family) -> DiskLayout<'_> {
        let port = record
            .hardware
            .ports
            .iter()
            .find(|entry| entry.disk == disk);
        let controller = port.map_or(Controller::Auto, |entry| entry.port.controller);
        DiskLayout {
            identity: record.identity(),
            paths: &self.paths,
            disk,
            controller,
            family,
        }
    }

    /// Makes what the head of `layer` needs and is not there: folder, base descriptor and head
    /// files. The caller has given the head a new generation, so no file is ever made twice. The
    /// record learns how its files are cut, for which the volume is asked here.
    pub(super) fn make_head(&self, record: &mut Record, name: &Name) -> Result<()> {
        let layer = record.layer(name)?;
        let image = self.image(&layer.current()?.image)?;
        let layout = self.layout(record, layer.disk(), layer.head.family);
        let extent_sectors =
            layout.extent_sectors(image.sectors(), self.machine.store().volume())?;
        record.layer_mut(name)?.head.extent_sectors = extent_sectors;
        self.make_head_as_recorded(record, record.layer(name)?)
    }

    /// As [`make_head`](Self::make_head), for a head of which the record knows already how it is
    /// cut.
    pub(super) fn make_head_as_recorded(&self, record: &Record, layer: &LayerState) -> Result<()> {
        let image = self.image(&layer.current()?.image)?;
        self.make_head_files(record, layer, &image)
    }

    fn make_head_files(&self, record: &Record, layer: &LayerState, image: &ImageRef) -> Result<()> {
        let head = &layer.head;
        let revision = layer.current()?;
        let layout = self.layout(record, layer.disk(), head.family);
        let each = match self.flushes {
            Flushes::Each => Durability::Synced,
            Flushes::ByCaller => Durability::Unsynced,
        };
        let durability = match layer.head_writes() {
            Writes::Discard => Durability::Unsynced,
            Writes::Keep => each,
        };
        let folder = self.paths.disk(&layer.disk());
        let mut names = if folder.is_dir() {
            Names::Old
        } else {
            Names::New
        };
        make_private_dir(&folder)?;
        if head.family == Family::Vmdk {
            let path = layout.base_path(&image.digest);
            let spec = layout.base_spec(image)?;
            if make(&path, &spec, self.machine, each, Stale::Derived)? {
                names = Names::New;
                seal(&path, self.machine.store().volume())?;
            }
        }
        let parent = layer.history.top(revision.n);
        let parent = parent.map(|delta| delta.generation);
        // A run that was cut short leaves a discarded head with what its guest wrote, and nobody
        // may rely on it any more. A kept head is never made anew over what it holds.
        let stale = match layer.head_writes() {
            Writes::Discard => Stale::Derived,
            Writes::Keep => Stale::Unreferenced,
        };
        let files = layout.new_head(image, parent, head.delta().into())?;
        make_all(files.all(), self.machine, durability, stale)?;
        if durability == Durability::Synced {
            names = Names::New;
        }
        match names {
            Names::New if self.flushes == Flushes::ByCaller => Ok(()),
            // A discarded head may be lost in a crash: it is made anew before every start.
            Names::Old => Ok(()),
            Names::New => sync_dir(&folder).and_then(|()| sync_dir(&self.paths.layers)),
        }
    }

    /// The files of a delta over `image`, as they are made: a descriptor after its extents.
    pub(super) fn head_paths(
        &self,
        record: &Record,
        disk: &DiskName,
        delta: DeltaId,
        image: &ImageDigest,
    ) -> Result<Vec<PathBuf>> {
        let layout = self.layout(record, disk.clone(), delta.family);
        if let Some(path) = layout.only_file(delta.into()) {
            return Ok(vec![path]);
        }
        let files = layout.delta_files(delta.into(), &self.image(image)?)?;
        Ok(files.all().map(|file| file.path.clone()).collect())
    }

    /// The files of a delta over `image` that hold what was written.
    pub(super) fn block_paths(
        &self,
        record: &Record,
        disk: &DiskName,
        delta: DeltaId,
        image: &ImageDigest,
    ) -> Result<Vec<PathBuf>> {
        let layout = self.layout(record, disk.clone(), delta.family);
        let files = layout.delta_files(delta.into(), &self.image(image)?)?;
        let paths = files.with_blocks().iter().map(|file| file.path.clone());
        Ok(paths.collect())
    }

    /// The frozen deltas below the head of `layer`, with the revisions that froze them.
    pub(super) fn frozen(layer: &LayerState) -> Vec<FrozenRef> {
        let chain = layer.history.chain(layer.history.current);
        chain
            .into_iter()
            .map(|link| FrozenRef {
                revision: link.revision,
                delta: link.delta.into(),
            })
            .collect()
    }

    /// Removes the files below the layers' folder that the record does not refer to. Called after
    /// the record was saved, when the operation is done: what cannot be removed now is left for
    /// the next time.
    pub(super) fn collect(&self, record: &Record) {
        if let Err(error) = self
            .live(record)
            .and_then(|live| self.remove_all_but(&live))
        {
            tracing::warn!(machine = %record.name, %error, "files that nobody needs are left behind");
        }
    }

    /// The files that the record refers to.
    pub(super) fn live(&self, record: &Record) -> Result<HashSet<PathBuf>> {
        let mut live = HashSet::new();
        for layer in &record.layers {
            let (disk, image) = (layer.disk(), layer.current()?.image);
            live.extend(self.head_paths(record, &disk, layer.head.delta(), &image)?);
            let images = layer.history.revisions.iter().map(|r| r.image);
            self.keep_bases(record, &disk, images.collect(), &mut live);
        }
        for layer in &record.removed {
            // Without deltas on it a descriptor is made again with the next head.
            let images = layer.history.deltas().map(|(revision, _)| revision.image);
            self.keep_bases(record, &layer.disk(), images.collect(), &mut live);
        }
        for (name, history) in record.histories() {
            let disk = DiskName::from(name.clone());
            for (revision, delta) in history.deltas() {
                live.extend(self.head_paths(record, &disk, delta, &revision.image)?);
            }
        }
        if let Some(session) = &record.session {
            let layout = self.layout(record, DiskName::Session, session.family);
            let size = record.spec.guest.session_size().map_or(0, Size::bytes);
            let chain = layout.session_chain(size, None, session.delta().into())?;
            live.extend(chain.files());
        }
        Ok(live)
    }

    /// Adds the descriptors over these images to what is live.
    fn keep_bases(
        &self,
        record: &Record,
        disk: &DiskName,
        images: BTreeSet<ImageDigest>,
        live: &mut HashSet<PathBuf>,
    ) {
        let layout = self.layout(record, disk.clone(), Family::Vmdk);
        live.extend(images.iter().flat_map(|image| layout.base_paths(image)));
    }

    /// The files below the layers' folder that are not among the `live` ones.
    pub(super) fn unnamed(&self, live: &HashSet<PathBuf>) -> Result<Vec<PathBuf>> {
        let mut unnamed = Vec::new();
        for (folder, kind) in list(&self.paths.layers)? {
            // A link would lead out of the machine.
            if !kind.is_dir() {
                continue;
            }
            let files = list(&folder)?.into_iter();
            unnamed.extend(
                files
                    .filter(|(path, kind)| !kind.is_dir() && !live.contains(path))
                    .map(|(path, _)| path),
            );
        }
        Ok(unnamed)
    }

    fn remove_all_but(&self, live: &HashSet<PathBuf>) -> Result<()> {
        self.unnamed(live)?
            .iter()
            .try_for_each(|path| remove(path))?;
        for (folder, kind) in list(&self.paths.layers)? {
            if kind.is_dir() {
                // Fails on purpose while anything is left.
                let _ = stratavm_disk::fs::remove_dir(&folder);
            }
        }
        Ok(())
    }
}

impl From<DeltaId> for DeltaRef {
    fn from(delta: DeltaId) -> Self {
        Self {
            generation: delta.generation,
            extent_sectors: delta.extent_sectors,
        }
    }
}

/// Whether a folder got names that must be durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Old,
    New,
}

/// Which files of another content may be replaced: those of an operation that was cut short.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// Any: everything in it follows from the record, and nobody else writes to it.
    Derived,
    /// Only one that the saved record does not refer to: it may hold what a guest wrote.
    Unreferenced,
}

/// Makes the new ones of `files`, which are a head's.
pub(super) fn make_all<'a>(
    files: impl Iterator<Item = &'a MemberFile>,
    machine: &Machine,
    how: Durability,
    stale: Stale,
) -> Result<()> {
    for file in files {
        if let Source::New(spec) = &file.source {
            make(&file.path, spec, machine, how, stale)?;
        }
    }
    Ok(())
}

/// Makes an image; one that is there already must be just this. Answers whether it was made.
pub(super) fn make(
    path: &Path,
    spec: &ImageSpec,
    machine: &Machine,
    how: Durability,
    stale: Stale,
) -> Result<bool> {
    let volume = machine.store().volume();
    match stratavm_disk::create(path, spec, volume, how) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == DiskErrorKind::Exists => {}
        Err(error) => return Err(error.into()),
    }
    let Err(error) = stratavm_disk::verify(path, spec) else {
        return Ok(false);
    };
    let replaceable = match stale {
        Stale::Derived => true,
        Stale::Unreferenced => {
            let saved = machine.record()?;
            !Files::new(machine).live(&saved)?.contains(path)
        }
    };
    if !replaceable {
        return Err(error.into());
    }
    remove(path)?;
    stratavm_disk::create(path, spec, volume, how)?;
    Ok(true)
}

/// Bytes above which a file's blocks are given back on a thread of their own.
#[cfg(unix)]
const LARGE: u64 = 16 << 20;

fn remove(path: &Path) -> Result<()> {
    // Giving the blocks of a large file back takes as long as the file is large, and nothing waits
    // for it: the name goes at once, the blocks when the last handle is closed.
    #[cfg(unix)]
    let large = fs::symlink_metadata(path)
        .ok()
        .filter(|found| found.is_file() && found.len() >= LARGE)
        .and_then(|_| fs::File::open(path).ok());
    let removed = remove_file(path);
    #[cfg(unix)]
    if let Some(file) = large {
        blocking::unblock(move || drop(file)).detach();
    }
    removed
}

/// The entries of a folder and what they are themselves, links not followed; none if the folder is
/// not there.
fn list(folder: &Path) -> Result<Vec<(PathBuf, FileType)>> {
    let failed = |error| Error::io("the folder cannot be listed", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(failed)?;
        Ok((entry.path(), entry.file_type().map_err(failed)?))
    };
    entries.map(entry).collect()
}

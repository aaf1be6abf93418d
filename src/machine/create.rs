//! Creating a machine from a spec, and deleting one.

use std::fs;
use std::path::{Path, PathBuf};

use stratavm_disk::Ctx;
use uuid::Uuid;

use super::files::Files;
use super::folder::Machine;
use super::layer::{Head, LayerState};
use super::record::{HardwareRecord, KIND, Record};
use super::start::partition;
use crate::chain::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Format, Unknown};
use crate::image::add::add;
use crate::image::{AddOptions, Blank, Image, ImageDigest, PartitionMeta};
use crate::linux::PartitionName;
use crate::slot;
use crate::spec::{Composition, LayerSpec, Size, VmSpec};
use crate::store::{
    FileLock, Store, make_private_dir, refuse_link, refuse_links_below, remove_dir, sync_dir,
};
use crate::timestamp::Timestamp;

/// How a machine is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// The family of the first heads: that of the product it is meant for.
    pub family: Family,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            family: Family::Vmdk,
        }
    }
}

impl CreateOptions {
    /// The same options for heads of this family.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }
}

impl Store {
    /// Creates a machine. Images that the spec names as files, relative to `spec_folder`, are
    /// added to the store; blank layers are made.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if there is a machine of that name; what is wrong with the spec or an
    /// image. The store is then as it was, except for images that were added.
    pub fn create(
        &self,
        spec: &VmSpec,
        spec_folder: &Path,
        options: &CreateOptions,
        ctx: &Ctx,
    ) -> Result<Machine> {
        spec.validate()?;
        let machine = Machine::new(self.clone(), spec.name.clone());
        let _shared = self.lock_shared()?;
        refuse_existing(&machine, spec)?;
        let images = self.layer_images(spec, spec_folder, ctx)?;
        let record = new_record(spec, spec_folder, options.family, &images)?;
        let leased = images
            .iter()
            .try_for_each(|image| image.add_lease(record.id));
        let made = leased.and_then(|()| self.fill(&machine, &record));
        if made.is_err() {
            // Only leases without a machine are left behind if this fails as well; prune frees them.
            for image in &images {
                let _ = image.remove_lease(record.id);
            }
            let _ = self.forget_id(record.id);
        }
        made.map(|()| machine)
    }

    /// The image of every layer, in spec order; files are added, blanks made.
    pub(crate) fn layer_images(
        &self,
        spec: &VmSpec,
        spec_folder: &Path,
        ctx: &Ctx,
    ) -> Result<Vec<Image>> {
        let image_of = |layer: &LayerSpec| self.layer_image(spec, layer, spec_folder, ctx);
        let images = spec
            .layers
            .iter()
            .map(image_of)
            .collect::<Result<Vec<Image>>>()?;
        let found = images.iter().map(|image| image.meta.partitions.as_slice());
        check_ids(spec, spec.layers.iter().zip(found))?;
        Ok(images)
    }

    /// The image that `layer` of `spec` starts from.
    ///
    /// # Errors
    /// What is wrong with the image, naming the layer.
    pub fn layer_image(
        &self,
        spec: &VmSpec,
        layer: &LayerSpec,
        spec_folder: &Path,
        ctx: &Ctx,
    ) -> Result<Image> {
        let found = match (&layer.image, layer.size) {
            (Some(text), _) if text.starts_with(ImageDigest::PREFIX) => {
                digest_of(text).and_then(|digest| self.image(&digest))
            }
            (Some(file), _) => {
                let file = spec_folder.join(file);
                let options = AddOptions::default();
                add(self.images(), &file, &options, self.volume(), ctx).map(|added| added.image)
            }
            (None, Some(size)) => blank(spec, layer, size)
                .and_then(|blank| blank.store(self.images(), self.volume(), ctx))
                .map(|added| added.image),
            (None, None) => Err(Error::invalid("neither image nor size is given")),
        };
        found.map_err(|error| error.during(format!("layer {} has no usable image", layer.name)))
    }

    /// Makes the machine's folder; its record comes last, so that a folder without one is the rest
    /// of a creation that was cut short.
    fn fill(&self, machine: &Machine, record: &Record) -> Result<()> {
        let folder = machine.folder();
        refuse_link(&self.machines_folder())?;
        refuse_link(&folder)?;
        make_private_dir(&folder)?;
        let _lock = being_created(machine)?;
        refuse_existing(machine, &record.spec)?;
        refuse_links_below(&folder)?;
        let made = self.fill_locked(machine, record);
        if made.is_err() {
            // The error is what the caller wants to see, not that the rest is still there.
            let _ = remove_dir(&folder);
        }
        made
    }

    fn fill_locked(&self, machine: &Machine, record: &Record) -> Result<()> {
        let layers = machine.folder().join("layers");
        remove_dir(&layers)?;
        make_private_dir(&layers)?;
        let files = Files::new(machine);
        let mut record = record.clone();
        for layer in &record.layers.clone() {
            files.make_head(&mut record, layer.name())?;
        }
        sync_dir(&machine.folder())?;
        self.note_id(record.id, &record.name)?;
        machine.save(&record)?;
        sync_dir(&self.machines_folder())
    }
}

impl Machine {
    /// Deletes the machine with everything its user wrote. Images stay.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while it runs.
    pub fn delete(self) -> Result<()> {
        let off = self.lock_off()?;
        let record = off.record.clone();
        // One rename takes it out of the store; a folder of that name is no machine.
        let gone = self
            .store()
            .machines_folder()
            .join(format!(".gone-{}", record.id));
        let folder = self.folder();
        // Windows does not rename a folder in which files are open.
        #[cfg(windows)]
        drop(off);
        // Nobody takes what is being removed for the rest of a removal that was cut short.
        let _shared = self.store().lock_shared()?;
        stratavm_disk::fs::rename(&folder, &gone)
            .map_err(|error| Error::io("the machine could not be deleted", &folder, error))?;
        sync_dir(&self.store().machines_folder())?;
        // FUSE and NFS keep a removed file that is open under another name, and the folder with it.
        // Nobody finds these locks any more.
        #[cfg(not(windows))]
        drop(off);
        remove_dir(&gone)?;
        self.store().forget_id(record.id)?;
        for digest in record.images() {
            // An image that is gone has no lease either.
            if let Ok(image) = self.store().image(&digest) {
                image.remove_lease(record.id)?;
            }
        }
        Ok(())
    }
}

/// The short lock of a machine that is about to be created.
pub(super) fn being_created(machine: &Machine) -> Result<FileLock> {
    FileLock::try_exclusive(&machine.folder().join("lock")).map_err(|error| {
        let name = machine.name();
        error.during(format!("machine {name} is being created by somebody else"))
    })
}

/// A digest as a spec or a command line writes it.
pub(crate) fn digest_of(text: &str) -> Result<ImageDigest> {
    text.parse()
        .map_err(|error| Error::invalid("the image's digest is not valid").caused_by(error))
}

/// The blank image of a layer.
pub(crate) fn blank(spec: &VmSpec, layer: &LayerSpec, size: Size) -> Result<Blank> {
    match spec.guest.composition {
        Composition::Linux => Blank::layer(layer.role, &layer.name, size.bytes()),
        Composition::Disks => Blank::disk(size.bytes()),
    }
}

/// Refuses a name that is taken, also by a machine that cannot be read now: a folder is taken over
/// only if nothing in it shows that a machine ever ran or changed there.
pub(super) fn refuse_existing(machine: &Machine, spec: &VmSpec) -> Result<()> {
    let there = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(
            "the machine's folder cannot be read",
            path,
            error,
        )),
        Ok(_) => Ok(true),
    };
    if there(&machine.record_path())? {
        return Err(exists(spec));
    }
    let traces = ["run.lock", "products", "console.log"];
    for trace in traces {
        if there(&machine.folder().join(trace))? {
            return Err(Error::new(
                ErrorKind::Exists,
                format!(
                    "there was a machine {} whose machine.json is missing",
                    spec.name
                ),
            )
            .at(machine.folder())
            .next("bring its machine.json back, or move the folder away"));
        }
    }
    Ok(())
}

fn exists(spec: &VmSpec) -> Error {
    Error::new(
        ErrorKind::Exists,
        format!("there is a machine {} already", spec.name),
    )
    .next(format!(
        "stratavm delete {}, or give the spec another name",
        spec.name
    ))
}

pub(super) fn new_record(
    spec: &VmSpec,
    spec_folder: &Path,
    family: Family,
    images: &[Image],
) -> Result<Record> {
    let mut record = Record {
        format: Format::new(KIND),
        id: Uuid::now_v7(),
        name: spec.name.clone(),
        created: Timestamp::now(),
        generation: 0,
        family,
        spec: VmSpec {
            layers: Vec::new(),
            ..absolute_media(spec, spec_folder)?
        },
        hardware: HardwareRecord::new(&slot::assign(spec, &slot::Ports::new())?),
        layers: Vec::new(),
        removed: Vec::new(),
        next: Vec::new(),
        points: Vec::new(),
        last: None,
        retention: None,
        session: None,
        run: None,
        ended: None,
        unknown: Unknown::new(),
    };
    for (layer, image) in spec.layers.iter().zip(images) {
        let mut layer = layer.clone();
        if layer.image.is_some() {
            layer.image = Some(image.meta.digest.to_string());
        }
        let head = Head::new(record.next_generation(), family);
        let made = record.created;
        record
            .layers
            .push(LayerState::new(layer, 1, image.meta.digest, head, made));
    }
    Ok(record)
}

/// The spec with its CD-ROM media named absolutely: the spec's folder is not kept.
fn absolute_media(spec: &VmSpec, folder: &Path) -> Result<VmSpec> {
    let mut spec = spec.clone();
    for drive in &mut spec.hardware.cdrom {
        drive.image = medium(folder, &drive.image)?
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid("the path of a CD-ROM image is not UTF-8").at(folder))?;
    }
    Ok(spec)
}

/// The absolute path of a CD-ROM image.
pub(crate) fn medium(folder: &Path, image: &str) -> Result<PathBuf> {
    let path = folder.join(image);
    std::path::absolute(&path)
        .map_err(|error| Error::io("the CD-ROM image has no absolute path", &path, error))
}

/// Under `linux` every layer needs its partition, and the guest tells layers by its id, so no two
/// may be equal.
pub(crate) fn check_ids<'a>(
    spec: &VmSpec,
    layers: impl IntoIterator<Item = (&'a LayerSpec, &'a [PartitionMeta])>,
) -> Result<()> {
    if spec.guest.composition != Composition::Linux {
        return Ok(());
    }
    let mut seen: Vec<(PartitionName, &LayerSpec)> = Vec::new();
    for (layer, partitions) in layers {
        let name = partition(layer, partitions)?.name;
        if let Some((_, other)) = seen.iter().find(|(other, _)| *other == name) {
            return Err(Error::invalid(format!(
                "layers {} and {} hold the same content: the guest could not tell them apart",
                other.name, layer.name
            ))
            .next("remove one of them"));
        }
        seen.push((name, layer));
    }
    Ok(())
}

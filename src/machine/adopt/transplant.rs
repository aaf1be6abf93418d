//! Making a machine out of the files of another folder: copied into a folder that nobody knows yet,
//! checked there, given the ids of the new machine, and then put in place by one rename.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use stratavm_disk::fs as layer_fs;
use stratavm_disk::vmdk::{Origin, relink};
use stratavm_disk::{Ctx, Durability, ImageSpec, write_atomic};
use uuid::Uuid;

use super::source::Source;
use super::{ADOPTING, Adopted, refuse_faults};
use crate::chain::{DiskName, Family};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::machine::carry::carry;
use crate::machine::files::{Files, Stale, make};
use crate::machine::inspect::largest;
use crate::machine::layer::{AnyLayer, Use};
use crate::machine::record::Record;
use crate::machine::revision::{DeltaId, History, Stacked};
use crate::spec::{Name, Writes};
use crate::store::{Store, make_private_dir, remove_tree, seal, sync_dir};

/// A folder that is removed again unless it became a machine.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(%error, "the rest of an adoption is left to prune");
        }
    }
}

impl Store {
    /// Makes `machine` from the files of `source`: with the id `id` and generations of its own, or
    /// as it is. The heads of the layers `torn` are left out.
    pub(super) fn transplant(
        &self,
        source: Source,
        machine: Machine,
        id: Option<Uuid>,
        torn: Vec<Name>,
        mut notes: Vec<String>,
        ctx: &Ctx,
    ) -> Result<Adopted> {
        let mut old = source.record.clone();
        old.session = None;
        old.run = None;
        for layer in &mut old.layers {
            let discards = layer.head_writes() == Writes::Discard;
            if discards || torn.contains(layer.name()) {
                layer.head.usage = Use::Untouched;
            }
        }
        let staging = Staging(
            self.machines_folder()
                .join(format!("{ADOPTING}{}", Uuid::now_v7())),
        );
        make_private_dir(&staging.0.join("layers"))?;
        let from = Files::below(&machine, &source.folder);
        let to = Files::below(&machine, &staging.0);
        self.carry_all(&old, &from, &to, ctx)?;
        // What is checked is what is used: the copy, which nobody else can reach.
        refuse_faults(&to, &old)?;
        let mut new = old.clone();
        new.name = machine.name().clone();
        new.spec.name = machine.name().clone();
        if let Some(id) = id {
            new.id = id;
            new.ended = None;
            let generations = renumber(&mut new);
            to.rename_all(&old, &new, &generations)?;
            to.relink_all(&new)?;
        }
        to.make_bases(&new)?;
        let untouched = new.layers.iter();
        let untouched = untouched.filter(|layer| layer.head.usage == Use::Untouched);
        let names: Vec<_> = untouched.map(|layer| layer.name().clone()).collect();
        for name in &names {
            to.make_head(&mut new, name)?;
        }
        to.seal_all(&new)?;
        let placed = self
            .lease(&new)
            .and_then(|()| self.note_id(new.id, &new.name))
            .and_then(|()| self.place(&staging, &source, &machine, &new));
        if let Err(error) = placed {
            // It may have come as far as its last rename.
            if machine
                .record_anywhere()
                .is_ok_and(|record| record.id == new.id)
            {
                return Err(error);
            }
            // A lease too many is prune's to find; another error is no help.
            for image in new
                .images()
                .iter()
                .filter_map(|digest| self.image(digest).ok())
            {
                let _ = image.remove_lease(new.id);
            }
            let _ = self.forget_id(new.id);
            return Err(error);
        }
        if machine.folder() != source.folder {
            notes.push(format!(
                "the folder {} is as it was and no longer needed",
                source.folder.display()
            ));
        }
        Ok(Adopted { machine, notes })
    }

    /// Copies every delta that holds something.
    fn carry_all(&self, old: &Record, from: &Files<'_>, to: &Files<'_>, ctx: &Ctx) -> Result<()> {
        for layer in old.all_layers() {
            make_private_dir(&to.layers().join(layer.name().as_str()))?;
            for Stacked { delta, image, .. } in deltas(layer) {
                let image = from.image(&image)?;
                let here = from.layout(old, layer.disk(), delta.family);
                let there = to.layout(old, layer.disk(), delta.family);
                let sources = here.new_head(&image, None, delta.into())?;
                let targets = there.new_head(&image, None, delta.into())?;
                let pairs = sources.new_images().zip(targets.new_images());
                for ((source, spec), (target, _)) in pairs {
                    carry(source, target, largest(spec), self.volume(), ctx)?;
                }
            }
        }
        Ok(())
    }

    /// One rename makes it a machine: of its folder, or of the record in a folder that stays.
    fn place(
        &self,
        staging: &Staging,
        source: &Source,
        machine: &Machine,
        new: &Record,
    ) -> Result<()> {
        let bytes = new.to_bytes()?;
        let layers = staging.0.join("layers");
        for layer in folders(&layers)? {
            sync_dir(&layer)?;
        }
        sync_dir(&layers)?;
        if machine.folder() != source.folder {
            write_atomic(&staging.0.join("machine.json"), &bytes, Durability::Synced)?;
            layer_fs::rename(&staging.0, &machine.folder()).map_err(|error| {
                Error::io(
                    "the machine could not be put in place",
                    machine.folder(),
                    error,
                )
            })?;
            return sync_dir(&self.machines_folder());
        }
        let own = machine.folder().join("layers");
        make_private_dir(&own)?;
        for folder in folders(&layers)? {
            let target = own.join(folder.file_name().unwrap_or_default());
            make_private_dir(&target)?;
            for file in entries(&folder)? {
                let to = target.join(file.file_name().unwrap_or_default());
                layer_fs::rename(&file, &to)
                    .map_err(|error| Error::io("the file could not be put in place", to, error))?;
            }
            sync_dir(&target)?;
        }
        sync_dir(&own)?;
        write_atomic(&machine.record_path(), &bytes, Durability::Synced)?;
        Files::new(machine).collect(new);
        // What products made for the original says so.
        for name in ["products", "run", "console.log", "supervisor.log"] {
            if let Err(error) = remove_tree(&machine.folder().join(name)) {
                tracing::warn!(%error, "a file of the original is left");
            }
        }
        Ok(())
    }
}

/// Every delta of a layer that holds something, parents first; the head is the last.
fn deltas(layer: AnyLayer<'_>) -> Vec<Stacked> {
    let mut all: Vec<_> = layer.history.stacked().collect();
    let (head, current) = (layer.head, layer.history.current);
    let started = head.filter(|head| head.usage == Use::Started);
    if let (Some(head), Some(revision)) = (started, layer.history.find(current)) {
        all.push(Stacked {
            delta: head.delta(),
            parent: layer.history.top(current),
            image: revision.image,
        });
    }
    all
}

/// New generations for every delta, by layer and old one: files of the old ones may lie beside.
type Generations = HashMap<(DiskName, u64), u64>;

/// Gives every delta of the record a generation that was never used.
fn renumber(record: &mut Record) -> Generations {
    let mut generations = Generations::new();
    let mut next = record.generation;
    let mut fresh = |disk: &DiskName, old: u64| {
        *generations.entry((disk.clone(), old)).or_insert_with(|| {
            next += 1;
            next
        })
    };
    let mut renew = |disk: &DiskName, history: &mut History| {
        for revision in &mut history.revisions {
            for delta in &mut revision.deltas {
                delta.id.generation = fresh(disk, delta.id.generation);
            }
        }
    };
    for layer in &mut record.layers {
        renew(&layer.disk(), &mut layer.history);
    }
    for layer in &mut record.removed {
        renew(&layer.disk(), &mut layer.history);
    }
    for layer in &mut record.layers {
        layer.head.generation = fresh(&layer.disk(), layer.head.generation);
    }
    record.generation = next;
    generations
}

impl Files<'_> {
    /// Gives the files of every delta the names of their new generations.
    fn rename_all(&self, old: &Record, new: &Record, generations: &Generations) -> Result<()> {
        for layer in old.all_layers() {
            let disk = layer.disk();
            for Stacked {
                delta,
                image: digest,
                ..
            } in deltas(layer)
            {
                let generation = generations.get(&(disk.clone(), delta.generation));
                let renamed = DeltaId {
                    generation: generation.copied().unwrap_or(delta.generation),
                    ..delta
                };
                let from = self.head_paths(old, &disk, delta, &digest)?;
                let to = self.head_paths(new, &disk, renamed, &digest)?;
                for (from, to) in from.iter().zip(&to) {
                    layer_fs::rename(from, to)
                        .map_err(|error| Error::io("the copy could not be renamed", from, error))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the descriptors of all copied deltas anew, from the new record.
    fn relink_all(&self, new: &Record) -> Result<()> {
        for layer in new.all_layers() {
            let disk = layer.disk();
            for Stacked {
                delta,
                parent,
                image,
            } in deltas(layer)
            {
                let image = self.image(&image)?;
                let layout = self.layout_of(new, layer, delta.family, &image);
                let parent = parent.map(|parent| parent.generation);
                let is_head = layer
                    .head
                    .is_some_and(|head| head.generation == delta.generation);
                let frozen = new.identity().frozen_cid(&disk, delta.generation);
                for (path, spec) in layout.new_head(&image, parent, delta.into())?.new_images() {
                    let mut spec = spec.clone();
                    let cid = match &mut spec {
                        ImageSpec::VmdkSparse(spec) => &mut spec.cid,
                        ImageSpec::VmdkSplit(spec) => &mut spec.cid,
                        // These carry no links.
                        _ => continue,
                    };
                    if !is_head {
                        *cid = frozen;
                    }
                    relink(path, &spec, &Origin::Copy, Durability::Synced)?;
                }
            }
        }
        Ok(())
    }

    /// Makes every descriptor over an image that a delta needs, or makes it anew.
    pub(super) fn make_bases(&self, record: &Record) -> Result<()> {
        let volume = self.machine().store().volume();
        for layer in record.all_layers() {
            let mut images: Vec<_> = deltas(layer)
                .into_iter()
                .filter(|stacked| stacked.delta.family == Family::Vmdk)
                .map(|stacked| stacked.image)
                .collect();
            images.sort_unstable();
            images.dedup();
            for digest in images {
                let image = self.image(&digest)?;
                let layout = self.layout_of(record, layer, Family::Vmdk, &image);
                let path = layout.base_path(&digest);
                let spec = layout.base_spec(&image)?;
                make(
                    &path,
                    &spec,
                    self.machine(),
                    Durability::Synced,
                    Stale::Derived,
                )?;
                seal(&path, volume)?;
            }
        }
        Ok(())
    }

    /// Takes the permission to write from every frozen file.
    fn seal_all(&self, record: &Record) -> Result<()> {
        let volume = self.machine().store().volume();
        for layer in record.all_layers() {
            for Stacked { delta, image, .. } in layer.history.stacked() {
                let paths = self.head_paths(record, &layer.disk(), delta, &image)?;
                paths.iter().try_for_each(|path| seal(path, volume))?;
            }
        }
        Ok(())
    }
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(path)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect())
}

fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("the folder cannot be read", path, error);
    let entries = std::fs::read_dir(path).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect()
}

//! Creating many machines at once: their files are made first, flushed together, and only then named by their records.
//!
//! What one machine is made of is in [`super::create`].

use std::path::{Path, PathBuf};

use stratavm_disk::Ctx;
use stratavm_disk::fs::{self, File};

use super::create::{CreateOptions, being_created, new_record, refuse_existing};
use super::files::{Files, Flushes};
use super::folder::Machine;
use super::record::Record;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::spec::VmSpec;
use crate::store::{FileLock, Store, make_private_dir, remove_dir};

/// Machines that share their flushes: each holds a lock, an open file, until they are done.
const TOGETHER: usize = 128;

/// A machine whose files are made, and whose record waits under another name.
struct Made {
    machine: Machine,
    record: Record,
    images: Vec<Image>,
    waiting: PathBuf,
    _lock: FileLock,
}

impl Store {
    /// Creates machines as [`create`](Self::create) does each. Where the system flushes a volume at
    /// once (Linux), many of them share their flushes, which makes it many times faster on a disk.
    ///
    /// A crash at any moment leaves each machine whole or not there.
    ///
    /// # Errors
    /// As for [`create`](Self::create), of the first one that cannot be made. Those that were made
    /// until then stay.
    pub fn create_all(
        &self,
        specs: &[VmSpec],
        spec_folder: &Path,
        options: &CreateOptions,
        ctx: &Ctx,
    ) -> Result<Vec<Machine>> {
        let mut machines = Vec::with_capacity(specs.len());
        for specs in specs.chunks(TOGETHER) {
            if fs::SYNCS_VOLUMES {
                machines.extend(self.create_together(specs, spec_folder, options, ctx)?);
                continue;
            }
            for spec in specs {
                machines.push(self.create(spec, spec_folder, options, ctx)?);
            }
        }
        Ok(machines)
    }

    fn create_together(
        &self,
        specs: &[VmSpec],
        spec_folder: &Path,
        options: &CreateOptions,
        ctx: &Ctx,
    ) -> Result<Vec<Machine>> {
        let _shared = self.lock_shared()?;
        let mut made = Vec::with_capacity(specs.len());
        let done = specs
            .iter()
            .try_for_each(|spec| {
                made.push(self.make_waiting(spec, spec_folder, options, ctx)?);
                Ok(())
            })
            .and_then(|()| self.flush());
        if let Err(error) = done {
            made.iter()
                .for_each(|made| self.unmake(&made.machine, &made.record, &made.images));
            return Err(error);
        }
        for (n, one) in made.iter().enumerate() {
            let path = one.machine.record_path();
            let renamed = fs::rename(&one.waiting, &path);
            if let Err(error) = renamed {
                let rest = &made[n..];
                rest.iter()
                    .for_each(|made| self.unmake(&made.machine, &made.record, &made.images));
                return Err(Error::io("the machine could not be created", &path, error));
            }
        }
        self.flush()?;
        Ok(made.into_iter().map(|made| made.machine).collect())
    }

    /// Makes everything of one machine but its record's name. Nothing of it is flushed.
    fn make_waiting(
        &self,
        spec: &VmSpec,
        spec_folder: &Path,
        options: &CreateOptions,
        ctx: &Ctx,
    ) -> Result<Made> {
        ctx.check()?;
        spec.validate()?;
        let machine = Machine::new(self.clone(), spec.name.clone());
        refuse_existing(&machine, spec)?;
        let images = self.layer_images(spec, spec_folder, ctx)?;
        let mut record = new_record(spec, spec_folder, options.family, &images)?;
        make_private_dir(&machine.folder())?;
        let lock = being_created(&machine)?;
        refuse_existing(&machine, spec)?;
        match self.fill_waiting(&machine, &mut record, &images) {
            Ok(waiting) => Ok(Made {
                machine,
                record,
                images,
                waiting,
                _lock: lock,
            }),
            Err(error) => {
                self.unmake(&machine, &record, &images);
                Err(error)
            }
        }
    }

    fn fill_waiting(
        &self,
        machine: &Machine,
        record: &mut Record,
        images: &[Image],
    ) -> Result<PathBuf> {
        for image in images {
            image.add_lease_unflushed(record.id)?;
        }
        let layers = machine.folder().join("layers");
        remove_dir(&layers)?;
        make_private_dir(&layers)?;
        let files = Files::new(machine).flushed(Flushes::ByCaller);
        let names: Vec<_> = record.layers.iter().map(|l| l.name().clone()).collect();
        for name in &names {
            files.make_head(record, name)?;
        }
        self.note_id(record.id, &record.name)?;
        // A name of its own, so that what a killed process left is in nobody's way, and is freed by prune.
        let waiting = machine
            .folder()
            .join(format!(".stratavm-tmp-{}", record.id));
        let bytes = record.to_bytes()?;
        let written = File::create_new(&waiting).and_then(|file| file.write_all_at(&bytes, 0));
        written.map_err(|error| Error::io("the machine could not be created", &waiting, error))?;
        Ok(waiting)
    }

    /// Everything that was changed in the store is on disk.
    fn flush(&self) -> Result<()> {
        for folder in [self.images().folder(), &self.machines_folder()] {
            fs::sync_volume(folder)
                .map_err(|error| Error::io("the store could not be flushed", folder, error))?;
        }
        Ok(())
    }

    /// Removes what was made. What stays is nobody's, and freed by prune.
    fn unmake(&self, machine: &Machine, record: &Record, images: &[Image]) {
        let _ = remove_dir(&machine.folder());
        for image in images {
            let _ = image.remove_lease(record.id);
        }
        let _ = self.forget_id(record.id);
    }
}

//! `adopt`: taking in a machine's folder that was copied, renamed or brought from somewhere else.
//!
//! Here are the decisions and the order of the steps; reading a folder that may be hostile is in
//! `source`, making a machine out of its files in `transplant`.

mod source;
mod transplant;

use std::path::Path;

use stratavm_disk::Ctx;
use uuid::Uuid;

use super::files::Files;
use super::folder::Machine;
use super::inspect::{Fault, Fix, Trust, What};
use super::record::{Record, RunPhase};
use super::staged::Kept;
use crate::error::{Error, ErrorKind, Result};
use crate::image::ImageDigest;
use crate::spec::{Name, Writes};
use crate::store::{References, Store, sync_dir};
use source::Source;

/// What the name of a folder starts with in which a machine is being made from another's files.
pub(crate) const ADOPTING: &str = ".adopt-";

/// Which of the two a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adoption {
    /// A copy: it becomes a machine of its own, with an id of its own, so that no disk, network
    /// adapter or firmware says that it is the original.
    NewId,
    /// The machine itself: the original is gone, so it keeps its id.
    Moved,
}

/// How a folder is adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdoptOptions {
    /// Whether it is a copy or the machine itself.
    pub adoption: Adoption,
    /// What the machine is called; none: as its folder.
    pub name: Option<Name>,
    /// What becomes of writes since the last revision that may be torn, because the folder was
    /// copied while the machine ran.
    pub kept: Kept,
}

impl AdoptOptions {
    /// The machine is called as its folder, and nothing is dropped.
    #[must_use]
    pub fn new(adoption: Adoption) -> Self {
        Self {
            adoption,
            name: None,
            kept: Kept::Preserve,
        }
    }

    /// The same options with this name.
    #[must_use]
    pub fn name(mut self, name: Name) -> Self {
        self.name = Some(name);
        self
    }

    /// The same options with this meaning for writes that may be torn.
    #[must_use]
    pub fn kept(mut self, kept: Kept) -> Self {
        self.kept = kept;
        self
    }
}

/// A machine that was taken in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Adopted {
    /// The machine.
    pub machine: Machine,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Store {
    /// Makes the machine in `folder` one of this store. A folder in the store stays where it is; any
    /// other is copied, proportionally to what was written, and left as it was.
    ///
    /// Whatever the folder holds is hostile until it was checked: the record and its numbers, every
    /// file's kind, length, header, descriptor and links. Nothing it names outside itself is opened,
    /// apart from images of this store, by their digests. CD-ROM images of a folder that this store
    /// does not know are taken out, since they name files of this host.
    ///
    /// A copy gets an id of its own, and all that follows from it; files are copied and linked anew,
    /// never edited in place. What a product had saved of a running machine is dropped. If the
    /// folder was copied while the machine ran, kept writes since the last revision may be torn: that
    /// is refused unless `options` say to drop them.
    ///
    /// # Errors
    /// [`ErrorKind::NeedsAdopt`] if it cannot be what `options` say, [`ErrorKind::Invalid`] if there
    /// is nothing to adopt, [`ErrorKind::NotFound`] naming the images that this store lacks,
    /// [`ErrorKind::Malformed`] naming what is wrong in the folder, [`ErrorKind::Exists`],
    /// [`ErrorKind::Busy`]. The store is then as it was.
    pub fn adopt(&self, folder: &Path, options: &AdoptOptions, ctx: &Ctx) -> Result<Adopted> {
        let _shared = self.lock_shared()?;
        Source::open(self, folder)
            .and_then(|source| self.adopt_source(source, options, ctx))
            .map_err(|error| error.during(format!("{} was not adopted", folder.display())))
    }

    fn adopt_source(
        &self,
        mut source: Source,
        options: &AdoptOptions,
        ctx: &Ctx,
    ) -> Result<Adopted> {
        let name = match (&options.name, source.name()) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name,
            (None, None) => {
                return Err(
                    Error::invalid("the folder's name is none that a machine may have")
                        .next("say --name NAME"),
                );
            }
        };
        let machine = Machine::new(self.clone(), name.clone());
        let in_place = source.inside && machine.folder() == source.folder;
        if source.inside && source.is_in_place(self) {
            return Err(
                Error::invalid("it is where it belongs: there is nothing to adopt")
                    .next("stratavm list"),
            );
        }
        if !in_place && machine.folder().symlink_metadata().is_ok() {
            let message = format!("there is a machine {name} already");
            return Err(Error::new(ErrorKind::Exists, message).next("say --name with another name"));
        }
        self.refuse_missing_images(&source.record)?;
        let mut notes = Vec::new();
        source.take_out_media(&mut notes);
        match options.adoption {
            Adoption::Moved => {
                self.refuse_twins(&source)?;
                if source.inside && source.known {
                    return self.take_in_place(source, machine, notes);
                }
                let torn = settle_run(&mut source, options.kept, &mut notes)?;
                match source.inside {
                    true => self.take_in_place(source, machine, notes),
                    false => self.transplant(source, machine, None, torn, notes, ctx),
                }
            }
            Adoption::NewId => {
                let torn = settle_run(&mut source, options.kept, &mut notes)?;
                let id = Uuid::now_v7();
                self.transplant(source, machine, Some(id), torn, notes, ctx)
            }
        }
    }

    fn refuse_missing_images(&self, record: &Record) -> Result<()> {
        let mut missing: Vec<ImageDigest> = Vec::new();
        for digest in record.images() {
            match self.image(&digest) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(digest),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
        Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "it needs images that are not in this store: {}",
                names.join(", ")
            ),
        )
        .next("add each of them: stratavm image add FILE"))
    }

    /// A machine that was moved is there once.
    fn refuse_twins(&self, source: &Source) -> Result<()> {
        let references = References::read(self)?;
        let folders = references.folders_of(source.record.id).iter();
        let Some(twin) = folders.into_iter().find(|folder| **folder != source.folder) else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::NeedsAdopt,
            "the original is still there, so this is a copy of it",
        )
        .at(twin)
        .next("say --new-id, or remove one of the two folders"))
    }

    /// The folder stays; the record gets its name, and the store knows its id.
    fn take_in_place(
        &self,
        source: Source,
        machine: Machine,
        mut notes: Vec<String>,
    ) -> Result<Adopted> {
        let files = Files::below(&machine, &source.folder);
        let lost = refuse_faults(&files, &source.record)?;
        let mut record = source.record.clone();
        record.name = machine.name().clone();
        record.spec.name = machine.name().clone();
        if record.run.is_none() {
            record.session = None;
        } else {
            notes.push("it ran when it was moved: the next start sees to that".to_owned());
        }
        files.make_bases(&record)?;
        let names = record
            .layers
            .iter()
            .filter(|layer| lost.contains(&layer.disk()));
        let names: Vec<_> = names.map(|layer| layer.name().clone()).collect();
        for name in &names {
            files.make_head(&mut record, name)?;
        }
        files.seal_frozen(&record);
        self.lease(&record)?;
        self.note_id(record.id, &record.name)?;
        let path = source.folder.join("machine.json");
        let bytes = record.to_bytes()?;
        stratavm_disk::write_atomic(&path, &bytes, stratavm_disk::Durability::Synced)?;
        if machine.folder() != source.folder {
            let from = source.folder.clone();
            // Windows does not rename a folder in which files are open.
            drop(source);
            stratavm_disk::fs::rename(&from, &machine.folder())
                .map_err(|error| Error::io("the folder could not be renamed", &from, error))?;
            sync_dir(&self.machines_folder())?;
        }
        Ok(Adopted { machine, notes })
    }

    /// Reserves every image that the record needs.
    fn lease(&self, record: &Record) -> Result<()> {
        record
            .images()
            .iter()
            .try_for_each(|digest| self.image(digest)?.add_lease(record.id))
    }
}

/// Decides what becomes of a run that the folder was copied in; answers the layers whose writes
/// since the last revision are dropped.
fn settle_run(source: &mut Source, kept: Kept, notes: &mut Vec<String>) -> Result<Vec<Name>> {
    let Some(run) = source.record.run.take() else {
        return Ok(Vec::new());
    };
    if run.phase == RunPhase::Suspended {
        notes.push(format!(
            "it was suspended on {}: what was in its memory stays with the original, and it starts as after a power cut",
            run.product
        ));
        return Ok(Vec::new());
    }
    let wrote = |layer: &&super::layer::LayerState| {
        layer.head_writes() == Writes::Keep
            && run
                .heads
                .iter()
                .any(|head| head.generation == layer.head.generation)
    };
    let torn: Vec<Name> = source
        .record
        .layers
        .iter()
        .filter(wrote)
        .map(|l| l.name().clone())
        .collect();
    if torn.is_empty() {
        return Ok(torn);
    }
    let names: Vec<_> = torn.iter().map(Name::as_str).collect();
    if kept == Kept::Preserve {
        return Err(Error::new(
            ErrorKind::Busy,
            format!(
                "the folder was copied while the machine ran, so what the guest wrote last to {} may be torn",
                names.join(", ")
            ),
        )
        .next("stop the original and copy it again, or say --discard-writes to take it as of the last revisions"));
    }
    notes.push(format!(
        "dropped, since it may be torn: what the guest wrote last to {}",
        names.join(", ")
    ));
    Ok(torn)
}

/// Refuses a folder whose files are not what they should be; answers the disks whose heads are
/// missing and can be made anew.
fn refuse_faults(files: &Files<'_>, record: &Record) -> Result<Vec<crate::chain::DiskName>> {
    let (mut first, mut more, mut lost): (Option<Fault>, usize, Vec<_>) = (None, 0, Vec::new());
    files.inspect(record, Trust::Foreign, &mut |fault| {
        if fault.what == What::Missing && matches!(fault.fix, Some(Fix::Head)) {
            lost.push(fault.layer);
        } else if first.is_none() {
            first = Some(fault);
        } else {
            more += 1;
        }
    });
    let Some(fault) = first else {
        return Ok(lost);
    };
    let rest = match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Err(Error::new(
        ErrorKind::Malformed,
        format!("layer {}: {}{rest}", fault.layer, fault.message),
    )
    .at(fault.path)
    .next("copy the machine's folder again, while the machine is off"))
}

//! Whether a machine's folder is where it belongs: folders that were copied, renamed or brought
//! from another store by hand are noticed before anything in them is started or changed.
//!
//! What becomes of them is decided in [`super::adopt`].

use std::path::Path;

use super::folder::Machine;
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::spec::Name;
use crate::store::{read_small, refuse_link};

impl Machine {
    /// The record as it stands in the folder, wherever that came from.
    pub(crate) fn record_anywhere(&self) -> Result<Record> {
        refuse_link(&self.store().machines_folder())?;
        refuse_link(&self.folder())?;
        let path = self.record_path();
        let bytes = read_small(&path, crate::format::MAX_LEN as u64)?;
        Record::parse(&bytes).map_err(|error| error.at(&path))
    }

    /// Refuses a folder that does not belong here under this name.
    pub(super) fn check_place(&self, record: &Record) -> Result<()> {
        self.refuse_links(record)?;
        if record.name != *self.name() {
            return Err(self.misplaced(record, &record.name));
        }
        match self.store().name_of(record.id)? {
            Some(name) if name == *self.name() => Ok(()),
            Some(name) => Err(self.misplaced(record, &name)),
            // No machine of a store that noted ids, or the note was lost in a crash.
            None if self.has_a_lease(record)? => Ok(()),
            None => Err(self.stranger(record)),
        }
    }

    /// No folder on the way to the machine's files is a link: it would lead out of the store.
    fn refuse_links(&self, record: &Record) -> Result<()> {
        let folder = self.folder();
        let layers = folder.join("layers");
        let disks = record
            .all_layers()
            .map(|layer| layers.join(layer.name().as_str()));
        let session = layers.join(crate::chain::SESSION);
        let folders = [folder.join("products"), folder, session, layers.clone()];
        for path in folders.into_iter().chain(disks) {
            if path
                .symlink_metadata()
                .is_ok_and(|found| found.is_symlink())
            {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    "a folder of the machine is a symbolic link, which is not followed",
                )
                .at(path)
                .next("put the folder itself in the place of the link"));
            }
        }
        Ok(())
    }

    /// Nobody here knows a machine of this record's id.
    fn stranger(&self, record: &Record) -> Error {
        match self.record_anywhere() {
            Ok(now) if now.id == record.id => Error::new(
                ErrorKind::NeedsAdopt,
                format!("the folder of machine {} comes from another store", self.name()),
            )
            .at(self.folder())
            .next(format!(
                "stratavm adopt {0} --moved if the original is gone, or stratavm adopt {0} --new-id if it is a copy",
                self.name()
            )),
            // It was deleted after its record was read: its lease and its note go after its folder.
            Ok(_) => Error::new(
                ErrorKind::Busy,
                format!("machine {} is being deleted and created anew", self.name()),
            )
            .next("try again in a moment"),
            Err(error) if error.kind() == ErrorKind::NotFound => self.missing(),
            Err(error) => error,
        }
    }

    /// Notes the machine's id where nobody did: machines of older versions.
    pub(super) fn note_place(&self, record: &Record) {
        let noted = match self.store().name_of(record.id) {
            Ok(None) => self.store().note_id(record.id, self.name()),
            found => found.map(drop),
        };
        if let Err(error) = noted {
            tracing::warn!(machine = %record.name, %error, "the machine's id could not be noted");
        }
    }

    /// Whether any image of this store knows the machine.
    pub(super) fn has_a_lease(&self, record: &Record) -> Result<bool> {
        let folder = |image| self.store().images().folder_of(image);
        let leased = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_file());
        Ok(record
            .images()
            .iter()
            .any(|image| leased(&Image::lease_in(&folder(image), record.id))))
    }

    /// The folder is not the one of the machine that it calls itself, `known`.
    fn misplaced(&self, record: &Record, known: &Name) -> Error {
        let here = self.name();
        let original = Self::new(self.store().clone(), known.clone());
        let is_there = known != here
            && original
                .record_anywhere()
                .is_ok_and(|other| other.id == record.id);
        let error = match is_there {
            true => Error::new(
                ErrorKind::NeedsAdopt,
                format!("the folder {here} is a copy of machine {known} that was made by hand"),
            )
            .next(format!(
                "stratavm adopt {here} --new-id makes it a machine of its own; or remove the folder"
            )),
            false => Error::new(
                ErrorKind::NeedsAdopt,
                format!("the folder of machine {known} is called {here}: it was renamed or copied by hand"),
            )
            .next(format!(
                "stratavm adopt {here} --moved if it was renamed, stratavm adopt {here} --new-id if it is a copy"
            )),
        };
        error.at(self.folder())
    }
}

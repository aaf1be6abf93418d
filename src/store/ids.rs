//! Which machine has which id: `machines/.ids/<id>`, one small file each with the machine's name.
//!
//! A machine's id is drawn once, so a folder that was copied or brought here by hand is told from
//! the machine by what stands here. The files follow from the records and are never truth: where
//! one is missing, the machine's leases on its images speak for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use stratavm_disk::Durability;
use uuid::Uuid;

use super::remove::remove_tree;
use super::{Store, make_private_dir, read_small};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Name;

/// The folder of these files; no machine may have this name.
const FOLDER: &str = ".ids";

/// Bytes of the largest such file: a name and a line end.
const MOST: u64 = crate::spec::NAME_MAX_LEN as u64 + 1;

impl Store {
    /// The name of the machine that has this id here; none if nobody is known to have it.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn name_of(&self, id: Uuid) -> Result<Option<Name>> {
        match read_small(&self.id_path(id), MOST) {
            // A file that a crash of the host has emptied says nothing.
            Ok(bytes) => Ok(parse(&bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Malformed) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that the machine called `name` has this id. Not flushed: it can be lost without harm.
    pub(crate) fn note_id(&self, id: Uuid, name: &Name) -> Result<()> {
        make_private_dir(&self.ids_folder())?;
        let text = format!("{name}\n");
        Ok(stratavm_disk::write_atomic(
            &self.id_path(id),
            text.as_bytes(),
            Durability::Unsynced,
        )?)
    }

    /// Forgets an id; nothing happens if it is not known.
    pub(crate) fn forget_id(&self, id: Uuid) -> Result<()> {
        remove_tree(&self.id_path(id))
    }

    /// All that is known; none for a file that a crash of the host has emptied. What is no such file
    /// is left out.
    pub(crate) fn ids(&self) -> Result<BTreeMap<Uuid, Option<Name>>> {
        let folder = self.ids_folder();
        let failed = |error| Error::io("the machines' ids cannot be read", &folder, error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeMap::new());
            }
            entries => entries.map_err(failed)?,
        };
        let mut ids = BTreeMap::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(id) = id {
                ids.insert(id, self.name_of(id)?);
            }
        }
        Ok(ids)
    }

    pub(crate) fn ids_folder(&self) -> PathBuf {
        self.machines_folder().join(FOLDER)
    }

    pub(crate) fn id_path(&self, id: Uuid) -> PathBuf {
        self.ids_folder().join(id.to_string())
    }
}

fn parse(bytes: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(bytes).ok()?;
    Name::new(text.strip_suffix('\n')?).ok()
}

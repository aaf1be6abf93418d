//! Deleting a machine whose record cannot be used.
//!
//! Deleting any other is in [`super::create`].

use uuid::Uuid;

use super::folder::Machine;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Name;
use crate::store::{Store, remove_tree, sync_dir};

impl Store {
    /// Deletes the machine called `name` whatever its record says: one that is damaged, missing or
    /// from the future, or a copy made by hand, whose original is left alone. Images stay. A machine
    /// whose record can be used is deleted as by [`Machine::delete`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Busy`] while somebody runs it.
    pub fn delete_damaged(&self, name: &Name) -> Result<()> {
        let machine = Machine::new(self.clone(), name.clone());
        let folder = machine.folder();
        let found = folder.symlink_metadata().map_err(|error| {
            Error::io(format!("there is no machine {name}"), &folder, error)
                .next("`stratavm list` shows those there are")
        })?;
        if machine.record().is_ok() {
            return machine.delete();
        }
        let shared = self.lock_shared()?;
        // A link to a folder is no machine: what it leads to is left alone.
        let locks = match found.is_dir() {
            true => Some((machine.lock_patiently()?, machine.run_lock()?)),
            false => None,
        };
        let known = self.id_of(&machine)?;
        let gone = self
            .machines_folder()
            .join(format!(".gone-{}", Uuid::now_v7()));
        // Windows does not rename a folder in which files are open.
        #[cfg(windows)]
        drop(locks);
        stratavm_disk::fs::rename(&folder, &gone)
            .map_err(|error| Error::io("the machine could not be deleted", &folder, error))?;
        sync_dir(&self.machines_folder())?;
        #[cfg(not(windows))]
        drop(locks);
        remove_tree(&gone)?;
        // What is noted of it at images goes with the next prune.
        if let Some(id) = known {
            self.forget_id(id)?;
        }
        drop(shared);
        Ok(())
    }

    /// The id that is the machine's own: not that of the original which its folder is a copy of.
    fn id_of(&self, machine: &Machine) -> Result<Option<Uuid>> {
        match machine.record_anywhere() {
            Ok(record) => {
                let name = self.name_of(record.id)?;
                Ok(name
                    .filter(|name| name == machine.name())
                    .map(|_| record.id))
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
            Err(_) => {
                let ids = self.ids()?;
                let mut own = ids
                    .into_iter()
                    .filter(|(_, name)| name.as_ref() == Some(machine.name()));
                Ok(own.next().map(|(id, _)| id))
            }
        }
    }
}

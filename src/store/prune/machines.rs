//! Files of machines that their records do not name, creations that were cut short, ids of
//! machines that are gone, and layers that were set aside.

use std::path::Path;

use super::{LeftoverKind, PruneMode, Pruning, SetAside};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::{ADOPTING, Machine, Strays};
use crate::spec::Name;
use crate::store::references::{References, folders};
use crate::store::remove::{GONE, remove_tree, take_away};

impl Pruning<'_> {
    /// Layers that were removed while they held kept writes.
    pub(super) fn set_aside(&mut self, what: SetAside) -> Result<()> {
        for name in self.store.machines()? {
            self.ctx.check()?;
            let machine = Machine::new(self.store.clone(), name);
            // A machine that cannot be read is reported when its files are looked through.
            let Ok(record) = machine.record() else {
                continue;
            };
            if record.removed.is_empty() {
                continue;
            }
            let bytes = match machine.set_aside_bytes(&record) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.found.failed.push(error);
                    continue;
                }
            };
            if what == SetAside::Keep {
                let names: Vec<_> = record.removed.iter().map(|l| l.name().as_str()).collect();
                self.spare(
                    &machine.folder(),
                    bytes.iter().map(|(_, bytes)| bytes).sum(),
                    format!(
                        "what a guest wrote to removed layers is kept: {}",
                        names.join(", ")
                    ),
                    "stratavm prune --removed drops it for good",
                );
                continue;
            }
            let needed = record.needed_aside();
            let (stay, bytes): (Vec<_>, Vec<_>) = bytes
                .into_iter()
                .partition(|(layer, _)| needed.contains(layer));
            for (layer, bytes) in stay {
                self.spare(
                    &machine.folder().join("layers").join(layer.as_str()),
                    bytes,
                    format!("a point, or a staged change, goes back to the removed layer {layer}"),
                    format!("stratavm point list {}", machine.name()),
                );
            }
            if bytes.is_empty() {
                continue;
            }
            let dropped = match self.mode {
                PruneMode::DryRun => Ok(()),
                PruneMode::Remove => machine.drop_set_aside(),
            };
            match dropped {
                Ok(()) => self
                    .found
                    .freed
                    .extend(bytes.into_iter().map(|(layer, bytes)| super::Leftover {
                        kind: LeftoverKind::RemovedLayer,
                        path: machine.folder().join("layers").join(layer.as_str()),
                        reason: format!("layer {layer} was removed from the machine"),
                        bytes,
                    })),
                Err(error) => self.found.failed.push(error),
            }
        }
        Ok(())
    }

    /// Revisions that retention lets go by now. Those of a machine that runs, or is
    /// suspended, go with its next start.
    pub(super) fn expired(&mut self) -> Result<()> {
        for name in self.store.machines()? {
            self.ctx.check()?;
            let machine = Machine::new(self.store.clone(), name);
            // A machine that cannot be read is reported when its files are looked through.
            let Ok(record) = machine.record() else {
                continue;
            };
            let found = machine.expired(&record).and_then(|expired| {
                if !expired.is_empty() && self.mode == PruneMode::Remove {
                    machine.drop_expired()?;
                }
                Ok(expired)
            });
            match found {
                Ok(expired) => {
                    self.found
                        .freed
                        .extend(expired.into_iter().map(|expired| super::Leftover {
                            kind: LeftoverKind::ExpiredRevisions,
                            path: machine.folder().join("layers").join(expired.layer.as_str()),
                            reason: format!("retention lets {} revisions go", expired.revisions),
                            bytes: expired.bytes,
                        }))
                }
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Suspended) => {}
                Err(error) => self.found.failed.push(error),
            }
        }
        Ok(())
    }

    /// Looks through every machine's folder.
    pub(super) fn machines(&mut self) -> Result<()> {
        let machines = self.store.machines_folder();
        for folder in folders(&machines)? {
            self.ctx.check()?;
            let name = folder.file_name().and_then(|name| name.to_str());
            // Other names are no machines: copies by hand are left to their makers.
            let Some(name) = name.and_then(|name| Name::new(name).ok()) else {
                continue;
            };
            self.machine(&Machine::new(self.store.clone(), name), &folder)?;
        }
        self.half_removed(&machines)
    }

    fn machine(&mut self, machine: &Machine, folder: &Path) -> Result<()> {
        let strays = match machine.strays() {
            Ok(strays) => strays,
            Err(error) if error.kind() == ErrorKind::Busy => {
                self.spare(folder, 0, "the machine is being changed now", "prune again");
                return Ok(());
            }
            Err(error) => {
                self.found.failed.push(error.during(format!(
                    "the files of machine {} were left alone",
                    machine.name()
                )));
                return Ok(());
            }
        };
        match strays {
            Strays::Unfinished { lock } => self.free(
                LeftoverKind::UnfinishedMachine,
                folder,
                "the machine's creation was cut short",
                |folder| {
                    // Nobody begins one under the store's lock; Windows moves no folder with open
                    // files.
                    drop(lock);
                    take_away(folder, &format!("unfinished-{}", machine.name()))
                },
            ),
            Strays::Files { files, lock } => {
                for stray in files {
                    let (kind, reason) = match stray.temporary {
                        true => (LeftoverKind::TemporaryFile, "its writer was killed"),
                        false => (
                            LeftoverKind::LayerFile,
                            "the machine's record does not name it",
                        ),
                    };
                    self.free(kind, &stray.path, reason, remove_tree)?;
                }
                drop(lock);
                Ok(())
            }
            Strays::Nothing => Ok(()),
        }
    }

    fn half_removed(&mut self, machines: &Path) -> Result<()> {
        let failed = |error| Error::io("the machines cannot be listed", machines, error);
        let mut gone = Vec::new();
        for entry in std::fs::read_dir(machines).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(GONE.as_bytes()) || name.starts_with(ADOPTING.as_bytes()) {
                gone.push(entry.path());
            }
        }
        gone.sort();
        for path in gone {
            let reason = "its removal, or its adoption, was cut short";
            self.free(LeftoverKind::HalfRemoved, &path, reason, remove_tree)?;
        }
        Ok(())
    }

    /// Ids that are nobody's any more.
    pub(super) fn ids(&mut self, references: &References) -> Result<()> {
        for (id, name) in self.store.ids()? {
            if references.folders_of(id).is_empty() && references.may_be_unread(id).is_none() {
                let reason = match name {
                    Some(name) => format!("machine {name} is gone"),
                    None => "its machine is gone".to_owned(),
                };
                let path = self.store.id_path(id);
                self.free(LeftoverKind::Id, &path, reason, remove_tree)?;
            }
        }
        Ok(())
    }
}

//! Machines: their folders, records, chains, notes and leases.

use std::fs;
use std::path::Path;

use super::{Checking, FindingKind, FsckMode, line};
use crate::error::{ErrorKind, Result};
use crate::image::Image;
use crate::machine::inspect::{Fault, What};
use crate::machine::record::Record;
use crate::machine::{ADOPTING, Machine, Strays};
use crate::spec::Name;
use crate::store::FileLock;
use crate::store::references::{References, folders};
use crate::store::remove::GONE;

impl Checking<'_> {
    pub(super) fn machines(&mut self, references: &References) -> Result<()> {
        let machines = self.store.machines_folder();
        for folder in folders(&machines)? {
            self.ctx.check()?;
            let name = folder
                .file_name()
                .and_then(|name| Name::new(name.to_str()?).ok());
            match (name, &self.options.machine) {
                (Some(name), Some(only)) if name != *only => {}
                (Some(name), _) => {
                    self.found.machines += 1;
                    self.machine(&Machine::new(self.store.clone(), name), &folder);
                }
                (None, None) if folder.join("machine.json").symlink_metadata().is_ok() => {
                    self.person(
                        FindingKind::NeedsAdopt,
                        &folder,
                        None,
                        "a machine's folder was copied or renamed by hand, to a name that no machine may have",
                        "stratavm adopt DIR --new-id --name NAME, or --moved; or take it out of the store",
                    );
                }
                _ => {}
            }
        }
        if self.options.machine.is_none() {
            self.half_removed(&machines);
            for (id, name) in self.store.ids()? {
                if references.folders_of(id).is_empty() && references.may_be_unread(id).is_none() {
                    let path = self.store.id_path(id);
                    let gone = match name {
                        Some(name) => format!("machine {name} of this id is gone"),
                        None => "the machine of this id is gone".to_owned(),
                    };
                    self.leftover(&path, None, gone);
                }
            }
        }
        Ok(())
    }

    fn half_removed(&mut self, machines: &Path) {
        for entry in fs::read_dir(machines).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            if is(GONE) || is(ADOPTING) {
                self.leftover(
                    &entry.path(),
                    None,
                    "a removal or an adoption was cut short",
                );
            }
        }
    }

    fn machine(&mut self, machine: &Machine, folder: &Path) {
        let name = machine.name().clone();
        if folder
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink())
        {
            let next = "move the machine's folder itself here";
            let message = "the machine's folder is a link, which is not followed";
            return self.person(FindingKind::NoFile, folder, Some(&name), message, next);
        }
        self.folder_mode(folder, Some(&name));
        let record = match machine.record() {
            Ok(record) => record,
            Err(error) => return self.unusable(machine, folder, &error),
        };
        match machine.strays() {
            Ok(Strays::Files { files, lock }) => {
                for stray in files {
                    let message = "the machine's record does not name it";
                    self.leftover(&stray.path, Some(&name), message);
                }
                self.chains(machine, Some(lock));
            }
            Err(error) if error.kind() == ErrorKind::Busy => {
                let message = "the machine is being changed, so it was not looked through";
                self.person(
                    FindingKind::Busy,
                    folder,
                    Some(&name),
                    message,
                    "check it again",
                );
                return;
            }
            // Where nothing can be written nobody changes it either.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.chains(machine, None),
            // What keeps its files from being told is found in its chains.
            _ => self.chains(machine, None),
        }
        self.notes(machine, &record);
    }

    /// A folder whose record cannot be used.
    fn unusable(&mut self, machine: &Machine, folder: &Path, error: &crate::Error) {
        let name = machine.name();
        match error.kind() {
            ErrorKind::NeedsAdopt => {
                let next = error.next_step().unwrap_or("stratavm adopt").to_owned();
                self.person(
                    FindingKind::NeedsAdopt,
                    folder,
                    Some(name),
                    error.to_string(),
                    next,
                );
            }
            ErrorKind::NotFound => match machine.strays() {
                Ok(Strays::Unfinished { .. }) => {
                    self.leftover(
                        folder,
                        Some(name),
                        "the creation of a machine was cut short",
                    );
                }
                _ => self.person(
                    FindingKind::RecordMissing,
                    folder,
                    Some(name),
                    "the machine's machine.json is missing",
                    format!("bring it back from a copy, or stratavm delete {name} --force"),
                ),
            },
            _ => self.person(
                FindingKind::Record,
                error.path().unwrap_or(&machine.record_path()),
                Some(name),
                line(error),
                format!("bring it back from a copy, or stratavm delete {name} --force"),
            ),
        }
    }

    /// Every file of every chain. `lock` is the machine's.
    fn chains(&mut self, machine: &Machine, lock: Option<FileLock>) {
        let name = machine.name().clone();
        let repairs = self.options.mode == FsckMode::Repair;
        let lock = match (lock, repairs) {
            (None, true) => machine.lock_patiently().map(Some),
            (None, false) => Ok(None),
            (Some(lock), _) => Ok(Some(lock)),
        };
        // Read again under the lock: this is what its files are compared with.
        let record = match machine.record() {
            Ok(record) => record,
            Err(error) => return self.unusable(machine, &machine.folder(), &error),
        };
        let mut faults = Vec::new();
        machine.inspect(&record, &mut |fault| faults.push(fault));
        if faults.is_empty() {
            return;
        }
        let off = match (&lock, repairs) {
            (Ok(_), true) => Some(machine.hold_off(&record)),
            (Err(error), true) => Some(Err(crate::Error::new(error.kind(), error.to_string()))),
            (_, false) => None,
        };
        for fault in faults {
            let kind = kind_of(fault.what);
            let message = format!("layer {}: {}", fault.layer, fault.message);
            match &fault.fix {
                None => self.person(
                    kind,
                    &fault.path,
                    Some(&name),
                    message,
                    next_of(&name, &fault),
                ),
                Some(fix) => {
                    self.derived(kind, &fault.path, Some(&name), message, || match &off {
                        // It is frozen: no run writes to it, and none is disturbed.
                        Some(_) if fault.what == What::Writable && lock.is_ok() => {
                            machine.repair(&record, &fault, fix)
                        }
                        Some(Ok(_)) => machine.repair(&record, &fault, fix),
                        Some(Err(error)) => Err(crate::Error::new(error.kind(), error.to_string())
                            .next(format!("stratavm stop {name}, then stratavm fsck --repair"))),
                        None => Ok(()),
                    });
                }
            }
        }
        drop((off, lock));
    }

    /// What the store knows of the machine outside its folder.
    fn notes(&mut self, machine: &Machine, record: &Record) {
        let name = machine.name().clone();
        if let Ok(None) = self.store.name_of(record.id) {
            let path = self.store.id_path(record.id);
            let message = "the machine's id is not noted: a copy of it could pass for it";
            self.derived(FindingKind::IdMissing, &path, Some(&name), message, || {
                self.store.note_id(record.id, &name)
            });
        }
        for digest in record.images() {
            // One that is not there is found in the chains; one in another root has no notes.
            let folder = self.store.images().folder_of(&digest);
            let lease = Image::lease_in(&folder, record.id);
            let noted = lease.symlink_metadata().is_ok_and(|found| found.is_file());
            if !noted && folder.is_dir() {
                let message = "the machine is not noted as a user of its image";
                self.derived(
                    FindingKind::LeaseMissing,
                    &lease,
                    Some(&name),
                    message,
                    || self.store.image(&digest)?.add_lease(record.id),
                );
            }
        }
    }
}

fn kind_of(what: What) -> FindingKind {
    match what {
        What::ImageMissing => FindingKind::ImageMissing,
        What::Missing => FindingKind::Missing,
        What::NoFile => FindingKind::NoFile,
        What::Damaged => FindingKind::Damaged,
        What::Size => FindingKind::Size,
        What::Links => FindingKind::Links,
        What::Writable => FindingKind::Writable,
        What::Base => FindingKind::Base,
        What::Record => FindingKind::Record,
    }
}

/// What a person can do about a file that no record brings back.
fn next_of(machine: &Name, fault: &Fault) -> String {
    match fault.what {
        What::ImageMissing => "add the image again: stratavm image add FILE".to_owned(),
        What::Record => "bring the machine.json back from a copy".to_owned(),
        _ => format!(
            "bring the file back from a copy, or go to a revision without it: stratavm history {machine} {}",
            fault.layer
        ),
    }
}

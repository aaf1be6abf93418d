//! A folder that is to be adopted, read as if somebody had made it to do harm.
//!
//! Folders, links and files are judged by what they are themselves; the record by the rules for
//! records and by those that a machine which this library made keeps without being asked.

use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

use crate::chain::SESSION;
use crate::error::{Error, ErrorKind, Result};
use crate::format::MAX_LEN;
use crate::machine::Machine;
use crate::machine::record::Record;
use crate::machine::strays::patiently;
use crate::slot;
use crate::spec::Name;
use crate::store::{FileLock, Store, read_small};

/// Most files and folders that a machine's folder may hold.
const MOST_ENTRIES: usize = 100_000;

/// Deepest that folders may lie in it.
const MOST_DEPTH: usize = 16;

/// A folder that may become a machine, with its locks held.
pub(super) struct Source {
    /// Absolute.
    pub(super) folder: PathBuf,
    /// Whether it is one of the store's machine folders.
    pub(super) inside: bool,
    /// Whether the store knows a machine of its id.
    pub(super) known: bool,
    pub(super) record: Record,
    _locks: Vec<FileLock>,
}

impl Source {
    /// Looks at everything that is used later, but for the disks themselves.
    pub(super) fn open(store: &Store, folder: &Path) -> Result<Self> {
        let folder = locate(store, folder)?;
        let inside = is_inside(store, &folder)?;
        check_tree(&folder)?;
        let locks = lock(&folder, inside)?;
        let path = folder.join("machine.json");
        let bytes = read_small(&path, MAX_LEN as u64)?;
        let record = Record::parse(&bytes).map_err(|error| error.at(&path))?;
        check(&record).map_err(|rule| Error::new(ErrorKind::Malformed, rule).at(&path))?;
        let machine = Machine::new(store.clone(), record.name.clone());
        let known = store.name_of(record.id)?.is_some() || machine.has_a_lease(&record)?;
        Ok(Self {
            folder,
            inside,
            known: inside && known,
            record,
            _locks: locks,
        })
    }

    /// The folder's name, if a machine may have it.
    pub(super) fn name(&self) -> Option<Name> {
        Name::new(self.folder.file_name()?.to_str()?).ok()
    }

    /// Whether it is a machine of the store as it stands.
    pub(super) fn is_in_place(&self, store: &Store) -> bool {
        self.name()
            .is_some_and(|name| Machine::new(store.clone(), name).record().is_ok())
    }

    /// CD-ROM images are files of this host, which a stranger may not choose.
    pub(super) fn take_out_media(&mut self, notes: &mut Vec<String>) {
        if self.known {
            return;
        }
        for drive in self.record.spec.hardware.cdrom.drain(..) {
            notes.push(format!(
                "the CD-ROM image {} was taken out of its drive",
                drive.image
            ));
        }
    }
}

/// The folder that is meant: a path, or the name of a machine's folder in the store.
fn locate(store: &Store, folder: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(folder)
        .map_err(|error| Error::io("the folder has no absolute path", folder, error))?;
    let named = store.machines_folder().join(folder);
    let is_name = folder.components().count() == 1;
    let folder = match (absolute.symlink_metadata(), is_name) {
        (Err(_), true) if named.symlink_metadata().is_ok() => named,
        _ => absolute,
    };
    let found = fs::symlink_metadata(&folder)
        .map_err(|error| Error::io("the folder cannot be looked at", &folder, error))?;
    match found.is_dir() {
        true => Ok(folder),
        false => Err(Error::invalid("this is no folder, or a link to one").at(folder)),
    }
}

fn is_inside(store: &Store, folder: &Path) -> Result<bool> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Error::io("the folder cannot be looked at", path, error))
    };
    let (home, machines) = (real(store.home())?, real(&store.machines_folder())?);
    let real = real(folder)?;
    let hidden = folder
        .file_name()
        .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    if real.parent() == Some(machines.as_path()) && !hidden {
        return Ok(true);
    }
    if real.starts_with(&home) || home.starts_with(&real) {
        return Err(Error::invalid("this is a part of the store, no machine's folder").at(folder));
    }
    Ok(false)
}

/// Nobody runs or changes the machine while its folder is read.
fn lock(folder: &Path, inside: bool) -> Result<Vec<FileLock>> {
    let mut locks = Vec::new();
    for name in ["lock", "run.lock"] {
        let path = folder.join(name);
        // In a folder that is not ours no file is made.
        if inside || path.symlink_metadata().is_ok() {
            let taken = match name {
                "lock" => patiently(&path),
                _ => FileLock::try_exclusive(&path),
            };
            locks.push(taken.map_err(|error| {
                match error.kind() {
                    ErrorKind::Busy => Error::new(
                        ErrorKind::Busy,
                        "the machine in the folder runs, or is being changed",
                    )
                    .at(folder)
                    .next("stop it first"),
                    _ => error,
                }
            })?);
        }
    }
    Ok(locks)
}

/// Refuses links, pipes, devices and endless trees. What lies in `run` is removed, not used.
fn check_tree(folder: &Path) -> Result<()> {
    let mut left = vec![(folder.to_owned(), 0)];
    let mut entries = 0;
    while let Some((at, depth)) = left.pop() {
        let failed = |error| Error::io("the folder cannot be read", &at, error);
        for entry in fs::read_dir(&at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            let refuse = |what: &str| {
                let error = Error::new(ErrorKind::Malformed, what.to_owned());
                Err(error.at(&path).next("take it out of the folder"))
            };
            entries += 1;
            if entries > MOST_ENTRIES {
                return refuse("the folder holds more files than any machine");
            }
            if kind.is_dir() {
                if depth == MOST_DEPTH {
                    return refuse("the folder is deeper than any machine's");
                }
                left.push((path, depth + 1));
            } else if !(kind.is_file() || is_socket(kind) && at == folder.join("run")) {
                return refuse(match kind.is_symlink() {
                    true => "the folder holds a symbolic link",
                    false => "the folder holds a pipe, socket or device",
                });
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_socket(kind: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&kind)
}

#[cfg(not(unix))]
fn is_socket(_: FileType) -> bool {
    false
}

/// Rules that every record which this library wrote keeps, beside those for reading any.
fn check(record: &Record) -> Result<(), String> {
    if record.id.is_nil() || record.id.is_max() {
        return Err("the machine's id is none".to_owned());
    }
    if record
        .all_layers()
        .any(|layer| layer.name().as_str() == SESSION)
    {
        return Err(format!("a layer is called {SESSION}"));
    }
    let ports = record.hardware.ports();
    let assigned = slot::assign(&record.full_spec(), &ports).map_err(|error| error.to_string())?;
    let listed = record.hardware.ports.len();
    if assigned != ports || listed != ports.len() || ports.values().any(|port| port.slot > 255) {
        return Err("the ports of its disks are not those that it was given".to_owned());
    }
    Ok(())
}

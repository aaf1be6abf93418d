//! All machines of one null product and what their guests wrote: in memory, or in a folder of the
//! product's own, where they outlive the process that started them.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use stratavm::hypervisor::Ended;
use stratavm::{Error, ErrorKind, Result};

use crate::disks::Written;

/// Every run and every written sector.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) runs: Vec<Run>,
    pub(crate) written: Written,
    next: u64,
}

/// One run of a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) number: u64,
    /// The machine's id.
    pub(crate) address: String,
    pub(crate) heads: Vec<PathBuf>,
    /// Where its state would be saved.
    pub(crate) saved: PathBuf,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Running(PowerButton),
    Paused(PowerButton),
    /// Its state is in the file; what the guest was doing stands there.
    Saved,
    Ended(End),
}

/// [`Ended`], as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    PowerOff,
    Reboot,
    Crash(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PowerButton {
    Heard,
    Ignored,
}

impl Phase {
    /// Whether the machine is in memory, and so has its disks.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Paused(_))
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        match self {
            Self::Running(_) | Self::Paused(_) => None,
            Self::Saved => Some(Ended::Suspended),
            Self::Ended(End::PowerOff) => Some(Ended::PowerOff),
            Self::Ended(End::Reboot) => Some(Ended::Reboot),
            Self::Ended(End::Crash(what)) => Some(Ended::Crash(what.clone())),
        }
    }
}

impl Table {
    /// The last run of a machine.
    pub(crate) fn last(&mut self, address: &str) -> Option<&mut Run> {
        self.runs
            .iter_mut()
            .rev()
            .find(|run| run.address == address)
    }

    /// Adds a run and answers its number. Of the machine's earlier runs the last one stays: who
    /// waits for it still gets an answer.
    pub(crate) fn push(&mut self, mut run: Run) -> u64 {
        let before = self.last(&run.address).map(|last| last.number);
        self.runs
            .retain(|old| old.address != run.address || Some(old.number) == before);
        self.next += 1;
        run.number = self.next;
        self.runs.push(run);
        self.next
    }

    pub(crate) fn run(&self, number: u64) -> Option<&Run> {
        self.runs.iter().find(|run| run.number == number)
    }
}

/// Where a table is.
#[derive(Debug)]
pub(crate) enum Keeper {
    Memory(Mutex<Table>),
    Folder(PathBuf),
    /// There is no such product.
    Nowhere,
}

/// The table's file, below the product's folder.
const TABLE: &str = "machines.json";

impl Keeper {
    /// Does `work` on the table, alone. In a folder the table is replaced as a whole if that
    /// succeeds; otherwise it stays as it was.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Table) -> Result<T>) -> Result<T> {
        let folder = match self {
            Self::Memory(table) => return work(&mut lock(table)),
            Self::Folder(folder) => folder,
            Self::Nowhere => {
                let what = "the null product is not installed";
                return Err(Error::new(ErrorKind::Unavailable, what));
            }
        };
        let failed = |error| Error::io("the null product's folder cannot be used", folder, error);
        if !folder.is_dir() {
            let what = "the null product is not installed: its folder is gone";
            return Err(Error::new(ErrorKind::Unavailable, what).at(folder));
        }
        let held = open(&folder.join("lock")).map_err(failed)?;
        held.lock().map_err(failed)?;
        let path = folder.join(TABLE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == IoErrorKind::NotFound => None,
            read => Some(read.map_err(failed)?),
        };
        let before = bytes.unwrap_or_default();
        let mut table = match before.as_slice() {
            [] => Table::default(),
            bytes => serde_json::from_slice(bytes).map_err(|error| {
                let what = "the null product's table is damaged";
                Error::new(ErrorKind::Malformed, what)
                    .at(&path)
                    .caused_by(error)
            })?,
        };
        let done = work(&mut table)?;
        let after = serde_json::to_vec(&table).unwrap_or_default();
        if after != before {
            let new = folder.join("machines.new");
            fs::write(&new, after).map_err(failed)?;
            fs::rename(&new, &path).map_err(failed)?;
        }
        Ok(done)
    }

    /// Whether the product was told to give no answers.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Memory(_) | Self::Nowhere => false,
            Self::Folder(folder) => folder.join("silent").exists(),
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).open(path)
}

/// What is behind a lock stays whole if a thread dies with it: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

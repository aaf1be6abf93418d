//! A machine's folder: its handle, its record on disk, and its two locks.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use stratavm_disk::Durability;

use super::ended::EndRecord;
use super::files::Files;
use super::layer::LayerState;
use super::record::Record;
use super::recover::forget_discarded;
use crate::error::{Error, ErrorKind, Result};
use crate::hypervisor::Product;
use crate::resolved::Paths;
use crate::spec::Name;
use crate::store::{FileLock, Store, allocated, refuse_link, refuse_links_below};

/// A machine of a store, by name. Cheap to clone; holds no lock and no state of its own.
#[derive(Debug, Clone)]
pub struct Machine {
    store: Store,
    name: Name,
}

impl Machine {
    pub(crate) fn new(store: Store, name: Name) -> Self {
        Self { store, name }
    }

    /// The machine's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The store it is in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The machine's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.store.machines_folder().join(self.name.as_str())
    }

    /// Where the files of a run on `product` go.
    #[must_use]
    pub fn paths(&self, product: &Product) -> Paths {
        let folder = self.folder();
        let config = folder.join("products").join(product.as_str());
        Paths::new(folder.join("layers"), config, folder.join("console.log"))
    }

    /// What is known of the machine now.
    ///
    /// # Errors
    /// [`ErrorKind::FromTheFuture`] or [`ErrorKind::Malformed`], naming the file;
    /// [`ErrorKind::NeedsAdopt`] if the folder was copied, renamed or brought here by hand.
    pub fn record(&self) -> Result<Record> {
        let record = self.record_anywhere().map_err(|error| match error.kind() {
            ErrorKind::NotFound if !self.folder().is_dir() => self.missing(),
            _ => error,
        })?;
        self.check_place(&record)?;
        Ok(record)
    }

    /// Whether somebody runs the machine now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn is_running(&self) -> Result<bool> {
        // Trying the long lock takes it for a moment: nobody who is about to run the machine may
        // see that, so everybody who tries it holds the short one.
        let _lock = self.lock()?;
        match self.run_lock() {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Busy => Ok(true),
            // Nothing can be written, and nobody ever took the lock.
            Err(error)
                if error.kind() == ErrorKind::PermissionDenied
                    && !self.folder().join("run.lock").exists() =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The end of what the guest wrote to its first serial port, at most `most` bytes. Bytes that
    /// are no UTF-8 are replaced; control characters are not escaped.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the machine has no console or never ran.
    pub fn console_tail(&self, product: &Product, most: u64) -> Result<Console> {
        let path = self.paths(product).console;
        let failed = |error| {
            Error::io("there is no console", &path, error)
                .next("start the machine with `console = \"log\"` in its spec")
        };
        let file = stratavm_disk::fs::File::open(&path).map_err(failed)?;
        let mut file = file.into_std();
        let len = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(most)))
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Console {
            path,
            len,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// How many bytes the deltas of a layer take on the volume, its image apart.
    ///
    /// # Errors
    /// What the file system says.
    pub fn disk_usage(&self, layer: &LayerState) -> Result<u64> {
        let folder = self.folder().join("layers").join(layer.name().as_str());
        let mut used = 0;
        let failed = |error| Error::io("the layer's folder cannot be listed", &folder, error);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            used += allocated(&entry.and_then(|entry| entry.metadata()).map_err(failed)?);
        }
        Ok(used)
    }

    /// Where a supervisor that runs in the background writes what it has to say. In no run's own
    /// folder, which goes with the run.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.folder().join("supervisor.log")
    }

    pub(crate) fn record_path(&self) -> PathBuf {
        self.folder().join("machine.json")
    }

    /// Makes `record` the machine's new truth: one rename.
    pub(super) fn save(&self, record: &Record) -> Result<()> {
        let bytes = record.to_bytes()?;
        Ok(stratavm_disk::write_atomic(
            &self.record_path(),
            &bytes,
            Durability::Synced,
        )?)
    }

    /// The error of whoever names a machine that is not there.
    pub(super) fn missing(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            format!("there is no machine {}", self.name),
        )
        .next("`stratavm list` shows those there are")
    }

    /// The short lock, held while the record is changed.
    pub(super) fn lock(&self) -> Result<FileLock> {
        let folder = self.folder();
        refuse_link(&self.store.machines_folder())?;
        refuse_link(&folder)?;
        if !folder.is_dir() {
            return Err(self.missing());
        }
        let lock = FileLock::exclusive(&folder.join("lock"))?;
        refuse_links_below(&folder)?;
        Ok(lock)
    }

    /// The long lock, held by the supervisor from start to end. To be tried under the short lock.
    pub(super) fn run_lock(&self) -> Result<FileLock> {
        FileLock::try_exclusive(&self.folder().join("run.lock")).map_err(|error| {
            match error.kind() {
                ErrorKind::Busy => self.is_busy(),
                _ => error,
            }
        })
    }

    fn is_busy(&self) -> Error {
        Error::new(ErrorKind::Busy, format!("machine {} is running", self.name))
            .next(format!("stratavm stop {}", self.name))
    }

    /// Locks the machine for a change while it is off. A run whose supervisor is gone is over if
    /// the kernel proves it; where only the product knows, the change is refused.
    pub(super) fn lock_off(&self) -> Result<OffLock> {
        match self.lock_any()? {
            Locked::Off(off) => Ok(off),
            Locked::Running(_) => Err(self.is_busy()),
        }
    }

    /// Locks the machine for a change, whether it runs or not: one that runs is changed by its next
    /// start.
    pub(super) fn lock_any(&self) -> Result<Locked> {
        let lock = self.lock()?;
        let run = match self.run_lock() {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::Busy => {
                let record = self.record()?;
                return Ok(Locked::Running(RunningLock {
                    record,
                    _lock: lock,
                }));
            }
            Err(error) => return Err(error),
        };
        let mut record = self.record()?;
        self.note_place(&record);
        if let Some(over) = record.run.take() {
            self.prove_over(&over)?;
            forget_discarded(&mut record);
            record.ended = Some(EndRecord::lost(&over));
            // The change itself may turn out to be none. On a full volume its own record, or
            // deleting the machine, still ends the run.
            if let Err(error) = self.save(&record) {
                tracing::warn!(machine = %self.name, %error, "a run that is over stays recorded");
            }
        }
        Ok(Locked::Off(OffLock {
            record,
            _lock: lock,
            _run: run,
        }))
    }

    /// Removes what a change to `tried` that failed has left behind. The record on disk says what
    /// that is; where it is the new one already, only making its name durable has failed. A crash of
    /// the host may bring the old one back, so that no file of either may go: the next change, or
    /// pruning, removes those of the old one.
    fn sweep(&self, tried: &Record) {
        match self.record() {
            Ok(record) if record == *tried => {
                tracing::warn!(machine = %self.name, "it is not certain that the change outlives a crash");
            }
            Ok(record) => Files::new(self).collect(&record),
            Err(error) => tracing::warn!(%error, "a failed change left files behind"),
        }
    }

    /// Ends a change whose files are `made`: `record` becomes the truth, and what it no longer
    /// names goes away; or else what was made does.
    pub(super) fn conclude<T>(
        &self,
        files: &Files<'_>,
        record: &Record,
        made: Result<T>,
    ) -> Result<T> {
        let saved = made.and_then(|made| self.save(record).map(|()| made));
        match &saved {
            Ok(_) => {
                files.seal_frozen(record);
                files.collect(record);
            }
            Err(_) => self.sweep(record),
        }
        saved
    }

    /// Where a run keeps sockets and logs.
    pub(super) fn runtime_folder(&self) -> PathBuf {
        self.folder().join("run")
    }
}

/// What a guest wrote to its first serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Console {
    /// The file.
    pub path: PathBuf,
    /// Its whole length in bytes.
    pub len: u64,
    /// Its end.
    pub text: String,
}

/// A machine that is off and stays so while this is held, with its record.
pub(super) struct OffLock {
    pub(super) record: Record,
    // Dropped in this order: who gets the short lock must not find the long one taken by us.
    _run: FileLock,
    _lock: FileLock,
}

/// A machine that somebody runs, whose record nobody else changes while this is held.
pub(super) struct RunningLock {
    pub(super) record: Record,
    _lock: FileLock,
}

/// A machine that is locked for a change.
pub(super) enum Locked {
    Off(OffLock),
    Running(RunningLock),
}

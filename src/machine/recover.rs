//! What has become of a run whose supervisor is gone: what the kernel proves, or else what the
//! product says when it is asked.
//!
//! Going on with what is found is in `super::run`.

use std::time::{Duration, Instant};

use stratavm_disk::Ctx;

use super::ended::EndRecord;
use super::folder::Machine;
use super::layer::Use;
use super::record::{Record, RunPhase, RunRecord};
use super::run::RunEnd;
use crate::capability::Lifetime;
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::hypervisor::{Endpoint, Hypervisor, State};
use crate::spec::Writes;
use crate::store::{FileLock, remove_dir};

/// How long a product may take to say what a machine is doing, unless the caller says so.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a product's process may outlive its supervisor before a machine counts as running.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// What has become of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// It is off. The record of a run that was over is cleared.
    Off,
    /// A supervisor watches over it.
    Supervised,
    /// It runs, and nobody watches over it: the next start takes it over.
    Unattended(Endpoint),
    /// Its state is saved on disk.
    Suspended,
}

/// Who saw the end of a run that is cleared.
pub(super) enum Seen<'a> {
    /// Its supervisor, from the product.
    Supervised(&'a Result<RunEnd>),
    /// Nobody: the host may have crashed meanwhile.
    Lost,
    /// Whoever dropped its saved state.
    Dropped,
}

impl Machine {
    /// Finds out what has become of the machine. A run that is over, by the kernel's word or the
    /// product's, is cleared; otherwise everything stays as it is.
    ///
    /// # Errors
    /// Where only the product can know and it is gone, does not answer or does not say: its error,
    /// with what that means for the machine. [`ErrorKind::Busy`] if it ran on another product.
    pub async fn recover(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<Recovered> {
        let held = {
            // Nobody who is about to run the machine may see that the long lock is tried: what
            // takes no time is done under the short one.
            let _lock = self.lock()?;
            let held = match self.run_lock() {
                Ok(held) => held,
                Err(error) if error.kind() == ErrorKind::Busy => return Ok(Recovered::Supervised),
                Err(error) => return Err(error),
            };
            let mut record = self.record()?;
            match &record.run {
                None => return Ok(Recovered::Off),
                Some(run) if is_proved_by_the_kernel(run) => {
                    self.prove_over(run)?;
                    self.clear(&mut record, Seen::Lost)?;
                    return Ok(Recovered::Off);
                }
                Some(_) => held,
            }
        };
        let found = self.look(backend, ctx).await;
        drop(held);
        found
    }

    /// The long lock of a machine that nobody supervises.
    pub(super) fn take_run_lock(&self) -> Result<FileLock> {
        let _lock = self.lock()?;
        self.run_lock()
    }

    /// As [`recover`](Self::recover), for a caller that holds the run lock.
    pub(super) async fn look(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<Recovered> {
        let Some(run) = self.record()?.run else {
            return Ok(Recovered::Off);
        };
        if is_proved_by_the_kernel(&run) {
            self.prove_over(&run)?;
            self.clear_run(Seen::Lost)?;
            return Ok(Recovered::Off);
        }
        if run.product != *backend.product() {
            return Err(self.elsewhere(&run));
        }
        let endpoint = match &run.endpoint {
            Some(endpoint) => Some(endpoint.clone()),
            None => backend.endpoint(&self.resolve(backend.product())?),
        };
        let endpoint = endpoint.ok_or_else(|| {
            let error = Error::new(ErrorKind::Product, "it was not recorded where it runs");
            self.uncertain(&run, error)
        })?;
        let asked = match ctx.deadline() {
            Some(_) => ctx.clone(),
            None => ctx.clone().with_deadline(Instant::now() + ANSWER),
        };
        let state = backend.state(&endpoint, &asked).await;
        match state.map_err(|error| self.uncertain(&run, error))? {
            State::Off => {
                self.clear_run(Seen::Lost)?;
                Ok(Recovered::Off)
            }
            State::Suspended => {
                self.note_suspended(&run, Some(endpoint))?;
                Ok(Recovered::Suspended)
            }
            State::Unknown => {
                let error = Error::new(ErrorKind::Product, "the product does not say");
                Err(self.uncertain(&run, error))
            }
            _ => {
                self.note_run(|run| {
                    run.phase = RunPhase::Running;
                    run.endpoint = Some(endpoint.clone());
                })?;
                Ok(Recovered::Unattended(endpoint))
            }
        }
    }

    /// Fails unless it is certain, without asking the product, that `run` is over. The caller holds
    /// the run lock.
    pub(super) fn prove_over(&self, run: &RunRecord) -> Result<()> {
        let name = self.name();
        if run.phase == RunPhase::Suspended {
            return Err(self.suspended());
        }
        if run.lifetime == Lifetime::Independent {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "machine {name} may still run: its supervisor is gone, its product may not be"
                ),
            )
            .of(&run.product)
            .next(format!("stratavm status {name}")));
        }
        // On Unix the product's process holds the run lock too, so it is gone. Elsewhere its
        // supervisor's end is seen a moment before its own, and until then it may still write.
        let process = run.endpoint.as_ref().and_then(|endpoint| endpoint.process);
        let begun = Instant::now();
        while process.is_some_and(|process| host::is_alive(process) == Some(true)) {
            if begun.elapsed() > LAST_BREATH {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("machine {name} has no supervisor, but its process does not end"),
                )
                .of(&run.product)
                .next("end that process, or wait until it has ended"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The refusal of whatever a saved state stands in the way of.
    pub(super) fn suspended(&self) -> Error {
        let name = self.name();
        Error::new(
            ErrorKind::Suspended,
            format!("machine {name} is suspended: its disks may not change under its saved state"),
        )
        .next(format!(
            "stratavm start {name}, or drop the saved state: stratavm stop {name} --discard-state"
        ))
    }

    /// Clears the record of a run that is over. Its heads stay: they hold what the guest wrote.
    pub(super) fn clear_run(&self, seen: Seen<'_>) -> Result<()> {
        let _lock = self.lock()?;
        self.clear(&mut self.record()?, seen)
    }

    /// As [`clear_run`](Self::clear_run), for a caller that holds the short lock.
    fn clear(&self, record: &mut Record, seen: Seen<'_>) -> Result<()> {
        let Some(run) = record.run.take() else {
            return Ok(());
        };
        tracing::info!(machine = %self.name(), product = %run.product, "the run is over: its record is cleared");
        record.ended = Some(match seen {
            Seen::Supervised(ran) => EndRecord::seen(&run, ran),
            Seen::Lost => EndRecord::lost(&run),
            Seen::Dropped => EndRecord::state_dropped(&run),
        });
        if !matches!(seen, Seen::Supervised(_)) {
            forget_discarded(record);
        }
        self.save(record)?;
        remove_dir(&self.runtime_folder())
    }

    /// Changes the record of the run that is under way; nothing happens where there is none.
    pub(super) fn note_run(&self, change: impl FnOnce(&mut RunRecord)) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let Some(run) = &mut record.run else {
            return Ok(());
        };
        let before = run.clone();
        change(run);
        if *run == before {
            return Ok(());
        }
        self.save(&record)
    }

    fn elsewhere(&self, run: &RunRecord) -> Error {
        if run.phase == RunPhase::Suspended {
            return self.suspended().of(&run.product);
        }
        let (name, product) = (self.name(), &run.product);
        Error::new(
            ErrorKind::Busy,
            format!("machine {name} was started on {product} and may still run there"),
        )
        .next(format!("stratavm start {name} --product {product}"))
    }

    /// The product was asked, to no avail.
    fn uncertain(&self, run: &RunRecord, error: Error) -> Error {
        let (name, product) = (self.name(), &run.product);
        let what = format!(
            "it is not known whether machine {name} still runs on {product}; nothing was changed"
        );
        Error::new(error.kind(), what)
            .caused_by(error)
            .next(format!(
                "get {product} to answer again, then stratavm status {name}"
            ))
    }
}

/// Whether a run is over as soon as its lock is free.
fn is_proved_by_the_kernel(run: &RunRecord) -> bool {
    run.lifetime == Lifetime::Supervised && run.phase != RunPhase::Suspended
}

/// After a run whose end nobody saw, heads that are never synced may be torn: they are not to be
/// frozen. Every start makes them anew, one that failed included.
pub(super) fn forget_discarded(record: &mut Record) {
    for layer in &mut record.layers {
        if layer.head_writes() == Writes::Discard {
            layer.head.usage = Use::Untouched;
        }
    }
}

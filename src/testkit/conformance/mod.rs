//! The conformance suite: what every implementation of [`Hypervisor`] must do, tried on any of them.
//!
//! Which trials a backend gets follows from its [`Capabilities`]: one that only translates gets
//! those of the plan, one that drives a product starts real machines too, with the boot-sector
//! guest of [`super::guest`]. A `tests/conformance.rs` of its own (with `harness = false`) is:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//!
//! use stratavm::Hypervisor;
//! use stratavm::testkit::conformance::{self, Disks, Options, Supervisor};
//! use stratavm_null::Null;
//!
//! fn main() -> ExitCode {
//!     let null = Null::new();
//!     let make = || Arc::new(null.clone()) as Arc<dyn Hypervisor>;
//!     // Trials run this program once more and kill it while it supervises a machine.
//!     if let Some(code) = conformance::supervise(&make) {
//!         return code;
//!     }
//!     let mut options = Options::default()
//!         .disks(Disks::InProcess)
//!         .absent(Arc::new(Null::new().uninstalled()));
//!     options.supervisor = Supervisor::this_program().ok();
//!     conformance::run(conformance::trials(&make, &options))
//! }
//! ```
//!
//! A trial that cannot be done, because the product is not installed or [`Options`] lack what it
//! needs, is reported as ignored with its reason; with `STRATAVM_STRICT=1` in the environment it fails.

mod absent;
mod apply;
mod bench;
mod busy;
mod gaps;
mod hostile;
mod interruption;
mod keys;
mod killed;
mod layers;
mod lifecycle;
mod refusals;
mod states;
mod supervisor;
mod translate;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

pub use bench::Miss;
use bench::{Bench, Outcome};
pub use supervisor::{Supervisor, supervise};

use crate::Hypervisor;
use crate::capability::Capabilities;

/// How the suite is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long one step of a machine (its start, its end) is waited for before that is a failure.
    /// 120 s unless set: a guest may be interpreted.
    pub limit: Duration,
    /// How long a machine that should do nothing is watched doing nothing. 0.3 s unless set.
    pub watch: Duration,
    /// Whether the product tells a guest's panic from standing still.
    pub panics: Panics,
    /// Where what guests write is.
    pub disks: Disks,
    /// What supervises a machine to be killed at it; without one the trials of that are skipped.
    pub supervisor: Option<Supervisor>,
    /// The backend where its product is not there; without one the trials of that are skipped.
    pub absent: Option<Arc<dyn Hypervisor>>,
}

/// Whether a product sees that a guest has panicked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Panics {
    /// It has a device for it, so the run ends as a crash.
    Seen,
    /// A guest that panicked stands still.
    #[default]
    Unseen,
}

/// Where what a guest writes to its disks is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disks {
    /// In the files of its heads, or elsewhere for good: it is there whoever is killed.
    #[default]
    Durable,
    /// In the memory of the process that started it, and lost with that: a product for tests.
    InProcess,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(120),
            watch: Duration::from_millis(300),
            panics: Panics::default(),
            disks: Disks::default(),
            supervisor: None,
            absent: None,
        }
    }
}

impl Options {
    /// Waits no longer than `limit` for a step.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Watches idle machines for `watch`.
    #[must_use]
    pub fn watch(mut self, watch: Duration) -> Self {
        self.watch = watch;
        self
    }

    /// Says whether panics are seen.
    #[must_use]
    pub fn panics(mut self, panics: Panics) -> Self {
        self.panics = panics;
        self
    }

    /// Says where what guests write is.
    #[must_use]
    pub fn disks(mut self, disks: Disks) -> Self {
        self.disks = disks;
        self
    }

    /// Has machines supervised by this program where their supervisor is to be killed.
    #[must_use]
    pub fn supervisor(mut self, supervisor: Supervisor) -> Self {
        self.supervisor = Some(supervisor);
        self
    }

    /// Takes this for the backend on a host where the product is not there (any more): what it is
    /// asked about machines it cannot know.
    #[must_use]
    pub fn absent(mut self, backend: Arc<dyn Hypervisor>) -> Self {
        self.absent = Some(backend);
        self
    }
}

/// One trial of one backend.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    trial: fn(&Bench) -> Outcome,
    bench: Bench,
}

impl Case {
    /// What is tried, in words joined by `-`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tries it.
    ///
    /// # Errors
    /// What was seen instead, or why it could not be tried.
    pub fn run(&self) -> Result<(), Miss> {
        (self.trial)(&self.bench)
    }
}

/// A row of a module's table: name, which backends it is for, and the trial.
struct Entry {
    name: &'static str,
    applies: fn(&Capabilities, &Options) -> bool,
    trial: fn(&Bench) -> Outcome,
}

impl Entry {
    const fn new(
        name: &'static str,
        applies: fn(&Capabilities, &Options) -> bool,
        trial: fn(&Bench) -> Outcome,
    ) -> Self {
        Self {
            name,
            applies,
            trial,
        }
    }
}

/// The trials that apply to what `backend` makes, in order. `backend` is called twice for each:
/// the second value stands for another process of the same user, so the two must see the same
/// machines.
pub fn cases(backend: &dyn Fn() -> Arc<dyn Hypervisor>, options: &Options) -> Vec<Case> {
    let one = backend();
    [
        translate::TRIALS,
        refusals::TRIALS,
        keys::TRIALS,
        gaps::TRIALS,
        hostile::TRIALS,
        apply::TRIALS,
        lifecycle::TRIALS,
        busy::TRIALS,
        interruption::TRIALS,
        layers::TRIALS,
        states::TRIALS,
        killed::TRIALS,
        absent::TRIALS,
    ]
    .into_iter()
    .flatten()
    .filter(|entry| (entry.applies)(one.capabilities(), options))
    .map(|entry| Case {
        name: entry.name,
        trial: entry.trial,
        bench: Bench::new(backend(), backend(), options.clone()),
    })
    .collect()
}

/// The [`cases`] as trials named `product::trial`.
pub fn trials(backend: &dyn Fn() -> Arc<dyn Hypervisor>, options: &Options) -> Vec<Trial> {
    let product = backend().product().clone();
    cases(backend, options)
        .into_iter()
        .map(|case| {
            Trial::ignorable_test(format!("{product}::{}", case.name), move || {
                match case.run() {
                    Ok(()) => Ok(Completion::Completed),
                    Err(Miss::Skipped(reason)) if !is_strict() => {
                        Ok(Completion::ignored_with(reason))
                    }
                    Err(miss) => Err(Failed::from(miss.to_string())),
                }
            })
        })
        .collect()
}

/// Runs `trials` as the program's arguments say, and says how they went: a `main`.
#[must_use]
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn is_strict() -> bool {
    std::env::var_os("STRATAVM_STRICT").is_some_and(|value| value == "1")
}

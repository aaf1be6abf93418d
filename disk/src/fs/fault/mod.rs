//! Fault injection for tests: changes below a folder are counted, one of them can fail, kill its process, or be the last
//! thing that happens before the power is cut.
//!
//! What a disk may hold after a power cut is in `journal`; how the folder is brought into that state in `crash`.
//! Faults hold for a folder, not for a thread: operations may use as many threads as they like, and tests with folders
//! of their own run side by side. While a folder is watched nothing below it is really flushed.
//!
//! A folder can also be made to behave as a lesser volume does: see `fat`.

mod content;
mod crash;
mod fat;
mod journal;
mod registry;

pub use crash::Lost;
pub use fat::{FatRules, FatVolume, Modes};
pub(super) use fat::{allocated_in_full, found_as, is_without_holes, may_share_blocks};

use super::change::Change;
use super::sys;
use journal::Journal;
use registry::Registry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is to happen at one of the points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: points are only counted.
    None,
    /// The change at point `at`, counted from 0, fails. Of a write that fails one half is done, up to a word of 8 bytes
    /// of the file: no system tears those.
    Error {
        /// Which point.
        at: usize,
        /// How it fails.
        failure: Failure,
        /// Whether those after it fail, too.
        then: Then,
    },
    /// The change at point `at` and all after it fail and change nothing, until [`Faults::crash`] says what is left.
    PowerCut {
        /// Which point.
        at: usize,
    },
    /// The process comes to the change at point `at` and is gone before it makes it, as by signal 9: nothing that it
    /// holds is let go, flushed or tidied up but by the operating system.
    Kill {
        /// Which point.
        at: usize,
    },
}

/// How a change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// `ENOSPC`: the volume is full.
    NoSpace,
    /// `EDQUOT`: the user's quota is used up.
    Quota,
    /// `EROFS`: the volume was made read-only.
    ReadOnly,
    /// `EIO`: the device failed.
    Io,
}

impl Failure {
    /// Every one.
    pub const ALL: [Failure; 4] = [
        Failure::NoSpace,
        Failure::Quota,
        Failure::ReadOnly,
        Failure::Io,
    ];

    fn error(self) -> io::Error {
        let injected = "injected by a test";
        match self {
            Failure::NoSpace => io::Error::new(io::ErrorKind::StorageFull, injected),
            Failure::Quota => io::Error::new(io::ErrorKind::QuotaExceeded, injected),
            Failure::ReadOnly => io::Error::new(io::ErrorKind::ReadOnlyFilesystem, injected),
            Failure::Io => io::Error::other("an I/O error, injected by a test"),
        }
    }
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Then {
    /// Every other change succeeds.
    Recovers,
    /// No change succeeds any more.
    StaysBroken,
}

/// Watches a folder for as long as it lives.
#[derive(Debug)]
pub struct Faults(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    root: PathBuf,
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    points: Vec<String>,
    journal: Option<Journal>,
}

static WATCHES: Registry<Watch> = Registry::new();

impl Faults {
    /// Watches every change below `root`, an absolute path as callers of the layer write it.
    ///
    /// # Errors
    /// What the operating system reports when the folder is looked through, which is done for a power cut only.
    pub fn below(root: &Path, fault: Fault) -> io::Result<Faults> {
        let journal = match fault {
            Fault::PowerCut { .. } => Some(Journal::of(root)?),
            _ => None,
        };
        let watch = Arc::new(Watch {
            root: root.to_owned(),
            fault,
            state: Mutex::new(State {
                points: Vec::new(),
                journal,
            }),
        });
        WATCHES.add(&watch);
        Ok(Faults(watch))
    }

    /// The points so far: what was to be changed, and where below the folder.
    #[must_use]
    pub fn points(&self) -> Vec<String> {
        self.0.lock().points.clone()
    }

    /// Whether the point of the fault was reached.
    #[must_use]
    pub fn struck(&self) -> bool {
        match self.0.fault {
            Fault::None => false,
            Fault::Error { at, .. } | Fault::PowerCut { at } | Fault::Kill { at } => {
                self.0.lock().points.len() > at
            }
        }
    }

    /// Ends the watch after a power cut and brings the folder into a state that a disk may have then. Nobody may have a
    /// file below it open for writing. Without a power cut nothing is changed.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn crash(self, lost: Lost) -> io::Result<()> {
        let journal = self.0.lock().journal.take();
        let root = self.0.root.clone();
        drop(self);
        journal.map_or(Ok(()), |journal| crash::bring_about(&root, journal, lost))
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        WATCHES.remove(&self.0);
    }
}

/// What becomes of one change.
enum Verdict {
    Act,
    Fail(io::Error),
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, state: &mut State, change: &Change<'_>) -> Verdict {
        let here = state.points.len();
        state.points.push(change.describe(&self.root));
        match self.fault {
            Fault::Error { at, failure, then } => {
                let fails = here == at || (here > at && then == Then::StaysBroken);
                if !fails {
                    return Verdict::Act;
                }
                if let Change::Write { file, at, bytes } = change {
                    let end = (at + bytes.len() as u64 / 2) / 8 * 8;
                    let half = &bytes[..end.saturating_sub(*at) as usize];
                    // What cannot be written even so is not there either.
                    let _ = sys::write_all_at(file.as_std(), half, *at);
                }
                Verdict::Fail(failure.error())
            }
            Fault::PowerCut { at } if here >= at => {
                Verdict::Fail(io::Error::other("the power was cut by a test"))
            }
            Fault::Kill { at } if here == at => die(),
            _ => Verdict::Act,
        }
    }
}

/// Ends this process as signal 9 does.
fn die() -> ! {
    #[cfg(unix)]
    {
        use rustix::process::{Signal, getpid, kill_process};
        let _ = kill_process(getpid(), Signal::KILL);
    }
    // Elsewhere; and where the signal is still on its way.
    std::process::abort()
}

/// Makes a change, unless the volume that it is on refuses it, or the folder that it is in is watched and has it fail.
pub(super) fn step_in<T>(change: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fat::on_volume(change, |change| watched(change, act))
}

/// As [`step_in`] for a change that is made to see whether the volume takes it: it is no point of a fault.
pub(super) fn try_out<T>(change: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fat::on_volume(change, |_| act())
}

fn watched<T>(change: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(watch) = watch_of(&change) else {
        return act();
    };
    let mut state = watch.lock();
    if let Verdict::Fail(error) = watch.judge(&mut state, &change) {
        return Err(error);
    }
    if let Change::Lock(_) = change {
        // Whoever holds the lock needs the watch to go on.
        drop(state);
        return act();
    }
    let Some(journal) = &mut state.journal else {
        return act();
    };
    let noted = journal.before(&watch.root, &change)?;
    let done = act()?;
    journal.after(&watch.root, &change, &noted)?;
    Ok(done)
}

/// As [`step_in`] for what flushes, which is only noted.
pub(super) fn step_in_flush(
    change: Change<'_>,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    match watch_of(&change) {
        None => act(),
        Some(_) => step_in(change, || Ok(())),
    }
}

fn watch_of(change: &Change<'_>) -> Option<Arc<Watch>> {
    let path = change.path();
    WATCHES.find(|watch| path.starts_with(&watch.root))
}

#[cfg(test)]
mod tests;

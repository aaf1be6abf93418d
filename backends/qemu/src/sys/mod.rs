//! What only the operating system can do: end a child together with this process, and tell one
//! process from a later one of the same number. All unsafe code of this crate is below here.
//!
//! Each system has its own way to the first: Linux a signal at the parent's death, Windows a job
//! object, the others a watcher process that holds a pipe.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Tie, end_process, started};

#[cfg(any(all(unix, not(target_os = "linux")), all(test, target_os = "linux")))]
mod watcher;
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use watcher::{Tie, end_process, started};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::{Tie, end_process, started};

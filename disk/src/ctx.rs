//! What a long call gets from its caller: where to report progress, how to be cancelled, and until when.
//! The same type serves the disk engine, the store and the control half; it spawns and prints nothing.

use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Which part of a long call is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Content is read and hashed.
    Hash,
    /// Content is copied.
    Copy,
    /// New files are written.
    Write,
    /// What was written is read back.
    Verify,
    /// Content is converted from one format into another.
    Convert,
    /// Tables of images are looked through.
    Check,
    /// Two disks are compared.
    Compare,
}

/// One progress event. Events of one phase come with growing `done`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The part of the call that is under way.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes of the whole phase, if known.
    pub total: Option<u64>,
}

/// Asks a running call to stop. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Asks every call that holds this token to stop at its next check.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

type Sink = Arc<dyn Fn(&Progress) + Send + Sync>;

/// Progress, cancellation and deadline of a long call. Cheap to clone.
///
/// ```
/// use stratavm_disk::{CancelToken, Ctx, ErrorKind};
///
/// let cancel = CancelToken::new();
/// let ctx = Ctx::none().with_cancel(cancel.clone());
/// assert!(ctx.check().is_ok());
/// cancel.cancel();
/// assert_eq!(ctx.check().unwrap_err().kind(), ErrorKind::Cancelled);
/// ```
#[derive(Clone, Default)]
pub struct Ctx {
    progress: Option<Sink>,
    cancel: CancelToken,
    deadline: Option<Instant>,
}

impl Ctx {
    /// Nobody listens, nothing cancels, no deadline.
    pub fn none() -> Ctx {
        Ctx::default()
    }

    /// Reports progress to `sink`, on whatever thread does the work; it should return quickly.
    #[must_use]
    pub fn with_progress(mut self, sink: impl Fn(&Progress) + Send + Sync + 'static) -> Ctx {
        self.progress = Some(Arc::new(sink));
        self
    }

    /// Stops when `token` is cancelled.
    #[must_use]
    pub fn with_cancel(mut self, token: CancelToken) -> Ctx {
        self.cancel = token;
        self
    }

    /// Stops when `deadline` has passed.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Ctx {
        self.deadline = Some(deadline);
        self
    }

    /// The token that cancels this call.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Until when the call may run, if limited.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Reports `done` of `total` bytes of `phase`.
    pub fn report(&self, phase: Phase, done: u64, total: Option<u64>) {
        if let Some(sink) = &self.progress {
            sink(&Progress { phase, done, total });
        }
    }

    /// Ok while the call may go on.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] once the token is cancelled, [`ErrorKind::TimedOut`] once the deadline has passed.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller"));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Error::new(ErrorKind::TimedOut, "the deadline has passed"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("progress", &self.progress.is_some())
            .field("cancelled", &self.cancel.is_cancelled())
            .field("deadline", &self.deadline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn progress_reaches_the_sink_through_a_clone() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let ctx = Ctx::none().with_progress(move |p| sink.lock().unwrap().push(*p));
        ctx.clone().report(Phase::Copy, 1, Some(2));
        let want = Progress {
            phase: Phase::Copy,
            done: 1,
            total: Some(2),
        };
        assert_eq!(*seen.lock().unwrap(), [want]);
    }

    #[test]
    fn a_deadline_in_the_past_is_timed_out() {
        let ctx = Ctx::none().with_deadline(Instant::now());
        assert_eq!(ctx.check().unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

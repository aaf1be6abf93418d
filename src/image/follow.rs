//! One thread follows another through a disk: hashing what is being copied.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};

/// Up to where a disk is written for good.
#[derive(Debug, Default)]
pub(super) struct Written {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything before this byte is final.
    UpTo(u64),
    /// All of it is.
    All,
    /// The writer gave up.
    Failed,
}

impl Default for State {
    fn default() -> Self {
        Self::UpTo(0)
    }
}

impl Written {
    /// Everything before byte `at` is final.
    pub(super) fn advance(&self, at: u64) {
        let mut state = self.lock();
        if let State::UpTo(before) = *state {
            *state = State::UpTo(at.max(before));
        }
        self.moved.notify_all();
    }

    /// A promise to finish: dropped without it, the follower is told that the writer gave up.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer(self)
    }

    /// Waits until everything before byte `end` is final. True once all of the disk is.
    ///
    /// # Errors
    /// If the writer gave up; its own error says why.
    pub(super) fn wait(&self, end: u64) -> Result<bool> {
        let mut state = self.lock();
        loop {
            match *state {
                State::UpTo(at) if at < end => {
                    state = self
                        .moved
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                State::UpTo(_) => return Ok(false),
                State::All => return Ok(true),
                State::Failed => {
                    return Err(Error::new(
                        ErrorKind::Io,
                        "the disk was not written to its end",
                    ));
                }
            }
        }
    }

    fn set(&self, to: State) {
        *self.lock() = to;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A state is replaced as a whole: a panic elsewhere leaves a sound one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by whoever writes.
#[derive(Debug)]
pub(super) struct Writer<'a>(&'a Written);

impl Writer<'_> {
    /// All of the disk is final.
    pub(super) fn finish(self) {
        self.0.set(State::All);
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if *self.0.lock() != State::All {
            self.0.set(State::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_follower_waits_for_what_it_needs() {
        let written = Written::default();
        std::thread::scope(|scope| {
            let follower =
                scope.spawn(|| (written.wait(5).unwrap(), written.wait(u64::MAX).unwrap()));
            let writer = written.writer();
            written.advance(4);
            written.advance(9);
            writer.finish();
            let (_, all) = follower.join().unwrap();
            assert!(all);
        });
    }

    #[test]
    fn a_writer_that_gives_up_frees_the_follower() {
        let written = Written::default();
        written.advance(4);
        drop(written.writer());
        assert!(written.wait(5).is_err());
    }
}

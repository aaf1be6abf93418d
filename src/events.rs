//! What happens to a machine, as a stream: who reads slowly misses something, and is told so, but
//! holds nobody up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_lite::Stream;

use crate::machine::{Recovered, RunEnd, RunEvent};

/// How many events wait for a reader before the oldest goes.
const WAITING: usize = 256;

/// What happened to a machine, as far as one [`Vm`](crate::Vm) and its clones brought it about or
/// saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmEvent {
    /// In a run: files are made ready, it runs, a boot ended, and so on.
    Run(RunEvent),
    /// The run is over, or the machine is suspended.
    Over(RunEnd),
    /// The guest's processors were stopped.
    Paused,
    /// They go on.
    Resumed,
    /// The saved state was dropped.
    StateDropped,
    /// It was found out what has become of the machine.
    Recovered(Recovered),
    /// So many events were missed, because the reader was too slow.
    Missed(u64),
}

/// A stream of [`VmEvent`]s from when it was asked for on; it ends with the last clone of its
/// [`Vm`](crate::Vm) and the last run that was begun through one.
#[derive(Debug)]
pub struct Events(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<VmEvent>,
    missed: u64,
    is_over: bool,
    reader: Option<Waker>,
}

/// Where events come from.
#[derive(Debug, Default)]
pub(crate) struct Source(Mutex<Vec<Weak<Queue>>>);

impl Source {
    /// A new stream.
    pub(crate) fn subscribe(&self) -> Events {
        let queue = Arc::<Queue>::default();
        lock(&self.0).push(Arc::downgrade(&queue));
        Events(queue)
    }

    /// Gives `event` to every stream. Never waits for a reader.
    pub(crate) fn send(&self, event: &VmEvent) {
        lock(&self.0).retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            queue.change(|waiting| {
                if waiting.events.len() == WAITING {
                    waiting.events.pop_front();
                    waiting.missed += 1;
                }
                waiting.events.push_back(event.clone());
            });
            true
        });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        for queue in lock(&self.0).iter().filter_map(Weak::upgrade) {
            queue.change(|waiting| waiting.is_over = true);
        }
    }
}

impl Queue {
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let reader = {
            let mut waiting = lock(&self.0);
            change(&mut waiting);
            waiting.reader.take()
        };
        // Not under the lock: the reader may look at once.
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Stream for Events {
    type Item = VmEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<VmEvent>> {
        let mut waiting = lock(&self.0.0);
        if waiting.missed > 0 {
            let missed = std::mem::take(&mut waiting.missed);
            return Poll::Ready(Some(VmEvent::Missed(missed)));
        }
        if let Some(event) = waiting.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if waiting.is_over {
            return Poll::Ready(None);
        }
        waiting.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What these locks guard is valid at any time, whatever a panicking thread left.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_lite::StreamExt as _;
    use futures_lite::future::block_on;

    #[test]
    fn every_reader_gets_every_event_in_order_until_the_source_is_gone() {
        let source = Source::default();
        let (mut one, mut two) = (source.subscribe(), source.subscribe());
        source.send(&VmEvent::Paused);
        source.send(&VmEvent::Resumed);
        let mut late = source.subscribe();
        drop(source);
        for reader in [&mut one, &mut two] {
            assert_eq!(block_on(reader.next()), Some(VmEvent::Paused));
            assert_eq!(block_on(reader.next()), Some(VmEvent::Resumed));
            assert_eq!(block_on(reader.next()), None);
        }
        assert_eq!(block_on(late.next()), None);
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_holds_nobody_up() {
        let source = Source::default();
        let mut reader = source.subscribe();
        for _ in 0..WAITING + 3 {
            source.send(&VmEvent::Paused);
        }
        source.send(&VmEvent::Resumed);
        assert_eq!(block_on(reader.next()), Some(VmEvent::Missed(4)));
        let rest = WAITING - 1;
        for _ in 0..rest {
            assert_eq!(block_on(reader.next()), Some(VmEvent::Paused));
        }
        assert_eq!(block_on(reader.next()), Some(VmEvent::Resumed));
        drop(reader);
        source.send(&VmEvent::Paused);
        assert!(
            lock(&source.0).is_empty(),
            "readers that are gone cost nothing"
        );
    }

    #[test]
    fn a_waiting_reader_is_woken_from_another_thread() {
        let source = Source::default();
        let mut reader = source.subscribe();
        let thread = std::thread::spawn(move || block_on(reader.next()));
        source.send(&VmEvent::Resumed);
        assert_eq!(thread.join().unwrap(), Some(VmEvent::Resumed));
    }
}

//! Copying what images hold into a new one: ranges with data are cut into windows, and several threads read, look for
//! zeros and write a window each.

use super::zeros::{self, Content};
use crate::chain::{Chain, Found};
use crate::engine::{Mapping, Place};
use crate::{Ctx, Error, ErrorKind, Phase, Result};
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

/// Bytes of a window: a multiple of every unit that is written here, so that no two threads write to one.
const WINDOW: u64 = 2 << 20;
/// Bytes that are read and written at a time: they stay in the processor's cache between the two.
const CHUNK: u64 = 256 << 10;
/// More threads than that wait for the disk.
const MOST_THREADS: usize = 4;

/// Which part of a chain goes into the new image.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// All that the lowest images hold together, so many of them; the new image lies on nothing.
    Whole(usize),
    /// What one image has of its own, counted from the base; the new image lies on one that reads as those below do.
    Own(usize),
}

impl Part {
    /// How many images one reads through for its content.
    fn levels(self) -> usize {
        match self {
            Part::Whole(levels) => levels,
            Part::Own(level) => level + 1,
        }
    }
}

/// What is being copied from where to where.
pub(super) struct Job<'a> {
    pub(super) source: &'a Chain,
    pub(super) part: Part,
    pub(super) target: &'a Chain,
    pub(super) ctx: &'a Ctx,
}

/// Parts of one window.
type Window = Vec<Range<u64>>;

impl Job<'_> {
    /// Copies. How many bytes were written, in the end.
    pub(super) fn run(&self) -> Result<u64> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
        let (send, receive) = mpsc::sync_channel::<Window>(threads * 2);
        let receive = Mutex::new(receive);
        let written = AtomicU64::new(0);
        let failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // After an error windows are taken, and dropped, until there are no more: nobody waits for a free place then.
            let work = || {
                let mut buf = Vec::new();
                let mut done = Ok(());
                while let Some(window) = next(&receive) {
                    if failed.load(Ordering::Acquire) {
                        continue;
                    }
                    match self.copy_all(window, &mut buf) {
                        Ok(n) => drop(written.fetch_add(n, Ordering::Relaxed)),
                        Err(error) => {
                            failed.store(true, Ordering::Release);
                            done = Err(error);
                        }
                    }
                }
                done
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let found = self.find(Windows {
                job: self,
                send,
                window: Vec::new(),
                failed: &failed,
            });
            let ends = workers.into_iter().map(|worker| {
                let died = |_| Err(Error::new(ErrorKind::Io, "a thread died"));
                worker.join().unwrap_or_else(died)
            });
            ends.fold(found, Result::and)
        })?;
        Ok(written.into_inner())
    }

    /// Shows all ranges that are to be copied.
    fn find(&self, mut windows: Windows<'_, '_>) -> Result<()> {
        let size = self.source.size();
        match self.part {
            Part::Whole(levels) => self
                .source
                .visit_holes(levels, 0, size, &mut |found: Found<'_>| match found.place {
                    Place::Data { .. } | Place::Packed => windows.add(found.offset, found.len),
                    Place::Zero | Place::Absent => Ok(ControlFlow::Continue(())),
                })
                .map(drop)?,
            Part::Own(level) => {
                let image = self.source.level(level);
                let mut at = 0;
                while at < size {
                    let Mapping { place, len } = image.run(at, size - at)?;
                    if !matches!(place, Place::Absent) && windows.add(at, len)?.is_break() {
                        break;
                    }
                    at += len;
                }
            }
        }
        let _ = windows.pass_on();
        self.ctx.report(Phase::Convert, size, Some(size));
        Ok(())
    }

    fn copy_all(&self, window: Window, buf: &mut Vec<u8>) -> Result<u64> {
        self.ctx.check()?;
        let mut copied = 0;
        for range in window {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min((at / CHUNK + 1) * CHUNK);
                copied += self.copy(at..end, buf)?;
                at = end;
            }
        }
        Ok(copied)
    }

    /// Copies a range; how many bytes of data it has.
    fn copy(&self, range: Range<u64>, buf: &mut Vec<u8>) -> Result<u64> {
        // At most a chunk.
        buf.resize((range.end - range.start) as usize, 0);
        self.source
            .read_from(self.part.levels(), buf, range.start)?;
        let mut written = 0;
        for (content, part) in zeros::zero_runs(buf) {
            let at = range.start + part.start as u64;
            let len = (part.end - part.start) as u64;
            match (content, self.part) {
                (Content::Data, _) => {
                    self.target.write_alone(&buf[part], at)?;
                    written += len;
                }
                (Content::Zeros, Part::Own(_)) => self.target.zero(at, len)?,
                (Content::Zeros, Part::Whole(_)) => {}
            }
        }
        Ok(written)
    }
}

/// Cuts ranges into windows and hands them to whoever is free.
struct Windows<'a, 'b> {
    job: &'a Job<'b>,
    send: mpsc::SyncSender<Window>,
    window: Window,
    failed: &'a AtomicBool,
}

impl Windows<'_, '_> {
    fn add(&mut self, offset: u64, len: u64) -> Result<ControlFlow<()>> {
        let mut at = offset;
        while at < offset + len {
            let end = (offset + len).min((at / WINDOW + 1) * WINDOW);
            match self.window.last_mut() {
                Some(last) if last.end == at && !at.is_multiple_of(WINDOW) => last.end = end,
                Some(last) if last.start / WINDOW == at / WINDOW => self.window.push(at..end),
                _ => {
                    if self.pass_on().is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    self.job
                        .ctx
                        .report(Phase::Convert, at, Some(self.job.source.size()));
                    self.window.push(at..end);
                }
            }
            at = end;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// It breaks where a worker has met an error.
    fn pass_on(&mut self) -> ControlFlow<()> {
        let window = std::mem::take(&mut self.window);
        let sent = window.is_empty() || self.send.send(window).is_ok();
        match sent && !self.failed.load(Ordering::Acquire) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

/// The next window; `None` once there are no more.
fn next(windows: &Mutex<mpsc::Receiver<Window>>) -> Option<Window> {
    let windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    windows.recv().ok()
}

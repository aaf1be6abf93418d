//! Comparing what two chains read as. Only what one of them has data for is read; several threads take windows of the
//! disk in order, so that the first difference is the first.

use crate::chain::{Chain, Found};
use crate::ctx::{Ctx, Phase};
use crate::engine::Place;
use crate::file::ImageFile;
use crate::fs::Identity;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of the disk that a thread takes at a time.
const WINDOW: u64 = 4 << 20;
/// Bytes that are read at a time from each: both stay in the processor's cache.
const CHUNK: u64 = 256 << 10;
/// How far ranges without data are looked for in one step.
const AHEAD: u64 = 4 << 30;
/// More threads than that wait for the disk.
const MOST_THREADS: usize = 4;

/// Whether disks of different sizes can be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sizes {
    /// They are if what only the larger one has reads as zeros.
    #[default]
    MayDiffer,
    /// They are not.
    MustAgree,
}

/// How two disks compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Comparison {
    /// Every byte is the same.
    Equal,
    /// They are of different sizes, and were not looked at further: [`Sizes::MustAgree`].
    Sizes,
    /// The byte at this offset is the first that differs.
    Differs(u64),
}

/// Compares what two chains read as. What neither has data for is passed over without reading, and so is what lies at
/// the same place of the same file.
///
/// # Errors
/// As for [`Chain::read_at`]; `Cancelled` and `TimedOut` as `ctx` says.
pub fn compare(a: &Chain, b: &Chain, sizes: Sizes, ctx: &Ctx) -> Result<Comparison> {
    if sizes == Sizes::MustAgree && a.size() != b.size() {
        return Ok(Comparison::Sizes);
    }
    let _places = (a.shared(), b.shared());
    let files = identities(&[a, b])?;
    let work = Work {
        sides: [a, b],
        files,
        size: a.size().max(b.size()),
        next: Mutex::new(0),
        first: AtomicU64::new(u64::MAX),
        ctx,
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(|| work.run())).collect();
        let own = work.run();
        workers.into_iter().fold(own, |all, worker| {
            let died = |_| Err(Error::new(ErrorKind::Io, "a thread died"));
            all.and(worker.join().unwrap_or_else(died))
        })
    })?;
    ctx.report(Phase::Compare, work.size, Some(work.size));
    Ok(match work.first.into_inner() {
        u64::MAX => Comparison::Equal,
        offset => Comparison::Differs(offset),
    })
}

/// Which file each open one is. They stay where they are as long as the chains.
fn identities(chains: &[&Chain]) -> Result<HashMap<usize, Identity>> {
    let mut files = HashMap::new();
    let mut failed = Ok(());
    let levels = chains
        .iter()
        .flat_map(|chain| (0..chain.depth()).map(|n| chain.level(n)));
    for level in levels {
        level.map.files(&mut |file| match file.identity() {
            Ok(identity) => drop(files.insert(address(file), identity)),
            Err(error) => failed = Err(error),
        });
    }
    failed.map(|()| files)
}

/// Tells open files apart while the chains that hold them are borrowed.
fn address(file: &ImageFile) -> usize {
    std::ptr::from_ref(file).addr()
}

struct Work<'a> {
    sides: [&'a Chain; 2],
    files: HashMap<usize, Identity>,
    /// Bytes of the larger disk; the other one reads as zeros behind its end.
    size: u64,
    /// The first byte that nobody has taken.
    next: Mutex<u64>,
    /// The first difference so far; `u64::MAX` without one.
    first: AtomicU64,
    ctx: &'a Ctx,
}

impl Work<'_> {
    fn run(&self) -> Result<()> {
        let mut buffers = [Vec::new(), Vec::new()];
        let done = loop {
            match self.take() {
                Ok(Some(window)) => match self.window(window, &mut buffers) {
                    Ok(None) => {}
                    Ok(Some(at)) => drop(self.first.fetch_min(at, Ordering::AcqRel)),
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if done.is_err() {
            // Nobody goes on after an error.
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = self.size;
        }
        done
    }

    /// The next window in which one of the two has data.
    fn take(&self) -> Result<Option<Range<u64>>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next < self.size.min(self.first.load(Ordering::Acquire)) {
            self.ctx.check()?;
            self.ctx.report(Phase::Compare, *next, Some(self.size));
            let ahead = *next..self.size.min(next.saturating_add(AHEAD));
            let blank = match self.blank(0, ahead.clone())? {
                0 => 0,
                blank => self.blank(1, ahead.start..ahead.start + blank)?,
            };
            if blank == 0 {
                let window = *next..self.size.min(next.saturating_add(WINDOW));
                *next = window.end;
                return Ok(Some(window));
            }
            *next += blank;
        }
        Ok(None)
    }

    /// How many bytes at the start of a range one side has no data for.
    fn blank(&self, side: usize, range: Range<u64>) -> Result<u64> {
        let mut blank = 0;
        self.visit(side, range, &mut |part| {
            if is_data(&part.place) {
                return ControlFlow::Break(());
            }
            blank += part.len;
            ControlFlow::Continue(())
        })?;
        Ok(blank)
    }

    /// Shows the parts of a range of one side.
    fn visit<'s>(
        &'s self,
        side: usize,
        range: Range<u64>,
        see: &mut dyn FnMut(Found<'s>) -> ControlFlow<()>,
    ) -> Result<()> {
        let chain = self.sides[side];
        let there = range.start..range.end.min(chain.size());
        if there.start < there.end {
            let len = there.end - there.start;
            let seen =
                chain.visit_holes(chain.depth(), there.start, len, &mut |found| Ok(see(found)))?;
            if seen.is_break() {
                return Ok(());
            }
        }
        let offset = range.start.max(there.end);
        if offset < range.end {
            let _ = see(Found {
                offset,
                len: range.end - offset,
                place: Place::Absent,
                level: None,
            });
        }
        Ok(())
    }

    /// The first difference in a window.
    fn window(&self, window: Range<u64>, buffers: &mut [Vec<u8>; 2]) -> Result<Option<u64>> {
        let mut parts = [Vec::new(), Vec::new()];
        for (side, parts) in parts.iter_mut().enumerate() {
            self.visit(side, window.clone(), &mut |part| {
                parts.push(part);
                ControlFlow::Continue(())
            })?;
        }
        let [a, b] = &parts;
        let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
        let mut open: Option<Range<u64>> = None;
        let mut at = window.start;
        while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
            let (left_end, right_end) = (left.offset + left.len, right.offset + right.len);
            let end = left_end.min(right_end);
            if !self.same(left, right, at) {
                match &mut open {
                    Some(range) if range.end == at => range.end = end,
                    _ => {
                        let found = self.read(open.replace(at..end), buffers)?;
                        if found.is_some() {
                            return Ok(found);
                        }
                    }
                }
            }
            at = end;
            if left_end == end {
                a.next();
            }
            if right_end == end {
                b.next();
            }
        }
        self.read(open, buffers)
    }

    /// Whether the two parts are known to be equal from byte `at` on.
    fn same(&self, a: &Found<'_>, b: &Found<'_>, at: u64) -> bool {
        match (&a.place, &b.place) {
            (
                Place::Data {
                    file: left,
                    offset: from,
                },
                Place::Data {
                    file: right,
                    offset: to,
                },
            ) => {
                let known = |file: &ImageFile| self.files.get(&address(file));
                known(left).is_some()
                    && known(left) == known(right)
                    && from + (at - a.offset) == to + (at - b.offset)
            }
            (a, b) => !is_data(a) && !is_data(b),
        }
    }

    /// The first difference in a range, which is read from both.
    fn read(&self, range: Option<Range<u64>>, buffers: &mut [Vec<u8>; 2]) -> Result<Option<u64>> {
        let Some(range) = range else { return Ok(None) };
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / CHUNK + 1) * CHUNK);
            for (chain, buffer) in self.sides.iter().zip(buffers.iter_mut()) {
                // At most a chunk.
                buffer.resize((end - at) as usize, 0);
                let there = chain.size().clamp(at, end) - at;
                let (there, behind) = buffer.split_at_mut(there as usize);
                chain.read_from(chain.depth(), there, at)?;
                behind.fill(0);
            }
            let [a, b] = &*buffers;
            if a != b {
                let first = a.iter().zip(b).position(|(a, b)| a != b);
                return Ok(first.map(|n| at + n as u64));
            }
            at = end;
        }
        Ok(None)
    }
}

fn is_data(place: &Place<'_>) -> bool {
    matches!(place, Place::Data { .. } | Place::Packed)
}

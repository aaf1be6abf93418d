//! A chain as one streamOptimized VMDK: pieces of it are packed by several threads and written in order.

use crate::chain::{Chain, Found};
use crate::engine::Place;
use crate::vmdk::{GrainPacker, PackedGrain, StreamSpec, StreamWriter};
use crate::{Ctx, Durability, Error, ErrorKind, Phase, Result};
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// Bytes of a grain of such a file.
const GRAIN: u64 = 64 << 10;
/// Grains that a thread packs before they are written.
const PART: u64 = 32;

/// Writes what the guest sees of `source`. How many bytes of data that were.
pub(super) fn pack(
    source: &Chain,
    path: &Path,
    spec: &StreamSpec,
    durability: Durability,
    ctx: &Ctx,
) -> Result<u64> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut job = Job {
        source,
        writer: StreamWriter::create(path, spec)?,
        packers: (0..threads).map(|_| GrainPacker::default()).collect(),
        waiting: Vec::new(),
        written: 0,
        ctx,
    };
    let size = source.size();
    let seen = source.visit_holes(source.depth(), 0, size, &mut |found: Found<'_>| {
        if matches!(found.place, Place::Data { .. } | Place::Packed) {
            job.add(found.offset / GRAIN..(found.offset + found.len).div_ceil(GRAIN))?;
        }
        Ok(ControlFlow::Continue(()))
    });
    seen.map(drop)?;
    job.write_waiting()?;
    job.writer.finish(durability)?;
    ctx.report(Phase::Convert, size, Some(size));
    Ok(job.written)
}

struct Job<'a> {
    source: &'a Chain,
    writer: StreamWriter,
    packers: Vec<GrainPacker>,
    /// Grains that are to be packed next, in order.
    waiting: Vec<u64>,
    written: u64,
    ctx: &'a Ctx,
}

impl Job<'_> {
    fn add(&mut self, grains: Range<u64>) -> Result<()> {
        for grain in grains {
            // Two runs of data can share one.
            if self.waiting.last() == Some(&grain) {
                continue;
            }
            // The last one stays, so that it is known here.
            if self.waiting.len() as u64 > PART * self.packers.len() as u64 {
                let last = self.waiting.pop();
                self.write_waiting()?;
                self.waiting.extend(last);
            }
            if self.waiting.last() != Some(&grain) {
                self.waiting.push(grain);
            }
        }
        Ok(())
    }

    /// Packs what waits, a part in each thread, and writes it.
    fn write_waiting(&mut self) -> Result<()> {
        self.ctx.check()?;
        let source = self.source;
        let part = self.waiting.len().div_ceil(self.packers.len()).max(1);
        let packed = std::thread::scope(|scope| {
            let parts = self.waiting.chunks(part).zip(&mut self.packers);
            let threads: Vec<_> = parts
                .map(|(grains, packer)| scope.spawn(|| pack_all(source, grains, packer)))
                .collect();
            let ends = threads.into_iter().map(|thread| {
                let died = |_| Err(Error::new(ErrorKind::Io, "a thread died"));
                thread.join().unwrap_or_else(died)
            });
            ends.collect::<Result<Vec<_>>>()
        })?;
        for grain in packed.iter().flatten() {
            self.writer.write(grain)?;
            self.written += GRAIN;
        }
        if let Some(last) = self.waiting.last() {
            let total = source.size();
            self.ctx
                .report(Phase::Convert, (last * GRAIN).min(total), Some(total));
        }
        self.waiting.clear();
        Ok(())
    }
}

fn pack_all(source: &Chain, grains: &[u64], packer: &mut GrainPacker) -> Result<Vec<PackedGrain>> {
    let mut buf = Vec::new();
    let mut packed = Vec::with_capacity(grains.len());
    for grain in grains {
        let at = grain * GRAIN;
        buf.resize(GRAIN.min(source.size() - at) as usize, 0);
        source.read_at(&mut buf, at)?;
        packed.extend(packer.pack(*grain, &buf)?);
    }
    Ok(packed)
}

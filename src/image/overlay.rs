//! Writing over an image that is being made: patches, and what the upper images of a chain hold.
//!
//! Copying whole disks is in [`super::staging`].

use std::ops::{ControlFlow, Range};

use stratavm_disk::fs::File;
use stratavm_disk::{Chain, Content, Ctx, Kind, Patch, Phase, zero_runs};

use super::meta::ExtentMeta;
use super::staging::{STRIDE, Staging, overlap};
use crate::error::Result;

/// Bytes of a chain that are read at a time.
const PIECE: usize = 1 << 20;

/// An extent that is written to.
struct Target<'a> {
    /// Where it begins in the disk, in bytes.
    start: u64,
    extent: &'a ExtentMeta,
    file: File,
}

impl Target<'_> {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.extent.bytes()
    }
}

impl Staging {
    /// Writes `patches` over the disk.
    pub(super) fn patch(&self, patches: &[Patch]) -> Result<()> {
        let files = self.targets()?;
        patches
            .iter()
            .try_for_each(|patch| self.write(&files, patch.offset, &patch.bytes))
    }

    /// Puts over the disk, from byte `to` on, what the images of `chain` above its base hold.
    ///
    /// # Errors
    /// As for reading the chain; what the system reports.
    pub(super) fn overlay(&self, chain: &Chain, to: u64, ctx: &Ctx) -> Result<()> {
        let (base, files) = (chain.depth() - 1, self.targets()?);
        let (mut at, mut buf) = (0, Vec::new());
        while at < chain.size() {
            ctx.check()?;
            let len = STRIDE.min(chain.size() - at);
            let mut own = Vec::new();
            chain.map(at, len, &mut |range| {
                if range.depth.is_some_and(|depth| depth < base) {
                    own.push((range.offset, range.len, range.kind));
                }
                ControlFlow::Continue(())
            })?;
            for (offset, len, kind) in own {
                match kind {
                    Kind::Zero | Kind::Absent => self.zero(&files, to + offset, len)?,
                    _ => self.copy_data(&files, chain, offset..offset + len, to, &mut buf)?,
                }
            }
            at += len;
            ctx.report(Phase::Write, to + at, Some(self.size));
        }
        Ok(())
    }

    /// Copies a range of a chain that is data; zeros in it become holes.
    fn copy_data(
        &self,
        files: &[Target<'_>],
        chain: &Chain,
        range: Range<u64>,
        to: u64,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        for start in range.clone().step_by(PIECE) {
            // At most a piece.
            buf.resize((range.end - start).min(PIECE as u64) as usize, 0);
            chain.read_at(buf, start)?;
            for (content, part) in zero_runs(buf) {
                let at = to + start + part.start as u64;
                match content {
                    Content::Data => self.write(files, at, &buf[part])?,
                    Content::Zeros => self.zero(files, at, part.len() as u64)?,
                }
            }
        }
        Ok(())
    }

    fn write(&self, files: &[Target<'_>], at: u64, bytes: &[u8]) -> Result<()> {
        let range = at..at + bytes.len() as u64;
        files.iter().try_for_each(|target| {
            let both = overlap(&range, &target.range());
            if both.is_empty() {
                return Ok(());
            }
            let part = (both.start - at) as usize..(both.end - at) as usize;
            target
                .file
                .write_all_at(&bytes[part], both.start - target.start)
                .map_err(|error| self.failed(target.extent, error))
        })
    }

    fn zero(&self, files: &[Target<'_>], at: u64, len: u64) -> Result<()> {
        files.iter().try_for_each(|target| {
            let both = overlap(&(at..at + len), &target.range());
            if both.is_empty() {
                return Ok(());
            }
            target
                .file
                .zero(both.start - target.start, both.end - both.start)
                .map_err(|error| self.failed(target.extent, error))
        })
    }

    /// All extents, open for writing.
    fn targets(&self) -> Result<Vec<Target<'_>>> {
        let open = |(start, extent)| {
            let file = self.open(extent)?;
            Ok(Target {
                start,
                extent,
                file,
            })
        };
        self.starts().map(open).collect()
    }
}

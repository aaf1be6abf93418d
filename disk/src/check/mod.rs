//! Checking images: tables, marks and links, and mending what can be mended without guessing. How a format is laid out
//! is its own module's affair; this one goes by [`Layout`](crate::engine::Layout). Guest data is not read.

mod claims;
mod finding;
mod inspection;
mod repair;
mod walk;

pub use finding::{Fault, Finding, Remedy};
pub(crate) use inspection::{Edit, Inspection, Mend};
pub(crate) use walk::{Ahead, Contents, Mark, Walk, walk};

use crate::ctx::Ctx;
use crate::gate::Gate;
use crate::info::Format;
use crate::{Result, chain};
use std::path::{Path, PathBuf};

/// Passes of a repair: what one mends may let the next mend more.
const MOST_PASSES: usize = 5;

/// Whether faults are mended. Only the image itself is ever changed, nothing that it lies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// They are told.
    #[default]
    No,
    /// What can be mended without changing a byte that the guest sees is mended: leaked room at the end of a file is cut
    /// off, second copies of tables are made like the first, counters are set right, and when nothing else is wrong the
    /// mark of a writer that died is taken back.
    Safe,
    /// Entries that name a place behind the end of the file are dropped too. What they named is not in this file; the
    /// range then reads as the image below has it, or as zeros. That is right after a crash, which loses what was never
    /// flushed. It is wrong for a copy that was cut short: then the whole one is what to look for.
    DropLost,
}

/// What a check looks at, and what it does about what it finds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Whether faults are mended.
    pub repair: Repair,
    /// The images that it lies on, the base first, where no image names one (VDI, `.hds`); where this is empty, what the
    /// images name is opened.
    pub below: Vec<(PathBuf, Format)>,
}

impl CheckOptions {
    /// Whether faults are mended.
    #[must_use]
    pub fn repair(mut self, repair: Repair) -> CheckOptions {
        self.repair = repair;
        self
    }

    /// The images that it lies on, the base first.
    #[must_use]
    pub fn below(mut self, below: Vec<(PathBuf, Format)>) -> CheckOptions {
        self.below = below;
        self
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Images that were looked at: the one that was named, and what it lies on.
    pub images: usize,
    /// Units (grains, blocks, clusters) that lie in them.
    pub units: u64,
    /// Bytes of their files that nothing names.
    pub leaked: u64,
    /// What is wrong, after all repairs; a thousand faults at most.
    pub findings: Vec<Finding>,
    /// How many faults there are beyond those.
    pub more: u64,
    /// What was wrong and is mended.
    pub repaired: Vec<Finding>,
    sound: bool,
}

impl Checked {
    /// Whether all that the guest wrote is there, and every product may use the image: nothing is wrong but for faults
    /// that are [harmless](Fault::is_harmless).
    pub fn is_sound(&self) -> bool {
        self.sound
    }
}

/// Checks an image and all that it lies on. `format` is that of the image at `path`. No guest data is read: the work
/// follows the tables, the memory a bit for each unit of the largest file.
///
/// A repair must not be asked for while a product has the image open: where one can be seen to, it is refused.
///
/// # Errors
/// As for [`Chain::open`](crate::Chain::open) where not even the image's own header can be used; `Limit` for a file too large or too damaged
/// to keep account of; for repairs `PermissionDenied` for a frozen image, `Mismatch` for one that somebody has open or
/// changes meanwhile. What was mended by then stays mended, and no step leaves a file worse than it was.
pub fn check(
    path: &Path,
    format: Format,
    gate: &dyn Gate,
    options: &CheckOptions,
    ctx: &Ctx,
) -> Result<Checked> {
    let mut repaired: Vec<Finding> = Vec::new();
    let mut passes = match options.repair {
        Repair::No => 0,
        _ => MOST_PASSES,
    };
    loop {
        let (found, own) = look(path, format, gate, &options.below, ctx)?;
        let mut mended = false;
        if passes != 0 {
            passes -= 1;
            for file in found.files.iter().take(own) {
                mended |= repair::apply(file, options.repair)?;
            }
        }
        if mended {
            let new = found.findings.into_iter();
            repaired.extend(
                new.filter(|one| !repaired.contains(one))
                    .collect::<Vec<_>>(),
            );
            continue;
        }
        repaired.retain(|one| !found.findings.contains(one));
        return Ok(Checked {
            images: found.images,
            units: found.units,
            leaked: found.leaked,
            sound: !found.unsound,
            more: found.more,
            findings: found.findings,
            repaired,
        });
    }
}

/// Looks at every image of a chain, the top one first; tells how many of the files are the top image's own.
fn look<'a>(
    path: &Path,
    format: Format,
    gate: &dyn Gate,
    below: &[(PathBuf, Format)],
    ctx: &'a Ctx,
) -> Result<(Inspection<'a>, usize)> {
    let (levels, faults) = chain::levels(path, format, below, gate)?;
    let mut out = Inspection::new(ctx);
    let mut own = 0;
    for (n, level) in levels.iter().rev().enumerate() {
        let looked = level.map.inspect(&mut out);
        looked.map_err(|e| e.at_path(&level.path).during("check image"))?;
        out.images += 1;
        if n == 0 {
            own = out.files.len();
        }
    }
    for error in faults {
        let file = error.path().unwrap_or(path).to_owned();
        let detail = || error.detail().to_owned();
        out.add(&file, Fault::Link, error.offset(), detail, Remedy::None);
    }
    Ok((out, own))
}

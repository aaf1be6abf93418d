//! What the formats tell a check about themselves: findings, of which a bounded number is kept, and the edits that would
//! mend them. Nothing here reads or writes an image.

use super::finding::{Fault, Finding, Remedy};
use crate::ctx::{Ctx, Phase};
use crate::file::ImageFile;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Findings that are kept; of the others only how many there are.
const MOST_FINDINGS: usize = 1000;
/// Edits of one file that are kept: 24 MiB. A file that needs more is cut off rather than damaged.
const MOST_EDITS: usize = 1 << 19;

/// A change of a file that mends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The 32-bit word at byte `at`, which is `old`.
    Word { at: u64, old: u32, new: u32 },
    /// `len` bytes of a table, copied to its second copy.
    Copy { from: u64, to: u64, len: u64 },
    /// The file ends here.
    Cut { len: u64 },
}

/// What mends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// Nothing.
    Never,
    /// This, without changing a byte that the guest sees.
    Safe(Edit),
    /// This, giving up what is not in the file.
    DropLost(Edit),
}

impl Mend {
    pub(super) fn remedy(self) -> Remedy {
        match self {
            Mend::Never => Remedy::None,
            Mend::Safe(_) => Remedy::Safe,
            Mend::DropLost(_) => Remedy::DropLost,
        }
    }
}

/// What one file would need.
pub(super) struct FileEdits {
    pub(super) path: PathBuf,
    /// Length of the file when it was looked at.
    pub(super) len: u64,
    pub(super) edits: Vec<(Remedy, Edit)>,
    /// A mark that a writer has the file open: taken back when nothing else is left to be mended.
    pub(super) mark: Option<Edit>,
}

/// What was found so far.
pub(crate) struct Inspection<'a> {
    ctx: &'a Ctx,
    pub(super) findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub(super) more: u64,
    /// Whether a fault was found that is not harmless.
    pub(super) unsound: bool,
    /// Images that were looked at.
    pub(super) images: usize,
    /// Bytes that nobody names.
    pub(super) leaked: u64,
    /// Units that are there.
    pub(super) units: u64,
    pub(super) files: Vec<FileEdits>,
    /// What it takes to mend all faults of the file that is looked at, but for harmless ones.
    worst: Option<Remedy>,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(ctx: &'a Ctx) -> Inspection<'a> {
        Inspection {
            ctx,
            findings: Vec::new(),
            more: 0,
            unsound: false,
            images: 0,
            leaked: 0,
            units: 0,
            files: Vec::new(),
            worst: None,
        }
    }

    /// What follows is about this file.
    pub(super) fn begin(&mut self, file: &ImageFile) {
        self.worst = None;
        self.files.push(FileEdits {
            path: file.path().to_owned(),
            len: file.len(),
            edits: Vec::new(),
            mark: None,
        });
    }

    /// Reports progress; an error once the caller asked to stop.
    pub(super) fn progress(&self, done: u64, total: u64) -> Result<()> {
        self.ctx.check()?;
        self.ctx.report(Phase::Check, done, Some(total));
        Ok(())
    }

    /// A fault of the file that is looked at.
    ///
    /// # Errors
    /// `Limit` if more would have to be mended than can be kept.
    pub(crate) fn find(
        &mut self,
        fault: Fault,
        offset: Option<u64>,
        detail: impl FnOnce() -> String,
        mend: Mend,
    ) -> Result<()> {
        let Some(file) = self.files.last_mut() else {
            return Ok(());
        };
        if let Mend::Safe(edit) | Mend::DropLost(edit) = mend {
            if file.edits.len() >= MOST_EDITS {
                return Err(
                    Error::limit("it is damaged throughout: look for another copy of it")
                        .at_path(&file.path),
                );
            }
            file.edits.push((mend.remedy(), edit));
        }
        if !fault.is_harmless() {
            self.worst = self.worst.max(Some(mend.remedy()));
        }
        let path = file.path.clone();
        self.add(&path, fault, offset, detail, mend.remedy());
        Ok(())
    }

    /// Whether nothing in the file that is looked at is lost.
    pub(super) fn is_mendable(&self) -> bool {
        self.worst.is_none_or(|worst| worst == Remedy::Safe)
    }

    /// A mark of a writer in the file that is looked at, and what takes it back. Called when all else is known.
    pub(super) fn mark(&mut self, at: u64, detail: &str, edit: Edit) {
        let worst = self.worst;
        let Some(file) = self.files.last_mut() else {
            return;
        };
        // It goes when nothing else is wrong any more.
        file.mark = worst.is_none().then_some(edit);
        let remedy = worst.unwrap_or(Remedy::Safe);
        let path = file.path.clone();
        self.add(
            &path,
            Fault::Unclean,
            Some(at),
            || detail.to_owned(),
            remedy,
        );
    }

    /// A fault of a file of which nothing can be mended.
    pub(super) fn add(
        &mut self,
        file: &Path,
        fault: Fault,
        offset: Option<u64>,
        detail: impl FnOnce() -> String,
        remedy: Remedy,
    ) {
        self.unsound |= !fault.is_harmless();
        if self.findings.len() >= MOST_FINDINGS {
            self.more += 1;
            return;
        }
        self.findings.push(Finding {
            file: file.to_owned(),
            offset,
            fault,
            detail: detail(),
            remedy,
        });
    }
}

//! `prune`: freeing what nobody refers to.
//!
//! Here live what is asked for, what is answered, and the order of the work; what counts as left
//! over is decided in `images`, `machines` and `traces`.
//!
//! While the work lasts nobody can add a reference to an image: that takes the store's lock
//! shared, and this takes it alone. Machines may run: of theirs only files go that no run writes.

mod images;
mod machines;
mod traces;

use std::path::{Path, PathBuf};

use stratavm_disk::Ctx;

use super::references::References;
use super::remove::tree_bytes;
use super::{FileLock, Store};
use crate::error::{Error, ErrorKind, Result};

/// How the store is pruned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Whether anything is changed.
    pub mode: PruneMode,
    /// What becomes of layers that were removed while they held kept writes.
    pub set_aside: SetAside,
}

impl PruneOptions {
    /// The same options in this mode.
    #[must_use]
    pub fn mode(mut self, mode: PruneMode) -> Self {
        self.mode = mode;
        self
    }

    /// The same options with this meaning for layers that are set aside.
    #[must_use]
    pub fn set_aside(mut self, set_aside: SetAside) -> Self {
        self.set_aside = set_aside;
        self
    }
}

/// Whether pruning changes anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PruneMode {
    /// Only says what would go.
    #[default]
    DryRun,
    /// Removes it.
    Remove,
}

/// What becomes of layers that were removed while they held kept writes: they are a user's data,
/// so nothing drops them unasked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetAside {
    /// They stay.
    #[default]
    Keep,
    /// They go, with all their revisions. Their machine must be off.
    Remove,
}

/// What pruning found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pruned {
    /// What was removed, or in a dry run would be.
    pub freed: Vec<Leftover>,
    /// What one might have expected among it, and why it stays.
    pub spared: Vec<Spared>,
    /// What could not be looked at or removed; the rest was done.
    pub failed: Vec<Error>,
}

impl Pruned {
    /// The bytes of everything freed, as the volume counts them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = self.freed.iter().map(|leftover| leftover.bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

/// Something that nobody refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// Where it is.
    pub path: PathBuf,
    /// Why nobody needs it, as the end of a sentence.
    pub reason: String,
    /// The bytes that it takes on the volume.
    pub bytes: u64,
}

/// Kinds of [`Leftover`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeftoverKind {
    /// An image that no machine refers to.
    Image,
    /// An image whose making was cut short.
    UnfinishedImage,
    /// A note that a machine uses an image, of a machine that does not.
    Lease,
    /// The id of a machine that is gone.
    Id,
    /// A machine whose creation was cut short.
    UnfinishedMachine,
    /// A file below a machine's layers that its record does not name.
    LayerFile,
    /// A removed layer that was set aside.
    RemovedLayer,
    /// Revisions of a layer that retention lets go.
    ExpiredRevisions,
    /// A file that was to replace another one.
    TemporaryFile,
    /// What a removal that was cut short left.
    HalfRemoved,
}

impl LeftoverKind {
    /// A stable name, such as `unfinished-image`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::UnfinishedImage => "unfinished-image",
            Self::Lease => "lease",
            Self::Id => "id",
            Self::UnfinishedMachine => "unfinished-machine",
            Self::LayerFile => "layer-file",
            Self::RemovedLayer => "removed-layer",
            Self::ExpiredRevisions => "expired-revisions",
            Self::TemporaryFile => "temporary-file",
            Self::HalfRemoved => "half-removed",
        }
    }
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spared {
    /// Where it is.
    pub path: PathBuf,
    /// Why it stays.
    pub reason: String,
    /// What frees it.
    pub next: String,
    /// The bytes that it takes on the volume, where that is known.
    pub bytes: u64,
}

impl Store {
    /// Frees what nobody refers to: images, leases, files of changes that were cut short. Nothing
    /// that a record names, a run uses or a user kept is touched, and no read-only root of images.
    ///
    /// Images go as a whole: a kill in between leaves no half one. What cannot be removed is
    /// reported, and the rest is done.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] in a store that cannot be written to, unless it is a dry
    /// run; [`ErrorKind::Cancelled`] by `ctx` between two things; what the file system says when
    /// the store's folders are listed.
    pub fn prune(&self, options: &PruneOptions, ctx: &Ctx) -> Result<Pruned> {
        let mut pruning = Pruning {
            store: self,
            mode: options.mode,
            ctx,
            found: Pruned::default(),
        };
        // Changes of single machines come first: they take their locks before the store's.
        pruning.set_aside(options.set_aside)?;
        pruning.expired()?;
        let _alone = match FileLock::exclusive(&self.lock_path()) {
            Ok(lock) => Some(lock),
            // Where nothing can be written, nothing changes meanwhile either.
            Err(error)
                if options.mode == PruneMode::DryRun
                    && error.kind() == ErrorKind::PermissionDenied =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        let references = References::read(self)?;
        pruning.machines()?;
        pruning.ids(&references)?;
        pruning.images(&references)?;
        pruning.traces()?;
        Ok(pruning.found)
    }
}

/// Pruning under way.
struct Pruning<'a> {
    store: &'a Store,
    mode: PruneMode,
    ctx: &'a Ctx,
    found: Pruned,
}

impl Pruning<'_> {
    /// Takes a thing away by `remove`, or says that it would.
    fn free(
        &mut self,
        kind: LeftoverKind,
        path: &Path,
        reason: impl Into<String>,
        remove: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        self.ctx.check()?;
        let leftover = Leftover {
            kind,
            path: path.to_owned(),
            reason: reason.into(),
            bytes: tree_bytes(path),
        };
        let removed = match self.mode {
            PruneMode::DryRun => Ok(()),
            PruneMode::Remove => remove(path),
        };
        match removed {
            Ok(()) => self.found.freed.push(leftover),
            Err(error) => self.found.failed.push(error),
        }
        Ok(())
    }

    fn spare(
        &mut self,
        path: &Path,
        bytes: u64,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.found.spared.push(Spared {
            path: path.to_owned(),
            reason: reason.into(),
            next: next.into(),
            bytes,
        });
    }
}

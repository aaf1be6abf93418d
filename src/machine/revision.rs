//! The revisions of one layer: a tree with a current node.
//!
//! Pure data and its rules. The layer around it is in [`super::layer`], the files behind it are
//! made in `super::files`, and which revisions may be dropped is decided in [`super::retention`].

use serde::{Deserialize, Serialize};
use stratavm_disk::vmdk::check_extent_sectors;

use crate::chain::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Unknown;
use crate::image::ImageDigest;
use crate::spec::Name;
use crate::timestamp::Timestamp;

/// How many revisions an error names at most.
const NAMED: usize = 20;

/// Where a layer has been, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct History {
    /// Every state that can be gone back to, in the order in which they were made.
    pub revisions: Vec<Revision>,
    /// The revision that the head lies on, or that a removed layer comes back at.
    pub current: u64,
    /// The number of the next revision; numbers are never used twice.
    pub next_revision: u64,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A state of a layer that can be gone back to: an image and frozen deltas on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Revision {
    /// Its number.
    pub n: u64,
    /// The revision it was made on; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// The revision whose chain its own deltas lie on; none: they lie on the image itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// The image at the bottom of its chain.
    pub image: ImageDigest,
    /// The frozen deltas that it adds to those of `base`, lowest first. No other revision has
    /// them: [`History::chain`] has all that it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<Delta>,
    /// When it was made.
    pub time: Timestamp,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Why it was made.
    pub reason: Reason,
    /// Kept whatever retention says.
    #[serde(default)]
    pub pinned: bool,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One frozen delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Delta {
    /// Which one.
    #[serde(flatten)]
    pub id: DeltaId,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Which delta is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeltaId {
    /// The generation that it was made as: its file name and ids follow from it.
    pub generation: u64,
    /// The family of its files.
    pub family: Family,
    /// Sectors of each of its extents but the last, where it has several: a split VMDK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent_sectors: Option<u64>,
}

impl DeltaId {
    /// Checks what a record read from a file says of its files.
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.family, self.extent_sectors) {
            (_, None) => Ok(()),
            (Family::Vmdk, Some(sectors)) => {
                check_extent_sectors(sectors).map_err(|error| error.to_string())
            }
            (Family::Hds, Some(_)) => Err("a .hds delta has no extent-sectors".to_owned()),
        }
    }
}

/// A delta of a chain, and the revision that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The revision.
    pub revision: u64,
    /// The delta.
    pub delta: DeltaId,
}

/// A frozen delta, the one that it lies on, and the image at the bottom.
pub(super) struct Stacked {
    pub(super) delta: DeltaId,
    pub(super) parent: Option<DeltaId>,
    pub(super) image: ImageDigest,
}

/// Why a revision was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The machine, or the layer, was created.
    Create,
    /// Its image was updated.
    Update,
    /// It came with an imported machine.
    Import,
    /// A person asked for it.
    Snapshot,
    /// A point over several layers was made.
    Point,
    /// What a session wrote to a layer that discards was accepted.
    Accept,
    /// A golden was edited.
    Edit,
    /// The head was kept before a rollback.
    BeforeRollback,
    /// The head was kept before an update.
    BeforeUpdate,
    /// The head was kept before the layer was removed.
    BeforeRemove,
    /// The head was kept before an operation was taken back.
    BeforeUndo,
    /// The head was kept before a session that may be dropped.
    BeforeSession,
}

impl Reason {
    /// Whether a revision made for this reason is one to rejuvenate to: never one that holds what
    /// a guest wrote, which may be what one wants to get rid of.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Import)
    }

    /// The reason as `history` prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Import => "import",
            Self::Snapshot => "snapshot",
            Self::Point => "point",
            Self::Accept => "accept",
            Self::Edit => "edit",
            Self::BeforeRollback => "before-rollback",
            Self::BeforeUpdate => "before-update",
            Self::BeforeRemove => "before-remove",
            Self::BeforeUndo => "before-undo",
            Self::BeforeSession => "before-session",
        }
    }
}

impl From<DeltaId> for Delta {
    fn from(id: DeltaId) -> Self {
        let unknown = Unknown::new();
        Self { id, unknown }
    }
}

impl Revision {
    /// A revision without deltas that starts from `image`.
    pub(super) fn first(n: u64, image: ImageDigest, time: Timestamp) -> Self {
        Self {
            n,
            parent: None,
            base: None,
            image,
            deltas: Vec::new(),
            time,
            label: None,
            reason: Reason::Create,
            pinned: false,
            unknown: Unknown::new(),
        }
    }
}

impl History {
    /// A history that starts from `image` with revision `n`.
    #[must_use]
    pub(super) fn new(n: u64, image: ImageDigest, time: Timestamp) -> Self {
        Self {
            revisions: vec![Revision::first(n, image, time)],
            current: n,
            next_revision: n + 1,
            unknown: Unknown::new(),
        }
    }

    /// Revision `n`, if there is one. Takes no longer with many revisions than with few.
    #[must_use]
    pub fn find(&self, n: u64) -> Option<&Revision> {
        self.position(n).map(|index| &self.revisions[index])
    }

    pub(super) fn find_mut(&mut self, n: u64) -> Option<&mut Revision> {
        self.position(n).map(|index| &mut self.revisions[index])
    }

    /// Where revision `n` stands among all.
    pub(super) fn position(&self, n: u64) -> Option<usize> {
        self.revisions
            .binary_search_by_key(&n, |revision| revision.n)
            .ok()
    }

    /// The frozen deltas that revision `n` is made of, lowest first; none if there is no such
    /// revision.
    #[must_use]
    pub fn chain(&self, n: u64) -> Vec<Link> {
        let mut links = Vec::new();
        let mut below = self.find(n);
        while let Some(revision) = below {
            links.extend(revision.deltas.iter().rev().map(|delta| Link {
                revision: revision.n,
                delta: delta.id,
            }));
            below = self.below(revision);
        }
        links.reverse();
        links
    }

    /// The topmost frozen delta of revision `n`.
    #[must_use]
    pub fn top(&self, n: u64) -> Option<DeltaId> {
        let mut below = self.find(n);
        while let Some(revision) = below {
            if let Some(delta) = revision.deltas.last() {
                return Some(delta.id);
            }
            below = self.below(revision);
        }
        None
    }

    /// What the deltas of a revision lie on. A base is always older, so following it ends whatever
    /// a file says.
    fn below(&self, revision: &Revision) -> Option<&Revision> {
        let base = revision.base.filter(|base| *base < revision.n);
        base.and_then(|base| self.find(base))
    }

    /// Every frozen delta with what it lies on, parents first.
    pub(super) fn stacked(&self) -> impl Iterator<Item = Stacked> {
        self.revisions.iter().flat_map(|revision| {
            let mut parent = self.below(revision).and_then(|below| self.top(below.n));
            revision.deltas.iter().map(move |delta| Stacked {
                delta: delta.id,
                parent: parent.replace(delta.id),
                image: revision.image,
            })
        })
    }

    /// The newest clean revision: where rejuvenating goes.
    #[must_use]
    pub fn clean(&self) -> Option<&Revision> {
        self.revisions
            .iter()
            .rev()
            .find(|revision| revision.reason.is_clean())
    }

    /// Every frozen delta, and the image that its chain starts from.
    pub fn deltas(&self) -> impl Iterator<Item = (&Revision, DeltaId)> {
        self.revisions.iter().flat_map(|revision| {
            revision
                .deltas
                .iter()
                .map(move |delta| (revision, delta.id))
        })
    }

    /// Adds a revision on the current one and makes it current.
    pub(super) fn push(&mut self, change: NewRevision) -> u64 {
        let n = self.next_revision;
        let base = match change.content {
            Content::Image => None,
            // A revision that adds nothing is no base: what it lies on is.
            Content::Frozen(_) => self.find(self.current).and_then(|current| {
                if current.deltas.is_empty() {
                    current.base
                } else {
                    Some(current.n)
                }
            }),
        };
        let deltas = match change.content {
            Content::Image => Vec::new(),
            Content::Frozen(delta) => delta.map(Delta::from).into_iter().collect(),
        };
        self.revisions.push(Revision {
            n,
            parent: Some(self.current),
            base,
            image: change.image,
            deltas,
            time: change.time,
            label: change.label,
            reason: change.reason,
            pinned: false,
            unknown: Unknown::new(),
        });
        self.next_revision += 1;
        self.current = n;
        n
    }

    /// The error for a revision that the layer called `layer` has not.
    pub(super) fn no_revision(&self, layer: &Name, n: u64) -> Error {
        let newest = self.revisions.iter().rev().take(NAMED);
        let mut known: Vec<_> = newest.map(|revision| revision.n.to_string()).collect();
        known.reverse();
        let all = known.len() == self.revisions.len();
        let error = Error::new(
            ErrorKind::NotFound,
            format!("layer {layer} has no revision {n}"),
        );
        error.next(if all {
            format!("use one of: {}", known.join(", "))
        } else {
            format!("use one of those before, or: {}", known.join(", "))
        })
    }

    /// Checks what a record read from a file must hold before anything relies on it.
    pub(super) fn check(&self, layer: &Name) -> Result<(), String> {
        let mut previous = 0;
        for (index, revision) in self.revisions.iter().enumerate() {
            let n = revision.n;
            if n <= previous {
                return Err(format!("layer {layer}: revision {n} is out of order"));
            }
            previous = n;
            // Those before are in order, so they can be searched.
            let older = &self.revisions[..index];
            let find = |n: u64| {
                let found = older.binary_search_by_key(&n, |revision| revision.n).ok();
                found.map(|index| &older[index])
            };
            if revision.parent.is_some_and(|parent| find(parent).is_none()) {
                return Err(format!("layer {layer}: revision {n} has no such parent"));
            }
            // Each base adds something, so the delta below one is found without a search.
            let fits = |base: &Revision| base.image == revision.image && !base.deltas.is_empty();
            if revision
                .base
                .is_some_and(|base| !find(base).is_some_and(fits))
            {
                return Err(format!("layer {layer}: revision {n} has no such base"));
            }
            for delta in &revision.deltas {
                delta
                    .id
                    .check()
                    .map_err(|rule| format!("layer {layer}: revision {n}: {rule}"))?;
            }
        }
        if self.find(self.current).is_none() {
            return Err(format!(
                "layer {layer}: the current revision {} is missing",
                self.current
            ));
        }
        if self.next_revision <= previous {
            return Err(format!(
                "layer {layer}: the next revision {} was used",
                self.next_revision
            ));
        }
        Ok(())
    }
}

/// What a new revision holds.
pub(super) struct NewRevision {
    pub(super) image: ImageDigest,
    pub(super) content: Content,
    pub(super) time: Timestamp,
    pub(super) label: Option<String>,
    pub(super) reason: Reason,
}

/// What a new revision holds beside its image.
pub(super) enum Content {
    /// Nothing: the image as it is.
    Image,
    /// What the current revision holds, and the delta that is frozen now, if there is one.
    Frozen(Option<DeltaId>),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_base_that_adds_nothing_is_none() {
        let image = format!("sha256c:{}", "0".repeat(64)).parse().unwrap();
        let mut history = History::new(1, image, Timestamp::now());
        let frozen = |delta| NewRevision {
            image,
            content: Content::Frozen(delta),
            time: Timestamp::now(),
            label: None,
            reason: Reason::Snapshot,
        };
        let delta = DeltaId {
            generation: 7,
            family: Family::Vmdk,
            extent_sectors: None,
        };
        history.push(frozen(Some(delta)));
        history.push(frozen(None));
        history.push(frozen(None));
        let layer = "home".parse().unwrap();
        history.check(&layer).unwrap();
        assert_eq!(history.revisions[3].base, Some(2));
        // As a file may say that was made to cost time: each step of a chain would be a search.
        history.revisions[3].base = Some(3);
        assert!(history.check(&layer).unwrap_err().contains("no such base"));
    }
}

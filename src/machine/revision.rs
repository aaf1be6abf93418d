//! The revisions of one layer: a tree with a current node, and the head on top of it.
//!
//! Pure data and its rules; the files behind it are made in `super::files`.

use serde::{Deserialize, Serialize};

use crate::chain::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Unknown;
use crate::image::ImageDigest;
use crate::spec::{LayerSpec, Name};
use crate::timestamp::Timestamp;

/// One layer of a machine: what it is, where it has been, and its writable delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LayerState {
    /// The layer as the spec describes it.
    pub spec: LayerSpec,
    /// Every state that can be gone back to, in the order in which they were made.
    pub revisions: Vec<Revision>,
    /// The revision that the head lies on.
    pub current: u64,
    /// The number of the next revision; numbers are never used twice.
    pub next_revision: u64,
    /// The writable delta.
    pub head: Head,
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
    /// The image at the base of its chain.
    pub image: ImageDigest,
    /// The frozen deltas on the image, lowest first.
    #[serde(default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delta {
    /// The generation that it was made as: its file name and ids follow from it.
    pub generation: u64,
    /// The family of its files.
    pub family: Family,
}

/// The writable delta of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    /// The generation that it was made as.
    pub generation: u64,
    /// The family of its files.
    pub family: Family,
    /// Whether a guest may have written to it.
    #[serde(rename = "use")]
    pub usage: Use,
}

/// Whether a guest may have written to a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Use {
    /// Never started: it is empty and may be made anew at will.
    Untouched,
    /// It was attached to a machine that was started.
    Started,
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
    /// The head was kept before a rollback.
    BeforeRollback,
    /// The head was kept before an update.
    BeforeUpdate,
    /// The head was kept before the layer was removed.
    BeforeRemove,
}

impl Reason {
    /// Whether a revision made for this reason is one to rejuvenate to: never a snapshot, which
    /// may hold what one wants to get rid of.
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
            Self::BeforeRollback => "before-rollback",
            Self::BeforeUpdate => "before-update",
            Self::BeforeRemove => "before-remove",
        }
    }
}

impl LayerState {
    /// A layer that starts from `image`, with a head of this `generation`.
    #[must_use]
    pub fn new(spec: LayerSpec, image: ImageDigest, head: Head, time: Timestamp) -> Self {
        let first = Revision {
            n: 1,
            parent: None,
            image,
            deltas: Vec::new(),
            time,
            label: None,
            reason: Reason::Create,
            pinned: false,
            unknown: Unknown::new(),
        };
        Self {
            spec,
            revisions: vec![first],
            current: 1,
            next_revision: 2,
            head,
            unknown: Unknown::new(),
        }
    }

    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// Revision `n`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], naming those there are.
    pub fn revision(&self, n: u64) -> Result<&Revision> {
        self.revisions
            .iter()
            .find(|revision| revision.n == n)
            .ok_or_else(|| {
                let known: Vec<_> = self.revisions.iter().map(|r| r.n.to_string()).collect();
                Error::new(
                    ErrorKind::NotFound,
                    format!("layer {} has no revision {n}", self.name()),
                )
                .next(format!("use one of: {}", known.join(", ")))
            })
    }

    /// The revision that the head lies on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] in a record that was not checked.
    pub fn current(&self) -> Result<&Revision> {
        self.revision(self.current)
    }

    /// The newest clean revision: where rejuvenating goes.
    #[must_use]
    pub fn clean(&self) -> Option<&Revision> {
        self.revisions
            .iter()
            .rev()
            .find(|revision| revision.reason.is_clean())
    }

    /// Adds a revision on the current one and makes it current.
    pub(super) fn push(&mut self, change: NewRevision) -> u64 {
        let n = self.next_revision;
        self.revisions.push(Revision {
            n,
            parent: Some(self.current),
            image: change.image,
            deltas: change.deltas,
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

    /// Checks what a record read from a file must hold before anything relies on it.
    pub(super) fn check(&self) -> Result<(), String> {
        let name = self.name();
        let mut previous = 0;
        for revision in &self.revisions {
            let n = revision.n;
            if n <= previous {
                return Err(format!("layer {name}: revision {n} is out of order"));
            }
            if revision
                .parent
                .is_some_and(|p| p >= n || self.revision(p).is_err())
            {
                return Err(format!("layer {name}: revision {n} has no such parent"));
            }
            if revision
                .deltas
                .iter()
                .any(|delta| delta.generation == self.head.generation)
            {
                return Err(format!("layer {name}: revision {n} holds the head"));
            }
            previous = n;
        }
        if self.revision(self.current).is_err() {
            return Err(format!(
                "layer {name}: the current revision {} is missing",
                self.current
            ));
        }
        if self.next_revision <= previous {
            return Err(format!(
                "layer {name}: the next revision {} was used",
                self.next_revision
            ));
        }
        Ok(())
    }
}

/// What a new revision holds.
pub(super) struct NewRevision {
    pub(super) image: ImageDigest,
    pub(super) deltas: Vec<Delta>,
    pub(super) time: Timestamp,
    pub(super) label: Option<String>,
    pub(super) reason: Reason,
}

//! One layer of a machine: what it is, where it has been, and its head; and what is left of a layer
//! that was removed.
//!
//! Pure data; the tree of revisions is in [`super::revision`].

use serde::{Deserialize, Serialize};

use super::record::DiskPort;
use super::retention::Retention;
use super::revision::{DeltaId, History, Revision};
use crate::chain::{DiskName, Family};
use crate::error::Result;
use crate::format::Unknown;
use crate::image::ImageDigest;
use crate::spec::{LayerSpec, Name, Writes};
use crate::timestamp::Timestamp;

/// One layer of a machine: what it is, where it has been, and its writable delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LayerState {
    /// The layer as the spec describes it.
    pub spec: LayerSpec,
    /// Its revisions.
    pub history: History,
    /// The writable delta.
    pub head: Head,
    /// Which revisions are kept, where that is not the machine's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A layer that was removed: all but its head, so that it can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RemovedLayer {
    /// The layer as the spec described it.
    pub spec: LayerSpec,
    /// Its revisions; it comes back at the current one.
    pub history: History,
    /// The port that it had, which it gets back if it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<DiskPort>,
    /// How many layers stood before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it was removed; not known of those that a version 1 removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Which revisions are kept, where that is not the machine's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The writable delta of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Head {
    /// The generation that it was made as.
    pub generation: u64,
    /// The family of its files.
    pub family: Family,
    /// As for [`DeltaId::extent_sectors`]: what was made stays what it is, on whatever volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent_sectors: Option<u64>,
    /// Whether a guest may have written to it.
    #[serde(rename = "use")]
    pub usage: Use,
    /// Which sessions wrote to it.
    #[serde(default, skip_serializing_if = "Began::is_earlier")]
    pub began: Began,
    /// What its writes are for.
    #[serde(default, skip_serializing_if = "Purpose::is_usual")]
    pub purpose: Purpose,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
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

/// Which sessions wrote to a head that was started. A session is a run with all its boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Began {
    /// One before the last, or it is not known: dropping the head would drop more than the last
    /// session.
    #[default]
    Earlier,
    /// The last session alone.
    Session,
}

/// What the writes to a head are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Purpose {
    /// What the layer's `writes` say.
    #[default]
    Usual,
    /// A golden is being edited: they are kept although the layer discards.
    Edit,
}

impl Purpose {
    fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

impl Began {
    fn is_earlier(&self) -> bool {
        *self == Self::Earlier
    }
}

impl Head {
    /// A head that nobody has written to.
    #[must_use]
    pub fn new(generation: u64, family: Family) -> Self {
        Self {
            generation,
            family,
            extent_sectors: None,
            usage: Use::Untouched,
            began: Began::Earlier,
            purpose: Purpose::Usual,
            unknown: Unknown::new(),
        }
    }

    /// The delta that it is once it is frozen.
    #[must_use]
    pub fn delta(&self) -> DeltaId {
        DeltaId {
            generation: self.generation,
            family: self.family,
            extent_sectors: self.extent_sectors,
        }
    }
}

impl LayerState {
    /// A layer whose revision `n` starts from `image`.
    pub(super) fn new(
        spec: LayerSpec,
        n: u64,
        image: ImageDigest,
        head: Head,
        time: Timestamp,
    ) -> Self {
        Self {
            spec,
            history: History::new(n, image, time),
            head,
            retention: None,
            unknown: Unknown::new(),
        }
    }

    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// The layer's disk.
    #[must_use]
    pub fn disk(&self) -> DiskName {
        DiskName::Layer(self.name().clone())
    }

    /// Revision `n`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), naming those there are.
    pub fn revision(&self, n: u64) -> Result<&Revision> {
        self.history
            .find(n)
            .ok_or_else(|| self.history.no_revision(self.name(), n))
    }

    /// The revision that the head lies on.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) in a record that was not checked.
    pub fn current(&self) -> Result<&Revision> {
        self.revision(self.history.current)
    }

    /// What becomes of what is written to its head: an edit keeps it where the layer discards.
    #[must_use]
    pub fn head_writes(&self) -> Writes {
        match self.head.purpose {
            Purpose::Edit => Writes::Keep,
            Purpose::Usual => self.spec.effective_writes(),
        }
    }

    /// Whether its head holds what a guest wrote and the next start must not lose.
    #[must_use]
    pub fn holds_kept_writes(&self) -> bool {
        self.head_writes() == Writes::Keep && self.head.usage == Use::Started
    }

    /// Whether its head holds an edit that is under way, or was cut short.
    #[must_use]
    pub fn holds_edit(&self) -> bool {
        self.head.purpose == Purpose::Edit && self.head.usage == Use::Started
    }
}

/// A layer, or what is left of one that was removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnyLayer<'a> {
    pub(super) spec: &'a LayerSpec,
    pub(super) history: &'a History,
    /// None for a layer that was removed.
    pub(super) head: Option<&'a Head>,
}

impl AnyLayer<'_> {
    pub(super) fn name(&self) -> &Name {
        &self.spec.name
    }

    pub(super) fn disk(&self) -> DiskName {
        DiskName::Layer(self.name().clone())
    }
}

impl<'a> From<&'a LayerState> for AnyLayer<'a> {
    fn from(layer: &'a LayerState) -> Self {
        Self {
            spec: &layer.spec,
            history: &layer.history,
            head: Some(&layer.head),
        }
    }
}

impl<'a> From<&'a RemovedLayer> for AnyLayer<'a> {
    fn from(layer: &'a RemovedLayer) -> Self {
        Self {
            spec: &layer.spec,
            history: &layer.history,
            head: None,
        }
    }
}

impl RemovedLayer {
    /// The layer's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// The disk that it had.
    #[must_use]
    pub fn disk(&self) -> DiskName {
        DiskName::Layer(self.name().clone())
    }

    /// Whether it holds anything that a guest wrote.
    #[must_use]
    pub fn holds_writes(&self) -> bool {
        self.history.deltas().next().is_some()
    }
}

//! Changes of a machine's layers as data, so that they can be made now or wait for the next start.
//!
//! What each of them does is in `super::change` and `super::session`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::revision::Reason;
use crate::format::Unknown;
use crate::image::ImageDigest;
use crate::spec::{LayerSpec, Name};
use crate::timestamp::Timestamp;

/// What an operation does with what the guest wrote to the layer since its last revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kept {
    /// Refuse rather than lose anything; keep it as a revision where that is possible.
    #[default]
    Preserve,
    /// Drop it. Older revisions stay.
    Discard,
}

/// A change that waits for the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Staged {
    /// What is to be done.
    pub change: Change,
    /// When it was asked for.
    pub time: Timestamp,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A change of a machine's layers. One with keys that are not known here is refused: it is not to be
/// half done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Change {
    /// Go to another revision of a layer.
    Rollback {
        /// The layer.
        layer: Name,
        /// The revision; none: the parent of the current one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
        /// What becomes of what the guest wrote.
        #[serde(default)]
        kept: Kept,
    },
    /// Go to the revisions that a point names.
    RollbackToPoint {
        /// The point.
        point: Name,
        /// What becomes of what the guest wrote.
        #[serde(default)]
        kept: Kept,
    },
    /// Give a layer another image.
    Update {
        /// The layer.
        layer: Name,
        /// The image.
        image: ImageDigest,
        /// What becomes of what the guest wrote.
        #[serde(default)]
        kept: Kept,
    },
    /// Add a layer at the end.
    Add {
        /// The layer.
        layer: Box<LayerSpec>,
        /// The image that it starts from.
        image: ImageDigest,
    },
    /// Take back a layer that was removed.
    TakeBack {
        /// The layer.
        layer: Name,
    },
    /// Remove a layer.
    Remove {
        /// The layer.
        layer: Name,
        /// What becomes of what the guest wrote.
        #[serde(default)]
        kept: Kept,
    },
    /// Bring every layer that resets back to its newest clean revision.
    Rejuvenate,
    /// Keep what the session wrote to a layer that discards, as a revision.
    Accept {
        /// The layer.
        layer: Name,
    },
    /// Drop what the session wrote to a layer that keeps.
    Revert {
        /// The layer.
        layer: Name,
    },
}

impl Change {
    /// The operation's name, as `last` and the launcher say it.
    #[must_use]
    pub const fn operation(&self) -> OperationKind {
        match self {
            Self::Rollback { .. } => OperationKind::Rollback,
            Self::RollbackToPoint { .. } => OperationKind::RollbackToPoint,
            Self::Update { .. } => OperationKind::Update,
            Self::Add { .. } => OperationKind::Add,
            Self::TakeBack { .. } => OperationKind::TakeBack,
            Self::Remove { .. } => OperationKind::Remove,
            Self::Rejuvenate => OperationKind::Rejuvenate,
            Self::Accept { .. } => OperationKind::Accept,
            Self::Revert { .. } => OperationKind::Revert,
        }
    }

    /// The layer that it is about; none where it is about several.
    #[must_use]
    pub fn layer(&self) -> Option<&Name> {
        match self {
            Self::Rollback { layer, .. }
            | Self::Update { layer, .. }
            | Self::TakeBack { layer }
            | Self::Remove { layer, .. }
            | Self::Accept { layer }
            | Self::Revert { layer } => Some(layer),
            Self::Add { layer, .. } => Some(&layer.name),
            Self::RollbackToPoint { .. } | Self::Rejuvenate => None,
        }
    }

    /// The image that it needs.
    #[must_use]
    pub const fn image(&self) -> Option<ImageDigest> {
        match self {
            Self::Update { image, .. } | Self::Add { image, .. } => Some(*image),
            _ => None,
        }
    }

    /// The revision that it goes to, where it names one.
    pub(super) fn target(&self) -> Option<(Name, u64)> {
        match self {
            Self::Rollback {
                layer,
                to: Some(to),
                ..
            } => Some((layer.clone(), *to)),
            _ => None,
        }
    }

    /// Whether it decides on a session that ran, and so comes before all that was asked for the
    /// next one.
    #[must_use]
    pub const fn is_decision(&self) -> bool {
        matches!(self, Self::Accept { .. } | Self::Revert { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rollback {
                layer,
                to: Some(to),
                ..
            } => write!(f, "rollback of {layer} to revision {to}"),
            Self::RollbackToPoint { point, .. } => write!(f, "rollback to point {point}"),
            Self::Update { layer, image, .. } => write!(f, "update of {layer} to {image}"),
            Self::Rejuvenate => f.write_str("rejuvenate"),
            Self::TakeBack { layer } => write!(f, "taking back of {layer}"),
            Self::Accept { layer } => write!(f, "keeping of {layer} as the session left it"),
            Self::Revert { layer } => write!(f, "dropping of what the session wrote to {layer}"),
            Self::Rollback { layer, .. } | Self::Remove { layer, .. } => {
                write!(f, "{} of {layer}", self.operation().as_str())
            }
            Self::Add { layer, .. } => write!(f, "add of {}", layer.name),
        }
    }
}

/// What kind of operation one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OperationKind {
    /// A layer was frozen.
    Snapshot,
    /// A point was made.
    Point,
    /// A layer went to another revision.
    Rollback,
    /// Layers went to the revisions of a point.
    RollbackToPoint,
    /// A layer got another image.
    Update,
    /// A layer was added.
    Add,
    /// A removed layer was taken back.
    TakeBack,
    /// A layer was removed.
    Remove,
    /// Layers went to their newest clean revisions.
    Rejuvenate,
    /// A session's writes were made a revision.
    Accept,
    /// A session's writes were dropped.
    Revert,
    /// A golden was edited.
    Edit,
    /// The operation before was taken back.
    Undo,
}

impl OperationKind {
    /// The kind as `machine.json` and the launcher write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Point => "point",
            Self::Rollback => "rollback",
            Self::RollbackToPoint => "rollback-to-point",
            Self::Update => "update",
            Self::Add => "add",
            Self::TakeBack => "take-back",
            Self::Remove => "remove",
            Self::Rejuvenate => "rejuvenate",
            Self::Accept => "accept",
            Self::Revert => "revert",
            Self::Edit => "edit",
            Self::Undo => "undo",
        }
    }

    /// Why a head is frozen before an operation of this kind.
    pub(super) const fn before(self) -> Reason {
        match self {
            Self::Update => Reason::BeforeUpdate,
            Self::Remove => Reason::BeforeRemove,
            Self::Undo => Reason::BeforeUndo,
            _ => Reason::BeforeRollback,
        }
    }
}

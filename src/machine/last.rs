//! What is remembered of the last layer operation, so that it can be taken back.
//!
//! Taking it back is in `super::undo`.

use serde::{Deserialize, Serialize};

use super::layer::LayerState;
use super::staged::OperationKind;
use crate::format::Unknown;
use crate::spec::{Name, Size};
use crate::timestamp::Timestamp;

/// The last layer operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LastOperation {
    /// What it was.
    pub operation: OperationKind,
    /// What was taken back, where it was an undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undid: Option<OperationKind>,
    /// When it was done.
    pub time: Timestamp,
    /// The layers it changed, as they were before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerBefore>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A layer as it was before an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LayerBefore {
    /// The layer.
    pub layer: Name,
    /// The revision that shows what the guest saw; none: the layer was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What its spec said it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What its spec said of its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Whether what the guest had written was dropped for good.
    #[serde(default)]
    pub writes: Writes,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What became of what the guest had written to a kept layer since its revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Writes {
    /// There was nothing, or it is in a revision.
    #[default]
    Kept,
    /// It was dropped and does not come back.
    Dropped,
}

impl LastOperation {
    /// An operation of this moment that changed these layers.
    pub(super) fn new(operation: OperationKind, layers: Vec<LayerBefore>) -> Self {
        Self {
            operation,
            undid: None,
            time: Timestamp::now(),
            layers,
            unknown: Unknown::new(),
        }
    }
}

impl LayerBefore {
    /// A layer that was at `revision`.
    pub(super) fn at(state: &LayerState, revision: u64, writes: Writes) -> Self {
        Self {
            layer: state.name().clone(),
            revision: Some(revision),
            image: state.spec.image.clone(),
            size: state.spec.size,
            writes,
            unknown: Unknown::new(),
        }
    }

    /// A layer that was not there.
    pub(super) fn absent(layer: &Name) -> Self {
        Self {
            layer: layer.clone(),
            revision: None,
            image: None,
            size: None,
            writes: Writes::Kept,
            unknown: Unknown::new(),
        }
    }
}

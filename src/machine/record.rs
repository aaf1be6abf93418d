//! `machine.json`: the only truth about a machine.
//!
//! Its types, and reading them from bytes with every rule checked. Replacing the file is in
//! `super::folder`.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ended::EndRecord;
use super::last::LastOperation;
use super::layer::{AnyLayer, LayerState, RemovedLayer};
use super::points::Point;
use super::retention::Retention;
use super::revision::{DeltaId, History};
use super::staged::Staged;
use super::upgrade;
use crate::capability::Lifetime;
use crate::chain::{DiskName, Family};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Format, Kind, Unknown};
use crate::hypervisor::{Endpoint, ProcessId, Product};
use crate::identity::Identity;
use crate::image::ImageDigest;
use crate::slot::{Port, Ports};
use crate::spec::{Name, VmSpec};
use crate::timestamp::Timestamp;

/// The format of `machine.json`.
pub(super) const KIND: Kind = Kind {
    name: "stratavm-machine",
    version: 2,
    min_reader: 2,
};

/// Counters of a real machine stay far below this; one above it would overflow.
const MOST: u64 = 1 << 53;

/// Everything that is known of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Record {
    /// What wrote the file and who may read it.
    pub format: Format,
    /// Drawn once when the machine was created; never changes.
    pub id: Uuid,
    /// The machine's name; the name of its folder.
    pub name: Name,
    /// When it was created: UTC, RFC 3339.
    pub created: Timestamp,
    /// Counts every head ever made: the next one gets the number after it.
    pub generation: u64,
    /// The family that new heads are made in unless a product needs another.
    pub family: Family,
    /// The spec without its layers, which live in `layers`.
    pub spec: VmSpec,
    /// What the guest sees and must stay constant.
    pub hardware: HardwareRecord,
    /// The layers, in spec order.
    pub layers: Vec<LayerState>,
    /// Layers that were removed and can be taken back, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<RemovedLayer>,
    /// What is to be done at the next start, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<Staged>,
    /// Named states of several layers, in the order in which they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// The last layer operation, which can be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastOperation>,
    /// Which revisions are kept; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The session disk of the last start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionRecord>,
    /// The run that is under way, or that ended without anybody to say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// How the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndRecord>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the guest sees of the machine and what must not change when it moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HardwareRecord {
    /// The ports of the disks.
    pub ports: Vec<DiskPort>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl HardwareRecord {
    /// A record of `ports`.
    #[must_use]
    pub fn new(ports: &Ports) -> Self {
        let entry = |(disk, port): (&DiskName, &Port)| DiskPort {
            disk: disk.clone(),
            port: *port,
            unknown: Unknown::new(),
        };
        Self {
            ports: ports.iter().map(entry).collect(),
            unknown: Unknown::new(),
        }
    }

    /// The ports by disk.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
            .iter()
            .map(|entry| (entry.disk.clone(), entry.port))
            .collect()
    }
}

/// The port of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskPort {
    /// The disk.
    pub disk: DiskName,
    /// Its port.
    #[serde(flatten)]
    pub port: Port,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The session disk of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SessionRecord {
    /// The generation that it was made as.
    pub generation: u64,
    /// The family of its files.
    pub family: Family,
    /// As for [`DeltaId::extent_sectors`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent_sectors: Option<u64>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl SessionRecord {
    /// Its disk as a delta.
    pub(super) fn delta(&self) -> DeltaId {
        DeltaId {
            generation: self.generation,
            family: self.family,
            extent_sectors: self.extent_sectors,
        }
    }
}

/// A run: written before the product is started, cleared once the machine is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RunRecord {
    /// The product.
    pub product: Product,
    /// The generation counter when the run began.
    pub generation: u64,
    /// The heads that the run writes to.
    pub heads: Vec<HeadRecord>,
    /// The digest of the plan that was applied; empty until it was.
    pub plan: String,
    /// How to reach the product; absent until it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The process that watches over the run.
    pub supervisor: ProcessId,
    /// When it began: UTC, RFC 3339.
    pub since: Timestamp,
    /// How many times the guest was started in this run, from 1.
    pub boots: u32,
    /// How far it has come.
    #[serde(default)]
    pub phase: RunPhase,
    /// Whether the product's machine may outlive the supervisor: then only the product can say what
    /// has become of it.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// The layer that the run edits: it keeps what is written to it, for all of its boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Name>,
    /// When the present supervisor took over a machine that ran already: UTC, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Timestamp>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunPhase {
    /// It begins, or is under way.
    #[default]
    Running,
    /// The guest was asked to shut down. A reboot ends the run then.
    Stopping,
    /// The product has saved the machine's state: nothing of its heads may change.
    Suspended,
}

impl RunRecord {
    /// A run that is about to begin.
    #[must_use]
    pub fn new(product: Product, generation: u64, supervisor: ProcessId, since: Timestamp) -> Self {
        Self {
            product,
            generation,
            heads: Vec::new(),
            plan: String::new(),
            endpoint: None,
            supervisor,
            since,
            boots: 1,
            phase: RunPhase::default(),
            lifetime: Lifetime::default(),
            edit: None,
            attached: None,
            unknown: Unknown::new(),
        }
    }
}

/// A head that a run writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeadRecord {
    /// The disk.
    pub disk: DiskName,
    /// The head's generation.
    pub generation: u64,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Record {
    /// Reads and checks a record of this version or an older one. Pure: nothing is allocated that
    /// is much larger than the input.
    ///
    /// # Errors
    /// [`ErrorKind::FromTheFuture`] if it needs a newer reader, [`ErrorKind::Malformed`] with the
    /// line and column, or the rule it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let record: Self = format::parse_any(bytes, KIND, upgrade::STEPS)?;
        record
            .check()
            .map_err(|rule| Error::new(ErrorKind::Malformed, rule))?;
        Ok(record)
    }

    /// The record as it is written.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it breaks a rule, so that no such record is ever written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check().map_err(Error::invalid)?;
        format::to_bytes(self)
    }

    fn check(&self) -> Result<(), String> {
        self.full_spec()
            .validate()
            .map_err(|faults| format!("the machine's spec breaks a rule: {faults}"))?;
        let mut names = BTreeSet::new();
        for layer in &self.layers {
            if !names.insert(layer.name()) {
                return Err(format!("two layers are called {}", layer.name()));
            }
            if !self
                .hardware
                .ports
                .iter()
                .any(|entry| entry.disk == layer.disk())
            {
                return Err(format!("layer {} has no port", layer.name()));
            }
        }
        let mut points = BTreeSet::new();
        if let Some(point) = self.points.iter().find(|point| !points.insert(&point.name)) {
            return Err(format!("two points are called {}", point.name));
        }
        self.check_generations()
    }

    /// Every head and frozen delta has a generation of its own: their files are called by it.
    fn check_generations(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        for layer in &self.layers {
            let rule = layer.head.delta().check();
            rule.map_err(|rule| format!("layer {}: {rule}", layer.name()))?;
        }
        let heads = self.layers.iter().map(|layer| layer.head.generation);
        let heads: Vec<_> = heads.collect();
        for (name, history) in self.histories() {
            history.check(name)?;
            if history.next_revision > MOST {
                return Err("a counter is beyond what any machine reaches".to_owned());
            }
            for (revision, delta) in history.deltas() {
                let (n, generation) = (revision.n, delta.generation);
                if heads.contains(&generation) {
                    return Err(format!("layer {name}: revision {n} holds a head"));
                }
                if !seen.insert(generation) {
                    return Err(format!(
                        "layer {name}: revision {n} holds a delta of another one"
                    ));
                }
            }
        }
        if self.generation > MOST {
            return Err("a counter is beyond what any machine reaches".to_owned());
        }
        for generation in heads {
            if !seen.insert(generation) {
                return Err(format!("two heads have generation {generation}"));
            }
        }
        match seen.into_iter().max() {
            Some(newest) if newest > self.generation => Err(format!(
                "a delta of generation {newest} is ahead of the generation counter"
            )),
            _ => Ok(()),
        }
    }

    /// The histories of all layers, those of removed ones last.
    pub fn histories(&self) -> impl Iterator<Item = (&Name, &History)> {
        let layers = self.layers.iter();
        let layers = layers.map(|layer| (layer.name(), &layer.history));
        let removed = self.removed.iter();
        layers.chain(removed.map(|layer| (layer.name(), &layer.history)))
    }

    /// All layers, removed ones last.
    pub(super) fn all_layers(&self) -> impl Iterator<Item = AnyLayer<'_>> {
        let layers = self.layers.iter().map(AnyLayer::from);
        layers.chain(self.removed.iter().map(AnyLayer::from))
    }

    /// The images that the machine needs: those of all revisions, and of what is staged.
    #[must_use]
    pub fn images(&self) -> BTreeSet<ImageDigest> {
        let revisions = self.histories().flat_map(|(_, history)| &history.revisions);
        let revisions = revisions.map(|revision| revision.image);
        let staged = self.next.iter().filter_map(|staged| staged.change.image());
        revisions.chain(staged).collect()
    }

    /// The machine's identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::Machine(self.id)
    }

    /// The whole spec, layers included.
    #[must_use]
    pub fn full_spec(&self) -> VmSpec {
        let mut spec = self.spec.clone();
        spec.layers = self.layers.iter().map(|layer| layer.spec.clone()).collect();
        spec
    }

    /// The layer called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], naming those there are.
    pub fn layer(&self, name: &Name) -> Result<&LayerState> {
        self.layers
            .iter()
            .find(|layer| layer.name() == name)
            .ok_or_else(|| self.no_layer(name))
    }

    /// As [`layer`](Self::layer), to change it.
    pub(super) fn layer_mut(&mut self, name: &Name) -> Result<&mut LayerState> {
        match self.layers.iter().position(|layer| layer.name() == name) {
            Some(index) => Ok(&mut self.layers[index]),
            None => Err(self.no_layer(name)),
        }
    }

    /// The number of a new head.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn no_layer(&self, name: &Name) -> Error {
        let known: Vec<_> = self
            .layers
            .iter()
            .map(|layer| layer.name().as_str())
            .collect();
        Error::new(
            ErrorKind::NotFound,
            format!("machine {} has no layer {name}", self.name),
        )
        .next(format!("use one of: {}", known.join(", ")))
    }
}

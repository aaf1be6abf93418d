//! Points: named states of several layers that one can go back to in one step.

use serde::{Deserialize, Serialize};

use super::annotate::check_label;
use super::edit::Edit;
use super::folder::Machine;
use super::operations::Operation;
use super::record::Record;
use super::revision::Reason;
use super::staged::{Change, Kept, OperationKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Unknown;
use crate::spec::Name;
use crate::timestamp::Timestamp;

/// A named state of several layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Point {
    /// Its name, unique in the machine.
    pub name: Name,
    /// When it was made.
    pub time: Timestamp,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The layers, in spec order.
    pub layers: Vec<PointLayer>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A layer of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PointLayer {
    /// The layer.
    pub layer: Name,
    /// The revision that it goes back to.
    pub revision: u64,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Machine {
    /// Makes a point of these layers, or of all if none are named. What the guest wrote to those
    /// that keep is frozen; of those that discard the point has the revision without the writes.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if there is a point of that name; [`ErrorKind::NotFound`] for an
    /// unknown layer; [`ErrorKind::Busy`] while the machine runs.
    pub fn create_point(
        &self,
        name: &Name,
        label: Option<String>,
        layers: &[Name],
    ) -> Result<Operation> {
        check_label(label.as_deref())?;
        let off = self.lock_off()?;
        let mut edit = Edit::new(self, off.record);
        edit.take_staged()?;
        if edit.record.points.iter().any(|point| point.name == *name) {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("machine {} has a point {name} already", self.name()),
            )
            .next(format!("stratavm point remove {} {name}", self.name())));
        }
        for layer in layers {
            edit.record.layer(layer)?;
        }
        let all = edit.record.layers.iter().map(|layer| layer.name().clone());
        let chosen: Vec<_> = all
            .filter(|layer| layers.is_empty() || layers.contains(layer))
            .collect();
        let mut entries = Vec::new();
        for layer in &chosen {
            if edit.record.layer(layer)?.holds_kept_writes() {
                edit.freeze(layer, label.clone(), Reason::Point)?;
            }
            entries.push(PointLayer {
                layer: layer.clone(),
                revision: edit.record.layer(layer)?.history.current,
                unknown: Unknown::new(),
            });
        }
        edit.record.points.push(Point {
            name: name.clone(),
            time: Timestamp::now(),
            label,
            layers: entries,
            unknown: Unknown::new(),
        });
        edit.remember(OperationKind::Point, Vec::new());
        let mut done = Operation::over(chosen);
        done.notes = edit.commit()?;
        Ok(done)
    }

    /// Forgets a point. Its revisions stay, as far as retention keeps them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], naming those there are.
    pub fn remove_point(&self, name: &Name) -> Result<()> {
        self.annotate(|record| {
            let index = record.point(name)?;
            record.points.remove(index);
            Ok(())
        })
    }

    /// Goes back to the revisions that a point names, in one step. Nothing is deleted: what the
    /// guest wrote to kept layers becomes a revision each first. On a running machine this waits
    /// for the next start.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such point, or a layer of it was removed.
    pub fn rollback_to_point(&self, name: &Name, kept: Kept) -> Result<Operation> {
        let point = name.clone();
        self.change(Change::RollbackToPoint { point, kept })
    }
}

impl Edit<'_> {
    pub(super) fn rollback_to_point(&mut self, name: &Name, kept: Kept) -> Result<Operation> {
        let point = self.record.points[self.record.point(name)?].clone();
        let mut before = Vec::new();
        let mut done = Operation::over(Vec::new());
        for PointLayer {
            layer, revision, ..
        } in &point.layers
        {
            let state = self.record.layer(layer).map_err(|error| {
                error
                    .during(format!("point {name} cannot be gone back to"))
                    .next(format!("stratavm add {} --back {layer}", self.record.name))
            })?;
            if state.history.current == *revision && !state.holds_kept_writes() {
                continue;
            }
            let moved = self.go_to(layer, *revision, kept, OperationKind::RollbackToPoint)?;
            if let Some(n) = moved.preserved {
                let note = format!("what the guest had written to {layer} is kept as revision {n}");
                done.notes.push(note);
            }
            before.push(moved.before);
            done.layers.push(layer.clone());
        }
        if !before.is_empty() {
            self.remember(OperationKind::RollbackToPoint, before);
        }
        Ok(done)
    }
}

impl Record {
    /// Where the point called `name` stands among all.
    fn point(&self, name: &Name) -> Result<usize> {
        let found = self.points.iter().position(|point| point.name == *name);
        found.ok_or_else(|| {
            let known: Vec<_> = self.points.iter().map(|p| p.name.as_str()).collect();
            let error = Error::new(
                ErrorKind::NotFound,
                format!("machine {} has no point {name}", self.name),
            );
            match known.is_empty() {
                true => error.next(format!("stratavm point create {} {name}", self.name)),
                false => error.next(format!("use one of: {}", known.join(", "))),
            }
        })
    }
}

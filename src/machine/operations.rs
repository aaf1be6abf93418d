//! The layer operations as callers know them: each one ends in one rename of `machine.json`, or, on
//! a running machine, is staged for the next start.
//!
//! What they do to a record is in [`super::change`], [`super::session`], [`super::points`] and
//! [`super::undo`]. Every other layer's files stay byte for byte what they are.

use super::annotate::check_label;
use super::edit::Edit;
use super::folder::{Locked, Machine};
use super::record::Record;
use super::revision::Reason;
use super::staged::{Change, Kept, OperationKind, Staged};
use crate::error::{Error, Result};
use crate::format::Unknown;
use crate::image::ImageDigest;
use crate::spec::{Composition, LayerSpec, Name, Writes};
use crate::timestamp::Timestamp;

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// When it takes effect.
    pub when: When,
    /// The layers whose revision or head changed, in spec order.
    pub layers: Vec<Name>,
    /// The layer's current revision afterwards; none for operations on several layers, and for
    /// what is staged.
    pub revision: Option<u64>,
    /// The revision that now holds what the guest had written, where one was made for it.
    pub preserved: Option<u64>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// When an operation takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// It is done.
    Now,
    /// The machine runs: at the next start, a reboot of the guest included.
    NextStart,
}

impl Operation {
    pub(super) fn on(layer: &Name, revision: Option<u64>) -> Self {
        Self {
            revision,
            ..Self::over(vec![layer.clone()])
        }
    }

    pub(super) fn over(layers: Vec<Name>) -> Self {
        Self {
            when: When::Now,
            layers,
            revision: None,
            preserved: None,
            notes: Vec::new(),
        }
    }

    /// The two as one operation.
    fn and(mut self, other: Self) -> Self {
        self.layers.extend(other.layers);
        self.revision = None;
        self.preserved = None;
        self.notes.extend(other.notes);
        self
    }
}

impl Machine {
    /// Freezes what the guest wrote to `layer` as a revision that can be gone back to.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while the machine runs;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown layer.
    pub fn snapshot(&self, layer: &Name, label: Option<String>) -> Result<Operation> {
        check_label(label.as_deref())?;
        let off = self.lock_off()?;
        let mut edit = Edit::new(self, off.record);
        let staged = edit.take_staged()?;
        let edited = edit.record.layer(layer)?.holds_edit();
        let n = edit.freeze(layer, label, Reason::Snapshot)?;
        edit.remember(OperationKind::Snapshot, Vec::new());
        let mut done = Operation::on(layer, Some(n));
        done.notes = staged.iter().map(done_first).collect();
        // Under `disks` the head holds all that the guest wrote; under `linux` it is overlaid.
        let overlaid = edit.record.spec.guest.composition == Composition::Linux && !edited;
        let state = edit.record.layer(layer)?;
        if overlaid && state.spec.effective_writes() == Writes::Discard {
            done.notes.push(
                "the layer's writes are discarded at every start: the snapshot holds what was \
                 written to its disk in the last run, not what the guest kept in its session"
                    .to_owned(),
            );
        }
        done.notes.extend(edit.commit()?);
        Ok(done)
    }

    /// Goes back to revision `to`, or to the parent of the current one. Nothing is deleted: what
    /// the guest wrote to a kept layer becomes a revision first. On a running machine this and the
    /// operations below wait for the next start.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) at the first revision, where there is
    /// nothing to go back to; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown
    /// layer or revision.
    pub fn rollback(&self, layer: &Name, to: Option<u64>, kept: Kept) -> Result<Operation> {
        let layer = layer.clone();
        self.change(Change::Rollback { layer, to, kept })
    }

    /// Gives `layer` another image, as a new revision.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the layer holds kept writes and `kept`
    /// does not say to discard them: a delta cannot be put on another image.
    pub fn update(&self, layer: &Name, image: &ImageDigest, kept: Kept) -> Result<Operation> {
        let (layer, image) = (layer.clone(), *image);
        self.change(Change::Update { layer, image, kept })
    }

    /// Adds a layer at the end, on the lowest free port.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`](crate::ErrorKind::Exists) if there is a layer of that name; whatever
    /// is wrong with the spec that would come out.
    pub fn add_layer(&self, layer: &LayerSpec, image: &ImageDigest) -> Result<Operation> {
        let (layer, image) = (Box::new(layer.clone()), *image);
        self.change(Change::Add { layer, image })
    }

    /// Takes back a layer that was removed, as it was: with its revisions, on its port if that is
    /// free, or else on the lowest free one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if no such layer is kept aside;
    /// [`ErrorKind::Exists`](crate::ErrorKind::Exists) if there is another one of that name.
    pub fn take_back_layer(&self, layer: &Name) -> Result<Operation> {
        let layer = layer.clone();
        self.change(Change::TakeBack { layer })
    }

    /// Removes a layer; its port becomes free. What the guest wrote to a kept layer is kept aside
    /// in the machine, with all its revisions, until it is pruned.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for the operating system's layer;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    pub fn remove_layer(&self, layer: &Name, kept: Kept) -> Result<Operation> {
        let layer = layer.clone();
        self.change(Change::Remove { layer, kept })
    }

    /// Brings every layer that resets back to its newest clean revision: one that was created,
    /// updated or imported, never a snapshot. All others stay byte for byte what they are.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rejuvenate(&self) -> Result<Operation> {
        self.change(Change::Rejuvenate)
    }

    /// Takes back the last layer operation, or the last one that is staged: each layer shows the
    /// guest again what it showed before. What the guest wrote since to a kept layer becomes a
    /// revision, so that nothing is lost; an undo can be taken back too.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where there is nothing to take back, or it
    /// cannot be; [`ErrorKind::Busy`](crate::ErrorKind::Busy) while the machine runs and nothing is
    /// staged.
    pub fn undo(&self) -> Result<Operation> {
        if let Some(done) = self.unstage()? {
            return Ok(done);
        }
        let off = self.lock_off()?;
        let mut edit = Edit::new(self, off.record);
        let mut done = edit.undo()?;
        done.notes.extend(edit.commit()?);
        Ok(done)
    }

    /// Drops the last change that is staged, if there is one.
    fn unstage(&self) -> Result<Option<Operation>> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let edit = Edit::new(self, record.clone());
        let Some(dropped) = record.next.pop() else {
            return Ok(None);
        };
        self.save(&record)?;
        edit.release(&record);
        let mut done = Operation::over(dropped.change.layer().cloned().into_iter().collect());
        done.notes
            .push(format!("the staged {} is taken back", dropped.change));
        Ok(Some(done))
    }

    /// Makes a change now, or stages it.
    pub(super) fn change(&self, change: Change) -> Result<Operation> {
        self.change_all(vec![change])
    }

    /// Makes changes in one step, or stages them.
    pub(super) fn change_all(&self, changes: Vec<Change>) -> Result<Operation> {
        let off = match self.lock_any()? {
            Locked::Running(running) => return self.stage(running.record.clone(), changes),
            Locked::Off(off) => off,
        };
        let mut edit = Edit::new(self, off.record);
        let (staged, mut done) = edit.apply_after_staged(&changes)?;
        if done.layers.is_empty() && staged.is_empty() {
            return Ok(done);
        }
        done.notes.extend(staged.iter().map(done_first));
        done.notes.extend(edit.commit()?);
        Ok(done)
    }

    /// Records changes of a running machine for its next start, after trying them.
    fn stage(&self, mut record: Record, changes: Vec<Change>) -> Result<Operation> {
        let mut trial = Edit::new(self, record.clone());
        let (_, mut done) = trial.apply_after_staged(&changes)?;
        done.when = When::NextStart;
        (done.revision, done.preserved) = (None, None);
        if done.layers.is_empty() {
            return Ok(done);
        }
        for change in changes {
            let staged = Staged {
                change,
                time: Timestamp::now(),
                unknown: Unknown::new(),
            };
            let decided = record.next.iter().take_while(|s| s.change.is_decision());
            let place = match staged.change.is_decision() {
                true => decided.count(),
                false => record.next.len(),
            };
            record.next.insert(place, staged);
        }
        trial.reserve(&record)?;
        let saved = self.save(&record);
        if saved.is_err() {
            trial.give_up();
        }
        saved.map(|()| done)
    }
}

impl Edit<'_> {
    /// Does what is staged and these changes, in the order in which a start would. Answers what was
    /// staged, and what the changes did.
    fn apply_after_staged(&mut self, changes: &[Change]) -> Result<(Vec<Change>, Operation)> {
        if !changes.iter().any(Change::is_decision) {
            let staged = self.take_staged()?;
            return Ok((staged, self.apply_all(changes)?));
        }
        // They are about the session that ran; what is staged is about the next one.
        let mut staged = self.take_decisions()?;
        let done = self.apply_all(changes)?;
        staged.extend(self.take_staged()?);
        Ok((staged, done))
    }

    fn apply_all(&mut self, changes: &[Change]) -> Result<Operation> {
        let mut all: Option<Operation> = None;
        for change in changes {
            let done = self.apply(change)?;
            all = Some(match all {
                Some(before) => before.and(done),
                None => done,
            });
        }
        all.ok_or_else(|| Error::invalid("no layer is named").next("name a layer"))
    }
}

fn done_first(change: &Change) -> String {
    format!("what was staged is done first: {change}")
}

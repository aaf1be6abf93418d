//! The layer operations: snapshot, rollback, update, add, remove, rejuvenate.
//!
//! Each one changes one layer (rejuvenate: those that reset), makes its new files, and ends in one
//! rename of `machine.json`. Every other layer's files stay byte for byte what they are.

use super::create::check_ids;
use super::files::Files;
use super::folder::{Machine, OffLock};
use super::record::{HardwareRecord, Record};
use super::revision::{Head, LayerState, NewRevision, Reason, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, ImageDigest};
use crate::slot;
use crate::spec::{Composition, LayerSpec, Name, Rejuvenate, Writes};
use crate::timestamp::Timestamp;

/// What an operation does with what the guest wrote to the layer since its last revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// Refuse rather than lose anything; keep it as a revision where that is possible.
    #[default]
    Preserve,
    /// Drop it. Older revisions stay.
    Discard,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// The layers whose revision or head changed, in spec order.
    pub layers: Vec<Name>,
    /// The layer's current revision afterwards; none for operations on several layers.
    pub revision: Option<u64>,
    /// The revision that now holds what the guest had written, where one was made for it.
    pub preserved: Option<u64>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Operation {
    fn on(layer: &Name, revision: Option<u64>) -> Self {
        Self {
            layers: vec![layer.clone()],
            revision,
            preserved: None,
            notes: Vec::new(),
        }
    }
}

impl Machine {
    /// Freezes what the guest wrote to `layer` as a revision that can be gone back to.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while the machine runs; [`ErrorKind::NotFound`] for an unknown layer.
    pub fn snapshot(&self, layer: &Name, label: Option<String>) -> Result<Operation> {
        let mut off = self.lock_off()?;
        let files = Files::new(self);
        let n = files.freeze(&mut off.record, layer, label, Reason::Snapshot)?;
        let state = off.record.layer(layer)?;
        let mut done = Operation::on(layer, Some(n));
        // Under `disks` the head holds all that the guest wrote; under `linux` it is overlaid.
        let overlaid = off.record.spec.guest.composition == Composition::Linux;
        if overlaid && state.spec.effective_writes() == Writes::Discard {
            done.notes.push(
                "the layer's writes are discarded at every start: the snapshot holds what was \
                 written to its disk in the last run, not what the guest kept in its session"
                    .to_owned(),
            );
        }
        self.commit(&off, layer)?;
        Ok(done)
    }

    /// Goes back to revision `to`, or to the parent of the current one. Nothing is deleted: what
    /// the guest wrote to a kept layer becomes a revision first.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] at the first revision, where there is nothing to go back to;
    /// [`ErrorKind::NotFound`] for an unknown layer or revision; [`ErrorKind::Busy`].
    pub fn rollback(&self, layer: &Name, to: Option<u64>, kept: Kept) -> Result<Operation> {
        let mut off = self.lock_off()?;
        let files = Files::new(self);
        let state = off.record.layer(layer)?;
        let target = match to {
            Some(n) => state.revision(n)?.n,
            None => state.current()?.parent.ok_or_else(|| {
                Error::invalid(format!("layer {layer} is at its first revision"))
                    .next(format!("stratavm history {} {layer}", self.name()))
            })?,
        };
        let preserved = self.preserve(&mut off, &files, layer, kept, Reason::BeforeRollback)?;
        self.fresh_head(&mut off.record, layer, Some(target))?;
        self.commit(&off, layer)?;
        let mut done = Operation::on(layer, Some(target));
        done.preserved = preserved;
        Ok(done)
    }

    /// Gives `layer` another image, as a new revision.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the layer holds kept writes and `kept` does not say to discard
    /// them: a delta cannot be put on another image.
    pub fn update(&self, layer: &Name, image: &ImageDigest, kept: Kept) -> Result<Operation> {
        let mut off = self.lock_off()?;
        let files = Files::new(self);
        let state = off.record.layer(layer)?;
        let current = state.current()?;
        if state.spec.effective_writes() == Writes::Keep {
            let writes = !current.deltas.is_empty() || state.head.usage == Use::Started;
            if writes && kept == Kept::Preserve {
                return Err(Error::invalid(format!(
                    "layer {layer} holds what the guest wrote, which does not fit on another image"
                ))
                .next(
                    "say --discard-writes to start anew; the revisions so far can be gone back to",
                ));
            }
        }
        let _shared = self.store().lock_shared()?;
        let found = self.store().image(image)?;
        self.check_layer_image(&off.record, layer, &state.spec, &found)?;
        let same = current.image == *image && current.deltas.is_empty();
        if same && state.head.usage == Use::Untouched {
            let mut done = Operation::on(layer, Some(current.n));
            done.layers.clear();
            done.notes
                .push("the layer has this image already".to_owned());
            return Ok(done);
        }
        // The writes of the old head stay reachable: the guest's own, unless told to drop them.
        let preserved = self.preserve(&mut off, &files, layer, kept, Reason::BeforeUpdate)?;
        let change = NewRevision {
            image: *image,
            deltas: Vec::new(),
            time: Timestamp::now(),
            label: None,
            reason: Reason::Update,
        };
        let state = off.record.layer_mut(layer)?;
        let n = state.push(change);
        state.spec.image = Some(image.to_string());
        state.spec.size = None;
        self.fresh_head(&mut off.record, layer, None)?;
        self.commit_on(&off, layer, &found)?;
        let mut done = Operation::on(layer, Some(n));
        done.preserved = preserved;
        Ok(done)
    }

    /// Adds a layer at the end, on the lowest free port.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if there is a layer of that name; whatever is wrong with the spec
    /// that would come out.
    pub fn add_layer(&self, layer: &LayerSpec, image: &ImageDigest) -> Result<Operation> {
        let mut off = self.lock_off()?;
        let record = &mut off.record;
        if record
            .layers
            .iter()
            .any(|state| *state.name() == layer.name)
        {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("machine {} has a layer {} already", self.name(), layer.name),
            ));
        }
        let mut spec = record.full_spec();
        spec.layers.push(layer.clone());
        spec.validate()?;
        let ports = slot::assign(&spec, &record.hardware.ports())?;
        let _shared = self.store().lock_shared()?;
        let found = self.store().image(image)?;
        self.check_layer_image(record, &layer.name, layer, &found)?;
        record.hardware = HardwareRecord::new(&ports);
        let head = Head {
            generation: record.next_generation(),
            family: record.family,
            usage: Use::Untouched,
        };
        record.layers.push(LayerState::new(
            layer.clone(),
            *image,
            head,
            Timestamp::now(),
        ));
        self.commit_on(&off, &layer.name, &found)?;
        Ok(Operation::on(&layer.name, Some(1)))
    }

    /// Removes a layer; its port becomes free. What the guest wrote to a kept layer is kept aside
    /// in the machine, with all its revisions, until it is pruned.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for the operating system's layer; [`ErrorKind::NotFound`].
    pub fn remove_layer(&self, layer: &Name, kept: Kept) -> Result<Operation> {
        let mut off = self.lock_off()?;
        let files = Files::new(self);
        let mut spec = off.record.full_spec();
        off.record.layer(layer)?;
        spec.layers.retain(|other| other.name != *layer);
        spec.validate()?;
        let preserved = self.preserve(&mut off, &files, layer, kept, Reason::BeforeRemove)?;
        let record = &mut off.record;
        let before = record.images();
        let index = record.layers.iter().position(|state| state.name() == layer);
        let removed = index.map(|index| record.layers.remove(index));
        record
            .hardware
            .ports
            .retain(|entry| entry.disk.as_str() != layer.as_str());
        let mut done = Operation::on(layer, None);
        if let Some(mut removed) = removed {
            let holds = |state: &LayerState| state.revisions.iter().any(|r| !r.deltas.is_empty());
            if kept == Kept::Preserve && holds(&removed) {
                // What is aside has no head: one is made when the layer is taken back.
                removed.head.generation = record.next_generation();
                removed.head.usage = Use::Untouched;
                record.removed.push(removed);
                done.notes
                    .push("what the guest wrote to it is kept aside".to_owned());
            }
        }
        self.conclude(record, Ok(()))?;
        let after = record.images();
        for image in before.difference(&after) {
            // A lease too many keeps an image longer than it need be: no reason for an error.
            if let Ok(image) = self.store().image(image) {
                let _ = image.remove_lease(record.id);
            }
        }
        done.preserved = preserved;
        Ok(done)
    }

    /// Brings every layer that resets back to its newest clean revision: one that was created,
    /// updated or imported, never a snapshot. All others stay byte for byte what they are.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while the machine runs.
    pub fn rejuvenate(&self) -> Result<Operation> {
        let mut off = self.lock_off()?;
        let resets = |state: &&LayerState| state.spec.effective_rejuvenate() == Rejuvenate::Reset;
        let targets: Vec<_> = off
            .record
            .layers
            .iter()
            .filter(resets)
            .filter_map(|state| state.clean().map(|clean| (state, clean.n)))
            .filter(|(state, clean)| state.current != *clean || state.head.usage == Use::Started)
            .map(|(state, clean)| (state.name().clone(), clean))
            .collect();
        for (layer, clean) in &targets {
            self.fresh_head(&mut off.record, layer, Some(*clean))?;
        }
        let files = Files::new(self);
        if !targets.is_empty() {
            let made = targets
                .iter()
                .try_for_each(|(layer, _)| files.make_head(&off.record, off.record.layer(layer)?));
            self.conclude(&off.record, made)?;
        }
        let layers = targets.into_iter().map(|(layer, _)| layer).collect();
        Ok(Operation {
            layers,
            revision: None,
            preserved: None,
            notes: Vec::new(),
        })
    }

    /// Checks `image` as the new base of the layer called `name` among the machine's others.
    fn check_layer_image(
        &self,
        record: &Record,
        name: &Name,
        layer: &LayerSpec,
        image: &Image,
    ) -> Result<()> {
        let mut others = Vec::new();
        for state in record.layers.iter().filter(|state| state.name() != name) {
            let base = self.store().image(&state.current()?.image)?;
            others.push((&state.spec, base.meta.partitions));
        }
        let mine = (layer, image.meta.partitions.as_slice());
        let others = others
            .iter()
            .map(|(spec, partitions)| (*spec, partitions.as_slice()));
        check_ids(&record.spec, others.chain([mine]))
    }

    /// Freezes the head of a kept layer that was started, unless the caller wants it dropped.
    /// `current` is where it was before: the frozen head is a leaf beside what follows.
    fn preserve(
        &self,
        off: &mut OffLock,
        files: &Files<'_>,
        layer: &Name,
        kept: Kept,
        reason: Reason,
    ) -> Result<Option<u64>> {
        let state = off.record.layer(layer)?;
        let keeps = state.spec.effective_writes() == Writes::Keep;
        if !keeps || state.head.usage == Use::Untouched || kept == Kept::Discard {
            return Ok(None);
        }
        let before = state.current;
        let n = files.freeze(&mut off.record, layer, None, reason)?;
        off.record.layer_mut(layer)?.current = before;
        Ok(Some(n))
    }

    /// Gives a layer a new, untouched head, on revision `to` or the current one.
    fn fresh_head(&self, record: &mut Record, layer: &Name, to: Option<u64>) -> Result<()> {
        let generation = record.next_generation();
        let family = record.family;
        let state = record.layer_mut(layer)?;
        if let Some(n) = to {
            state.current = n;
        }
        let family = state
            .current()?
            .deltas
            .last()
            .map_or(family, |delta| delta.family);
        state.head = Head {
            generation,
            family,
            usage: Use::Untouched,
        };
        Ok(())
    }

    /// Makes the new head of `layer`, saves, and removes what nothing refers to any more.
    fn commit(&self, off: &OffLock, layer: &Name) -> Result<()> {
        let made = Files::new(self).make_head(&off.record, off.record.layer(layer)?);
        self.conclude(&off.record, made)
    }

    /// As [`commit`](Self::commit), for a layer that is new on `image`: the image is reserved first.
    fn commit_on(&self, off: &OffLock, layer: &Name, image: &Image) -> Result<()> {
        let reserved = image.add_lease(off.record.id);
        let done = reserved.and_then(|()| self.commit(off, layer));
        let refers = |record: Record| {
            let mut layers = record.layers.into_iter().chain(record.removed);
            layers.any(|state| state.revisions.iter().any(|r| r.image == image.meta.digest))
        };
        if done.is_err() && self.record().is_ok_and(|record| !refers(record)) {
            // A lease too many keeps an image longer than it need be: no reason for another error.
            let _ = image.remove_lease(off.record.id);
        }
        done
    }
}

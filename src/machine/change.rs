//! What each change does to a record: rollback, update, add, take back, remove, rejuvenate.
//!
//! Each one changes one layer, but for rejuvenate and points. The files follow when the edit is
//! committed; sessions are in [`super::session`], taking back is in [`super::undo`].

use std::collections::BTreeSet;

use super::edit::Edit;
use super::last::{LastOperation, LayerBefore, Writes as Lost};
use super::layer::{Head, LayerState, RemovedLayer, Use};
use super::operations::Operation;
use super::record::{DiskPort, HardwareRecord, Record};
use super::retention::drop_revisions;
use super::revision::{Content, NewRevision, Reason};
use super::staged::{Change, Kept, OperationKind};
use crate::error::{Error, ErrorKind, Result};
use crate::image::ImageDigest;
use crate::slot;
use crate::spec::{LayerSpec, Name, Rejuvenate, Writes};
use crate::timestamp::Timestamp;

impl Edit<'_> {
    /// Does a change to the record.
    pub(super) fn apply(&mut self, change: &Change) -> Result<Operation> {
        match change {
            Change::Rollback { layer, to, kept } => self.rollback(layer, *to, *kept),
            Change::RollbackToPoint { point, kept } => self.rollback_to_point(point, *kept),
            Change::Update { layer, image, kept } => self.update(layer, image, *kept),
            Change::Add { layer, image } => self.add(layer, image),
            Change::TakeBack { layer } => self.take_back(layer),
            Change::Remove { layer, kept } => self.remove(layer, *kept),
            Change::Rejuvenate => self.rejuvenate(),
            Change::Accept { layer } => self.accept(layer),
            Change::Revert { layer } => self.revert(layer),
        }
    }

    /// Remembers an operation as the last one.
    pub(super) fn remember(&mut self, operation: OperationKind, layers: Vec<LayerBefore>) {
        self.record.last = Some(LastOperation::new(operation, layers));
    }

    fn rollback(&mut self, layer: &Name, to: Option<u64>, kept: Kept) -> Result<Operation> {
        let state = self.record.layer(layer)?;
        let target = match to {
            Some(n) => state.revision(n)?.n,
            None => state.current()?.parent.ok_or_else(|| {
                Error::invalid(format!("layer {layer} is at its first revision"))
                    .next(format!("stratavm history {} {layer}", self.record.name))
            })?,
        };
        let moved = self.go_to(layer, target, kept, OperationKind::Rollback)?;
        self.remember(OperationKind::Rollback, vec![moved.before]);
        let mut done = Operation::on(layer, Some(target));
        done.preserved = moved.preserved;
        Ok(done)
    }

    fn update(&mut self, layer: &Name, image: &ImageDigest, kept: Kept) -> Result<Operation> {
        let state = self.record.layer(layer)?;
        let current = state.current()?;
        let plain = current.base.is_none() && current.deltas.is_empty();
        let keeps = state.spec.effective_writes() == Writes::Keep;
        let writes = !plain || state.head.usage == Use::Started;
        if keeps && writes && kept == Kept::Preserve {
            return Err(Error::invalid(format!(
                "layer {layer} holds what the guest wrote, which does not fit on another image"
            ))
            .next("say --discard-writes to start anew; the revisions so far can be gone back to"));
        }
        if current.image == *image && plain && state.head.usage == Use::Untouched {
            let mut done = Operation::on(layer, Some(current.n));
            done.layers.clear();
            done.notes
                .push("the layer has this image already".to_owned());
            return Ok(done);
        }
        let mut before = LayerBefore::at(state, current.n, Lost::Kept);
        let mut spec = state.spec.clone();
        spec.image = Some(image.to_string());
        spec.size = None;
        let found = self.image(image)?;
        self.check_image(&spec, &found)?;
        (_, before.writes) = self.preserve(layer, kept, Reason::BeforeUpdate)?;
        let state = self.record.layer_mut(layer)?;
        state.spec = spec;
        let n = state.history.push(NewRevision {
            image: *image,
            content: Content::Image,
            time: Timestamp::now(),
            label: None,
            reason: Reason::Update,
        });
        self.fresh_head(layer)?;
        self.remember(OperationKind::Update, vec![before]);
        Ok(Operation::on(layer, Some(n)))
    }

    fn add(&mut self, layer: &LayerSpec, image: &ImageDigest) -> Result<Operation> {
        self.refuse_existing(&layer.name)?;
        let found = self.image(image)?;
        self.check_image(layer, &found)?;
        let n = self.record.first_revision(&layer.name);
        let head = Head::new(self.record.next_generation(), self.record.family);
        let state = LayerState::new(layer.clone(), n, *image, head, Timestamp::now());
        self.insert(state, self.record.layers.len(), None)?;
        self.remember(OperationKind::Add, vec![LayerBefore::absent(&layer.name)]);
        Ok(Operation::on(&layer.name, Some(n)))
    }

    fn take_back(&mut self, layer: &Name) -> Result<Operation> {
        let n = self.bring_back(layer)?;
        self.remember(OperationKind::TakeBack, vec![LayerBefore::absent(layer)]);
        Ok(Operation::on(layer, Some(n)))
    }

    /// Puts a removed layer where it was, on a new head, and answers its revision.
    pub(super) fn bring_back(&mut self, layer: &Name) -> Result<u64> {
        self.refuse_existing(layer)?;
        let removed = &self.record.removed;
        let index = removed.iter().rposition(|removed| removed.name() == layer);
        let index = index.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("no removed layer {layer} can be taken back"),
            )
            .next(format!("stratavm layers {} --removed", self.record.name))
        })?;
        let removed = self.record.removed.remove(index);
        let current = removed.history.current;
        let revision = removed
            .history
            .find(current)
            .ok_or_else(|| removed.history.no_revision(layer, current))?;
        let found = self.image(&revision.image)?;
        self.check_image(&removed.spec, &found)?;
        let top = removed.history.top(current);
        let family = top.map_or(self.record.family, |delta| delta.family);
        let state = LayerState {
            spec: removed.spec,
            history: removed.history,
            head: Head::new(self.record.next_generation(), family),
            retention: removed.retention,
            unknown: removed.unknown,
        };
        let last = self.record.layers.len();
        let position = removed.position.map_or(last, |position| position.min(last));
        self.insert(state, position, removed.port)?;
        Ok(current)
    }

    fn refuse_existing(&self, layer: &Name) -> Result<()> {
        if self.record.layers.iter().any(|state| state.name() == layer) {
            let message = format!("machine {} has a layer {layer} already", self.record.name);
            return Err(Error::new(ErrorKind::Exists, message).next("choose another name"));
        }
        Ok(())
    }

    /// Puts a layer among the others, on the port that it had if that is free, or else on the
    /// lowest free one.
    fn insert(
        &mut self,
        state: LayerState,
        position: usize,
        mut had: Option<DiskPort>,
    ) -> Result<()> {
        let record = &mut self.record;
        let mut spec = record.full_spec();
        spec.layers.insert(position, state.spec.clone());
        spec.validate()?;
        let known = record.hardware.ports();
        let again = had.as_ref().and_then(|had| {
            let mut known = known.clone();
            known.insert(state.disk(), had.port);
            slot::assign(&spec, &known).ok()
        });
        let ports = match again {
            Some(ports) => ports,
            None => slot::assign(&spec, &known)?,
        };
        // Entries that stay keep what else is said of them.
        for entry in HardwareRecord::new(&ports).ports {
            if !known.contains_key(&entry.disk) {
                let had = had.take().filter(|had| had.port == entry.port);
                record.hardware.ports.push(had.unwrap_or(entry));
            }
        }
        self.note_head(&state);
        self.record.layers.insert(position, state);
        Ok(())
    }

    fn remove(&mut self, layer: &Name, kept: Kept) -> Result<Operation> {
        let (before, preserved) = self.put_aside(layer, kept, OperationKind::Remove)?;
        let mut done = Operation::on(layer, None);
        done.preserved = preserved;
        let aside = self.record.removed.last();
        if aside.is_some_and(RemovedLayer::holds_writes) {
            done.notes.push(format!(
                "what the guest wrote to it is kept aside: stratavm add {} --back {layer}",
                self.record.name
            ));
        }
        self.remember(OperationKind::Remove, vec![before]);
        Ok(done)
    }

    /// Takes a layer out of the machine and keeps it aside. Answers how it was before, and the
    /// revision that was made for what the guest had written.
    pub(super) fn put_aside(
        &mut self,
        layer: &Name,
        kept: Kept,
        why: OperationKind,
    ) -> Result<(LayerBefore, Option<u64>)> {
        let position = self.record.position(layer)?;
        let mut spec = self.record.full_spec();
        spec.layers.remove(position);
        spec.validate()?;
        let (preserved, lost) = self.preserve(layer, kept, why.before())?;
        let state = self.record.layers.remove(position);
        let shown = preserved.unwrap_or(state.history.current);
        let mut before = LayerBefore::at(&state, shown, lost);
        let (disk, ports) = (state.disk(), &mut self.record.hardware.ports);
        let port = ports.iter().position(|entry| entry.disk == disk);
        let port = port.map(|index| ports.remove(index));
        let mut removed = RemovedLayer {
            spec: state.spec,
            history: state.history,
            port,
            position: Some(position),
            time: Some(Timestamp::now()),
            retention: state.retention,
            unknown: state.unknown,
        };
        removed.history.current = shown;
        if kept == Kept::Discard {
            if self.record.drop_writes(&mut removed) > 0 {
                before.writes = Lost::Dropped;
            }
            before.revision = Some(removed.history.current);
        }
        self.record.removed.push(removed);
        Ok((before, preserved))
    }

    fn rejuvenate(&mut self) -> Result<Operation> {
        let resets = |state: &&LayerState| state.spec.effective_rejuvenate() == Rejuvenate::Reset;
        let targets: Vec<_> = self
            .record
            .layers
            .iter()
            .filter(resets)
            .filter_map(|state| state.history.clean().map(|clean| (state, clean.n)))
            .filter(|(state, clean)| {
                state.history.current != *clean || state.head.usage == Use::Started
            })
            .map(|(state, clean)| (state.name().clone(), clean))
            .collect();
        let mut before = Vec::new();
        for (layer, clean) in &targets {
            let moved = self.go_to(layer, *clean, Kept::Discard, OperationKind::Rejuvenate)?;
            before.push(moved.before);
        }
        if !before.is_empty() {
            self.remember(OperationKind::Rejuvenate, before);
        }
        Ok(Operation::over(
            targets.into_iter().map(|(layer, _)| layer).collect(),
        ))
    }
}

impl Record {
    /// Where the layer called `name` stands among all.
    fn position(&self, name: &Name) -> Result<usize> {
        self.layer(name)?;
        let found = self.layers.iter().position(|layer| layer.name() == name);
        Ok(found.unwrap_or_default())
    }

    /// The number of the first revision of a new layer. What points and removed layers refer to by
    /// this name is another layer's.
    fn first_revision(&self, name: &Name) -> u64 {
        let removed = self.removed.iter().filter(|layer| layer.name() == name);
        let removed = removed.map(|layer| layer.history.next_revision);
        let named = self.points.iter().flat_map(|point| &point.layers);
        let named = named.filter(|entry| entry.layer == *name);
        let named = named.map(|entry| entry.revision.saturating_add(1));
        removed.chain(named).max().unwrap_or(1)
    }

    /// Drops what a guest wrote from a removed layer, but for what is pinned or a point names, and
    /// answers how many revisions went.
    fn drop_writes(&self, removed: &mut RemovedLayer) -> usize {
        let name = removed.name().clone();
        let named = |n: u64| {
            let mut entries = self.points.iter().flat_map(|point| &point.layers);
            entries.any(|entry| entry.layer == name && entry.revision == n)
        };
        let history = &mut removed.history;
        let written = history
            .revisions
            .iter()
            .filter(|r| r.base.is_some() || !r.deltas.is_empty());
        let gone = written.filter(|r| !r.pinned && !named(r.n)).map(|r| r.n);
        let mut gone: Vec<_> = gone.collect();
        if gone.contains(&history.current) {
            let stays = |n: &u64| !gone.contains(n);
            let clean = history.clean().map(|clean| clean.n).filter(stays);
            match clean {
                Some(clean) => history.current = clean,
                None => gone.retain(|n| *n != history.current),
            }
        }
        drop_revisions(history, &gone).len()
    }

    /// Forgets removed layers that hold nothing a guest wrote and that nothing refers to.
    pub(super) fn forget_removed(&mut self) {
        let mut needed = self.needed_aside();
        let last = self.last.iter().flat_map(|last| &last.layers);
        needed.extend(last.map(|before| before.layer.clone()));
        self.removed
            .retain(|layer| layer.holds_writes() || needed.contains(layer.name()));
    }

    /// The layers that points and what is staged go back to, whether they are there or set aside.
    pub(crate) fn needed_aside(&self) -> BTreeSet<Name> {
        let points = self.points.iter().flat_map(|point| &point.layers);
        let points = points.map(|entry| entry.layer.clone());
        let staged = self.next.iter().filter_map(|staged| staged.change.layer());
        points.chain(staged.cloned()).collect()
    }
}

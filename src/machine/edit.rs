//! A record under change: what an operation does to it, and how it becomes the machine's truth.
//!
//! Nothing is written before [`Edit::commit`], so that a change can be tried without being made.
//! Then new files come first, one rename of `machine.json` after them, and what nothing refers to
//! any more goes last. What the operations do is in [`super::change`] and its neighbours.

use std::collections::BTreeSet;

use super::create::check_ids;
use super::files::Files;
use super::folder::Machine;
use super::last::{LayerBefore, Writes as Lost};
use super::layer::{Head, LayerState, Use};
use super::record::Record;
use super::revision::{Content, DeltaId, NewRevision, Reason};
use super::staged::{Change, Kept, OperationKind};
use crate::chain::DiskName;
use crate::error::Result;
use crate::image::{Image, ImageDigest};
use crate::spec::{LayerSpec, Name};
use crate::store::FileLock;
use crate::timestamp::Timestamp;

/// A record under change.
pub(super) struct Edit<'a> {
    pub(super) machine: &'a Machine,
    pub(super) files: Files<'a>,
    pub(super) record: Record,
    /// The images that the machine needed before.
    before: BTreeSet<ImageDigest>,
    /// The heads to be frozen.
    frozen: Vec<Frozen>,
    /// The layers whose heads are to be made.
    heads: BTreeSet<Name>,
    /// Held from the first look at an image on, so that none is freed before it is reserved.
    shared: Option<FileLock>,
}

/// A head that becomes a frozen delta.
struct Frozen {
    disk: DiskName,
    delta: DeltaId,
    image: ImageDigest,
}

/// What became of a layer that was moved to another revision.
pub(super) struct Moved {
    pub(super) before: LayerBefore,
    /// The revision that holds what the guest had written.
    pub(super) preserved: Option<u64>,
}

impl<'a> Edit<'a> {
    pub(super) fn new(machine: &'a Machine, record: Record) -> Self {
        Self {
            machine,
            files: Files::new(machine),
            before: record.images(),
            record,
            frozen: Vec::new(),
            heads: BTreeSet::new(),
            shared: None,
        }
    }

    /// The image of this digest, which stays in the store until the edit is over.
    pub(super) fn image(&mut self, digest: &ImageDigest) -> Result<Image> {
        let store = self.machine.store();
        if self.shared.is_none() {
            self.shared = Some(store.lock_shared()?);
        }
        store.image(digest)
    }

    /// Does what is staged, in order, and answers what was done.
    ///
    /// # Errors
    /// What keeps the first of them from being done that cannot be; nothing is to be committed then.
    pub(super) fn take_staged(&mut self) -> Result<Vec<Change>> {
        let staged = std::mem::take(&mut self.record.next);
        self.take(staged.into_iter().map(|staged| staged.change).collect())
    }

    /// As [`take_staged`](Self::take_staged), but only what decides on the session that ran.
    pub(super) fn take_decisions(&mut self) -> Result<Vec<Change>> {
        let staged = std::mem::take(&mut self.record.next);
        let (decisions, rest) = staged
            .into_iter()
            .partition(|staged| staged.change.is_decision());
        self.record.next = rest;
        let decisions: Vec<super::staged::Staged> = decisions;
        self.take(decisions.into_iter().map(|staged| staged.change).collect())
    }

    fn take(&mut self, changes: Vec<Change>) -> Result<Vec<Change>> {
        for (done, change) in changes.iter().enumerate() {
            self.apply(change).map_err(|error| {
                let (name, after) = (&self.record.name, changes.len() + self.record.next.len());
                error
                    .during(format!("what is staged cannot be done: {change}"))
                    .next(match after - done {
                        1 => format!("stratavm undo {name} drops it"),
                        times => format!(
                            "stratavm undo {name} drops what was staged last: it takes {times} of \
                             them to come to this one"
                        ),
                    })
            })?;
        }
        Ok(changes)
    }

    /// Freezes the head of a layer as a new current revision, under a new head. A head that was
    /// never started holds nothing: then the revision adds none, and the head stays. Answers the
    /// revision.
    pub(super) fn freeze(
        &mut self,
        name: &Name,
        label: Option<String>,
        reason: Reason,
    ) -> Result<u64> {
        let layer = self.record.layer(name)?;
        let (head, image) = (&layer.head, layer.current()?.image);
        let family = head.family;
        let delta = (head.usage == Use::Started).then(|| head.delta());
        if let Some(delta) = delta {
            self.frozen.push(Frozen {
                disk: layer.disk(),
                delta,
                image,
            });
            let generation = self.record.next_generation();
            self.put_head(name, Head::new(generation, family))?;
        }
        let change = NewRevision {
            image,
            content: Content::Frozen(delta),
            time: Timestamp::now(),
            label,
            reason,
        };
        Ok(self.record.layer_mut(name)?.history.push(change))
    }

    /// Freezes what the guest wrote to a kept layer, unless the caller wants it dropped. The layer
    /// stays at its revision: the frozen head is a leaf beside what follows. Answers the revision
    /// that was made, and whether anything was dropped for good.
    pub(super) fn preserve(
        &mut self,
        name: &Name,
        kept: Kept,
        reason: Reason,
    ) -> Result<(Option<u64>, Lost)> {
        let layer = self.record.layer(name)?;
        if !layer.holds_kept_writes() {
            return Ok((None, Lost::Kept));
        }
        if kept == Kept::Discard {
            return Ok((None, Lost::Dropped));
        }
        let before = layer.history.current;
        let n = self.freeze(name, None, reason)?;
        self.record.layer_mut(name)?.history.current = before;
        Ok((Some(n), Lost::Kept))
    }

    /// Brings a layer to revision `to`, on a new head.
    pub(super) fn go_to(
        &mut self,
        name: &Name,
        to: u64,
        kept: Kept,
        why: OperationKind,
    ) -> Result<Moved> {
        let state = self.record.layer(name)?;
        state.revision(to)?;
        let mut before = LayerBefore::at(state, state.history.current, Lost::Kept);
        let (preserved, lost) = self.preserve(name, kept, why.before())?;
        before.revision = preserved.or(before.revision);
        before.writes = lost;
        self.record.layer_mut(name)?.history.current = to;
        self.fresh_head(name)?;
        Ok(Moved { before, preserved })
    }

    /// Gives a layer a new, untouched head on its current revision.
    pub(super) fn fresh_head(&mut self, name: &Name) -> Result<()> {
        let history = &self.record.layer(name)?.history;
        let top = history.top(history.current);
        let family = top.map_or(self.record.family, |delta| delta.family);
        let generation = self.record.next_generation();
        self.put_head(name, Head::new(generation, family))
    }

    pub(super) fn put_head(&mut self, name: &Name, head: Head) -> Result<()> {
        self.record.layer_mut(name)?.head = head;
        self.heads.insert(name.clone());
        Ok(())
    }

    /// As [`put_head`](Self::put_head), for a layer that is new with its head.
    pub(super) fn note_head(&mut self, layer: &LayerState) {
        self.heads.insert(layer.name().clone());
    }

    /// Checks `image` as the base of the layer called `name` among the machine's others.
    pub(super) fn check_image(&self, layer: &LayerSpec, image: &Image) -> Result<()> {
        let store = self.machine.store();
        let mut others = Vec::new();
        let rest = self.record.layers.iter();
        for state in rest.filter(|state| *state.name() != layer.name) {
            let base = store.image(&state.current()?.image)?;
            others.push((&state.spec, base.meta.partitions));
        }
        let mine = (layer, image.meta.partitions.as_slice());
        let others = others
            .iter()
            .map(|(spec, partitions)| (*spec, partitions.as_slice()));
        check_ids(&self.record.spec, others.chain([mine]))
    }

    /// Drops what the record has no use for any more: revisions by the rules of retention, removed
    /// layers that hold nothing. Answers what a person should know of it.
    pub(super) fn tidy(&mut self) -> Vec<String> {
        let dropped = self.record.retain(Timestamp::now());
        self.record.forget_removed();
        let note = |(layer, gone): (Name, Vec<u64>)| match gone.as_slice() {
            [one] => format!("retention dropped revision {one} of {layer}"),
            more => format!("retention dropped {} revisions of {layer}", more.len()),
        };
        dropped.into_iter().map(note).collect()
    }

    /// Reserves what the record needs, freezes heads and makes new ones. Nothing of it counts
    /// before the record is saved.
    pub(super) fn make_files(&mut self) -> Result<()> {
        self.reserve(&self.record)?;
        for Frozen { disk, delta, image } in &self.frozen {
            self.files.seal_head(&self.record, disk, *delta, image)?;
        }
        // One that was changed and then removed again has no head to make.
        let there = |name: &&Name| self.record.layers.iter().any(|l| l.name() == *name);
        let heads: Vec<_> = self.heads.iter().filter(there).cloned().collect();
        heads
            .iter()
            .try_for_each(|name| self.files.make_head(&mut self.record, name))
    }

    /// Reserves the images that `record` needs and the machine did not need before.
    pub(super) fn reserve(&self, record: &Record) -> Result<()> {
        for digest in record.images().difference(&self.before) {
            self.machine.store().image(digest)?.add_lease(record.id)?;
        }
        Ok(())
    }

    /// Gives up the images that neither `saved`, the record on disk, nor what is staged in it needs.
    pub(super) fn release(&self, saved: &Record) {
        let needed = saved.images();
        let tried = self.record.images();
        for digest in self.before.union(&tried) {
            if needed.contains(digest) {
                continue;
            }
            // A lease too many keeps an image longer than it need be: no reason for an error.
            if let Ok(image) = self.machine.store().image(digest) {
                let _ = image.remove_lease(saved.id);
            }
        }
    }

    /// Makes the record the machine's truth. Answers what a person should know of what retention
    /// did.
    ///
    /// # Errors
    /// What keeps it from that: the machine is then as it was.
    pub(super) fn commit(mut self) -> Result<Vec<String>> {
        let notes = self.tidy();
        let made = self.make_files().map(|()| notes);
        self.conclude(made)
    }

    /// Makes the record, whose files are `made`, the machine's truth; or else gives up what was
    /// reserved for it.
    pub(super) fn conclude<T>(&self, made: Result<T>) -> Result<T> {
        let done = self.machine.conclude(&self.files, &self.record, made);
        match &done {
            Ok(_) => self.release(&self.record),
            Err(_) => self.give_up(),
        }
        done
    }

    /// Gives up what was reserved for a record that did not become the truth, or not for certain.
    pub(super) fn give_up(&self) {
        if let Ok(saved) = self.machine.record() {
            self.release(&saved);
        }
    }
}

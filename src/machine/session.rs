//! Deciding on what a session wrote: accepting it on a layer that discards, dropping it on a layer
//! that keeps. A session is a run with all its boots.

use super::edit::Edit;
use super::folder::Machine;
use super::golden::instead_of_keeping;
use super::last::{LayerBefore, Writes as Lost};
use super::layer::{Began, Use};
use super::operations::Operation;
use super::revision::Reason;
use super::staged::{Change, OperationKind};
use crate::error::{Error, Result};
use crate::spec::{Composition, Name, Writes};

impl Machine {
    /// Decides on the session that runs, or ran last: what it wrote to the layers `keep`, which
    /// discard, becomes a revision each; what it wrote to the layers `discard`, which keep, is
    /// dropped. While the machine runs the decision is recorded, and taken once it is off.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where that cannot be done, naming the
    /// layer: nothing is recorded then.
    pub fn decide(&self, keep: &[Name], discard: &[Name]) -> Result<Operation> {
        let accept = keep.iter().cloned().map(|layer| Change::Accept { layer });
        let revert = discard
            .iter()
            .cloned()
            .map(|layer| Change::Revert { layer });
        self.change_all(accept.chain(revert).collect())
    }

    /// Takes the decisions on the session that ended. The caller holds the run lock of a machine
    /// that is off.
    pub(super) fn take_decisions(&self) -> Result<()> {
        let _lock = self.lock()?;
        let record = self.record()?;
        let decided = record.next.iter().any(|staged| staged.change.is_decision());
        if record.run.is_some() || !decided {
            return Ok(());
        }
        let mut edit = Edit::new(self, record);
        edit.take_decisions()?;
        edit.commit().map(drop)
    }
}

impl Edit<'_> {
    /// Makes what the session wrote to a layer that discards a revision, which is current but not
    /// clean.
    pub(super) fn accept(&mut self, layer: &Name) -> Result<Operation> {
        let state = self.record.layer(layer)?;
        let machine = &self.record.name;
        if state.head_writes() == Writes::Keep {
            return Err(Error::invalid(format!(
                "layer {layer} keeps what is written to it anyway"
            ))
            .next(format!("stratavm snapshot {machine} {layer}")));
        }
        if self.record.spec.guest.composition == Composition::Linux {
            return Err(Error::invalid(format!(
                "layer {layer} holds no session: under `linux` the guest overlays it"
            ))
            .next(instead_of_keeping(machine, state)));
        }
        if state.head.usage == Use::Untouched {
            return Err(Error::invalid(format!(
                "layer {layer} holds nothing of a session: it did not run, or was cut off"
            ))
            .next(format!("stratavm start {machine}")));
        }
        let before = LayerBefore::at(state, state.history.current, Lost::Kept);
        let n = self.freeze(layer, None, Reason::Accept)?;
        self.remember(OperationKind::Accept, vec![before]);
        Ok(Operation::on(layer, Some(n)))
    }

    /// Drops what the session wrote to a layer that keeps.
    pub(super) fn revert(&mut self, layer: &Name) -> Result<Operation> {
        let state = self.record.layer(layer)?;
        let machine = &self.record.name;
        if state.head_writes() == Writes::Discard {
            return Err(Error::invalid(format!(
                "layer {layer} discards what is written to it anyway"
            ))
            .next(format!("leave out --discard {layer}")));
        }
        let current = state.history.current;
        if state.head.usage == Use::Untouched {
            let mut done = Operation::on(layer, Some(current));
            done.layers.clear();
            done.notes.push(format!("no session wrote to {layer}"));
            return Ok(done);
        }
        if state.head.began != Began::Session {
            return Err(Error::invalid(format!(
                "layer {layer} holds what earlier sessions wrote as well, which would be lost"
            ))
            .next(format!(
                "begin sessions that may be dropped with: stratavm start {machine} --revertible \
                 {layer}"
            )));
        }
        let before = LayerBefore::at(state, current, Lost::Dropped);
        self.fresh_head(layer)?;
        self.remember(OperationKind::Revert, vec![before]);
        Ok(Operation::on(layer, Some(current)))
    }

    /// Makes sessions on these layers ones that can be dropped: what kept heads hold of earlier
    /// ones is frozen.
    pub(super) fn begin_revertible(&mut self, layers: &[Name]) -> Result<()> {
        for layer in layers {
            let state = self.record.layer(layer)?;
            if state.spec.effective_writes() == Writes::Discard {
                return Err(Error::invalid(format!(
                    "layer {layer} discards what is written to it anyway"
                ))
                .next(format!("leave out --revertible {layer}")));
            }
            if state.holds_kept_writes() {
                self.freeze(layer, None, Reason::BeforeSession)?;
            }
        }
        Ok(())
    }
}

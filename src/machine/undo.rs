//! Taking the last layer operation back. Nothing is lost by it, so it can itself be taken back.

use super::edit::Edit;
use super::last::{LastOperation, LayerBefore, Writes as Lost};
use super::operations::Operation;
use super::staged::{Kept, OperationKind};
use crate::error::{Error, Result};

impl Edit<'_> {
    /// Takes the last operation back: each of its layers shows the guest what it showed before.
    pub(super) fn undo(&mut self) -> Result<Operation> {
        let last = self.record.last.clone();
        let last = last.ok_or_else(|| self.nothing("no operation changed a layer yet".into()))?;
        match last.operation {
            OperationKind::Snapshot | OperationKind::Point => {
                let what = last.operation.as_str();
                return Err(self.nothing(format!(
                    "the last operation was a {what}, which changed nothing that the guest sees"
                )));
            }
            OperationKind::Revert => {
                return Err(self.nothing(
                    "the last operation dropped what a session wrote, which does not come back"
                        .into(),
                ));
            }
            _ => {}
        }
        let mut done = Operation::over(Vec::new());
        let mut now = Vec::new();
        for before in last.layers.iter().rev() {
            if let Some(found) = self.restore(before, &mut done)? {
                done.layers.insert(0, before.layer.clone());
                now.push(found);
            }
            if before.writes == Lost::Dropped {
                done.notes.push(format!(
                    "what the guest had written to {} was dropped by the {} and does not come back",
                    before.layer,
                    last.operation.as_str()
                ));
            }
        }
        if let ([before], [_]) = (last.layers.as_slice(), done.layers.as_slice()) {
            done.revision = before.revision;
        }
        let undid = last.undid.unwrap_or(last.operation);
        done.notes.insert(
            0,
            match last.operation {
                OperationKind::Undo => format!("the {} is done again", undid.as_str()),
                _ => format!("the {} is taken back", undid.as_str()),
            },
        );
        self.record.last = Some(LastOperation {
            // Taking an undo back is doing the operation again, and the other way round.
            operation: match last.operation {
                OperationKind::Undo => undid,
                _ => OperationKind::Undo,
            },
            undid: (last.operation != OperationKind::Undo).then_some(undid),
            ..LastOperation::new(OperationKind::Undo, now)
        });
        Ok(done)
    }

    /// Brings one layer to what it was, and answers what it was until now; none if it is so
    /// already.
    fn restore(
        &mut self,
        before: &LayerBefore,
        done: &mut Operation,
    ) -> Result<Option<LayerBefore>> {
        let layer = &before.layer;
        let is_there = self.record.layers.iter().any(|state| state.name() == layer);
        let (found, preserved) = match (before.revision, is_there) {
            (None, false) => return Ok(None),
            (None, true) => self.put_aside(layer, Kept::Preserve, OperationKind::Undo)?,
            (Some(n), false) => {
                if self.bring_back(layer)? != n {
                    self.go_to(layer, n, Kept::Preserve, OperationKind::Undo)?;
                }
                (LayerBefore::absent(layer), None)
            }
            (Some(n), true) => {
                let moved = self.go_to(layer, n, Kept::Preserve, OperationKind::Undo)?;
                let spec = &mut self.record.layer_mut(layer)?.spec;
                spec.image.clone_from(&before.image);
                spec.size = before.size;
                (moved.before, moved.preserved)
            }
        };
        done.preserved = preserved.or(done.preserved);
        Ok(Some(found))
    }

    fn nothing(&self, why: String) -> Error {
        let name = &self.record.name;
        Error::invalid(format!("there is nothing to take back: {why}"))
            .next(format!("stratavm history {name}"))
    }
}

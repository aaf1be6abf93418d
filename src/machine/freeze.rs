//! Freezing a head: it becomes a parent that is never written again.
//!
//! VirtualBox does not change the content id of a head that a guest wrote to, and VMware refuses a
//! child whose parent's id is stale. So every frozen head gets a fresh id of its own first.

use super::files::Files;
use super::record::Record;
use super::revision::{Delta, Head, LayerState, NewRevision, Reason, Use};
use crate::chain::Family;
use crate::error::Result;
use crate::spec::Name;
use crate::timestamp::Timestamp;
use stratavm_disk::Durability;

impl Files<'_> {
    /// Freezes the head of the layer called `name` as a new current revision, and gives the layer
    /// a new head that is yet to be made. A head that was never started holds nothing: then the
    /// revision has the deltas of the one below, and the head stays. Answers the revision.
    pub(super) fn freeze(
        &self,
        record: &mut Record,
        name: &Name,
        label: Option<String>,
        reason: Reason,
    ) -> Result<u64> {
        let layer = record.layer(name)?.clone();
        let current = layer.current()?;
        let mut deltas = current.deltas.clone();
        let image = current.image;
        if layer.head.usage == Use::Started {
            let delta = Delta {
                generation: layer.head.generation,
                family: layer.head.family,
            };
            self.seal_head(record, &layer, delta)?;
            deltas.push(delta);
            let generation = record.next_generation();
            record.layer_mut(name)?.head = Head {
                generation,
                family: layer.head.family,
                usage: Use::Untouched,
            };
        }
        let change = NewRevision {
            image,
            deltas,
            time: Timestamp::now(),
            label,
            reason,
        };
        Ok(record.layer_mut(name)?.push(change))
    }

    /// Gives the head its frozen content id, durably. Harmless if nothing follows: a head has no
    /// child, so nobody knows the old one.
    fn seal_head(&self, record: &Record, layer: &LayerState, delta: Delta) -> Result<()> {
        let disk = layer.disk();
        let image = layer.current()?.image;
        for path in self.head_paths(record, &disk, delta, &image)? {
            match delta.family {
                Family::Vmdk => {
                    let cid = record.identity().frozen_cid(&disk, delta.generation);
                    stratavm_disk::vmdk::renew_cid(&path, cid, Durability::Synced)?;
                }
                // These files carry no links; what the guest wrote must be on disk all the same.
                Family::Hds => {
                    let file = stratavm_disk::fs::File::open(&path);
                    file.and_then(|file| file.sync()).map_err(|error| {
                        crate::Error::io("the head could not be made durable", &path, error)
                    })?;
                }
            }
            // The head of a layer that discards was made without its name being synced.
            if let Some(folder) = path.parent() {
                crate::store::sync_dir(folder)?;
            }
        }
        Ok(())
    }

    /// Takes the permission to write from every frozen delta. Done after the record was saved:
    /// before, a file may still be somebody's head. What fails is tried again by the next change.
    pub(super) fn seal_frozen(&self, record: &Record) {
        for layer in record.layers.iter().chain(&record.removed) {
            for revision in &layer.revisions {
                for delta in &revision.deltas {
                    let paths = self.head_paths(record, &layer.disk(), *delta, &revision.image);
                    let sealed = paths
                        .and_then(|paths| paths.iter().try_for_each(|p| super::files::seal(p)));
                    if let Err(error) = sealed {
                        tracing::warn!(machine = %record.name, %error, "a frozen file can still be written to");
                    }
                }
            }
        }
    }
}

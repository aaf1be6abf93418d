//! Freezing a head: it becomes a parent that is never written again.
//!
//! VirtualBox does not change the content id of a head that a guest wrote to, and VMware refuses a
//! child whose parent's id is stale. So every frozen head gets a fresh id of its own first.

use stratavm_disk::Durability;

use super::files::Files;
use super::record::Record;
use super::revision::{DeltaId, History};
use crate::chain::{DiskName, Family};
use crate::error::Result;
use crate::image::ImageDigest;
use crate::spec::Name;
use crate::store::seal;

/// How many of a layer's newest deltas are looked at by each change. One change freezes one or two;
/// looking at all would make each change slower than the one before.
const NEWEST: usize = 8;

impl Files<'_> {
    /// Gives the head its frozen content id, durably. Harmless if nothing follows: a head has no
    /// child, so nobody knows the old one.
    pub(super) fn seal_head(
        &self,
        record: &Record,
        disk: &DiskName,
        delta: DeltaId,
        image: &ImageDigest,
    ) -> Result<()> {
        let paths = self.head_paths(record, disk, delta, image)?;
        let (linked, plain) = match (delta.family, paths.split_last()) {
            (Family::Vmdk, Some((linked, extents))) => (Some(linked), extents),
            _ => (None, paths.as_slice()),
        };
        // These files carry no links; what the guest wrote must be on disk all the same.
        for path in plain {
            let file = stratavm_disk::fs::File::open(path);
            file.and_then(|file| file.sync()).map_err(|error| {
                crate::Error::io("the head could not be made durable", path, error)
            })?;
        }
        if let Some(path) = linked {
            let cid = record.identity().frozen_cid(disk, delta.generation);
            stratavm_disk::vmdk::renew_cid(path, cid, Durability::Synced)?;
        }
        // The head of a layer that discards was made without its name being synced.
        match paths.first().and_then(|path| path.parent()) {
            Some(folder) => crate::store::sync_dir(folder),
            None => Ok(()),
        }
    }

    /// Takes the permission to write from the newest frozen deltas. Done after the record was saved:
    /// before, a file may still be somebody's head. What fails is tried again by the next changes.
    pub(super) fn seal_frozen(&self, record: &Record) {
        for (name, history) in record.histories() {
            if let Err(error) = self.seal_newest(record, name, history) {
                tracing::warn!(machine = %record.name, %error, "a frozen file can still be written to");
            }
        }
    }

    fn seal_newest(&self, record: &Record, name: &Name, history: &History) -> Result<()> {
        let disk = DiskName::from(name.clone());
        let newest = history.revisions.iter().rev();
        let newest = newest.flat_map(|revision| {
            let deltas = revision.deltas.iter().rev();
            deltas.map(move |delta| (delta.id, revision.image))
        });
        for (delta, image) in newest.take(NEWEST) {
            for path in self.head_paths(record, &disk, delta, &image)? {
                seal(&path, self.machine().store().volume())?;
            }
        }
        Ok(())
    }
}

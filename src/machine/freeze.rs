//! Freezing a head: it becomes a parent that is never written again.
//!
//! VirtualBox does not change the content id of a head that a guest wrote to, and VMware refuses a
//! child whose parent's id is stale. So every frozen head gets a fresh id of its own first.

use std::path::Path;

use stratavm_disk::vmdk::{Origin, relink, renew_cid};
use stratavm_disk::{Durability, ErrorKind as DiskErrorKind, Identity, ImageSpec};

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
            match renew_cid(path, cid, Durability::Synced) {
                Err(error) if error.kind() == DiskErrorKind::Mismatch => {
                    self.take_over(record, disk, delta, image, path)?;
                }
                renewed => renewed?,
            }
        }
        // The head of a layer that discards was made without its name being synced.
        match paths.first().and_then(|path| path.parent()) {
            Some(folder) => crate::store::sync_dir(folder),
            None => Ok(()),
        }
    }

    /// Gives a head that a product has made anew, with links of its own style alone, those of its place in the chain. It
    /// must say that it lies on the image that the record has below it.
    fn take_over(
        &self,
        record: &Record,
        disk: &DiskName,
        delta: DeltaId,
        image: &ImageDigest,
        path: &Path,
    ) -> Result<()> {
        let mut histories = record.histories();
        let history = histories.find(|(name, _)| DiskName::from((*name).clone()) == *disk);
        let stacked = history.and_then(|(_, history)| history.stacked().find(|s| s.delta == delta));
        let parent = stacked.and_then(|s| s.parent).map(|p| p.generation);
        let layout = self.layout(record, disk.clone(), delta.family);
        let files = layout.new_head(&self.image(image)?, parent, delta.into())?;
        for (file, spec) in files.new_images().filter(|(file, _)| *file == path) {
            let mut spec = spec.clone();
            let (cid, parent) = match &mut spec {
                ImageSpec::VmdkSparse(spec) => (&mut spec.cid, &spec.parent),
                ImageSpec::VmdkSplit(spec) => (&mut spec.cid, &spec.parent),
                _ => continue,
            };
            *cid = record.identity().frozen_cid(disk, delta.generation);
            let mut below = Identity::default();
            below.cid = parent.as_ref().map(|parent| parent.cid);
            below.uuid = parent.as_ref().map(|parent| parent.uuid);
            relink(file, &spec, &Origin::Product(below), Durability::Synced)?;
        }
        Ok(())
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

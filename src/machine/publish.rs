//! Making a new image of what a layer holds, for other machines to take.
//!
//! How it gets into the store is in `crate::image`, opening the layer's files in [`super::content`].

use stratavm_disk::Ctx;

use super::annotate::check_label;
use super::files::Files;
use super::folder::Machine;
use super::layer::LayerState;
use crate::error::{Error, Result};
use crate::image::{self, Image, ImageDigest, Origin, Outcome, Provenance};
use crate::spec::Name;

/// What is published, and how it is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// The revision; none: the current one.
    pub revision: Option<u64>,
    /// Free text for people, kept with the image.
    pub label: Option<String>,
}

impl PublishOptions {
    /// The same options with this revision.
    #[must_use]
    pub fn revision(mut self, revision: Option<u64>) -> Self {
        self.revision = revision;
        self
    }

    /// The same options with this label.
    #[must_use]
    pub fn label(mut self, label: Option<String>) -> Self {
        self.label = label;
        self
    }
}

/// What [`Machine::publish`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The image. Nothing refers to it yet.
    pub image: Image,
    /// Whether the store had the same content already; then that image stays as it was.
    pub outcome: Outcome,
    /// The revision whose content it is.
    pub revision: u64,
    /// The image that this revision lies on.
    pub parent: ImageDigest,
}

impl Machine {
    /// Makes an image of a revision of `layer`: what its deltas show over its image, in one disk.
    /// `strata.*` partitions are named by what they hold now. The machine stays as it is; it may be
    /// running, as revisions never change.
    ///
    /// Time and room follow the data; blocks are shared with the old image where the volume has
    /// reflinks. The same content gives the same digest, and is stored once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown layer or revision;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if no revision is named and the layer's
    /// head holds what a guest wrote and a start keeps, or if an os or apps partition was not
    /// unmounted; [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) for a damaged delta. Nothing
    /// new is in the store then.
    pub fn publish(&self, layer: &Name, options: &PublishOptions, ctx: &Ctx) -> Result<Published> {
        check_label(options.label.as_deref())?;
        let store = self.store();
        // The image below stays until the new one is there.
        let _images = store.hold_images()?;
        let files = Files::new(self);
        let (overlays, revision, parent) = {
            // Files that are open are read to their end, whatever becomes of their revision.
            let _lock = self.lock()?;
            let record = self.record()?;
            let state = record.layer(layer)?;
            let n = match options.revision {
                Some(n) => n,
                None => self.settled(state)?,
            };
            let parent = state.revision(n)?.image;
            let deltas: Vec<_> = state
                .history
                .chain(n)
                .iter()
                .map(|link| link.delta)
                .collect();
            let overlays = files.open_content(&record, &state.disk(), &deltas, &parent)?;
            (overlays, n, parent)
        };
        let below = store.image(&parent)?;
        let mut done = Published {
            image: below,
            outcome: Outcome::Existing,
            revision,
            parent,
        };
        // Without a delta the image is the one that is there.
        if overlays.is_empty() {
            return Ok(done);
        }
        let mut provenance = Provenance::new(Origin::Published);
        provenance.name.clone_from(&done.image.meta.provenance.name);
        provenance.parent = Some(parent);
        provenance.machine = Some(self.name().clone());
        provenance.label.clone_from(&options.label);
        let (root, volume) = (store.images(), store.volume());
        let added = image::publish(root, &done.image, &overlays, provenance, volume, ctx);
        let added = added.map_err(|error| {
            let machine = self.name();
            error.during(format!(
                "revision {revision} of {layer} of {machine} was not published"
            ))
        })?;
        done.image = added.image;
        done.outcome = added.outcome;
        Ok(done)
    }

    /// The current revision of a layer, if nothing lies over it that a start would keep.
    fn settled(&self, layer: &LayerState) -> Result<u64> {
        let current = layer.history.current;
        if !layer.holds_kept_writes() {
            return Ok(current);
        }
        let (machine, name) = (self.name(), layer.name());
        if layer.holds_edit() {
            return Err(Error::invalid(format!(
                "the edit of layer {name} is not over, and what it wrote is in no revision yet"
            ))
            .next(format!(
                "stratavm golden edit {machine} {name}, and let the guest shut down; or freeze it \
                 as it is: stratavm snapshot {machine} {name}"
            )));
        }
        Err(Error::invalid(format!(
            "layer {name} holds what its guest wrote since revision {current}, which is in no \
             revision yet"
        ))
        .next(format!(
            "stratavm snapshot {machine} {name}, then publish; or without it: stratavm publish \
             {machine} {name} --rev {current}"
        )))
    }
}

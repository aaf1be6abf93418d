//! Images that no record names, leases that no machine needs, and images that were never finished.

use std::path::Path;

use uuid::Uuid;

use super::{LeftoverKind, Pruning};
use crate::error::{Error, Result};
use crate::image::{Image, ImageDigest, UNFINISHED, lock_staging};
use crate::store::references::References;
use crate::store::remove::{GONE, remove_tree, take_away, tree_bytes};

impl Pruning<'_> {
    /// Looks through the store's own folder of images. Read-only roots are never touched.
    pub(super) fn images(&mut self, references: &References) -> Result<()> {
        let root = self.store.images().clone();
        // Held to the end: no image can be begun meanwhile.
        let staging = lock_staging(root.folder());
        let failed = |error| Error::io("the folder of images cannot be read", root.folder(), error);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(root.folder()).map_err(failed)? {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        for path in entries {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                match &staging {
                    Some(_) => self.free(
                        LeftoverKind::UnfinishedImage,
                        &path,
                        "its making was cut short",
                        remove_tree,
                    )?,
                    None => self.spare(
                        &path,
                        0,
                        "an image is being added to the store now",
                        "prune again when that is done",
                    ),
                }
            } else if name.starts_with(GONE) {
                let reason = "its removal was cut short";
                self.free(LeftoverKind::HalfRemoved, &path, reason, remove_tree)?;
            } else if let Some(digest) = root.digest_of_folder(name) {
                self.image(&path, &digest, references)?;
            }
        }
        Ok(())
    }

    fn image(
        &mut self,
        folder: &Path,
        digest: &ImageDigest,
        references: &References,
    ) -> Result<()> {
        let leases = match Image::leases_in(folder) {
            Ok(leases) => leases,
            Err(error) => {
                self.found.failed.push(error);
                return Ok(());
            }
        };
        if references.is_named(digest) {
            return self.leases(folder, digest, leases, references);
        }
        // A machine whose record cannot be understood may need all that it ever reserved.
        let holder = leases
            .iter()
            .find_map(|id| references.may_be_unread(*id).map(Path::to_owned));
        if let Some(holder) = holder {
            self.spare(
                folder,
                tree_bytes(folder),
                format!(
                    "the machine in {} cannot be read and may need it",
                    holder.display()
                ),
                format!(
                    "put the machine.json in {} back as it was",
                    holder.display()
                ),
            );
            return Ok(());
        }
        let name = digest.hex();
        self.free(
            LeftoverKind::Image,
            folder,
            "no machine refers to it",
            |folder| take_away(folder, &name),
        )
    }

    fn leases(
        &mut self,
        folder: &Path,
        digest: &ImageDigest,
        leases: Vec<Uuid>,
        references: &References,
    ) -> Result<()> {
        for id in leases
            .into_iter()
            .filter(|id| !references.needs_lease(*id, digest))
        {
            let reason = match references.folders_of(id).first() {
                Some(machine) => {
                    format!(
                        "the machine in {} does not use the image",
                        machine.display()
                    )
                }
                None => format!("there is no machine {id}"),
            };
            let lease = Image::lease_in(folder, id);
            self.free(LeftoverKind::Lease, &lease, reason, remove_tree)?;
        }
        Ok(())
    }
}

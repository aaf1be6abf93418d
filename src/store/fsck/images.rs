//! Images: their descriptions, files, lengths and modes, who is noted at them, and their content.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stratavm_disk::Permissions;

use super::{Checking, FindingKind, line};
use crate::error::{Error, Result};
use crate::image::{Change, Image, ImageDigest, LEASES, META_FILE, UNFINISHED, lock_staging};
use crate::store::references::{References, digests_in};
use crate::store::remove::{GONE, remove_tree};
use crate::store::seal;

impl Checking<'_> {
    /// Looks at every image of the store's own folder. Read-only roots are checked where they are
    /// made.
    pub(super) fn images(&mut self, references: &References) -> Result<()> {
        let root = self.store.images().clone();
        let wanted = self.wanted();
        let failed = |error| Error::io("the folder of images cannot be read", root.folder(), error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(root.folder()).map_err(failed)? {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        let adding = lock_staging(root.folder()).is_none();
        for path in entries {
            self.ctx.check()?;
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match root.digest_of_folder(&name) {
                Some(digest)
                    if wanted
                        .as_ref()
                        .is_none_or(|wanted| wanted.contains(&digest)) =>
                {
                    self.image(&path, &digest, references);
                }
                Some(_) => {}
                None if wanted.is_some() => {}
                None if name.starts_with(UNFINISHED) && !adding => {
                    self.leftover(&path, None, "the making of an image was cut short");
                }
                None if name.starts_with(GONE) => {
                    self.leftover(&path, None, "the removal of an image was cut short");
                }
                None if name.starts_with('.') => {}
                None => self.unexpected(&path),
            }
        }
        Ok(())
    }

    /// The images that the one machine names which is asked for; none: all.
    fn wanted(&self) -> Option<BTreeSet<ImageDigest>> {
        let name = self.options.machine.as_ref()?;
        let record = self
            .store
            .machines_folder()
            .join(name.as_str())
            .join("machine.json");
        let bytes = crate::store::read_small(&record, crate::format::MAX_LEN as u64);
        Some(
            bytes
                .map(|bytes| digests_in(&bytes).collect())
                .unwrap_or_default(),
        )
    }

    fn image(&mut self, folder: &Path, digest: &ImageDigest, references: &References) {
        self.found.images += 1;
        self.folder_mode(folder, None);
        match self.store.images().find(digest) {
            Ok(Some(image)) => self.files(&image),
            Ok(None) => {}
            Err(error) => {
                let next = error
                    .next_step()
                    .unwrap_or("restore the file from a copy")
                    .to_owned();
                let path = error.path().unwrap_or(folder).to_owned();
                self.person(FindingKind::Image, &path, None, line(&error), next);
            }
        }
        match Image::leases_in(folder) {
            Ok(leases) => {
                for id in leases
                    .into_iter()
                    .filter(|id| !references.needs_lease(*id, digest))
                {
                    let lease = Image::lease_in(folder, id);
                    let message =
                        format!("machine {id} is noted as a user of the image, but is none");
                    self.derived(FindingKind::LeaseStale, &lease, None, message, || {
                        remove_tree(&lease)
                    });
                }
            }
            Err(error) => {
                let next =
                    "stratavm fsck --repair notes the machines again, once the folder can be read";
                self.person(
                    FindingKind::Image,
                    &folder.join(LEASES),
                    None,
                    line(&error),
                    next,
                );
            }
        }
    }

    /// What lies in an image's folder.
    fn files(&mut self, image: &Image) {
        let extents: BTreeSet<_> = image.extents().into_iter().map(|(path, _)| path).collect();
        let entries = fs::read_dir(&image.folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default();
            if name == LEASES && path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                continue;
            }
            if name != META_FILE && !extents.contains(&path) {
                self.unexpected(&path);
                continue;
            }
            let sealed = path
                .symlink_metadata()
                .is_ok_and(|found| found.permissions().readonly());
            if !sealed && self.store.volume().permissions != Permissions::None {
                let message = "a file of an image can be written to";
                let volume = self.store.volume();
                self.derived(FindingKind::Writable, &path, None, message, || {
                    seal(&path, volume)
                });
            }
        }
    }

    fn unexpected(&mut self, path: &Path) {
        self.person(
            FindingKind::Unexpected,
            path,
            None,
            "this is nothing that the store has made",
            "take it out of the store",
        );
    }

    /// Reads every image and compares it with its digest.
    pub(super) fn contents(&mut self) -> Result<()> {
        let root = self.store.images().clone();
        let wanted = self.wanted();
        for image in root.list()?.into_iter().flatten() {
            let digest = image.meta.digest;
            if wanted
                .as_ref()
                .is_some_and(|wanted| !wanted.contains(&digest))
            {
                continue;
            }
            let changed = match root.verify(&digest, self.ctx) {
                Ok(verified) => verified.changed,
                Err(error) => {
                    self.ctx.check()?;
                    let next = "see to it that the file can be read";
                    self.person(
                        FindingKind::Content,
                        &image.folder,
                        None,
                        line(&error),
                        next,
                    );
                    continue;
                }
            };
            for extent in changed
                .iter()
                .filter(|extent| extent.change == Change::Content)
            {
                self.person(
                    FindingKind::Content,
                    &extent.path,
                    None,
                    "the content is not what the image's digest says",
                    "restore the file from a copy; every machine on it reads what stands there now",
                );
            }
        }
        Ok(())
    }
}

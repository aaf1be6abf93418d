//! Folders of images beside the store's own: searched by digest, only ever read. Who of this store
//! uses an image of theirs is noted in the store itself.

use std::path::{Path, PathBuf};

use super::{FileLock, KIND, Store, StoreRecord, read_small};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, MAX_LEN};
use crate::image::{Image, ImageDigest, ImageRoot};

/// The folder of the leases on images that lie elsewhere.
const LEASES: &str = "leases";

impl Store {
    /// The folders that images are looked for in after the store's own, in that order.
    #[must_use]
    pub fn image_roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The same store looking for images in `folder` too; nothing is recorded.
    #[must_use]
    pub fn with_image_root(mut self, folder: impl Into<PathBuf>) -> Self {
        self.roots.push(folder.into());
        self
    }

    /// Looks for images in `folder` too, from now on. Nothing is ever written there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such folder, [`ErrorKind::Invalid`] if its path is
    /// not UTF-8, [`ErrorKind::Exists`] if it is one of the store's roots already.
    pub fn add_image_root(&mut self, folder: &Path) -> Result<()> {
        let folder = std::path::absolute(folder)
            .map_err(|error| Error::io("the folder has no absolute path", folder, error))?;
        ImageRoot::open(&folder)?;
        let text = folder.to_str().ok_or_else(|| {
            Error::invalid("the store can only note folders with UTF-8 paths").at(&folder)
        })?;
        let text = text.to_owned();
        self.change_roots(|roots| {
            if roots.contains(&text) || folder == self.images.folder() {
                let message = "images are looked for in this folder already";
                return Err(Error::new(ErrorKind::Exists, message).at(&folder));
            }
            roots.push(text);
            Ok(())
        })
        .map(|roots| self.roots = roots)
    }

    /// Looks for no images in `folder` any more. Machines that use one of them cannot be started
    /// until it is found somewhere again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is none of the store's roots.
    pub fn remove_image_root(&mut self, folder: &Path) -> Result<()> {
        let folder = std::path::absolute(folder)
            .map_err(|error| Error::io("the folder has no absolute path", folder, error))?;
        self.change_roots(|roots| {
            let before = roots.len();
            roots.retain(|root| Path::new(root) != folder);
            if roots.len() == before {
                let message = "images are not looked for in this folder";
                return Err(Error::new(ErrorKind::NotFound, message).at(&folder));
            }
            Ok(())
        })
        .map(|roots| self.roots = roots)
    }

    fn change_roots(
        &self,
        change: impl FnOnce(&mut Vec<String>) -> Result<()>,
    ) -> Result<Vec<PathBuf>> {
        let _alone = FileLock::exclusive(&self.lock_path())?;
        let path = self.home.join("store.json");
        let bytes = read_small(&path, MAX_LEN as u64)?;
        let mut record: StoreRecord =
            format::parse(&bytes, KIND).map_err(|error| error.at(&path))?;
        change(&mut record.image_roots)?;
        let bytes = format::to_bytes(&record)?;
        stratavm_disk::write_atomic(&path, &bytes, stratavm_disk::Durability::Synced)?;
        Ok(record.image_roots.into_iter().map(PathBuf::from).collect())
    }

    /// Every image that machines of this store can use: its own first, then those of the other roots, a
    /// damaged one as its error. A folder that is not there holds none.
    ///
    /// # Errors
    /// What the file system says of the store's own folder.
    pub fn all_images(&self) -> Result<Vec<Result<Image>>> {
        let mut found = self.images.list()?;
        for folder in &self.roots {
            let Ok(root) = ImageRoot::open(folder) else {
                continue;
            };
            match root.list() {
                Ok(images) => found.extend(
                    images
                        .into_iter()
                        .map(|image| image.map(|image| self.mark_elsewhere(image))),
                ),
                Err(error) => found.push(Err(error)),
            }
        }
        Ok(found)
    }

    /// The folder of images that holds this one now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is nowhere.
    pub fn root_of(&self, digest: &ImageDigest) -> Result<ImageRoot> {
        let name = ImageRoot::folder_name(digest);
        let folders = self.roots.iter().map(PathBuf::as_path);
        let mut folders = [self.images.folder()].into_iter().chain(folders);
        match folders.find(|folder| folder.join(&name).is_dir()) {
            Some(folder) => ImageRoot::open(folder),
            None => Err(self.no_image(digest)),
        }
    }

    fn mark_elsewhere(&self, mut image: Image) -> Image {
        let name = ImageRoot::folder_name(&image.meta.digest);
        image.elsewhere = Some(self.home.join(LEASES).join(name));
        image
    }

    /// An image of another root.
    pub(super) fn find_elsewhere(&self, digest: &ImageDigest) -> Result<Option<Image>> {
        for folder in &self.roots {
            // One that is not mounted now is told of by who finds the image nowhere.
            let Ok(root) = ImageRoot::open(folder) else {
                continue;
            };
            if let Some(image) = root.find(digest)? {
                return Ok(Some(self.mark_elsewhere(image)));
            }
        }
        Ok(None)
    }

    /// Why an image is not found.
    pub(super) fn no_image(&self, digest: &ImageDigest) -> Error {
        let message = format!("image {digest} is not in the store");
        let gone = self.roots.iter().find(|folder| !folder.is_dir());
        let error = Error::new(ErrorKind::NotFound, message);
        match gone {
            Some(folder) => error.at(folder).next(
                "the folder of images that it may be in is not there: mount its volume, or bring \
                 the folder back",
            ),
            None => error
                .at(self.images.folder())
                .next("stratavm image add FILE"),
        }
    }
}

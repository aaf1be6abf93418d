//! The store: a folder with images by digest and machines by name.
//!
//! Here live opening it, its layout and its lock. Images are in [`crate::image`], machines in
//! [`crate::machine`].

mod fsck;
mod fsx;
mod ids;
mod links;
mod lock;
mod prune;
mod references;
mod remove;
mod roots;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stratavm_disk::Volume;

pub use fsck::{Checked, Digests, Finding, FindingKind, FsckMode, FsckOptions, Remedy};
pub(crate) use fsx::{
    make_private_dir, read_small, remove_dir, remove_file, seal, sync_dir, unseal,
};
pub(crate) use links::{refuse_link, refuse_links_below};
pub(crate) use lock::FileLock;
pub use prune::{Leftover, LeftoverKind, PruneMode, PruneOptions, Pruned, SetAside, Spared};
pub(crate) use references::References;
pub(crate) use remove::{allocated, remove_tree};

use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Format, Kind, MAX_LEN, Unknown};
use crate::image::{Image, ImageDigest, ImageRoot};
use crate::machine::Machine;
use crate::spec::Name;

/// The format of `store.json`.
const KIND: Kind = Kind {
    name: "stratavm-store",
    version: 1,
    min_reader: 1,
};

/// A store: images by digest, machines by name, below one folder.
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
    images: ImageRoot,
    volume: Volume,
    /// Folders of images that are only read.
    roots: Vec<PathBuf>,
}

/// As long as this lives, no image of the store is freed; see [`Store::hold_images`].
#[derive(Debug)]
#[must_use]
pub struct ImagesHeld {
    _lock: FileLock,
}

/// `store.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StoreRecord {
    format: Format,
    /// Folders of images beside the store's own: absolute paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    image_roots: Vec<String>,
    #[serde(flatten)]
    unknown: Unknown,
}

impl Store {
    /// Opens the store in the folder `home`, making it if there is none. A store that nothing can
    /// be written to can be looked at: changes answer [`ErrorKind::PermissionDenied`].
    ///
    /// # Errors
    /// [`ErrorKind::FromTheFuture`] for a store of a newer version, [`ErrorKind::Malformed`] for a
    /// folder that holds something else, and what the file system says.
    pub fn open(home: impl Into<PathBuf>) -> Result<Self> {
        let home = home.into();
        // The store as a whole may lie behind a link; nothing in it does.
        if !home.is_dir() {
            make_private_dir(&home)?;
        }
        let home = std::path::absolute(&home)
            .map_err(|error| Error::io("the store's folder has no absolute path", &home, error))?;
        ["images", "machines"]
            .iter()
            .try_for_each(|folder| refuse_link(&home.join(folder)))?;
        let record = home.join("store.json");
        let roots = match read_small(&record, MAX_LEN as u64) {
            Ok(bytes) => {
                let found = format::parse::<StoreRecord>(&bytes, KIND);
                found.map_err(|error| error.at(&record))?.image_roots
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::begin(&home, &record)?;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let volume = match crate::volume::probe(&home) {
            // A full store can still be looked at, and things be deleted from it; one that nothing
            // can be written to can be looked at.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NoSpace | ErrorKind::PermissionDenied
                ) =>
            {
                tracing::warn!(%error, "the volume could not be tried out");
                Volume::default()
            }
            found => found?,
        };
        let images = ImageRoot::create(home.join("images"))?;
        Ok(Self {
            home,
            images,
            volume,
            roots: roots.into_iter().map(PathBuf::from).collect(),
        })
    }

    /// Makes the folders first and `store.json` last: a store that was cut short is made again.
    fn begin(home: &Path, record: &Path) -> Result<()> {
        make_private_dir(&home.join("images"))?;
        make_private_dir(&home.join("machines"))?;
        // Their names before that of the file which says that they are there.
        sync_dir(home)?;
        if let Some(above) = home.parent() {
            // A folder that may not be read cannot be flushed either.
            drop(sync_dir(above));
        }
        let fresh = StoreRecord {
            format: Format::new(KIND),
            image_roots: Vec::new(),
            unknown: Unknown::new(),
        };
        let bytes = format::to_bytes(&fresh)?;
        Ok(stratavm_disk::write_atomic(
            record,
            &bytes,
            stratavm_disk::Durability::Synced,
        )?)
    }

    /// The store's folder, absolute.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What the store's volume can do.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The same store as if its volume were another: smaller files, no holes.
    #[must_use]
    pub fn with_volume(mut self, volume: Volume) -> Self {
        self.volume = volume;
        self
    }

    /// The images.
    #[must_use]
    pub fn images(&self) -> &ImageRoot {
        &self.images
    }

    /// The image of this digest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not in the store, or what is wrong with it.
    pub fn image(&self, digest: &ImageDigest) -> Result<Image> {
        match self.images.find(digest)? {
            Some(image) => Ok(image),
            None => self
                .find_elsewhere(digest)?
                .ok_or_else(|| self.no_image(digest)),
        }
    }

    /// The machine called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or what is wrong with its record.
    pub fn machine(&self, name: &Name) -> Result<Machine> {
        let machine = Machine::new(self.clone(), name.clone());
        refuse_link(&machine.folder())?;
        if !machine.folder().is_dir() {
            return Err(
                Error::new(ErrorKind::NotFound, format!("there is no machine {name}"))
                    .next("`stratavm list` shows those there are"),
            );
        }
        machine.record()?;
        Ok(machine)
    }

    /// The names of all machines, sorted. A folder with another kind of name is no machine.
    ///
    /// # Errors
    /// What the file system says.
    pub fn machines(&self) -> Result<Vec<Name>> {
        let folder = self.machines_folder();
        let entries = fs::read_dir(&folder)
            .map_err(|error| Error::io("the machines cannot be listed", &folder, error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry
                .map_err(|error| Error::io("the machines cannot be listed", &folder, error))?;
            let name = entry
                .file_name()
                .to_str()
                .and_then(|name| Name::new(name).ok());
            names.extend(name.filter(|_| entry.path().is_dir()));
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn machines_folder(&self) -> PathBuf {
        self.home.join("machines")
    }

    /// Taken shared while a reference to an image is added, so that no image is freed under it.
    pub(crate) fn lock_shared(&self) -> Result<FileLock> {
        FileLock::shared(&self.lock_path())
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.home.join("store.lock")
    }

    /// Keeps every image from being freed until the value is dropped: hold it from before an image
    /// is added or found until a machine refers to it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn hold_images(&self) -> Result<ImagesHeld> {
        self.lock_shared().map(|lock| ImagesHeld { _lock: lock })
    }
}

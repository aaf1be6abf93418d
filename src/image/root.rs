//! A folder of images: finding, listing, checking them, and who refers to them.
//!
//! Making images is in [`super::add`] and [`super::blank`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use stratavm_disk::{Ctx, fs as files, fsync_dir};
use uuid::Uuid;

use super::extents::Extents;
use super::hash::digest;
use super::{ExtentMeta, ImageDigest, ImageMeta};
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::store::{refuse_link, remove_file};

/// The description in an image's folder.
pub(crate) const META_FILE: &str = "image.json";

/// The folder with one file for each machine that refers to the image.
pub(crate) const LEASES: &str = "leases";

/// What the name of an image's folder starts with; the digest's digits follow.
const PREFIX: &str = "sha256c-";

/// A folder that holds images, one folder each, named by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRoot {
    folder: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// What is known of it.
    pub meta: ImageMeta,
    /// The folder that holds its files.
    pub folder: PathBuf,
    /// Where its leases are, if the store that it was found by cannot write to that folder.
    pub(crate) elsewhere: Option<PathBuf>,
}

/// What [`ImageRoot::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The image's name, which is what its content should hash to.
    pub digest: ImageDigest,
    /// The extents that are not what they should be. Empty: the image is as it was added.
    pub changed: Vec<ChangedExtent>,
}

/// An extent that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedExtent {
    /// The file.
    pub path: PathBuf,
    /// How it differs.
    pub change: Change,
}

/// How an extent differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The file is not there, or no regular file.
    Missing,
    /// It has this many bytes.
    Length(u64),
    /// Its content is another one.
    Content,
}

impl ImageRoot {
    /// The images below a folder, which is made where it is missing.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn create(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        files::create_dir_all(&folder)
            .map_err(|error| Error::io("the folder of images cannot be made", &folder, error))?;
        Ok(Self { folder })
    }

    /// The images below an existing folder, which need not be writable.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such folder.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        match fs::metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { folder }),
            Ok(_) => Err(Error::new(ErrorKind::NotFound, "this is no folder of images").at(folder)),
            Err(error) => Err(Error::io(
                "the folder of images cannot be read",
                folder,
                error,
            )),
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image of this digest, if it is here. Its files are there and as long as they should be;
    /// [`Self::verify`] looks into them.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] or [`ErrorKind::FromTheFuture`] for an `image.json` that is no good,
    /// [`ErrorKind::Mismatch`] for extents that are not what it says.
    pub fn find(&self, digest: &ImageDigest) -> Result<Option<Image>> {
        let Some(image) = self.load(digest)? else {
            return Ok(None);
        };
        match image.damaged_extents().into_iter().next() {
            None => Ok(Some(image)),
            Some(extent) => {
                let message = match extent.change {
                    Change::Length(bytes) => {
                        format!("an extent of image {digest} is {bytes} bytes long, which is wrong")
                    }
                    Change::Missing | Change::Content => {
                        format!("an extent of image {digest} is missing")
                    }
                };
                Err(Error::new(ErrorKind::Mismatch, message)
                    .at(extent.path)
                    .next("restore the file, or add the image again after removing its folder"))
            }
        }
    }

    /// Every image, in order of digests; one that is no good is an error among the others.
    ///
    /// # Errors
    /// What the operating system reports when the folder is read.
    pub fn list(&self) -> Result<Vec<Result<Image>>> {
        let failed = |error| Error::io("the folder of images cannot be read", &self.folder, error);
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // Other names are unfinished images, or nothing of ours.
            digests.extend(name.to_str().and_then(|name| self.digest_of_folder(name)));
        }
        digests.sort_unstable();
        // None: removed since the folder was read.
        Ok(digests
            .iter()
            .filter_map(|digest| self.find(digest).transpose())
            .collect())
    }

    /// Reads all of an image and compares it with its digest. Holes are not read.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such image; as for [`Self::find`] for its
    /// `image.json`; what reading reports. A changed image is no error: see [`Verification`].
    pub fn verify(&self, digest: &ImageDigest, ctx: &Ctx) -> Result<Verification> {
        let Some(image) = self.load(digest)? else {
            let message = format!("there is no image {digest}");
            return Err(Error::new(ErrorKind::NotFound, message).at(&self.folder));
        };
        let mut changed = image.damaged_extents();
        if changed.is_empty() {
            changed = image.changed_extents(ctx)?;
        }
        Ok(Verification {
            digest: *digest,
            changed,
        })
    }

    /// The image that a folder of this name holds, if it is the name of one.
    pub(crate) fn digest_of_folder(&self, name: &str) -> Option<ImageDigest> {
        let hex = name.strip_prefix(PREFIX)?;
        format!("{}{hex}", ImageDigest::PREFIX).parse().ok()
    }

    /// The folder of the image of this digest, whether it is there or not.
    pub(crate) fn folder_of(&self, digest: &ImageDigest) -> PathBuf {
        self.folder.join(Self::folder_name(digest))
    }

    /// What the folder of the image of this digest is called, in every root.
    pub(crate) fn folder_name(digest: &ImageDigest) -> String {
        format!("{PREFIX}{}", digest.hex())
    }

    /// What `image.json` says, without a look at the extents.
    fn load(&self, digest: &ImageDigest) -> Result<Option<Image>> {
        let folder = self.folder_of(digest);
        refuse_link(&folder)?;
        let path = folder.join(META_FILE);
        let bytes = match read_limited(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(None);
            }
            Err(error) => return Err(Error::io("the image cannot be read", path, error)),
        };
        let meta = ImageMeta::parse(&bytes).map_err(|error| error.at(&path))?;
        if meta.digest != *digest {
            let message = format!("key digest names {}, the folder {digest}", meta.digest);
            return Err(Error::new(ErrorKind::Malformed, message).at(path));
        }
        Ok(Some(Image {
            meta,
            folder,
            elsewhere: None,
        }))
    }
}

impl Verification {
    /// Whether the image is as it was added.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.changed.is_empty()
    }
}

impl Image {
    /// The files of the content in order, with their lengths in sectors of 512 bytes.
    #[must_use]
    pub fn extents(&self) -> Vec<(PathBuf, u64)> {
        self.meta
            .extents
            .iter()
            .map(|e| (self.path(e), e.sectors))
            .collect()
    }

    /// Notes that a machine refers to the image; nothing happens if it does already.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] in a root that is read-only; what else the operating system
    /// reports.
    pub fn add_lease(&self, machine: Uuid) -> Result<()> {
        if !self.add_lease_unflushed(machine)? {
            return Ok(());
        }
        let holder = self.leases_folder();
        fsync_dir(&holder.join(LEASES))?;
        Ok(fsync_dir(holder)?)
    }

    /// As [`add_lease`](Self::add_lease), for a caller who flushes. Answers whether it is new.
    pub(crate) fn add_lease_unflushed(&self, machine: Uuid) -> Result<bool> {
        let holder = self.leases_folder();
        if self.elsewhere.is_some() {
            crate::store::make_private_dir(holder)?;
        }
        let leases = holder.join(LEASES);
        let failed = |error| Error::io("the image cannot be reserved", &leases, error);
        let lease = leases.join(machine.to_string());
        refuse_link(&leases)?;
        refuse_link(&lease)?;
        if lease.is_file() {
            return Ok(false);
        }
        if let Err(error) = files::create_dir(&leases)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        match files::File::create_new(&lease) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => drop(made.map_err(failed)?),
        }
        Ok(true)
    }

    /// The folder that the leases lie in: the image's own, or one of the store for an image that
    /// the store may not write to.
    pub(crate) fn leases_folder(&self) -> &Path {
        self.elsewhere.as_deref().unwrap_or(&self.folder)
    }

    /// Whether the image lies in a root that is only read.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Forgets that a machine refers to the image; nothing happens if it does not.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn remove_lease(&self, machine: Uuid) -> Result<()> {
        let leases = self.leases_folder().join(LEASES);
        refuse_link(&leases)?;
        let lease = leases.join(machine.to_string());
        remove_file(&lease).map_err(|error| error.during("the image cannot be released"))
    }

    /// The machines that refer to the image, in order of their ids.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn leases(&self) -> Result<Vec<Uuid>> {
        Self::leases_in(self.leases_folder())
    }

    /// The lease of a machine on the image in `folder`.
    pub(crate) fn lease_in(folder: &Path, machine: Uuid) -> PathBuf {
        folder.join(LEASES).join(machine.to_string())
    }

    /// As [`Self::leases`], of the image in `folder`, which may be damaged.
    pub(crate) fn leases_in(folder: &Path) -> Result<Vec<Uuid>> {
        refuse_link(folder)?;
        let folder = folder.join(LEASES);
        refuse_link(&folder)?;
        let failed = |error| Error::io("the image's users cannot be read", &folder, error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut machines = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            machines.extend(name.to_str().and_then(|name| Uuid::try_parse(name).ok()));
        }
        machines.sort_unstable();
        Ok(machines)
    }

    fn path(&self, extent: &ExtentMeta) -> PathBuf {
        self.folder.join(&extent.file)
    }

    /// Extents that are missing or of the wrong length: no content is read, no link followed.
    fn damaged_extents(&self) -> Vec<ChangedExtent> {
        let damage = |extent: &ExtentMeta| {
            let path = self.path(extent);
            let change = match fs::symlink_metadata(&path) {
                Ok(file) if file.is_file() && file.len() == extent.bytes() => return None,
                Ok(file) if file.is_file() => Change::Length(file.len()),
                _ => Change::Missing,
            };
            Some(ChangedExtent { path, change })
        };
        self.meta.extents.iter().filter_map(damage).collect()
    }

    /// Extents whose content is another one. Where no digests of single extents were kept, and the
    /// image as a whole differs, every extent may be the one.
    fn changed_extents(&self, ctx: &Ctx) -> Result<Vec<ChangedExtent>> {
        let disk = Extents::open(self.meta.extents.iter().map(|e| (self.path(e), e.bytes())))?;
        if digest(&disk, 0..disk.len(), ctx)? == self.meta.digest {
            disk.check_unchanged()?;
            return Ok(Vec::new());
        }
        let mut changed = Vec::new();
        let mut start = 0;
        for extent in &self.meta.extents {
            let end = start + extent.bytes();
            let same = match extent.digest {
                Some(expected) => digest(&disk, start..end, ctx)? == expected,
                None => false,
            };
            if !same {
                changed.push(ChangedExtent {
                    path: self.path(extent),
                    change: Change::Content,
                });
            }
            start = end;
        }
        if changed.is_empty() {
            // image.json contradicts itself: no extent can be cleared.
            let every = self.meta.extents.iter().map(|e| self.path(e));
            changed.extend(every.map(|path| ChangedExtent {
                path,
                change: Change::Content,
            }));
        }
        Ok(changed)
    }
}

/// A file's bytes, at most one more than [`format::MAX_LEN`], which then refuses them.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = format::MAX_LEN as u64 + 1;
    let file = files::File::open(path)?.into_std();
    io::Read::read_to_end(&mut io::Read::take(file, limit), &mut bytes)?;
    Ok(bytes)
}

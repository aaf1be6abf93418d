//! Who refers to which image: every `machine.json` of the store, also those that cannot be read.
//!
//! A record refers to an image by naming its digest anywhere, in keys of newer versions too: an
//! image that any version of the library may still need is never taken for a free one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Store, read_small};
use crate::error::{Error, ErrorKind, Result};
use crate::format::MAX_LEN;
use crate::image::ImageDigest;
use crate::machine::is_unfinished;
use crate::spec::Name;

/// Digits of a digest in its text form.
const DIGITS: usize = 64;

/// Who refers to which image.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The machines that could be read, by id: what their records name. Several folders may say
    /// the same id: copies by hand.
    machines: HashMap<Uuid, Holder>,
    /// Every image that any record names.
    named: BTreeSet<ImageDigest>,
    /// Folders whose record cannot be understood, and the ids that may be theirs.
    unread: Vec<Unread>,
}

#[derive(Debug, Default)]
struct Holder {
    images: BTreeSet<ImageDigest>,
    folders: Vec<PathBuf>,
}

/// A machine whose record cannot be understood.
#[derive(Debug)]
struct Unread {
    folder: PathBuf,
    /// None: it could be anybody's.
    id: Option<Uuid>,
}

impl References {
    /// Reads the records of all machines of `store`. Memory follows their number, not their size:
    /// one record is held at a time.
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let mut references = Self::default();
        let ids = store.ids()?;
        for folder in folders(&store.machines_folder())? {
            references.add(folder, &ids);
        }
        Ok(references)
    }

    fn add(&mut self, folder: PathBuf, ids: &BTreeMap<Uuid, Option<Name>>) {
        let bytes = match read_small(&folder.join("machine.json"), MAX_LEN as u64) {
            Ok(bytes) => bytes,
            // No machine (yet): the rest of a creation, or a folder of somebody else.
            Err(error) if error.kind() == ErrorKind::NotFound && !has_lost_it(&folder) => return,
            Err(_) => {
                self.unread.push(Unread {
                    id: id_of_folder(&folder, ids),
                    folder,
                });
                return;
            }
        };
        let images: BTreeSet<_> = digests_in(&bytes).collect();
        self.named.extend(&images);
        match id_in(&bytes) {
            Some(id) => {
                let holder = self.machines.entry(id).or_default();
                holder.images.extend(images);
                holder.folders.push(folder);
            }
            None => self.unread.push(Unread {
                id: id_of_folder(&folder, ids),
                folder,
            }),
        }
    }

    /// Whether a record names the image.
    pub(crate) fn is_named(&self, image: &ImageDigest) -> bool {
        self.named.contains(image)
    }

    /// Whether the lease of machine `id` on `image` is one that somebody needs.
    pub(crate) fn needs_lease(&self, id: Uuid, image: &ImageDigest) -> bool {
        match self.machines.get(&id) {
            Some(holder) => holder.images.contains(image),
            None => self.may_be_unread(id).is_some(),
        }
    }

    /// The folder whose record cannot be understood and that may be machine `id`.
    pub(crate) fn may_be_unread(&self, id: Uuid) -> Option<&Path> {
        let may = |unread: &&Unread| unread.id.is_none_or(|found| found == id);
        self.unread
            .iter()
            .find(may)
            .map(|unread| unread.folder.as_path())
    }

    /// The folders whose record says that they are machine `id`.
    pub(crate) fn folders_of(&self, id: Uuid) -> &[PathBuf] {
        self.machines.get(&id).map_or(&[], |holder| &holder.folders)
    }
}

/// Whether a folder without a record is that of a machine which has lost it.
fn has_lost_it(folder: &Path) -> bool {
    folder.join("layers").is_dir() && !is_unfinished(folder).unwrap_or(false)
}

/// Every folder below `machines` that may be a machine or a copy of one, sorted; its name need not
/// be one that a machine may have.
pub(crate) fn folders(machines: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("the machines cannot be listed", machines, error);
    let mut folders = Vec::new();
    for entry in fs::read_dir(machines).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// The digests that stand anywhere in a file's text. No structure is needed: a record that is cut
/// off still holds what it names.
pub(crate) fn digests_in(bytes: &[u8]) -> impl Iterator<Item = ImageDigest> {
    let prefix = ImageDigest::PREFIX.as_bytes();
    let long = prefix.len() + DIGITS;
    bytes.windows(long).filter_map(move |text| {
        if !text.starts_with(prefix) {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse().ok()
    })
}

/// The id of a record, as far as it can be told from its text; also of one that a newer version
/// wrote.
fn id_in(bytes: &[u8]) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Header {
        id: Uuid,
    }
    serde_json::from_slice::<Header>(bytes)
        .ok()
        .map(|header| header.id)
}

/// The id of the machine that was last known to be in `folder`.
fn id_of_folder(folder: &Path, ids: &BTreeMap<Uuid, Option<Name>>) -> Option<Uuid> {
    let name = folder.file_name()?.to_str()?;
    let is = |known: &Option<Name>| known.as_ref().is_some_and(|known| known.as_str() == name);
    let mut found = ids.iter().filter(|(_, known)| is(known));
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Some(*id),
        // Nobody, or several: it could be any.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let (a, b) = ("a".repeat(64), "0123456789abcdef".repeat(4));
        let text = format!("{{\"x\":\"sha256c:{a}\", cut \"y\": [\"sha256c:{b}\", \"sha256c:12");
        let found: Vec<_> = digests_in(text.as_bytes()).map(|d| d.hex()).collect();
        assert_eq!(found, [a, b]);
        assert_eq!(digests_in(b"").count(), 0);
    }
}

//! The files of a new `.hdd` bundle as a value: a chain of expanding images, each of them empty, and the descriptor that
//! holds them together. Nothing is written here.
//!
//! Names and the order of the descriptor's parts are Parallels Desktop's; its sizes end at 2 TiB, which two storages hold.

use super::create::MAX_STORAGE_SECTORS;
use super::header::CLUSTER_SECTORS;
use super::{DiskDescriptor, HdsSpec, Image, ImageKind, LEAF_GUID, Shot, Storage};
use crate::image::ImageSpec;
use crate::{Error, Result};
use uuid::{Uuid, uuid};

/// An image that ploop keeps for backups: no snapshot can have its id.
const BACKUP_GUID: Uuid = uuid!("704718e1-2314-44c8-9087-d78ed36b0f4e");

/// A new bundle of empty expanding images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBundle {
    /// Name of the bundle's folder without `.hdd`: the label of the disk, and what its files' names begin with.
    pub name: String,
    /// Id of the disk. Parallels Desktop refuses a machine with two disks of one id.
    pub uid: Uuid,
    /// Size of the disk in sectors of 512.
    pub sectors: u64,
    /// The ids of the images below the writable one, the root first; that one has [`LEAF_GUID`] always.
    pub snapshots: Vec<Uuid>,
    /// Sectors of a storage where the disk is split; it has as few storages as possible without.
    pub split: Option<u64>,
}

/// A file of a new bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Its name in the bundle's folder.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a new file of a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A new image.
    Image(ImageSpec),
}

impl NewBundle {
    /// The files of the bundle, in the order in which they are to be made: the descriptor comes last, and makes it one.
    ///
    /// An image is filled through [`open_snapshot`](super::open_snapshot), the root first.
    ///
    /// # Errors
    /// `Invalid` for a name that no file can have, ids that are not apart, or sizes that make no disk.
    pub fn files(&self) -> Result<Vec<NewFile>> {
        let made = self.descriptor().and_then(|disk| self.files_of(&disk));
        made.map_err(|e| e.during("make hdd bundle"))
    }

    fn files_of(&self, disk: &DiskDescriptor) -> Result<Vec<NewFile>> {
        let xml = disk.to_xml()?.into_bytes();
        let images = disk.storages.iter().flat_map(|storage| {
            storage.images.iter().map(|image| NewFile {
                name: image.file.clone(),
                content: Content::Image(ImageSpec::Hds(HdsSpec {
                    sectors: storage.end - storage.start,
                    patches: Vec::new(),
                })),
            })
        });
        let bytes = |name: String, bytes| NewFile {
            name,
            content: Content::Bytes(bytes),
        };
        let texts = [
            // Parallels Desktop keeps an empty file of the bundle's own name.
            bytes(format!("{}.hdd", self.name), Vec::new()),
            bytes("DiskDescriptor.xml.Backup".to_owned(), xml.clone()),
            bytes("DiskDescriptor.xml".to_owned(), xml),
        ];
        Ok(images.chain(texts).collect())
    }

    fn descriptor(&self) -> Result<DiskDescriptor> {
        let name = &self.name;
        if name.is_empty() || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
            let what = format!("no bundle can be called {name:?}");
            return Err(Error::invalid(what));
        }
        for taken in [LEAF_GUID, BACKUP_GUID] {
            if self.snapshots.contains(&taken) {
                let what = format!("no snapshot can have the id {{{taken}}}");
                return Err(Error::invalid(what));
            }
        }
        let chain: Vec<Uuid> = self.snapshots.iter().copied().chain([LEAF_GUID]).collect();
        let parents = std::iter::once(None).chain(chain.iter().copied().map(Some));
        Ok(DiskDescriptor {
            sectors: self.sectors,
            uid: self.uid,
            name: name.clone(),
            storages: self.storages(&chain)?,
            shots: chain
                .iter()
                .zip(parents)
                .map(|(guid, parent)| Shot {
                    guid: *guid,
                    parent,
                })
                .collect(),
            top_guid: None,
        })
    }

    fn storages(&self, chain: &[Uuid]) -> Result<Vec<Storage>> {
        let most = self.split.unwrap_or(MAX_STORAGE_SECTORS);
        if most == 0 || most > MAX_STORAGE_SECTORS || self.sectors.div_ceil(most) > MOST_STORAGES {
            let what = format!("storages of {most} sectors for a disk of {}", self.sectors);
            return Err(Error::invalid(what));
        }
        let starts = (0..self.sectors.div_ceil(most)).map(|n| n * most);
        let storages = starts.enumerate().map(|(n, start)| Storage {
            start,
            end: start.saturating_add(most).min(self.sectors),
            blocksize: CLUSTER_SECTORS as u32,
            images: chain
                .iter()
                .map(|guid| Image {
                    guid: *guid,
                    kind: ImageKind::Compressed,
                    file: format!("{}.hdd.{n}.{{{guid}}}.hds", self.name),
                })
                .collect(),
        });
        Ok(storages.collect())
    }
}

/// A disk of 2 TiB in pieces of 1 GiB.
const MOST_STORAGES: u64 = 2048;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind;
    use std::path::Path;

    fn bundle(sectors: u64, snapshots: &[u128], split: Option<u64>) -> NewBundle {
        NewBundle {
            name: "os é & co".into(),
            uid: Uuid::from_u128(9),
            sectors,
            snapshots: snapshots.iter().map(|n| Uuid::from_u128(*n)).collect(),
            split,
        }
    }

    fn descriptor(files: &[NewFile]) -> DiskDescriptor {
        let last = files.last().unwrap();
        assert_eq!(last.name, "DiskDescriptor.xml");
        let Content::Bytes(xml) = &last.content else {
            panic!("no text")
        };
        DiskDescriptor::parse(xml, Path::new("x")).unwrap()
    }

    #[test]
    fn every_image_of_the_descriptor_is_a_file_of_its_size() {
        let files = bundle(5001, &[1, 2], Some(2000)).files().unwrap();
        let disk = descriptor(&files);
        let ids = [LEAF_GUID, Uuid::from_u128(2), Uuid::from_u128(1)];
        assert_eq!(disk.chain().unwrap(), ids);
        let sizes: Vec<_> = disk.storages.iter().map(|s| s.end - s.start).collect();
        assert_eq!(sizes, [2000, 2000, 1001]);
        for storage in &disk.storages {
            for image in &storage.images {
                let file = files.iter().find(|f| f.name == image.file).unwrap();
                let Content::Image(spec) = &file.content else {
                    panic!("no image")
                };
                assert_eq!(spec.disk_size(), (storage.end - storage.start) * 512);
            }
        }
        let names: Vec<_> = files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names.len(), 9 + 3);
        assert!(names.contains(&format!("os é & co.hdd.2.{{{LEAF_GUID}}}.hds").as_str()));
        let empty = files.iter().find(|f| f.name == "os é & co.hdd").unwrap();
        assert_eq!(empty.content, Content::Bytes(Vec::new()));
    }

    #[test]
    fn two_tebibytes_take_two_storages() {
        let disk = descriptor(&bundle(1 << 32, &[], None).files().unwrap());
        assert_eq!(disk.storages.len(), 2);
        let disk = descriptor(&bundle(MAX_STORAGE_SECTORS, &[], None).files().unwrap());
        assert_eq!(disk.storages.len(), 1);
    }

    #[test]
    fn what_makes_no_bundle_is_refused() {
        let mut named = bundle(2048, &[], None);
        named.name = "../x".into();
        for bad in [
            named,
            bundle(0, &[], None),
            bundle(2048, &[], Some(0)),
            bundle(1 << 20, &[], Some(1)),
            bundle(2048, &[], Some(u64::MAX)),
            bundle(2048, &[1, 1], None),
            bundle(2048, &[0], None),
            bundle(2048, &[LEAF_GUID.as_u128()], None),
            bundle(2048, &[BACKUP_GUID.as_u128()], None),
        ] {
            assert_eq!(bad.files().unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}

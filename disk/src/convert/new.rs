//! A new, empty image or chain of them: its files, and how each level is opened to be filled.

use super::Target;
use super::staging::Staging;
use crate::chain::{Access, Chain};
use crate::gate::Below;
use crate::hdd::{self, LEAF_GUID, NewBundle};
use crate::info::Format;
use crate::qcow2::{Backing, Qcow2Spec};
use crate::vdi::{self, VdiSpec};
use crate::vmdk::{
    AdapterType, Cid, FlatExtent, FlatKind, FlatSpec, MAX_EXTENT_SECTORS, ParentLink, SECTOR,
    SparseSpec, StreamSpec,
};
use crate::{Durability, Error, ImageSpec, RawSpec, Result, Volume, create, write_atomic};
use std::path::PathBuf;
use uuid::Uuid;

/// The files of a new chain.
pub(super) struct New {
    /// In the order in which they get their names: what stands for the top image comes last.
    pub(super) files: Vec<(String, Content)>,
    levels: Levels,
}

/// What a new file holds before anything is copied into it.
pub(super) enum Content {
    Bytes(Vec<u8>),
    Image(ImageSpec),
    /// It is written from its first byte to its last while data comes.
    Stream(StreamSpec),
}

/// How the levels are reached, the base first.
enum Levels {
    /// Files beside each other.
    Files(Vec<(String, Format)>),
    /// Images of a bundle, which is a folder.
    Bundle(Vec<Uuid>),
}

impl New {
    /// The files of a chain of `depth` images. `name` is what stands for the top one: a file, which the others are called
    /// after, or a bundle's folder.
    pub(super) fn plan(to: Target, name: &str, size: u64, depth: usize, id: Uuid) -> Result<New> {
        if depth > 1 && !to.has_parents() {
            return Err(Error::unsupported(format!(
                "a {to} image lies on no other: flatten the chain instead"
            )));
        }
        if to == Target::Hdd {
            return bundle(name, size, depth, id);
        }
        let (mut files, mut levels) = (Vec::new(), Vec::new());
        let mut below = None;
        for n in 0..depth {
            let level = Level {
                file: match n + 1 == depth {
                    true => name.to_owned(),
                    false => beside(name, n),
                },
                size,
                ids: Ids::of(id, n),
                below: below.take(),
            };
            let (format, made) = level.files(to)?;
            files.extend(made);
            levels.push((level.file.clone(), format));
            below = Some((level.file, level.ids));
        }
        Ok(New {
            files,
            levels: Levels::Files(levels),
        })
    }

    pub(super) fn images(&self) -> usize {
        match &self.levels {
            Levels::Files(levels) => levels.len(),
            Levels::Bundle(levels) => levels.len(),
        }
    }

    /// Whether what stands for the image is a folder with all the files.
    pub(super) fn is_bundle(&self) -> bool {
        matches!(self.levels, Levels::Bundle(_))
    }

    /// Makes the files, empty; of one that is written as a stream, its spec is all there is.
    pub(super) fn make(
        &self,
        staging: &Staging,
        volume: &Volume,
        durability: Durability,
    ) -> Result<()> {
        for (file, content) in &self.files {
            let path = staging.path(file);
            match content {
                Content::Image(spec) => create(&path, spec, volume, durability)?,
                Content::Bytes(bytes) => write_atomic(&path, bytes, durability)?,
                Content::Stream(_) => {}
            }
        }
        Ok(())
    }

    /// The stream that the image is written as, where it is one.
    pub(super) fn stream(&self) -> Option<&StreamSpec> {
        self.files.iter().find_map(|(_, content)| match content {
            Content::Stream(spec) => Some(spec),
            Content::Bytes(_) | Content::Image(_) => None,
        })
    }

    /// Opens a level for writing, on those below.
    pub(super) fn open(&self, staging: &Staging, level: usize) -> Result<Chain> {
        let folder = staging.path("");
        let gate = Below::new(&folder)?;
        match &self.levels {
            Levels::Bundle(chain) => {
                hdd::open_snapshot(&folder, chain[level], Access::Write, &gate)
            }
            Levels::Files(levels) => {
                let images: Vec<(PathBuf, Format)> = levels[..=level]
                    .iter()
                    .map(|(file, format)| (staging.path(file), *format))
                    .collect();
                let images: Vec<_> = images
                    .iter()
                    .map(|(path, format)| (path.as_path(), *format))
                    .collect();
                Chain::open_all(&images, Access::Write, &gate)
            }
        }
    }
}

/// The name of a lower image: `disk.vmdk` lies on `disk-0.vmdk` and so on.
fn beside(name: &str, n: usize) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{n}.{extension}"),
        None => format!("{name}-{n}"),
    }
}

fn bundle(name: &str, size: u64, depth: usize, id: Uuid) -> Result<New> {
    let snapshots: Vec<Uuid> = (1..depth).map(|n| Ids::of(id, n - 1).uuid).collect();
    let bundle = NewBundle {
        name: name.strip_suffix(".hdd").unwrap_or(name).to_owned(),
        uid: Uuid::new_v5(&id, b"disk"),
        sectors: sectors(size, Target::Hdd)?,
        snapshots: snapshots.clone(),
        split: None,
    };
    let content = |content| match content {
        hdd::Content::Bytes(bytes) => Content::Bytes(bytes),
        hdd::Content::Image(spec) => Content::Image(spec),
    };
    let files = bundle.files()?.into_iter();
    Ok(New {
        files: files
            .map(|file| (file.name, content(file.content)))
            .collect(),
        levels: Levels::Bundle(snapshots.into_iter().chain([LEAF_GUID]).collect()),
    })
}

fn sectors(size: u64, to: Target) -> Result<u64> {
    match size % SECTOR {
        0 => Ok(size / SECTOR),
        _ => Err(Error::unsupported(format!(
            "a disk of {size} bytes, no multiple of 512, as {to}"
        ))),
    }
}

/// Ids of one image of a chain, which follow from the chain's.
#[derive(Clone, Copy)]
struct Ids {
    cid: Cid,
    uuid: Uuid,
    modification: Uuid,
}

impl Ids {
    fn of(id: Uuid, n: usize) -> Ids {
        let derived = |what: &str| Uuid::new_v5(&id, format!("{what}/{n}").as_bytes());
        let mut from = derived("cid");
        loop {
            let [a, b, c, d, ..] = *from.as_bytes();
            match Cid::new(u32::from_be_bytes([a, b, c, d])) {
                Ok(cid) => {
                    return Ids {
                        cid,
                        uuid: derived("image"),
                        modification: derived("modification"),
                    };
                }
                // Reserved values.
                Err(_) => from = Uuid::new_v5(&id, from.as_bytes()),
            }
        }
    }
}

/// One image among those of a chain.
struct Level {
    file: String,
    size: u64,
    ids: Ids,
    /// The image below: its file and ids.
    below: Option<(String, Ids)>,
}

impl Level {
    fn files(&self, to: Target) -> Result<(Format, Vec<(String, Content)>)> {
        let named = |spec| vec![(self.file.clone(), Content::Image(spec))];
        Ok(match to {
            Target::Raw => (Format::Raw, named(self.raw())),
            Target::Vmdk => (
                Format::VmdkSparse,
                named(ImageSpec::VmdkSparse(self.sparse(to)?)),
            ),
            Target::VmdkSplit => {
                let files = self.sparse(to)?.split(MAX_EXTENT_SECTORS)?.into_iter();
                let files = files.map(|(file, spec)| (file, Content::Image(spec)));
                (Format::VmdkDescriptor, files.collect())
            }
            Target::VmdkFlat => (Format::VmdkDescriptor, self.flat()?),
            Target::VmdkStream => {
                let spec = StreamSpec {
                    file: self.file.clone(),
                    sectors: sectors(self.size, to)?,
                    cid: self.ids.cid,
                    uuid: self.ids.uuid,
                    adapter: AdapterType::LsiLogic,
                };
                let files = vec![(self.file.clone(), Content::Stream(spec))];
                (Format::VmdkSparse, files)
            }
            Target::Vdi => {
                let ids = |ids: &Ids| vdi::Ids {
                    image: ids.uuid,
                    modification: ids.modification,
                    parent: None,
                };
                let spec = VdiSpec {
                    sectors: sectors(self.size, to)?,
                    allocation: vdi::Allocation::Dynamic,
                    ids: vdi::Ids {
                        parent: self.below.as_ref().map(|(_, below)| ids(below).as_parent()),
                        ..ids(&self.ids)
                    },
                    patches: Vec::new(),
                };
                (Format::Vdi, named(ImageSpec::Vdi(spec)))
            }
            Target::Hdd => return Err(Error::invalid("a bundle is no file")),
            Target::Qcow2 => {
                let backing = |(file, _): &(String, Ids)| Backing {
                    file: file.clone(),
                    format: Format::Qcow2,
                };
                let spec = Qcow2Spec {
                    sectors: sectors(self.size, to)?,
                    backing: self.below.as_ref().map(backing),
                };
                (Format::Qcow2, named(ImageSpec::Qcow2(spec)))
            }
        })
    }

    fn raw(&self) -> ImageSpec {
        ImageSpec::Raw(RawSpec {
            size: self.size,
            patches: Vec::new(),
        })
    }

    fn sparse(&self, to: Target) -> Result<SparseSpec> {
        let link = |(file, ids): &(String, Ids)| ParentLink {
            hint: file.clone(),
            cid: ids.cid,
            uuid: ids.uuid,
        };
        Ok(SparseSpec {
            file: self.file.clone(),
            sectors: sectors(self.size, to)?,
            cid: self.ids.cid,
            uuid: self.ids.uuid,
            parent: self.below.as_ref().map(link),
            adapter: AdapterType::LsiLogic,
            patches: Vec::new(),
        })
    }

    fn flat(&self) -> Result<Vec<(String, Content)>> {
        let stem = self.file.strip_suffix(".vmdk").unwrap_or(&self.file);
        let data = format!("{stem}-flat.vmdk");
        let descriptor = FlatSpec {
            kind: FlatKind::Monolithic,
            extents: vec![FlatExtent {
                file: data.clone(),
                sectors: sectors(self.size, Target::VmdkFlat)?,
                offset: 0,
            }],
            cid: self.ids.cid,
            uuid: self.ids.uuid,
            adapter: AdapterType::LsiLogic,
        };
        let descriptor = Content::Image(ImageSpec::VmdkFlat(descriptor));
        Ok(vec![
            (data, Content::Image(self.raw())),
            (self.file.clone(), descriptor),
        ])
    }
}

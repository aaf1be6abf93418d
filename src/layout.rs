//! How a disk's chain lies on disk: file names, ids and links, as pure data.
//!
//! One definition serves a machine of a store and a preview without one. Files are made by
//! [`crate::machine`] and by applying plans.

use std::path::PathBuf;

use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::vmdk::{AdapterType, FlatExtent, FlatSpec, ParentLink, SparseSpec};
use stratavm_disk::{ImageSpec, Patch};

use crate::chain::{Chain, DiskName, Family, Member, MemberFile, MemberRole};
use crate::error::{Error, Result};
use crate::identity::{Identity, LinkId};
use crate::image::ImageDigest;
use crate::resolved::{Paths, relative_path};
use crate::spec::Controller;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// An image as chains refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRef {
    pub(crate) digest: ImageDigest,
    /// Path and sectors of each extent, in order.
    pub(crate) extents: Vec<(PathBuf, u64)>,
}

impl ImageRef {
    /// Capacity in sectors.
    pub(crate) fn sectors(&self) -> u64 {
        self.extents.iter().map(|(_, sectors)| sectors).sum()
    }
}

/// A frozen delta and the revision that froze it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrozenRef {
    pub(crate) revision: u64,
    pub(crate) generation: u64,
}

/// Whether the files of a chain are to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Making {
    /// All are there: a machine of a store.
    Existing,
    /// Base descriptor and head are made when the plan is applied: a preview.
    New,
}

/// The layout of one disk.
#[derive(Debug, Clone)]
pub(crate) struct DiskLayout<'a> {
    pub(crate) identity: Identity,
    pub(crate) paths: &'a Paths,
    pub(crate) disk: DiskName,
    pub(crate) controller: Controller,
    pub(crate) family: Family,
}

impl DiskLayout<'_> {
    /// The chain of a layer: `image`, the frozen deltas on it, and the head of `generation`.
    pub(crate) fn chain(
        &self,
        image: &ImageRef,
        frozen: &[FrozenRef],
        generation: u64,
        making: Making,
    ) -> Result<Chain> {
        let base_id = self.identity.base(&self.disk, &image.digest);
        let mut members = vec![
            self.member(
                MemberRole::Image(image.digest),
                LinkId { ..base_id },
                image
                    .extents
                    .iter()
                    .map(|(path, n)| MemberFile::existing(path, *n))
                    .collect(),
            ),
        ];
        if self.family == Family::Vmdk {
            let path = self.base_path(&image.digest);
            let file = match making {
                Making::Existing => MemberFile::existing(path, image.sectors()),
                Making::New => MemberFile::new(path, image.sectors(), self.base_spec(image)?),
            };
            members.push(self.member(MemberRole::Base, base_id, vec![file]));
        }
        for delta in frozen {
            let files = self
                .head_files(delta.generation, image)
                .into_iter()
                .map(|(path, sectors)| MemberFile::existing(path, sectors))
                .collect();
            let id = self.frozen_id(delta.generation);
            members.push(self.member(MemberRole::Frozen(delta.revision), id, files));
        }
        let head = self.identity.head(&self.disk, generation);
        let files = match making {
            Making::Existing => self
                .head_files(generation, image)
                .into_iter()
                .map(|(path, sectors)| MemberFile::existing(path, sectors))
                .collect(),
            Making::New => self
                .head_specs(
                    image,
                    frozen.last().map(|delta| delta.generation),
                    generation,
                )
                .into_iter()
                .map(|(path, spec, sectors)| MemberFile::new(path, sectors, spec))
                .collect(),
        };
        members.push(self.member(MemberRole::Head, head, files));
        Ok(Chain::new(self.family, image.sectors(), members))
    }

    /// The chain of the session disk: one sparse image without a parent.
    pub(crate) fn session_chain(
        &self,
        size: u64,
        patches: Option<Vec<Patch>>,
        generation: u64,
    ) -> Chain {
        let sectors = size / SECTOR;
        let id = self.identity.head(&self.disk, generation);
        let path = self.single_path(generation);
        let file = match patches {
            None => MemberFile::existing(path, sectors),
            Some(patches) => {
                let spec = match self.family {
                    Family::Vmdk => self.sparse(id, generation, sectors, None, patches),
                    Family::Hds => ImageSpec::Hds(HdsSpec { sectors, patches }),
                };
                MemberFile::new(path, sectors, spec)
            }
        };
        let head = self.member(MemberRole::Head, id, vec![file]);
        Chain::new(self.family, sectors, vec![head])
    }

    /// The machine's own descriptor over an image: path and content.
    pub(crate) fn base_path(&self, image: &ImageDigest) -> PathBuf {
        self.base_for(image, self.adapter())
    }

    /// The paths that [`base_path`](Self::base_path) may have, whatever the controller.
    pub(crate) fn base_paths(&self, image: &ImageDigest) -> [PathBuf; 2] {
        [AdapterType::LsiLogic, AdapterType::Ide].map(|adapter| self.base_for(image, adapter))
    }

    /// The descriptor says for which adapter it is, and names are never used twice.
    fn base_for(&self, image: &ImageDigest, adapter: AdapterType) -> PathBuf {
        let suffix = match adapter {
            AdapterType::Ide => "-ide",
            _ => "",
        };
        let name = format!("base-{}{suffix}.vmdk", image.content_id());
        self.paths.disk(&self.disk).join(name)
    }

    /// What [`base_path`](Self::base_path) holds.
    pub(crate) fn base_spec(&self, image: &ImageRef) -> Result<ImageSpec> {
        let folder = self.paths.disk(&self.disk);
        let id = self.identity.base(&self.disk, &image.digest);
        let extents = image
            .extents
            .iter()
            .map(|(path, sectors)| {
                // A descriptor is UTF-8 text; a lossy name would point somewhere else.
                if path.to_str().is_none() {
                    return Err(
                        Error::invalid("a disk descriptor can only name UTF-8 paths").at(path),
                    );
                }
                Ok(FlatExtent {
                    file: relative_path(&folder, path),
                    sectors: *sectors,
                    offset: 0,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let spec = ImageSpec::VmdkFlat(FlatSpec {
            extents,
            cid: id.cid,
            uuid: id.uuid,
            adapter: self.adapter(),
        });
        // Names that the descriptor has no way to write are refused before anything is made.
        stratavm_disk::image_bytes(&spec).map_err(|error| {
            let disk = &self.disk;
            Error::invalid(format!(
                "the image of {disk} cannot be named by a VMDK descriptor"
            ))
            .next("rename the image, or add it to the store: stratavm image add FILE")
            .caused_by(error)
        })?;
        Ok(spec)
    }

    /// The file of the head of `generation`, where its family keeps every head in one.
    pub(crate) fn only_file(&self, generation: u64) -> Option<PathBuf> {
        (self.family == Family::Vmdk).then(|| self.single_path(generation))
    }

    /// Path and sectors of each file of the head of `generation` over `image`.
    pub(crate) fn head_files(&self, generation: u64, image: &ImageRef) -> Vec<(PathBuf, u64)> {
        match self.family {
            Family::Hds if image.extents.len() > 1 => {
                let folder = self.paths.disk(&self.disk);
                let name = |part| folder.join(format!("head-{generation}-{part}.hds"));
                let parts = image.extents.iter().enumerate();
                parts
                    .map(|(index, (_, sectors))| (name(index + 1), *sectors))
                    .collect()
            }
            _ => vec![(self.single_path(generation), image.sectors())],
        }
    }

    /// Path, content and sectors of each file of a new head on the frozen delta of generation
    /// `parent`, or on the image itself.
    pub(crate) fn head_specs(
        &self,
        image: &ImageRef,
        parent: Option<u64>,
        generation: u64,
    ) -> Vec<(PathBuf, ImageSpec, u64)> {
        let files = self.head_files(generation, image);
        let spec = |sectors| match self.family {
            Family::Hds => ImageSpec::Hds(HdsSpec {
                sectors,
                patches: Vec::new(),
            }),
            Family::Vmdk => {
                let folder = self.paths.disk(&self.disk);
                let (path, id) = match parent {
                    Some(frozen) => (self.single_path(frozen), self.frozen_id(frozen)),
                    None => (
                        self.base_path(&image.digest),
                        self.identity.base(&self.disk, &image.digest),
                    ),
                };
                let link = ParentLink {
                    hint: relative_path(&folder, &path),
                    cid: id.cid,
                    uuid: id.uuid,
                };
                let head = self.identity.head(&self.disk, generation);
                self.sparse(head, generation, sectors, Some(link), Vec::new())
            }
        };
        files
            .into_iter()
            .map(|(path, sectors)| (path, spec(sectors), sectors))
            .collect()
    }

    /// What a frozen delta is known by: the head's UUID, and a content id of its own.
    fn frozen_id(&self, generation: u64) -> LinkId {
        let head = self.identity.head(&self.disk, generation);
        LinkId {
            cid: self.identity.frozen_cid(&self.disk, generation),
            ..head
        }
    }

    fn single_path(&self, generation: u64) -> PathBuf {
        self.paths
            .disk(&self.disk)
            .join(self.single_name(generation))
    }

    fn single_name(&self, generation: u64) -> String {
        let extension = match self.family {
            Family::Vmdk => "vmdk",
            Family::Hds => "hds",
        };
        format!("head-{generation}.{extension}")
    }

    fn sparse(
        &self,
        id: LinkId,
        generation: u64,
        sectors: u64,
        parent: Option<ParentLink>,
        patches: Vec<Patch>,
    ) -> ImageSpec {
        ImageSpec::VmdkSparse(SparseSpec {
            file: self.single_name(generation),
            sectors,
            cid: id.cid,
            uuid: id.uuid,
            parent,
            adapter: self.adapter(),
            patches,
        })
    }

    fn adapter(&self) -> AdapterType {
        match self.controller {
            Controller::Ide => AdapterType::Ide,
            _ => AdapterType::LsiLogic,
        }
    }

    fn member(&self, role: MemberRole, id: LinkId, files: Vec<MemberFile>) -> Member {
        let has_cid = self.family == Family::Vmdk && !matches!(role, MemberRole::Image(_));
        Member::new(
            self.disk.clone(),
            role,
            id.uuid,
            has_cid.then_some(id.cid),
            files,
        )
    }
}

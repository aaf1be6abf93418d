//! How a disk's chain lies on disk: file names, ids and links, as pure data.
//!
//! One definition serves a machine of a store and a preview without one. Files are made by
//! [`crate::machine`] and by applying plans.

use std::path::{Path, PathBuf};

use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::vmdk::{
    AdapterType, FlatExtent, FlatKind, FlatSpec, ParentLink, SparseSpec, extent_sectors_for,
    split_extents,
};
use stratavm_disk::{ImageSpec, Patch, Volume};

use crate::chain::{Chain, DiskName, Family, Member, MemberFile, MemberRole, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{Identity, LinkId};
use crate::image::{ImageDigest, extent_lengths};
use crate::resolved::{Paths, relative_path, slash_path};
use crate::spec::Controller;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// An image as chains refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRef {
    pub(crate) digest: ImageDigest,
    /// Path and sectors of each extent, in order.
    pub(crate) extents: Vec<(PathBuf, u64)>,
    pub(crate) reach: Reach,
}

/// How descriptors name an image's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From their own folder on: image and machine move together.
    Relative,
    /// From the root on: the image lies in a folder of its own, perhaps on another volume.
    Absolute,
}

impl ImageRef {
    /// Capacity in sectors.
    pub(crate) fn sectors(&self) -> u64 {
        self.extents.iter().map(|(_, sectors)| sectors).sum()
    }
}

/// A delta: what it was made as, and how its files are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeltaRef {
    pub(crate) generation: u64,
    /// Sectors of each extent but the last, where it is a split VMDK.
    pub(crate) extent_sectors: Option<u64>,
}

/// A frozen delta and the revision that froze it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrozenRef {
    pub(crate) revision: u64,
    pub(crate) delta: DeltaRef,
}

/// The files of one delta.
#[derive(Debug, Clone)]
pub(crate) struct DeltaFiles {
    /// What a product opens: one, or in the `hds` family one for each extent of the image.
    pub(crate) files: Vec<MemberFile>,
    /// What the only one of `files` names, where it is a split VMDK.
    pub(crate) extents: Vec<MemberFile>,
}

impl DeltaFiles {
    fn one(file: MemberFile) -> Self {
        Self {
            files: vec![file],
            extents: Vec::new(),
        }
    }

    /// All of them in the order in which they are made: a descriptor after its extents.
    pub(crate) fn all(&self) -> impl Iterator<Item = &MemberFile> {
        self.extents.iter().chain(&self.files)
    }

    /// The new ones with what they are to hold, in the same order.
    pub(crate) fn new_images(&self) -> impl Iterator<Item = (&Path, &ImageSpec)> {
        self.all().filter_map(|file| match &file.source {
            Source::New(spec) => Some((file.path.as_path(), spec)),
            Source::Existing => None,
        })
    }

    /// Those that hold blocks: not a text descriptor.
    pub(crate) fn with_blocks(&self) -> &[MemberFile] {
        match self.extents.is_empty() {
            true => &self.files,
            false => &self.extents,
        }
    }
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
    /// The chain of a layer: `image`, the frozen deltas on it, and the head.
    pub(crate) fn chain(
        &self,
        image: &ImageRef,
        frozen: &[FrozenRef],
        head: DeltaRef,
        making: Making,
    ) -> Result<Chain> {
        let base_id = self.identity.base(&self.disk, &image.digest);
        let mut members = vec![self.member(
            MemberRole::Image(image.digest),
            LinkId { ..base_id },
            DeltaFiles {
                files: existing(&image.extents),
                extents: Vec::new(),
            },
        )];
        if self.family == Family::Vmdk {
            let path = self.base_path(&image.digest);
            let file = match making {
                Making::Existing => MemberFile::existing(path, image.sectors()),
                Making::New => MemberFile::new(path, image.sectors(), self.base_spec(image)?),
            };
            members.push(self.member(MemberRole::Base, base_id, DeltaFiles::one(file)));
        }
        for frozen in frozen {
            let files = self.delta_files(frozen.delta, image)?;
            let id = self.frozen_id(frozen.delta.generation);
            members.push(self.member(MemberRole::Frozen(frozen.revision), id, files));
        }
        let id = self.identity.head(&self.disk, head.generation);
        let files = match making {
            Making::Existing => self.delta_files(head, image)?,
            Making::New => {
                let parent = frozen.last().map(|frozen| frozen.delta.generation);
                self.new_head(image, parent, head)?
            }
        };
        members.push(self.member(MemberRole::Head, id, files));
        Ok(Chain::new(self.family, image.sectors(), members))
    }

    /// The chain of the session disk: one sparse image without a parent.
    pub(crate) fn session_chain(
        &self,
        size: u64,
        patches: Option<Vec<Patch>>,
        head: DeltaRef,
    ) -> Result<Chain> {
        let sectors = size / SECTOR;
        let id = self.identity.head(&self.disk, head.generation);
        let files = match (patches, self.family) {
            (None, _) => self.single_files(head, sectors)?,
            (Some(patches), Family::Vmdk) => {
                let spec = self.sparse(id, head.generation, sectors, None, patches);
                self.new_files(spec, head)?
            }
            (Some(patches), Family::Hds) => DeltaFiles::one(MemberFile::new(
                self.single_path(head.generation),
                sectors,
                ImageSpec::Hds(HdsSpec { sectors, patches }),
            )),
        };
        let head = self.member(MemberRole::Head, id, files);
        Ok(Chain::new(self.family, sectors, vec![head]))
    }

    /// In extents of how many sectors a new delta of `sectors` is kept on `volume`; none where one
    /// file can hold it, or where the extents of its image decide.
    pub(crate) fn extent_sectors(&self, sectors: u64, volume: &Volume) -> Result<Option<u64>> {
        match self.family {
            Family::Vmdk => Ok(extent_sectors_for(sectors, volume.max_file)?),
            Family::Hds if self.disk == DiskName::Session => {
                one_file(sectors * SECTOR, volume).map(|()| None)
            }
            // It is cut where its image is.
            Family::Hds => Ok(None),
        }
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
                    file: match image.reach {
                        Reach::Relative => relative_path(&folder, path),
                        Reach::Absolute => slash_path(path),
                    },
                    sectors: *sectors,
                    offset: 0,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let spec = ImageSpec::VmdkFlat(FlatSpec {
            kind: FlatKind::Monolithic,
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

    /// The file of a delta, where it is known to be in one without a look at its image.
    pub(crate) fn only_file(&self, delta: DeltaRef) -> Option<PathBuf> {
        let one = self.family == Family::Vmdk && delta.extent_sectors.is_none();
        one.then(|| self.single_path(delta.generation))
    }

    /// The files of a delta over `image` that is there already.
    pub(crate) fn delta_files(&self, delta: DeltaRef, image: &ImageRef) -> Result<DeltaFiles> {
        match self.family {
            Family::Hds if image.extents.len() > 1 => Ok(DeltaFiles {
                files: existing(&self.parts(delta.generation, image)),
                extents: Vec::new(),
            }),
            _ => self.single_files(delta, image.sectors()),
        }
    }

    /// The files of a delta of `sectors` whose image does not decide on their number.
    fn single_files(&self, delta: DeltaRef, sectors: u64) -> Result<DeltaFiles> {
        let extents = match delta.extent_sectors {
            None => Vec::new(),
            Some(extent) => {
                let folder = self.paths.disk(&self.disk);
                let name = self.single_name(delta.generation);
                let extents = split_extents(&name, sectors, extent)?.into_iter();
                extents
                    .map(|extent| MemberFile::existing(folder.join(extent.file), extent.sectors))
                    .collect()
            }
        };
        let file = MemberFile::existing(self.single_path(delta.generation), sectors);
        Ok(DeltaFiles {
            files: vec![file],
            extents,
        })
    }

    /// In the `hds` family a delta is cut where its image is.
    fn parts(&self, generation: u64, image: &ImageRef) -> Vec<(PathBuf, u64)> {
        let folder = self.paths.disk(&self.disk);
        let name = |part| folder.join(format!("head-{generation}-{part}.hds"));
        let parts = image.extents.iter().enumerate();
        parts
            .map(|(index, (_, sectors))| (name(index + 1), *sectors))
            .collect()
    }

    /// The files of a new head on the frozen delta of generation `parent`, or on the image itself.
    pub(crate) fn new_head(
        &self,
        image: &ImageRef,
        parent: Option<u64>,
        head: DeltaRef,
    ) -> Result<DeltaFiles> {
        if self.family == Family::Hds {
            let mut files = self.delta_files(head, image)?;
            for file in &mut files.files {
                let (sectors, patches) = (file.sectors, Vec::new());
                file.source = Source::New(ImageSpec::Hds(HdsSpec { sectors, patches }));
            }
            return Ok(files);
        }
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
        let id = self.identity.head(&self.disk, head.generation);
        let sectors = image.sectors();
        let spec = self.sparse(id, head.generation, sectors, Some(link), Vec::new());
        self.new_files(spec, head)
    }

    /// The files of a new VMDK: one, or a descriptor and its extents.
    fn new_files(&self, spec: SparseSpec, delta: DeltaRef) -> Result<DeltaFiles> {
        let sectors = spec.sectors;
        let Some(extent) = delta.extent_sectors else {
            let path = self.single_path(delta.generation);
            let spec = ImageSpec::VmdkSparse(spec);
            return Ok(DeltaFiles::one(MemberFile::new(path, sectors, spec)));
        };
        let folder = self.paths.disk(&self.disk);
        let (mut files, mut extents) = (Vec::new(), Vec::new());
        for (name, spec) in spec.split(extent)? {
            let sectors = spec.disk_size() / SECTOR;
            let list = match spec {
                ImageSpec::VmdkExtent(_) => &mut extents,
                _ => &mut files,
            };
            list.push(MemberFile::new(folder.join(name), sectors, spec));
        }
        Ok(DeltaFiles { files, extents })
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
    ) -> SparseSpec {
        SparseSpec {
            file: self.single_name(generation),
            sectors,
            cid: id.cid,
            uuid: id.uuid,
            parent,
            adapter: self.adapter(),
            patches,
        }
    }

    fn adapter(&self) -> AdapterType {
        match self.controller {
            Controller::Ide => AdapterType::Ide,
            _ => AdapterType::LsiLogic,
        }
    }

    fn member(&self, role: MemberRole, id: LinkId, files: DeltaFiles) -> Member {
        let has_cid = self.family == Family::Vmdk && !matches!(role, MemberRole::Image(_));
        Member::new(
            self.disk.clone(),
            role,
            id.uuid,
            has_cid.then_some(id.cid),
            files.files,
        )
        .with_extents(files.extents)
    }
}

fn existing(files: &[(PathBuf, u64)]) -> Vec<MemberFile> {
    let file = |(path, sectors): &(PathBuf, u64)| MemberFile::existing(path, *sectors);
    files.iter().map(file).collect()
}

/// Refuses a `.hds` session disk of `size` bytes that could outgrow a file: it has no image that says
/// where to cut it.
fn one_file(size: u64, volume: &Volume) -> Result<()> {
    if extent_lengths(size, None, volume)?.len() == 1 {
        return Ok(());
    }
    let message = format!(
        "the session disk of {} MiB is one file, and files on this volume cannot grow as large",
        size >> 20
    );
    Err(Error::new(ErrorKind::Unsupported, message).next(
        "say less under `guest.session` in the spec and create the machine anew, or keep it on \
         another volume",
    ))
}

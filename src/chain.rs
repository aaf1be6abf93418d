//! Disk chains as plain data: which files a virtual disk is made of, base first.
//!
//! How chains are laid out for a machine is in [`crate::machine`], their formats are in
//! [`stratavm_disk`]. Nothing here touches a file.

use std::fmt;
use std::path::{Path, PathBuf};

use stratavm_disk::vmdk::Cid;
use stratavm_disk::{ImageSpec, RawSpec};
use uuid::Uuid;

use crate::image::ImageDigest;
use crate::spec::Name;

/// The family of formats that a chain is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Family {
    /// A monolithicFlat VMDK descriptor over the image, sparse VMDK children: VMware, VirtualBox
    /// and QEMU take the same files.
    Vmdk,
    /// The image as the `Plain` root of a Parallels `.hdd` bundle, expanding `.hds` children.
    Hds,
}

impl Family {
    /// The family's name in `machine.json` and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vmdk => "vmdk",
            Self::Hds => "hds",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of a machine's disks is meant. Written as the layer's name, or `session`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(from = "Name", into = "String")]
#[non_exhaustive]
pub enum DiskName {
    /// The disk of this layer.
    Layer(Name),
    /// The session disk of a machine in `linux` composition.
    Session,
}

/// What the session disk is called; no layer may have this name.
pub const SESSION: &str = "session";

impl From<Name> for DiskName {
    fn from(name: Name) -> Self {
        if name.as_str() == SESSION {
            Self::Session
        } else {
            Self::Layer(name)
        }
    }
}

impl DiskName {
    /// The disk's name in file names and messages; no layer may be called `session`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Layer(name) => name.as_str(),
            Self::Session => SESSION,
        }
    }
}

impl From<DiskName> for String {
    fn from(disk: DiskName) -> Self {
        disk.as_str().to_owned()
    }
}

impl fmt::Display for DiskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The chain of one virtual disk: members from the base to the head.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chain {
    /// The family that the members above the image are kept in.
    pub family: Family,
    /// Capacity in sectors of 512 bytes; the same for every member.
    pub sectors: u64,
    /// The members, base first; the last one is the head, the only one that is ever written.
    pub members: Vec<Member>,
}

impl Chain {
    /// A chain of `members`, base first.
    #[must_use]
    pub fn new(family: Family, sectors: u64, members: Vec<Member>) -> Self {
        Self {
            family,
            sectors,
            members,
        }
    }

    /// The head: the member that takes the guest's writes.
    #[must_use]
    pub fn head(&self) -> Option<&Member> {
        self.members
            .last()
            .filter(|member| member.role == MemberRole::Head)
    }

    /// The image at the base, if the disk has one (the session disk has none).
    #[must_use]
    pub fn image(&self) -> Option<&Member> {
        self.members
            .first()
            .filter(|member| matches!(member.role, MemberRole::Image(_)))
    }

    /// The paths of all files of all members, base first.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.members.iter().flat_map(Member::all_files);
        files.map(|file| file.path.clone()).collect()
    }

    /// Makes the files of the image at the base new ones, for a blank layer outside a store.
    pub(crate) fn make_image(&mut self, specs: Vec<RawSpec>) {
        let image = self
            .members
            .first_mut()
            .filter(|m| matches!(m.role, MemberRole::Image(_)));
        let files = image.into_iter().flat_map(|member| &mut member.files);
        for (file, spec) in files.zip(specs) {
            file.source = Source::New(ImageSpec::Raw(spec));
        }
    }

    /// The members that are image files of the family's own formats: what a product opens, base
    /// first. In the `vmdk` family the raw extents are reached through the base descriptor, so the
    /// image itself is left out; in the `hds` family it is the `Plain` root and stays.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &Member> {
        let family = self.family;
        self.members.iter().filter(move |member| {
            family == Family::Hds || !matches!(member.role, MemberRole::Image(_))
        })
    }
}

/// One level of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The disk it belongs to. Differs from the chain's own disk only where layers are stacked.
    pub owner: DiskName,
    /// What it is.
    pub role: MemberRole,
    /// The id of the file in the products' registries: `ddb.uuid.image`, or the image GUID of a
    /// `.hdd` bundle.
    pub uuid: Uuid,
    /// The content id; `None` where the format has none.
    pub cid: Option<Cid>,
    /// Its files. One, or, for an image of several extents (and, in the `hds` family, for every
    /// member above it), one for each extent, in order.
    pub files: Vec<MemberFile>,
    /// The sparse extents that its only file, a text descriptor, names: on a volume whose files
    /// end below a full image. In disk order; products reach them through the descriptor.
    pub extents: Vec<MemberFile>,
}

impl Member {
    /// A member from its parts.
    #[must_use]
    pub fn new(
        owner: DiskName,
        role: MemberRole,
        uuid: Uuid,
        cid: Option<Cid>,
        files: Vec<MemberFile>,
    ) -> Self {
        Self {
            owner,
            role,
            uuid,
            cid,
            files,
            extents: Vec::new(),
        }
    }

    /// The same member, its file being the descriptor of these sparse extents.
    #[must_use]
    pub fn with_extents(mut self, extents: Vec<MemberFile>) -> Self {
        self.extents = extents;
        self
    }

    /// Every file that it is made of, a descriptor after its extents.
    pub fn all_files(&self) -> impl Iterator<Item = &MemberFile> {
        self.extents.iter().chain(&self.files)
    }

    /// The first file's path: all there is, except for split members.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.files.first().map(|file| file.path.as_path())
    }
}

/// What a member of a chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberRole {
    /// The immutable image: raw extents, shared between machines.
    Image(ImageDigest),
    /// The machine's own descriptor over the image (`vmdk` family only).
    Base,
    /// A frozen delta: the state of the layer at this revision.
    Frozen(u64),
    /// The writable delta.
    Head,
}

/// One file of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberFile {
    /// Where it is. Absolute for machines in a store.
    pub path: PathBuf,
    /// How many sectors of 512 bytes of the disk it holds.
    pub sectors: u64,
    /// Whether it is there already.
    pub source: Source,
}

impl MemberFile {
    /// A file that is there already.
    #[must_use]
    pub fn existing(path: impl Into<PathBuf>, sectors: u64) -> Self {
        Self {
            path: path.into(),
            sectors,
            source: Source::Existing,
        }
    }

    /// A file that applying the plan creates.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, sectors: u64, spec: ImageSpec) -> Self {
        Self {
            path: path.into(),
            sectors,
            source: Source::New(spec),
        }
    }
}

/// Whether a file of a chain is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// It must be there; applying a plan never opens it for writing.
    Existing,
    /// Applying the plan creates it; a file that is there already must be just this.
    New(ImageSpec),
}

//! The arguments of `disk`: images by hand, without a store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use stratavm::spec::Size;

#[derive(Debug, Subcommand)]
pub(crate) enum Disk {
    /// Show what an image file says of itself, or with --chain all that it lies on.
    #[command(after_help = "Examples:
  stratavm disk info head-3.vmdk --json
  stratavm disk info head-3.vmdk --chain")]
    Info(DiskInfo),
    /// Show where each range of a disk lies: in which image of the chain, file and byte.
    #[command(after_help = "Example:\n  stratavm disk map head-3.vmdk --json")]
    Map(DiskImage),
    /// Look for damage of an image and what it lies on, and mend it.
    #[command(after_help = "Examples:
  stratavm disk check head-3.vmdk
  stratavm disk check head-3.vmdk --repair")]
    Check(DiskCheck),
    /// Tell whether two disks hold the same, whatever their formats.
    #[command(after_help = "Examples:
  stratavm disk compare golden.raw head-3.vmdk
  stratavm disk compare old.vdi new.hdd --strict")]
    Compare(DiskCompare),
    /// Make an image of another format, or with --chain one of each image of a chain.
    #[command(after_help = "Examples:
  stratavm disk convert golden.raw golden.vdi
  stratavm disk convert head-3.vmdk 'moved/disk.hdd' --chain
  stratavm disk convert golden.raw export.vmdk --to vmdk-stream")]
    Convert(DiskConvert),
    /// Make one image of a chain.
    #[command(after_help = "Example:\n  stratavm disk flatten head-3.vmdk golden-2.raw")]
    Flatten(DiskFlatten),
    /// Make an empty image, or an empty child of one.
    #[command(after_help = "Examples:
  stratavm disk create blank.raw --size '8 GiB'
  stratavm disk create blank.vmdk --size '8 GiB' --format vmdk-split
  stratavm disk create head.vdi --parent base.vdi")]
    Create(DiskCreate),
}

/// An image that is opened with all that it lies on.
#[derive(Debug, Args)]
pub(crate) struct DiskImage {
    /// The image.
    pub(crate) image: PathBuf,
    /// Its format, where its name does not say: what a guest wrote never does.
    #[arg(long)]
    pub(crate) format: Option<ImageFormat>,
    /// An image that it lies on, the base first, where images do not name them (VDI, .hds); may be given several times.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) on: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) names: Names,
}

/// What may be opened because an image names it.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Open what an image names only below this folder [default: the folder of the image].
    #[arg(long, value_name = "DIR")]
    pub(crate) below: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DiskInfo {
    #[command(flatten)]
    pub(crate) image: DiskImage,
    /// Show all that it lies on too, each link checked; without it nothing that it names is opened.
    #[arg(long)]
    pub(crate) chain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiskCheck {
    #[command(flatten)]
    pub(crate) image: DiskImage,
    /// Mend what can be mended without changing a byte of the disk: in the image alone, never in what it lies on.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Give up, too, what the tables name and the file does not hold: right after a crash, wrong for a copy that was cut
    /// short.
    #[arg(long, requires = "repair")]
    pub(crate) drop_lost: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiskCompare {
    /// The one.
    pub(crate) a: PathBuf,
    /// The other.
    pub(crate) b: PathBuf,
    /// The format of the one, where its name does not say.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format_a: Option<ImageFormat>,
    /// The format of the other.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format_b: Option<ImageFormat>,
    /// An image that the one lies on, the base first, where images do not name them; may be given several times.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) on_a: Vec<PathBuf>,
    /// The same for the other.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) on_b: Vec<PathBuf>,
    /// Disks of different sizes differ, even if what only one has is zeros.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) names: Names,
}

#[derive(Debug, Args)]
pub(crate) struct DiskFlatten {
    #[command(flatten)]
    pub(crate) image: DiskImage,
    /// What to make: a file that must not exist, or a folder for a Parallels bundle.
    pub(crate) target: PathBuf,
    /// Its format [default: by its extension].
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<NewFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct DiskConvert {
    #[command(flatten)]
    pub(crate) what: DiskFlatten,
    /// Keep the chain: a new image for each that the image lies on, called after the target.
    #[arg(long)]
    pub(crate) chain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiskCreate {
    /// The file to make; it must not exist.
    pub(crate) file: PathBuf,
    /// The format [default: by the file's extension].
    #[arg(long)]
    pub(crate) format: Option<DiskFormat>,
    /// The size, a multiple of 1 MiB; a child has its parent's.
    #[arg(long, required_unless_present = "parent")]
    pub(crate) size: Option<Size>,
    /// Make a child of this image: of a VMDK, a VDI, or for qcow2 of any.
    #[arg(long)]
    pub(crate) parent: Option<PathBuf>,
}

/// What an image is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageFormat {
    /// The disk byte for byte
    Raw,
    /// A VMDK of any kind
    Vmdk,
    /// A VirtualBox disk
    Vdi,
    /// A qcow2 image
    Qcow2,
    /// A Parallels expanding image
    Hds,
    /// A Parallels bundle: a folder with a DiskDescriptor.xml
    Hdd,
}

/// What an image is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiskFormat {
    /// A raw image with holes
    Raw,
    /// A sparse VMDK in one file
    Vmdk,
    /// A VMDK over one raw file
    VmdkFlat,
    /// A sparse VMDK in files under 2 GiB
    VmdkSplit,
    /// A packed VMDK for transport, which no guest writes to
    VmdkStream,
    /// A VirtualBox disk
    Vdi,
    /// A Parallels bundle: a folder
    Hdd,
    /// A Parallels expanding image alone
    Hds,
    /// A qcow2 image
    Qcow2,
}

/// What an image is converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewFormat {
    /// A raw image with holes
    Raw,
    /// A sparse VMDK in one file
    Vmdk,
    /// A VMDK descriptor over a raw file
    VmdkFlat,
    /// A sparse VMDK in files below 2 GiB
    VmdkSplit,
    /// A packed VMDK, for transport
    VmdkStream,
    /// A VirtualBox disk
    Vdi,
    /// A Parallels bundle
    Hdd,
    /// A QEMU disk, version 3
    Qcow2,
}

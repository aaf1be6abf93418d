//! What an image file says about itself: format, sizes, ids and links. Names found in it are reported, never opened.

use crate::file::ImageFile;
use crate::hdd::{self, ImageKind, InUse};
use crate::qcow2::{self, Mark};
use crate::vdi::{self, ImageType};
use crate::vmdk::{self, Descriptor, Shutdown};
use crate::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use uuid::Uuid;

/// Format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// The guest disk byte for byte.
    Raw,
    /// A VMDK text descriptor; its extents are other files.
    VmdkDescriptor,
    /// A sparse VMDK extent, with or without an embedded descriptor.
    VmdkSparse,
    /// A Parallels expanding image.
    Hds,
    /// A Parallels bundle: a folder with a DiskDescriptor.xml.
    Hdd,
    /// A VDI, VirtualBox's own format.
    Vdi,
    /// QEMU's own, versions 2 and 3.
    Qcow2,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Raw => "raw",
            Format::VmdkDescriptor => "vmdk-descriptor",
            Format::VmdkSparse => "vmdk-sparse",
            Format::Hds => "hds",
            Format::Hdd => "hdd",
            Format::Vdi => "vdi",
            Format::Qcow2 => "qcow2",
        })
    }
}

/// What [`info`] found. Keys of the serialised form may be added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ImageInfo {
    /// Format, by magic; raw where there is none.
    pub format: Format,
    /// Size of the guest disk in bytes.
    pub size: u64,
    /// Length of the file in bytes; for a bundle of its descriptor.
    pub file_length: u64,
    /// Bytes that the file takes on the volume, where the system says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated: Option<u64>,
    /// What a VMDK says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmdk: Option<VmdkInfo>,
    /// What a `.hds` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hds: Option<HdsInfo>,
    /// What a bundle says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hdd: Option<HddInfo>,
    /// What a VDI says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vdi: Option<VdiInfo>,
    /// What a qcow2 says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qcow2: Option<Qcow2Info>,
}

/// Ids and links of a VMDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct VmdkInfo {
    /// `createType`, as written.
    pub create_type: String,
    /// CID, 8 digits.
    pub cid: String,
    /// The parent's CID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_cid: Option<String>,
    /// Where the parent is, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_hint: Option<String>,
    /// VirtualBox's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// VirtualBox's id of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<Uuid>,
    /// Adapter, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Files of a text descriptor, as written, with their sizes.
    pub extents: Vec<ExtentInfo>,
    /// Whether a writer has the file open or died; never set in a text descriptor.
    pub unclean: bool,
}

/// One extent of a text descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ExtentInfo {
    /// File as written; none for a range of zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Size in bytes.
    pub size: u64,
}

/// What the header of a `.hds` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HdsInfo {
    /// The magic.
    pub variant: String,
    /// Cluster size in bytes.
    pub cluster: u64,
    /// Whether a writer has the file open or died.
    pub dirty: bool,
}

/// What the header of a qcow2 says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Qcow2Info {
    /// 2 or 3.
    pub version: u32,
    /// Cluster size in bytes.
    pub cluster: u64,
    /// The image below, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<String>,
    /// Its format, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_format: Option<String>,
    /// Whether a writer that counts lazily has the file open or died.
    pub dirty: bool,
    /// Whether a writer found it corrupt.
    pub corrupt: bool,
}

/// What a bundle's descriptor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HddInfo {
    /// Id of the disk.
    pub uid: Uuid,
    /// Label.
    pub name: String,
    /// The chain from the writable image to the root.
    pub chain: Vec<Uuid>,
    /// All files, as written.
    pub images: Vec<HddImageInfo>,
}

/// What the header of a VDI says. It names its parent by UUID alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct VdiInfo {
    /// Whether it is fixed or lies on another image.
    pub image_type: ImageType,
    /// Block size in bytes.
    pub block: u64,
    /// How many blocks have room, as the header says.
    pub blocks_allocated: u32,
    /// The image's id.
    pub uuid: Uuid,
    /// Renewed when the content changed.
    pub modification_uuid: Uuid,
    /// The parent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<Uuid>,
    /// The parent's modification id when this image was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_modification_uuid: Option<Uuid>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HddImageInfo {
    /// Its member of the tree.
    pub guid: Uuid,
    /// `Plain` or `Compressed`.
    pub kind: &'static str,
    /// File as written.
    pub file: String,
}

/// Reads what an image says about itself: a file by its magic, a folder (or its `DiskDescriptor.xml`) as a Parallels
/// bundle. A file of no known magic is raw. This guesses: once a guest could have written the file, name its format
/// yourself instead of believing this.
///
/// # Errors
/// `NotFound`; `Malformed` and `Unsupported` for what cannot be read, with the offset.
///
/// ```no_run
/// let info = stratavm_disk::info("head.vmdk".as_ref())?;
/// println!("{} of {} bytes", info.format, info.size);
/// # Ok::<(), stratavm_disk::Error>(())
/// ```
pub fn info(path: &Path) -> Result<ImageInfo> {
    look(path).map_err(|e| e.at_path(path).during("read image"))
}

/// The format of an image by its magic, as [`info`] guesses it. The same warning holds.
///
/// # Errors
/// `NotFound` and what else the operating system reports.
pub fn probe(path: &Path) -> Result<Format> {
    let found = if is_bundle(path) {
        Ok(Format::Hdd)
    } else {
        ImageFile::open(path).and_then(|file| format_of(&file))
    };
    found.map_err(|e| e.at_path(path).during("read image"))
}

fn is_bundle(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n == "DiskDescriptor.xml") || path.is_dir()
}

fn format_of(file: &ImageFile) -> Result<Format> {
    let mut start = [0; 68];
    file.read_at(&mut start, 0)?;
    Ok(if start.starts_with(b"KDMV") {
        Format::VmdkSparse
    } else if start.starts_with(b"# Disk") || start.starts_with(b"#Disk") {
        Format::VmdkDescriptor
    } else if hdd::Magic::of(&start).is_some() {
        Format::Hds
    } else if start[vdi::SIGNATURE_AT..] == vdi::SIGNATURE {
        Format::Vdi
    } else if start.starts_with(qcow2::MAGIC) {
        Format::Qcow2
    } else {
        Format::Raw
    })
}

fn look(path: &Path) -> Result<ImageInfo> {
    if is_bundle(path) {
        return bundle(path);
    }
    let file = ImageFile::open(path)?;
    match format_of(&file)? {
        Format::VmdkSparse => sparse(&file),
        Format::VmdkDescriptor => {
            let d = vmdk::read_text_descriptor(&file)?;
            let size = bytes(d.sectors())?;
            let vmdk = vmdk_info(&d, Shutdown::Clean);
            Ok(ImageInfo {
                vmdk: Some(vmdk),
                ..of(&file, Format::VmdkDescriptor, size)
            })
        }
        Format::Hds => hds(&file),
        Format::Vdi => vdi(&file),
        Format::Qcow2 => of_qcow2(&file),
        format => Ok(of(&file, format, file.len())),
    }
}

fn of(file: &ImageFile, format: Format, size: u64) -> ImageInfo {
    ImageInfo {
        format,
        size,
        file_length: file.len(),
        allocated: file.allocated(),
        vmdk: None,
        hds: None,
        hdd: None,
        vdi: None,
        qcow2: None,
    }
}

fn bytes(sectors: u64) -> Result<u64> {
    sectors
        .checked_mul(vmdk::SECTOR)
        .ok_or_else(|| Error::malformed(format!("disk of {sectors} sectors")))
}

fn sparse(file: &ImageFile) -> Result<ImageInfo> {
    let header = vmdk::read_header(file)?;
    let mut info = of(file, Format::VmdkSparse, bytes(header.capacity)?);
    // An extent of a split image has no descriptor of its own.
    if vmdk::has_descriptor(file, &header)? {
        let head = vmdk::Head::read(file)?;
        let sectors = head.descriptor.sectors();
        header.check_sectors(sectors)?;
        info.size = bytes(sectors)?;
        info.vmdk = Some(vmdk_info(&head.descriptor, header.shutdown));
    }
    Ok(info)
}

fn vmdk_info(d: &Descriptor, shutdown: Shutdown) -> VmdkInfo {
    let extents = d.extents.iter().map(|e| ExtentInfo {
        file: e.file.clone(),
        size: e.sectors.saturating_mul(vmdk::SECTOR),
    });
    VmdkInfo {
        create_type: d.create_type.as_str().to_owned(),
        cid: d.cid.to_string(),
        parent_cid: d.parent_cid.map(|c| c.to_string()),
        parent_hint: d.parent_hint.clone(),
        uuid: d.image_uuid(),
        parent_uuid: d.parent_uuid(),
        adapter: d.ddb("ddb.adapterType").map(str::to_owned),
        extents: extents.collect(),
        unclean: shutdown == Shutdown::Unclean,
    }
}

fn hds(file: &ImageFile) -> Result<ImageInfo> {
    let header = hdd::read_header(file)?;
    let hds = HdsInfo {
        variant: String::from_utf8_lossy(header.magic.as_bytes()).into_owned(),
        cluster: u64::from(header.cluster_sectors) * vmdk::SECTOR,
        dirty: header.in_use == InUse::Dirty,
    };
    Ok(ImageInfo {
        hds: Some(hds),
        ..of(file, Format::Hds, bytes(header.sectors)?)
    })
}

fn vdi(file: &ImageFile) -> Result<ImageInfo> {
    let header = vdi::Header::read(file)?;
    let ids = header.ids;
    let vdi = VdiInfo {
        image_type: header.image_type,
        block: header.block,
        blocks_allocated: header.allocated,
        uuid: ids.image,
        modification_uuid: ids.modification,
        parent_uuid: ids.parent.map(|parent| parent.image),
        parent_modification_uuid: ids.parent.map(|parent| parent.modification),
    };
    Ok(ImageInfo {
        vdi: Some(vdi),
        ..of(file, Format::Vdi, header.size)
    })
}

fn of_qcow2(file: &ImageFile) -> Result<ImageInfo> {
    let header = qcow2::Header::read(file)?;
    let info = of(file, Format::Qcow2, header.size);
    let (backing_file, backing_format) = match header.backing.clone() {
        Some(named) => (Some(named.file), named.format),
        None => (None, None),
    };
    let qcow2 = Qcow2Info {
        version: header.version,
        cluster: header.cluster(),
        backing_file,
        backing_format,
        dirty: header.mark == Mark::Dirty,
        corrupt: header.mark == Mark::Corrupt,
    };
    Ok(ImageInfo {
        qcow2: Some(qcow2),
        ..info
    })
}

fn bundle(path: &Path) -> Result<ImageInfo> {
    let (file, d) = hdd::read_descriptor(path)?;
    let image = |i: &hdd::Image| HddImageInfo {
        guid: i.guid,
        kind: ImageKind::as_str(i.kind),
        file: i.file.clone(),
    };
    let hdd = HddInfo {
        uid: d.uid,
        name: d.name.clone(),
        chain: d.chain()?,
        images: d
            .storages
            .iter()
            .flat_map(|s| s.images.iter().map(image))
            .collect(),
    };
    Ok(ImageInfo {
        hdd: Some(hdd),
        ..of(&file, Format::Hdd, bytes(d.sectors)?)
    })
}

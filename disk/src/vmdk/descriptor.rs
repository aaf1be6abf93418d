//! The text descriptor of a VMDK as a value, and its writer. The strict reader is in `parse`; what a new image's
//! descriptor says is decided in `create`.
//!
//! Grammar: libyal's VMDK documentation, QEMU's and VirtualBox's readers. No escape exists in it, so a `"` or a control
//! character cannot stand in a value.

use super::{AdapterType, Cid};
use crate::{Error, Result};
use std::fmt::Write as _;
use std::path::Path;
use uuid::Uuid;

/// `createType` of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateType {
    /// One file with grains and embedded descriptor.
    MonolithicSparse,
    /// Text descriptor over one raw file (QEMU and VirtualBox: over any number).
    MonolithicFlat,
    /// Text descriptor over sparse extents below 2 GiB.
    TwoGbMaxExtentSparse,
    /// Text descriptor over raw extents below 2 GiB.
    TwoGbMaxExtentFlat,
    /// Compressed, for transport only.
    StreamOptimized,
    /// Any other, as written.
    Other(String),
}

const CREATE_TYPES: [(CreateType, &str); 5] = [
    (CreateType::MonolithicSparse, "monolithicSparse"),
    (CreateType::MonolithicFlat, "monolithicFlat"),
    (CreateType::TwoGbMaxExtentSparse, "twoGbMaxExtentSparse"),
    (CreateType::TwoGbMaxExtentFlat, "twoGbMaxExtentFlat"),
    (CreateType::StreamOptimized, "streamOptimized"),
];

impl CreateType {
    /// As written in the descriptor.
    pub fn as_str(&self) -> &str {
        match self {
            CreateType::Other(s) => s,
            known => CREATE_TYPES
                .iter()
                .find(|(t, _)| t == known)
                .map_or("", |(_, s)| s),
        }
    }

    pub(crate) fn from_name(name: &str) -> CreateType {
        CREATE_TYPES
            .iter()
            .find(|(_, s)| *s == name)
            .map_or_else(|| CreateType::Other(name.to_owned()), |(t, _)| t.clone())
    }
}

/// Access of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// `RW`
    ReadWrite,
    /// `RDONLY`
    ReadOnly,
    /// `NOACCESS`
    None,
}

pub(crate) const ACCESS: [(Access, &str); 3] = [
    (Access::ReadWrite, "RW"),
    (Access::ReadOnly, "RDONLY"),
    (Access::None, "NOACCESS"),
];

/// Type of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExtentKind {
    /// `FLAT`: raw data from an offset on.
    Flat,
    /// `SPARSE`: grains.
    Sparse,
    /// `ZERO`: reads as zeros, has no file.
    Zero,
    /// `VMFS`: raw data on ESXi.
    Vmfs,
    /// `VMFSSPARSE`: ESXi delta.
    VmfsSparse,
    /// `VMFSRDM`: raw device mapping.
    VmfsRdm,
    /// `VMFSRAW`: raw device.
    VmfsRaw,
    /// `SESPARSE`: newer ESXi delta.
    SeSparse,
}

pub(crate) const KINDS: [(ExtentKind, &str); 8] = [
    (ExtentKind::Flat, "FLAT"),
    (ExtentKind::Sparse, "SPARSE"),
    (ExtentKind::Zero, "ZERO"),
    (ExtentKind::Vmfs, "VMFS"),
    (ExtentKind::VmfsSparse, "VMFSSPARSE"),
    (ExtentKind::VmfsRdm, "VMFSRDM"),
    (ExtentKind::VmfsRaw, "VMFSRAW"),
    (ExtentKind::SeSparse, "SESPARSE"),
];

/// One extent line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Access.
    pub access: Access,
    /// Size in sectors, not 0.
    pub sectors: u64,
    /// Type.
    pub kind: ExtentKind,
    /// File as written: relative to the descriptor's folder, or absolute. None for `ZERO` only. Never opened here.
    pub file: Option<String>,
    /// Offset in that file in sectors; always there for `FLAT`.
    pub offset: Option<u64>,
}

/// A descriptor. Values are text as written, without quotes; nothing in it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptor {
    /// Content id; may be a reserved value in files of other programs.
    pub cid: Cid,
    /// The parent's content id; `None` is written `ffffffff`.
    pub parent_cid: Option<Cid>,
    /// Kind of image.
    pub create_type: CreateType,
    /// Where the parent is, as written.
    pub parent_hint: Option<String>,
    /// Header keys that have no field here, in order; `encoding` among them.
    pub other: Vec<(String, String)>,
    /// At least one.
    pub extents: Vec<Extent>,
    /// The disk data base, `ddb.` keys in order.
    pub ddb: Vec<(String, String)>,
}

impl Descriptor {
    /// Reads a text descriptor, or an embedded one cut at its first NUL. `path` only serves errors.
    ///
    /// # Errors
    /// `Malformed` with the offset of the line at fault, `Unsupported` for another version or encoding, `Limit` above
    /// 1 MiB.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Descriptor> {
        super::parse::parse(bytes).map_err(|e| e.at_path(path).during("read VMDK descriptor"))
    }

    /// The value of a `ddb` key, compared without case.
    pub fn ddb(&self, key: &str) -> Option<&str> {
        self.ddb
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, v)| v.as_str())
    }

    /// VirtualBox's id of the image, `ddb.uuid.image`; `None` if absent or null.
    pub fn image_uuid(&self) -> Option<Uuid> {
        self.ddb_uuid("ddb.uuid.image")
    }

    /// VirtualBox's id of the parent, `ddb.uuid.parent`; `None` if absent or null.
    pub fn parent_uuid(&self) -> Option<Uuid> {
        self.ddb_uuid("ddb.uuid.parent")
    }

    /// Sum of all extents in sectors.
    pub fn sectors(&self) -> u64 {
        self.extents
            .iter()
            .fold(0, |sum, e| sum.saturating_add(e.sectors))
    }

    /// The text, with LF line ends.
    ///
    /// # Errors
    /// `Invalid` for a value with a `"` or a control character, which this format cannot hold.
    pub fn to_text(&self) -> Result<String> {
        let mut out = String::from("# Disk DescriptorFile\nversion=1\n");
        let parent = self
            .parent_cid
            .map_or_else(|| "ffffffff".to_owned(), |c| c.to_string());
        // QEMU finds `CID=` by a plain search, so it must stand before `parentCID=`.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = out.write_fmt(text); // writing into a String cannot fail
            out.push('\n');
        };
        for (key, value) in self.other.iter().filter(|(k, _)| k == "encoding") {
            line(format_args!("{key}=\"{}\"", quotable(value)?));
        }
        line(format_args!("CID={}\nparentCID={parent}", self.cid));
        for (key, value) in self.other.iter().filter(|(k, _)| k != "encoding") {
            line(format_args!(
                "{}=\"{}\"",
                header_key(key)?,
                quotable(value)?
            ));
        }
        line(format_args!(
            "createType=\"{}\"",
            quotable(self.create_type.as_str())?
        ));
        if let Some(hint) = &self.parent_hint {
            line(format_args!("parentFileNameHint=\"{}\"", quotable(hint)?));
        }
        line(format_args!("\n# Extent description"));
        for e in &self.extents {
            line(format_args!("{}", extent_line(e)?));
        }
        line(format_args!("\n# The Disk Data Base\n#DDB\n"));
        for (key, value) in &self.ddb {
            line(format_args!("{} = \"{}\"", ddb_key(key)?, quotable(value)?));
        }
        Ok(out)
    }

    fn ddb_uuid(&self, key: &str) -> Option<Uuid> {
        self.ddb(key)
            .and_then(|v| Uuid::try_parse(v).ok())
            .filter(|u| !u.is_nil())
    }
}

/// The disk data base of a new image: ids, adapter and geometry.
pub(crate) fn new_ddb(
    sectors: u64,
    cid: Cid,
    uuid: Uuid,
    parent: Option<Uuid>,
    adapter: AdapterType,
) -> Vec<(String, String)> {
    let (cylinders, heads, per_track) = super::geometry(sectors, adapter);
    let mut ddb = vec![
        ("ddb.virtualHWVersion".to_owned(), "4".to_owned()),
        ("ddb.adapterType".to_owned(), adapter.as_str().to_owned()),
        ("ddb.geometry.cylinders".to_owned(), cylinders.to_string()),
        ("ddb.geometry.heads".to_owned(), heads.to_string()),
        ("ddb.geometry.sectors".to_owned(), per_track.to_string()),
        ("ddb.longContentID".to_owned(), long_content_id(uuid, cid)),
        ("ddb.uuid.image".to_owned(), uuid.to_string()),
    ];
    if let Some(parent) = parent {
        ddb.push(("ddb.uuid.parent".to_owned(), parent.to_string()));
    }
    ddb
}

/// 32 hexadecimal digits: the first 24 from the image's id, the last 8 the CID, as VMware's own files have it.
fn long_content_id(uuid: Uuid, cid: Cid) -> String {
    let mut id = uuid.simple().to_string();
    id.truncate(24);
    let _ = write!(id, "{cid}"); // writing into a String cannot fail
    id
}

/// A value as it may stand between quotes.
pub(crate) fn quotable(value: &str) -> Result<&str> {
    if value.chars().any(|c| c == '"' || c.is_control()) {
        return Err(Error::invalid(format!(
            "a VMDK descriptor cannot hold {value:?}: it has no escape for a quote or a control character"
        )));
    }
    Ok(value)
}

fn header_key(key: &str) -> Result<&str> {
    if !super::parse::is_header_key(key) || super::parse::is_known_key(key) {
        return Err(Error::invalid(format!(
            "{key:?} is no free key of a VMDK descriptor"
        )));
    }
    Ok(key)
}

fn ddb_key(key: &str) -> Result<&str> {
    if !super::parse::is_ddb_key(key) {
        return Err(Error::invalid(format!(
            "{key:?} is no key of the disk data base"
        )));
    }
    Ok(key)
}

fn extent_line(e: &Extent) -> Result<String> {
    let access = ACCESS
        .iter()
        .find(|(a, _)| *a == e.access)
        .map_or("", |(_, s)| s);
    let kind = KINDS
        .iter()
        .find(|(k, _)| *k == e.kind)
        .map_or("", |(_, s)| s);
    let mut out = format!("{access} {} {kind}", e.sectors);
    match &e.file {
        Some(file) if !file.is_empty() => {
            let _ = write!(out, " \"{}\"", quotable(file)?); // writing into a String cannot fail
        }
        None if e.kind == ExtentKind::Zero => {}
        _ => {
            return Err(Error::invalid(format!(
                "extent of type {kind} without a file name"
            )));
        }
    }
    match e.offset {
        Some(offset) => {
            let _ = write!(out, " {offset}"); // writing into a String cannot fail
        }
        None if e.kind == ExtentKind::Flat => {
            return Err(Error::invalid("FLAT extent without an offset"));
        }
        None => {}
    }
    Ok(out)
}

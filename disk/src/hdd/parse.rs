//! The strict reader of `DiskDescriptor.xml`: element tree to value, then the value's own invariants.
//! Unknown elements are skipped; known ones must be there once and hold what their type says.

use super::xml::{self, Element};
use super::{DiskDescriptor, Image, ImageKind, Shot, Storage};
use crate::{Error, Result};
use uuid::Uuid;

/// Descriptors are a few kB; a tree of a thousand snapshots stays below 1 MiB.
pub(crate) const MAX_XML: usize = 4 << 20;

pub(crate) fn parse(bytes: &[u8]) -> Result<DiskDescriptor> {
    if bytes.len() > MAX_XML {
        return Err(Error::limit(format!(
            "descriptor of {} bytes is above 4 MiB",
            bytes.len()
        )));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Error::unsupported("descriptor is not UTF-8").at_offset(e.valid_up_to() as u64)
    })?;
    let root = xml::read(text)?;
    if root.name != "Parallels_disk_image" {
        return Err(Error::malformed(format!("root element is <{}>", root.name)));
    }
    let disk = disk(&root)?;
    disk.check()?;
    Ok(disk)
}

fn disk(root: &Element) -> Result<DiskDescriptor> {
    let parameters = root.one("Disk_Parameters")?;
    refuse_what_we_cannot_read(parameters)?;
    let mut storages = Vec::new();
    for s in root.one("StorageData")?.all("Storage") {
        storages.push(storage(s)?);
    }
    let snapshots = root.one("Snapshots")?;
    let mut shots = Vec::new();
    for s in snapshots.all("Shot") {
        let parent = guid(s.one("ParentGUID")?)?;
        shots.push(Shot {
            guid: guid(s.one("GUID")?)?,
            parent: (!parent.is_nil()).then_some(parent),
        });
    }
    Ok(DiskDescriptor {
        sectors: number(parameters.one("Disk_size")?)?,
        uid: parameters.optional("UID")?.map_or(Ok(Uuid::nil()), guid)?,
        name: parameters
            .optional("Name")?
            .map_or(Ok(""), Element::value)?
            .to_owned(),
        storages,
        shots,
        top_guid: snapshots.optional("TopGUID")?.map(guid).transpose()?,
    })
}

fn refuse_what_we_cannot_read(parameters: &Element) -> Result<()> {
    if let Some(padding) = parameters.optional("Padding")?
        && number(padding)? != 0
    {
        return Err(Error::unsupported("disk with Padding"));
    }
    if let Some(size) = parameters.optional("LogicSectorSize")?
        && number(size)? != 512
    {
        return Err(Error::unsupported(
            "disk with sectors that are not 512 bytes",
        ));
    }
    let Some(encryption) = parameters.optional("Encryption")? else {
        return Ok(());
    };
    let engine = encryption
        .optional("Engine")?
        .map_or(Ok(""), Element::value)?;
    let key = encryption
        .optional("KeyId")?
        .map_or(Ok(""), Element::value)?;
    let data = encryption
        .optional("Data")?
        .map_or(Ok(""), Element::value)?;
    let clear = |v: &str| v.is_empty() || Uuid::try_parse(v).is_ok_and(|g| g.is_nil());
    if !clear(engine) || !clear(key) || !data.is_empty() {
        return Err(Error::unsupported("disk is encrypted"));
    }
    Ok(())
}

fn storage(s: &Element) -> Result<Storage> {
    let blocksize = number(s.one("Blocksize")?)?;
    let mut images = Vec::new();
    for i in s.all("Image") {
        let kind = match i.one("Type")?.value()? {
            "Plain" => ImageKind::Plain,
            "Compressed" => ImageKind::Compressed,
            other => return Err(Error::unsupported(format!("image type {other:?}"))),
        };
        let file = i.one("File")?.value()?.to_owned();
        images.push(Image {
            guid: guid(i.one("GUID")?)?,
            kind,
            file,
        });
    }
    Ok(Storage {
        start: number(s.one("Start")?)?,
        end: number(s.one("End")?)?,
        blocksize: u32::try_from(blocksize)
            .map_err(|_| Error::malformed(format!("Blocksize {blocksize} is out of range")))?,
        images,
    })
}

/// Digits only, at most 2^54: larger disks than 8 EiB do not fit a file.
fn number(e: &Element) -> Result<u64> {
    let text = e.value()?;
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value
        .filter(|n| *n <= 1 << 54)
        .ok_or_else(|| Error::malformed(format!("<{}> holds {text:?}, not a number", e.name)))
}

/// `{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}`, in any case.
fn guid(e: &Element) -> Result<Uuid> {
    let text = e.value()?;
    let braced = text.len() == 38 && text.starts_with('{') && text.ends_with('}');
    let value = if braced {
        Uuid::try_parse(text).ok()
    } else {
        None
    };
    value.ok_or_else(|| {
        Error::malformed(format!("<{}> holds {text:?}, not a GUID in braces", e.name))
    })
}

//! `disk create --parent`: a new, empty image that lies on another one, linked to it as its format does that.

use std::path::Path;

use stratavm::{Error, ErrorKind, Result};
use stratavm_disk::qcow2::{Backing, Qcow2Spec};
use stratavm_disk::vdi::{Allocation, Ids, ParentIds, VdiSpec};
use stratavm_disk::vmdk::{AdapterType, Cid, ParentLink, SparseSpec};
use stratavm_disk::{Access, Chain, Closed, Format, ImageInfo, ImageSpec};
use uuid::Uuid;

use super::image;
use crate::cli::disk::DiskFormat;

/// The spec of a child of `parent`, which has its size.
pub(super) fn spec(
    file: &Path,
    format: DiskFormat,
    parent: &Path,
    wanted: Option<u64>,
) -> Result<ImageSpec> {
    let below = image::format(parent, None)?;
    let size = size(parent, below)?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != size) {
        return Err(Error::invalid(format!(
            "a child has its parent's size, {size} bytes, not {wanted}"
        )));
    }
    let sectors = size / 512;
    let family = |fits: bool, what: &str| match fits {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Unsupported, what.to_owned()).at(parent)),
    };
    let uuid = Uuid::now_v7();
    Ok(match format {
        DiskFormat::Vmdk => {
            family(below == Format::VmdkSparse, "a VMDK lies on VMDKs only")?;
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| Error::invalid("the file needs a name that is UTF-8").at(file))?;
            ImageSpec::VmdkSparse(SparseSpec {
                file: name.to_owned(),
                sectors,
                cid: cid(uuid),
                uuid,
                parent: Some(vmdk_link(parent, file)?),
                adapter: AdapterType::LsiLogic,
                patches: Vec::new(),
            })
        }
        DiskFormat::Vdi => {
            family(below == Format::Vdi, "a VDI lies on VDIs only")?;
            let vdi = info(parent)?.vdi;
            let vdi = vdi.ok_or_else(|| Error::invalid("it is no VDI").at(parent))?;
            ImageSpec::Vdi(VdiSpec {
                sectors,
                allocation: Allocation::Dynamic,
                ids: Ids {
                    image: uuid,
                    modification: Uuid::now_v7(),
                    parent: Some(ParentIds {
                        image: vdi.uuid,
                        modification: vdi.modification_uuid,
                    }),
                },
                patches: Vec::new(),
            })
        }
        DiskFormat::Qcow2 => ImageSpec::Qcow2(Qcow2Spec {
            sectors,
            backing: Some(Backing {
                file: hint(parent, file)?,
                format: below,
            }),
        }),
        _ => {
            return Err(Error::invalid(
                "only a VMDK in one file, a VDI and a qcow2 image are made with a parent",
            ));
        }
    })
}

/// Size of the parent's disk in bytes. Of a raw image a guest may have written every byte: only its length is asked.
fn size(parent: &Path, format: Format) -> Result<u64> {
    match format {
        Format::Raw => Ok(Chain::open(parent, format, Access::Read, &Closed)?.size()),
        _ => Ok(info(parent)?.size),
    }
}

fn info(parent: &Path) -> Result<ImageInfo> {
    Ok(stratavm_disk::info(parent)?)
}

/// Where the parent is, seen from the child's folder.
fn hint(parent: &Path, child: &Path) -> Result<String> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Error::io("there is no absolute path", path, error))
    };
    let folder = absolute(child)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    Ok(stratavm::resolved::relative_path(
        folder,
        &absolute(parent)?,
    ))
}

fn vmdk_link(parent: &Path, child: &Path) -> Result<ParentLink> {
    let unfit = |what: &str| Error::new(ErrorKind::Unsupported, what.to_owned()).at(parent);
    let vmdk = info(parent)?.vmdk;
    let vmdk = vmdk.ok_or_else(|| unfit("a VMDK lies on VMDKs only"))?;
    let uuid = vmdk
        .uuid
        .ok_or_else(|| unfit("the parent has no ddb.uuid.image to link to"))?;
    let cid = u32::from_str_radix(&vmdk.cid, 16)
        .ok()
        .and_then(|cid| Cid::new(cid).ok())
        .ok_or_else(|| unfit("the parent's content id is one that no child can name"))?;
    Ok(ParentLink {
        hint: hint(parent, child)?,
        cid,
        uuid,
    })
}

/// A content id from the random half of a UUID; values with a meaning of their own are stepped over.
fn cid(uuid: Uuid) -> Cid {
    let [.., a, b, c, d] = *uuid.as_bytes();
    let mut value = u32::from_be_bytes([a, b, c, d]);
    loop {
        match Cid::new(value) {
            Ok(cid) => return cid,
            Err(_) => value = value.wrapping_add(0x1000),
        }
    }
}

//! `disk create`: a new, empty image.

use std::path::Path;

use serde_json::json;
use stratavm::{Error, ErrorKind, Result};
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::vmdk::{AdapterType, Cid, ParentLink, SparseSpec};
use stratavm_disk::{Durability, ImageSpec, RawSpec, Volume};
use uuid::Uuid;

use crate::cli::disk::{DiskCreate, DiskFormat};
use crate::output::Answer;

const MIB: u64 = 1 << 20;

pub(crate) fn create(args: &DiskCreate) -> Result<Answer> {
    let format = match args.format {
        Some(format) => format,
        None => by_name(&args.file)?,
    };
    let parent = args
        .parent
        .as_deref()
        .map(|path| parent(path, &args.file))
        .transpose()?;
    let size = match (&parent, args.size) {
        (Some((_, size)), None) => *size,
        (Some((_, size)), Some(wanted)) if wanted.bytes() != *size => {
            return Err(Error::invalid(format!(
                "a child has its parent's size, {size} bytes, not {wanted}"
            )));
        }
        (_, Some(wanted)) => wanted.bytes(),
        (None, None) => return Err(Error::invalid("say the disk's size")),
    };
    if size == 0 || size % MIB != 0 {
        return Err(Error::invalid("the size is no multiple of 1 MiB")
            .at(&args.file)
            .next("say it as in --size '8 GiB'"));
    }
    let link = parent.map(|(link, _)| link);
    let spec = spec(format, &args.file, size, link)?;
    stratavm_disk::create(&args.file, &spec, &Volume::default(), Durability::Synced)?;
    Ok(Answer::new(
        format!("created {}", args.file.display()),
        json!({"path": args.file.display().to_string(), "bytes": size, "what": spec.summary()}),
    ))
}

fn by_name(file: &Path) -> Result<DiskFormat> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("raw" | "img") => Ok(DiskFormat::Raw),
        Some("vmdk") => Ok(DiskFormat::Vmdk),
        Some("hds") => Ok(DiskFormat::Hds),
        _ => Err(
            Error::invalid("the file's name says no format that can be made")
                .at(file)
                .next("say --format"),
        ),
    }
}

/// The link to a parent, and its size in bytes.
fn parent(path: &Path, child: &Path) -> Result<(ParentLink, u64)> {
    let unfit = |what: &str| Error::new(ErrorKind::Unsupported, what.to_owned()).at(path);
    let info = stratavm_disk::info(path)?;
    let vmdk = info
        .vmdk
        .ok_or_else(|| unfit("only a VMDK can be the parent of a new image"))?;
    let uuid = vmdk
        .uuid
        .ok_or_else(|| unfit("the parent has no ddb.uuid.image to link to"))?;
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Error::io("there is no absolute path", path, error))
    };
    let folder = absolute(child)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    let hint = stratavm::resolved::relative_path(folder, &absolute(path)?);
    let cid = u32::from_str_radix(&vmdk.cid, 16)
        .ok()
        .and_then(|cid| Cid::new(cid).ok())
        .ok_or_else(|| unfit("the parent's content id is one that no child can name"))?;
    Ok((ParentLink { hint, cid, uuid }, info.size))
}

fn spec(
    format: DiskFormat,
    file: &Path,
    size: u64,
    parent: Option<ParentLink>,
) -> Result<ImageSpec> {
    let sectors = size / 512;
    let unfit = || Error::invalid("only a VMDK can have a parent in its own file");
    Ok(match (format, parent) {
        (DiskFormat::Vmdk, parent) => {
            let uuid = Uuid::now_v7();
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| Error::invalid("the file needs a name that is UTF-8").at(file))?;
            ImageSpec::VmdkSparse(SparseSpec {
                file: name.to_owned(),
                sectors,
                cid: cid(uuid),
                uuid,
                parent,
                adapter: AdapterType::LsiLogic,
                patches: Vec::new(),
            })
        }
        (DiskFormat::Raw, None) => ImageSpec::Raw(RawSpec {
            size,
            patches: Vec::new(),
        }),
        (DiskFormat::Hds, None) => ImageSpec::Hds(HdsSpec {
            sectors,
            patches: Vec::new(),
        }),
        (_, Some(_)) => return Err(unfit()),
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

//! Opening one image by its format: the one place that knows every driver.

use crate::chain::{Access, Identity, Level, Link};
use crate::engine::{Flat, Map, Use};
use crate::file::ImageFile;
use crate::gate::Gate;
use crate::info::{self, Format};
use crate::{Error, Result, hdd, qcow2, vdi, vmdk};
use std::path::{Path, PathBuf};

/// An image that was opened.
pub(crate) struct Opened {
    pub(crate) map: Box<dyn Map>,
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) identity: Identity,
    pub(crate) link: Option<Link>,
}

/// Opens an image; a bundle gives several, the base first.
pub(crate) fn open(
    path: &Path,
    format: Format,
    access: Access,
    gate: &dyn Gate,
) -> Result<Vec<Opened>> {
    let opened = match format {
        Format::Raw => raw(path, access).map(|one| vec![one]),
        Format::VmdkDescriptor | Format::VmdkSparse => {
            vmdk::open(path, access, gate).map(|one| vec![one])
        }
        Format::Hds => hdd::open_file(path, access).map(|one| vec![one]),
        Format::Hdd => hdd::open(path, access, gate),
        Format::Vdi => vdi::open(path, access).map(|one| vec![one]),
        Format::Qcow2 => qcow2::open(path, access).map(|one| vec![one]),
    };
    opened.map_err(|e| e.at_path(path).during(format!("open {format}")))
}

/// Opens a file for what the caller wants of it.
pub(crate) fn file(path: &Path, access: Access) -> Result<(ImageFile, Use)> {
    match access {
        Access::Read => Ok((ImageFile::open(path)?, Use::Read)),
        Access::Write => Ok((ImageFile::open_rw(path)?, Use::Write)),
    }
}

fn raw(path: &Path, access: Access) -> Result<Opened> {
    let (file, used) = file(path, access)?;
    let size = file.len();
    Ok(Opened {
        map: Box::new(Flat::new(file, 0, size, used)?),
        path: path.to_owned(),
        format: Format::Raw,
        identity: Identity::default(),
        link: None,
    })
}

/// The format of the image below `child`: as the child says, or one of the child's own family. A file that a guest may
/// have written is never taken for another format than that.
pub(crate) fn parent_format(path: &Path, child: &Level) -> Result<Format> {
    let said = child.link.as_ref().and_then(|link| link.format);
    if let Some(format) = said {
        return Ok(format);
    }
    if child.format == Format::Qcow2 {
        return Err(Error::unsupported(format!(
            "{:?} does not say of which format it is, and that is not guessed: say it with `qemu-img rebase -u -F`",
            child.path
        )));
    }
    match (child.format, info::probe(path)?) {
        (
            Format::VmdkDescriptor | Format::VmdkSparse,
            found @ (Format::VmdkDescriptor | Format::VmdkSparse),
        ) => Ok(found),
        (child, found) => Err(Error::mismatch(format!(
            "a {child} image does not lie on a {found} file"
        ))),
    }
}

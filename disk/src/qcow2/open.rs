//! Opening an image for its data. Nothing that it names is opened here: its parent is the chain's affair.

use super::header::{Header, Mark};
use super::image::Image;
use super::order::Order;
use super::storage::Shown;
use super::{format_of, tables};
use crate::chain::{Access, Identity, Link};
use crate::engine::Use;
use crate::info::Format;
use crate::open::{self, Opened};
use crate::{Error, Result};
use std::path::Path;

/// Opens the image at `path`. One that is marked as dirty or corrupt can still be read.
pub(crate) fn open(path: &Path, access: Access) -> Result<Opened> {
    let (file, used) = open::file(path, access)?;
    let header = Header::read(&file)?;
    let order = match used {
        Use::Read => {
            tables::l2_tables(&file, &header, tables::Strictness::Reading)?;
            None
        }
        Use::Write => {
            check_mark(header.mark)?;
            Some(Order::new(&file, &header)?)
        }
    };
    let link = link(&header)?;
    let shown = Shown::new(file, &header, order);
    Ok(Opened {
        map: Box::new(Image::open(shown, header, used)?),
        path: path.to_owned(),
        format: Format::Qcow2,
        identity: Identity::default(),
        link,
    })
}

fn check_mark(mark: Mark) -> Result<()> {
    let why = match mark {
        Mark::Clean => return Ok(()),
        Mark::Dirty => "its last writer did not close it, or has it open",
        Mark::Corrupt => "a writer found it corrupt",
    };
    Err(Error::mismatch(format!(
        "{why}: check and repair it first (`qemu-img check -r all`)"
    )))
}

/// A format without a name here is refused; one that is not said is, when the parent is opened.
fn link(header: &Header) -> Result<Option<Link>> {
    let Some(named) = &header.backing else {
        return Ok(None);
    };
    let format = named.format.as_deref().map(|driver| {
        format_of(driver).ok_or_else(|| {
            Error::unsupported(format!(
                "the backing file {:?} is of format {driver:?}",
                named.file
            ))
        })
    });
    Ok(Some(Link {
        hint: Some(named.file.clone()),
        format: format.transpose()?,
        ..Link::default()
    }))
}

//! Opening a VDI for its data.

use super::blocks::BlockMap;
use super::header::Header;
use crate::Result;
use crate::chain::{Access, Identity, Link};
use crate::info::Format;
use crate::open::{self, Opened};
use std::path::Path;

pub(crate) fn open(path: &Path, access: Access) -> Result<Opened> {
    let (file, used) = open::file(path, access)?;
    let header = Header::read(&file)?;
    let ids = header.ids;
    Ok(Opened {
        map: Box::new(BlockMap::open(file, header, used)?),
        path: path.to_owned(),
        format: Format::Vdi,
        identity: Identity {
            cid: None,
            uuid: Some(ids.image),
        },
        link: ids.parent.map(|parent| Link {
            uuid: Some(parent.image),
            ..Link::default()
        }),
    })
}

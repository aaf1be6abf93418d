//! Opening a VMDK for its data: a sparse file with its descriptor inside, or a text descriptor with its extents, each
//! through the caller's gate.

use super::descriptor::KINDS;
use super::{
    Access as ExtentAccess, Descriptor, Extent, ExtentKind, Grains, Head, SECTOR, read_header,
    read_text_descriptor,
};
use crate::chain::{Access, Identity, Link};
use crate::engine::{Concat, Flat, Map, Zeros};
use crate::gate::{Gate, Named, Role};
use crate::info::Format;
use crate::open::{self, Opened};
use crate::{Error, Result};
use std::path::Path;

/// The most extents that are opened: 8 TiB in pieces of 2 GiB.
const MAX_EXTENTS: usize = 4096;

/// Opens the image whose descriptor is at `path`, inside a sparse file or as a text.
pub(crate) fn open(path: &Path, access: Access, gate: &dyn Gate) -> Result<Opened> {
    let (file, used) = open::file(path, access)?;
    let mut magic = [0; 4];
    file.read_at(&mut magic, 0)?;
    let (map, descriptor, format): (Box<dyn Map>, _, _) = match &magic == b"KDMV" {
        true => {
            let head = Head::read(&file)?;
            let sectors = head.descriptor.sectors();
            (
                Box::new(Grains::open(file, head.header, sectors, used)?),
                head.descriptor,
                Format::VmdkSparse,
            )
        }
        false => {
            let descriptor = read_text_descriptor(&file)?;
            if descriptor.extents.len() > MAX_EXTENTS {
                return Err(Error::limit(format!(
                    "{} extents, more than {MAX_EXTENTS}",
                    descriptor.extents.len()
                )));
            }
            let parts: Result<Vec<_>> = descriptor
                .extents
                .iter()
                .map(|extent| part(extent, path, access, gate))
                .collect();
            (
                Box::new(Concat::new(parts?)?),
                descriptor,
                Format::VmdkDescriptor,
            )
        }
    };
    Ok(Opened {
        map,
        path: path.to_owned(),
        format,
        identity: Identity {
            cid: Some(descriptor.cid),
            uuid: descriptor.image_uuid(),
        },
        link: link(&descriptor),
    })
}

/// What the descriptor says of its parent: VirtualBox writes none of VMware's keys, and the other way round.
fn link(descriptor: &Descriptor) -> Option<Link> {
    let uuid = descriptor.parent_uuid().filter(|uuid| !uuid.is_nil());
    (descriptor.parent_cid.is_some() || uuid.is_some()).then(|| Link {
        hint: descriptor.parent_hint.clone(),
        format: None,
        cid: descriptor.parent_cid,
        uuid,
    })
}

/// Opens one extent of a text descriptor.
fn part(extent: &Extent, by: &Path, access: Access, gate: &dyn Gate) -> Result<Box<dyn Map>> {
    let size = extent.sectors * SECTOR;
    let access = match extent.access {
        ExtentAccess::ReadWrite => access,
        ExtentAccess::ReadOnly => Access::Read,
        ExtentAccess::None => {
            return Err(Error::unsupported(
                "an extent that nobody may access (NOACCESS)",
            ));
        }
    };
    let opened = |name: &Option<String>| {
        let Some(name) = name else {
            return Err(Error::malformed("an extent without a file"));
        };
        let path = gate.allow(&Named {
            by,
            name,
            role: Role::Extent,
        })?;
        open::file(&path, access)
    };
    match extent.kind {
        ExtentKind::Zero => Ok(Box::new(Zeros { size })),
        ExtentKind::Flat | ExtentKind::Vmfs => {
            let (file, used) = opened(&extent.file)?;
            Ok(Box::new(Flat::new(
                file,
                extent.offset.unwrap_or(0) * SECTOR,
                size,
                used,
            )?))
        }
        ExtentKind::Sparse => {
            let (file, used) = opened(&extent.file)?;
            let header = read_header(&file)?;
            Ok(Box::new(Grains::open(file, header, extent.sectors, used)?))
        }
        other => {
            let named = KINDS.iter().find(|(kind, _)| *kind == other);
            let name = named.map_or("", |(_, name)| name);
            Err(Error::unsupported(format!("an extent of type {name}")))
        }
    }
}

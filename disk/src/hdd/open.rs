//! Opening Parallels disks for their data: a `.hds` file alone, and a bundle as the chain of images that its descriptor
//! says. Files are found by what stands in `<File>` and the caller's gate, never by their names: a file keeps its name
//! when its GUID changes.

use super::clusters::Clusters;
use super::{DiskDescriptor, Image, ImageKind, MAX_XML, Storage, header};
use crate::chain::{Access, Chain, Identity, Link, MAX_DEPTH};
use crate::engine::{Concat, Flat, Map};
use crate::file::ImageFile;
use crate::gate::{Gate, Named, Role};
use crate::info::Format;
use crate::open::{self, Opened};
use crate::vmdk::SECTOR;
use crate::{Error, ErrorKind, Result, fs};
use std::collections::HashSet;
use std::path::Path;
use uuid::Uuid;

/// The most files that are opened of one bundle: a disk of 2 TiB in pieces of 2 GiB, and a few snapshots.
const MOST_FILES: usize = 8192;

/// Opens a `.hds` file. Nothing in it says whether it lies on another one.
pub(crate) fn open_file(path: &Path, access: Access) -> Result<Opened> {
    let (file, used) = open::file(path, access)?;
    let header = header::read(&file)?;
    Ok(Opened {
        map: Box::new(Clusters::open(file, header, used)?),
        path: path.to_owned(),
        format: Format::Hds,
        identity: Identity::default(),
        link: None,
    })
}

/// Opens the chain of a bundle's writable image, the root first. `path` is the bundle's folder or its descriptor.
pub(crate) fn open(path: &Path, access: Access, gate: &dyn Gate) -> Result<Vec<Opened>> {
    let (file, disk) = read_descriptor(path)?;
    let leaf = disk.leaf();
    if access == Access::Write && disk.shots.iter().any(|s| s.parent == Some(leaf)) {
        let what = format!("other snapshots lie on the image {{{leaf}}}: it is not to be written");
        return Err(Error::mismatch(what).at_path(file.path()));
    }
    members(&disk, leaf, file.path(), access, gate)
}

/// Opens the disk of a bundle as one of its snapshots shows it, whatever branch that is on. `path` is the bundle's folder
/// or its descriptor, `snapshot` the GUID of an image in it.
///
/// With [`Access::Write`] that image is written to, and whatever lies on it shows the change too: right only while a new
/// bundle is being filled.
///
/// # Errors
/// `NotFound` if the bundle has no such snapshot; else as for [`Chain::open`].
pub fn open_snapshot(
    path: &Path,
    snapshot: Uuid,
    access: Access,
    gate: &dyn Gate,
) -> Result<Chain> {
    let opened = || {
        let (file, disk) = read_descriptor(path)?;
        if !disk.shots.iter().any(|s| s.guid == snapshot) {
            let what = format!("no snapshot {{{snapshot}}}: the bundle's `info` lists them");
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        Chain::of(members(&disk, snapshot, file.path(), access, gate)?)
    };
    opened().map_err(|e| e.at_path(path).during("open snapshot"))
}

/// Reads the descriptor of a bundle, given by its folder or by the descriptor itself.
pub(crate) fn read_descriptor(path: &Path) -> Result<(ImageFile, DiskDescriptor)> {
    let file = match std::fs::metadata(path)?.is_dir() {
        true => ImageFile::open(&path.join("DiskDescriptor.xml"))?,
        false => ImageFile::open(path)?,
    };
    if file.len() > MAX_XML as u64 {
        let what = format!("descriptor of {} bytes is above 4 MiB", file.len());
        return Err(Error::limit(what));
    }
    let mut xml = vec![0; file.len() as usize];
    file.read_exact_at(&mut xml, 0)?;
    let disk = DiskDescriptor::parse(&xml, file.path())?;
    Ok((file, disk))
}

/// Opens the chain of one member, the root first.
fn members(
    disk: &DiskDescriptor,
    top: Uuid,
    by: &Path,
    access: Access,
    gate: &dyn Gate,
) -> Result<Vec<Opened>> {
    let mut chain = disk.chain_of(top)?;
    if chain.len() > MAX_DEPTH {
        let what = format!("a chain of {} images, more than {MAX_DEPTH}", chain.len());
        return Err(Error::limit(what).at_path(by));
    }
    if chain.len() * disk.storages.len() > MOST_FILES {
        let what = format!("a disk in more than {MOST_FILES} files");
        return Err(Error::limit(what).at_path(by));
    }
    chain.reverse();
    let mut members = Members {
        disk,
        by,
        gate,
        files: HashSet::new(),
    };
    let mut parent = None;
    let mut opened = Vec::with_capacity(chain.len());
    for guid in chain {
        let access = match guid == top {
            true => access,
            false => Access::Read,
        };
        opened.push(members.open(guid, parent.replace(guid), access)?);
    }
    Ok(opened)
}

/// Opens images of one bundle.
struct Members<'a> {
    disk: &'a DiskDescriptor,
    /// The descriptor's file, which names the others.
    by: &'a Path,
    gate: &'a dyn Gate,
    /// Those that are open.
    files: HashSet<fs::Identity>,
}

impl Members<'_> {
    /// One image, in all storages.
    fn open(&mut self, guid: Uuid, parent: Option<Uuid>, access: Access) -> Result<Opened> {
        let mut parts = Vec::with_capacity(self.disk.storages.len());
        let mut first = None;
        for storage in &self.disk.storages {
            let image = storage.images.iter().find(|image| image.guid == guid);
            let image = image.ok_or_else(|| {
                Error::malformed(format!("a storage without image {{{guid}}}")).at_path(self.by)
            })?;
            let path = self.gate.allow(&Named {
                by: self.by,
                name: &image.file,
                role: Role::Extent,
            })?;
            let map = part(storage, image, &path, access)?;
            self.check_once(&*map)?;
            first.get_or_insert((path, image.kind));
            parts.push(map);
        }
        let split = parts.len() > 1;
        let (path, kind) =
            first.ok_or_else(|| Error::malformed("a disk without storages").at_path(self.by))?;
        Ok(Opened {
            map: match (split, parts.pop()) {
                (false, Some(only)) => only,
                (_, last) => Box::new(Concat::new(parts.into_iter().chain(last).collect())?),
            },
            path,
            // The file alone is the image only where there is one.
            format: match (split, kind) {
                (true, _) => Format::Hdd,
                (false, ImageKind::Plain) => Format::Raw,
                (false, ImageKind::Compressed) => Format::Hds,
            },
            identity: Identity {
                cid: None,
                uuid: Some(guid),
            },
            link: parent.map(|parent| Link {
                uuid: Some(parent),
                ..Link::default()
            }),
        })
    }

    /// Refuses a file that stands in two places of the disk: what is written to one would change the other.
    fn check_once(&mut self, part: &dyn Map) -> Result<()> {
        let mut found = Ok(());
        part.files(&mut |file| match file.identity() {
            Ok(identity) if !self.files.insert(identity) => {
                let what = "it stands in the descriptor twice";
                found = Err(Error::malformed(what).at_path(file.path()));
            }
            Ok(_) => {}
            Err(error) => found = Err(error),
        });
        found
    }
}

/// Opens one file of an image, and checks that it is the storage's.
fn part(storage: &Storage, image: &Image, path: &Path, access: Access) -> Result<Box<dyn Map>> {
    let (file, used) = open::file(path, access)?;
    let sectors = storage.end - storage.start;
    if image.kind == ImageKind::Plain {
        return Ok(Box::new(Flat::new(file, 0, sectors * SECTOR, used)?));
    }
    let header = header::read(&file)?;
    for (what, said, has) in [
        ("sectors", sectors, header.sectors),
        (
            "sectors in a cluster",
            storage.blocksize.into(),
            header.cluster_sectors.into(),
        ),
    ] {
        if said != has {
            return Err(Error::mismatch(format!(
                "the descriptor says {said} {what}, the header {has}"
            ))
            .at_path(path));
        }
    }
    Ok(Box::new(Clusters::open(file, header, used)?))
}

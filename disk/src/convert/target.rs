//! What a conversion can make: its formats, and the files of a new, empty image or chain of them.

use crate::info::Format;
use crate::vmdk::{
    AdapterType, Cid, FlatDiskSpec, MAX_EXTENT_SECTORS, ParentLink, SECTOR, SparseSpec,
};
use crate::{Error, ImageSpec, RawSpec, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use uuid::Uuid;

/// The format of a new image, by the name that people give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The guest disk byte for byte.
    Raw,
    /// VMDK, monolithicSparse.
    Vmdk,
    /// VMDK, monolithicFlat: a descriptor over one raw file.
    VmdkFlat,
    /// VMDK, twoGbMaxExtentSparse: extents below 2 GiB.
    VmdkSplit,
}

const NAMES: [(Target, &str); 4] = [
    (Target::Raw, "raw"),
    (Target::Vmdk, "vmdk"),
    (Target::VmdkFlat, "vmdk-flat"),
    (Target::VmdkSplit, "vmdk-split"),
];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(target, _)| target == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Target {
    type Err = Error;

    /// # Errors
    /// `Invalid` naming the formats there are.
    fn from_str(text: &str) -> Result<Target> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(target, _)| *target).ok_or_else(|| {
            let names = NAMES.map(|(_, name)| name).join(", ");
            Error::invalid(format!("no format is called {text:?}: there are {names}"))
        })
    }
}

impl Target {
    /// The format that a file's name stands for; `None` where it says nothing.
    pub fn of_name(path: &Path) -> Option<Target> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "raw" | "img" => Some(Target::Raw),
            "vmdk" => Some(Target::Vmdk),
            _ => None,
        }
    }

    /// Whether an image of this format can lie on another one.
    pub(super) fn has_parents(self) -> bool {
        matches!(self, Target::Vmdk | Target::VmdkSplit)
    }
}

/// A new image among those of a chain.
pub(super) struct NewLevel {
    /// The file that stands for it, and its format.
    pub(super) file: String,
    pub(super) format: Format,
    /// All its files, that one included.
    pub(super) files: Vec<(String, ImageSpec)>,
}

/// The images of a new chain, the base first. `name` is the top one's file; the others are called after it.
pub(super) fn levels(
    to: Target,
    name: &str,
    size: u64,
    depth: usize,
    id: Uuid,
) -> Result<Vec<NewLevel>> {
    if depth > 1 && !to.has_parents() {
        return Err(Error::unsupported(format!(
            "a {to} image lies on no other: flatten the chain instead"
        )));
    }
    let mut made: Vec<NewLevel> = Vec::with_capacity(depth);
    let mut below = None;
    for n in 0..depth {
        let file = match n + 1 == depth {
            true => name.to_owned(),
            false => beside(name, n),
        };
        let ids = Ids::of(id, n);
        made.push(level(to, file.clone(), size, &ids, below.take())?);
        below = Some(ParentLink {
            hint: file,
            cid: ids.cid,
            uuid: ids.uuid,
        });
    }
    Ok(made)
}

/// The name of a lower image: `disk.vmdk` lies on `disk-0.vmdk` and so on.
fn beside(name: &str, n: usize) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{n}.{extension}"),
        None => format!("{name}-{n}"),
    }
}

/// Ids of one image of a chain, which follow from the chain's.
struct Ids {
    cid: Cid,
    uuid: Uuid,
}

impl Ids {
    fn of(id: Uuid, n: usize) -> Ids {
        let uuid = Uuid::new_v5(&id, format!("image/{n}").as_bytes());
        let mut from = Uuid::new_v5(&id, format!("cid/{n}").as_bytes());
        loop {
            let [a, b, c, d, ..] = *from.as_bytes();
            match Cid::new(u32::from_be_bytes([a, b, c, d])) {
                Ok(cid) => return Ids { cid, uuid },
                Err(_) => from = Uuid::new_v5(&id, from.as_bytes()),
            }
        }
    }
}

fn level(
    to: Target,
    file: String,
    size: u64,
    ids: &Ids,
    parent: Option<ParentLink>,
) -> Result<NewLevel> {
    let sectors = || match size % SECTOR {
        0 => Ok(size / SECTOR),
        _ => Err(Error::unsupported(format!(
            "a disk of {size} bytes, no multiple of 512, as {to}"
        ))),
    };
    let sparse = |file: String| -> Result<SparseSpec> {
        Ok(SparseSpec {
            file,
            sectors: sectors()?,
            cid: ids.cid,
            uuid: ids.uuid,
            parent: parent.clone(),
            adapter: AdapterType::LsiLogic,
            patches: Vec::new(),
        })
    };
    let raw = ImageSpec::Raw(RawSpec {
        size,
        patches: Vec::new(),
    });
    let (format, files) = match to {
        Target::Raw => (Format::Raw, vec![(file.clone(), raw)]),
        Target::Vmdk => (
            Format::VmdkSparse,
            vec![(file.clone(), ImageSpec::VmdkSparse(sparse(file.clone())?))],
        ),
        Target::VmdkSplit => {
            let spec = sparse(file.clone())?;
            (Format::VmdkDescriptor, spec.split(MAX_EXTENT_SECTORS)?)
        }
        Target::VmdkFlat => {
            let spec = FlatDiskSpec {
                file: file.clone(),
                sectors: sectors()?,
                cid: ids.cid,
                uuid: ids.uuid,
                adapter: AdapterType::LsiLogic,
                patches: Vec::new(),
            };
            (Format::VmdkDescriptor, spec.whole()?)
        }
    };
    Ok(NewLevel {
        file,
        format,
        files,
    })
}

//! Parallels `.hdd` bundles: the expanding image (`.hds`), the bundle's `DiskDescriptor.xml`, and both as drivers of the
//! engine. All ids and links stand in the descriptor: freezing a writable image, and giving it a new id, changes that
//! text alone and no image file.

mod bundle;
mod clusters;
mod create;
mod descriptor;
mod extension;
mod header;
mod open;
mod parse;
mod xml;

pub use bundle::{Content, NewBundle, NewFile};
pub use create::{HdsSpec, MAX_STORAGE_SECTORS};
pub(crate) use create::{grown_len, render};
pub use descriptor::{DiskDescriptor, Image, ImageKind, LEAF_GUID, Shot, Storage};
pub(crate) use header::read as read_header;
pub use header::{HdsHeader, InUse, Magic};
pub use open::open_snapshot;
pub(crate) use open::{open, open_file, read_descriptor};
use parse::MAX_XML;

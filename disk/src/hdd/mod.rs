//! Parallels `.hdd` bundles: the expanding image (`.hds`) and the bundle's `DiskDescriptor.xml`.
//! Guest data (clusters) is not read or written here yet; the disk engine's reader will stand beside these modules.

mod create;
mod descriptor;
mod header;
mod parse;
mod xml;

pub use create::HdsSpec;
pub(crate) use create::{grown_len, render};
pub use descriptor::{DiskDescriptor, Image, ImageKind, LEAF_GUID, Shot, Storage};
pub use header::{HdsHeader, InUse, Magic};
pub(crate) use parse::MAX_XML;

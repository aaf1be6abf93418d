//! VDI 1.1, VirtualBox's own images: header, block map, new images and renewed ids. A VDI knows its parent by UUID alone
//! and names no file, so a chain of them is opened by a list.
//!
//! Source: VirtualBox's `VDICore.h` and `VDI.cpp`, checked against files of VirtualBox 7.2.22 and QEMU 7.2.

mod blocks;
mod create;
mod header;
mod ids;
mod open;

pub(crate) use blocks::has_blocks;
pub use create::{Allocation, VdiSpec};
pub(crate) use create::{grown_len, render};
pub(crate) use header::{Header, SIGNATURE, SIGNATURE_AT};
pub use header::{Ids, ImageType, ParentIds};
pub use ids::{relink, renew_modification};
pub(crate) use open::open;

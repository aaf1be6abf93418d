//! qcow2, versions 2 and 3: what a new image holds, a strict reading of the header, and guest data through the imago
//! crate. No type of imago's leaves this module, and imago never sees a byte that stands in an image's header: names of
//! other files, features and extensions are read here.
//!
//! Refused by name: version 1, encryption, internal snapshots, external data files, extended L2 entries, compression
//! other than zlib, features without a name.
//!
//! Source: QEMU's `docs/interop/qcow2.txt`; limits are those of QEMU's `block/qcow2.h`.

mod create;
mod header;
mod image;
mod open;
mod order;
mod storage;
mod tables;

pub use create::{Backing, Qcow2Spec};
pub(crate) use create::{grown_len, render};
pub(crate) use header::{Header, MAGIC, Mark};
pub(crate) use open::open;

use crate::info::Format;

/// What the header extension calls a format: the name of QEMU's driver.
pub(crate) fn driver_of(format: Format) -> Option<&'static str> {
    match format {
        Format::Raw => Some("raw"),
        Format::Qcow2 => Some("qcow2"),
        Format::VmdkDescriptor | Format::VmdkSparse => Some("vmdk"),
        Format::Hds => Some("parallels"),
        Format::Vdi => Some("vdi"),
        Format::Hdd => None,
    }
}

/// The format that a driver of QEMU's reads. A VMDK is one family: which of its files it is, its own magic says.
fn format_of(driver: &str) -> Option<Format> {
    [
        Format::Raw,
        Format::Qcow2,
        Format::VmdkDescriptor,
        Format::Hds,
        Format::Vdi,
    ]
    .into_iter()
    .find(|format| driver_of(*format) == Some(driver))
}

/// Whether QEMU would take a file name for something else: `json:{...}`, `nbd://host`.
fn has_protocol(name: &str) -> bool {
    let drive = cfg!(windows) && name.as_bytes().get(1) == Some(&b':');
    let colon = name.find(':');
    !drive && colon.is_some_and(|colon| !name[..colon].contains('/'))
}

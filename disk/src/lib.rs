//! Disk images and chains for VMware, VirtualBox, QEMU and Parallels: creating them, and reading their descriptors and
//! headers strictly. The crate knows nothing of virtual machines. Guest data is not read or written yet: the modules
//! are laid out for readers and writers of grains and clusters to stand beside them.
//!
//! What a new image holds is a pure function of its [`ImageSpec`]: [`image_bytes`] gives its exact content without
//! touching a disk, [`create`] writes that, and [`verify`] compares an existing file with it.
//!
//! Whatever is read is taken for hostile. Sizes are bounded before anything is allocated, and no path that stands in a
//! file is ever opened. Calls are synchronous, use positioned I/O, and report an [`Error`] with kind, path and offset.
//!
//! A raw base, the descriptor of its own that a machine reaches it through, and a writable child that VMware, VirtualBox
//! and QEMU all take:
//!
//! ```
//! use stratavm_disk::vmdk::{AdapterType, Cid, FlatExtent, FlatKind, FlatSpec, ParentLink, SparseSpec};
//! use stratavm_disk::{Durability, Format, ImageSpec, Volume, create, fsync_dir, has_allocated_blocks};
//! use uuid::Uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let sectors = 64 * 2048; // 64 MiB
//! let base = FlatSpec {
//!     kind: FlatKind::Monolithic,
//!     extents: vec![FlatExtent { file: "../images/golden.raw".into(), sectors, offset: 0 }],
//!     cid: Cid::new(0x1234_abcd)?,
//!     uuid: Uuid::from_u128(1),
//!     adapter: AdapterType::LsiLogic,
//! };
//! let head = SparseSpec {
//!     file: "head.vmdk".into(),
//!     sectors,
//!     cid: Cid::new(0x5678_abcd)?,
//!     uuid: Uuid::from_u128(2),
//!     parent: Some(ParentLink { hint: "base.vmdk".into(), cid: base.cid, uuid: base.uuid }),
//!     adapter: AdapterType::LsiLogic,
//!     patches: Vec::new(),
//! };
//! let volume = Volume::default();
//! create(&folder.join("base.vmdk"), &ImageSpec::VmdkFlat(base), &volume, Durability::Synced)?;
//! create(&folder.join("head.vmdk"), &ImageSpec::VmdkSparse(head), &volume, Durability::Synced)?;
//! fsync_dir(folder)?;
//! assert!(!has_allocated_blocks(&folder.join("head.vmdk"), Format::VmdkSparse)?);
//! # Ok(())
//! # }
//! ```

mod alloc;
mod bytes;
mod chain;
mod check;
mod compare;
mod convert;
mod create;
mod ctx;
mod durable;
mod engine;
mod error;
mod file;
pub mod fs;
mod gate;
pub mod hdd;
mod image;
mod info;
mod open;
mod patch;
pub mod qcow2;
mod raw;
pub mod vdi;
pub mod vmdk;
mod volume;

pub use alloc::has_allocated_blocks;
pub use chain::{Access, Chain, Identity, Kind, Link, MAX_DEPTH, MappedRange, Member};
pub use check::{CheckOptions, Checked, Fault, Finding, Remedy, Repair, check};
pub use compare::{Comparison, Sizes, compare};
pub use convert::{ConvertOptions, Converted, Target, convert_chain, create_blank, flatten};
pub use create::{create, verify};
pub use ctx::{CancelToken, Ctx, Phase, Progress};
pub use durable::{Durability, fsync_dir, write_atomic};
pub use error::{Error, ErrorKind, Result};
pub use gate::{Below, Closed, Gate, Named, Role};
pub use image::{ImageBytes, ImageSpec, image_bytes};
pub use info::{
    ExtentInfo, Format, HddImageInfo, HddInfo, HdsInfo, ImageInfo, Qcow2Info, VdiInfo, VmdkInfo,
    info, probe,
};
pub use patch::Patch;
pub use raw::RawSpec;
pub use volume::{Case, Holes, Links, Permissions, RenameOverOpen, Volume};

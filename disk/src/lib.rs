//! Disk images and whole chains of them for VMware, VirtualBox, QEMU and Parallels: made, read, written, converted with
//! their layers kept, checked and compared. The crate knows nothing of virtual machines.
//!
//! A [`Chain`] is what a guest sees: images of one format or of several, opened level by level, read through all of
//! them, written to in the top one. [`flatten`] makes one image of it, [`convert_chain`] one of each.
//!
//! What a new image holds is a pure function of its [`ImageSpec`]: [`image_bytes`] gives its exact content without
//! touching a disk, [`create`] writes that, and [`verify`] compares an existing file with it.
//!
//! Whatever is read is taken for hostile. Sizes are bounded before anything is allocated, and what a file names is
//! opened only if the caller's [`Gate`] says so. Calls are synchronous, use positioned I/O, and report an [`Error`] with
//! kind, path and offset.
//!
//! What a guest wrote into a head, and the whole chain as one raw image:
//!
//! ```
//! use stratavm_disk::{Access, Below, Chain, ConvertOptions, Ctx, Durability, Format, Target, flatten};
//! # use stratavm_disk::vmdk::{AdapterType, Cid, SparseSpec};
//! # use stratavm_disk::{ImageSpec, Volume, create};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! # let spec = SparseSpec {
//! #     file: "head.vmdk".into(), sectors: 2048, cid: Cid::new(1)?, uuid: uuid::Uuid::from_u128(1), parent: None,
//! #     adapter: AdapterType::LsiLogic, patches: Vec::new(),
//! # };
//! # let path = folder.join("head.vmdk");
//! # create(&path, &ImageSpec::VmdkSparse(spec), &Volume::default(), Durability::Unsynced)?;
//! let gate = Below::new(folder)?; // nothing outside is opened, whatever head.vmdk says
//! let chain = Chain::open(&path, Format::VmdkSparse, Access::Write, &gate)?;
//! chain.write_at(b"hello", 5000)?;
//! let mut buf = [0; 7];
//! chain.read_at(&mut buf, 4999)?;
//! assert_eq!(&buf, b"\0hello\0");
//! chain.flush(Durability::Synced)?;
//!
//! let options = ConvertOptions::new(uuid::Uuid::from_u128(2));
//! let made = flatten(&chain, &folder.join("all.raw"), Target::Raw, &options, &Ctx::none())?;
//! assert_eq!(made.written, 4096);
//! chain.close(Durability::Synced)?;
//! # Ok(())
//! # }
//! ```
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

#![cfg_attr(doctest, doc = include_str!("../README.md"))]

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
pub use convert::{
    Content, ConvertOptions, Converted, Target, convert_chain, create_blank, flatten, zero_runs,
};
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

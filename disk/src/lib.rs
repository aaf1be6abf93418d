//! Disk images and chains for VMware, VirtualBox, QEMU and Parallels: creating them, and reading their descriptors and
//! headers strictly. The crate knows nothing of virtual machines; guest data is not read or written yet.

mod alloc;
mod bytes;
mod create;
mod ctx;
mod durable;
mod error;
mod file;
pub mod hdd;
mod image;
mod info;
mod patch;
mod raw;
mod sys;
pub mod vmdk;
mod volume;

pub use alloc::has_allocated_blocks;
pub use create::{create, verify};
pub use ctx::{CancelToken, Ctx, Phase, Progress};
pub use durable::{Durability, fsync_dir, write_atomic};
pub use error::{Error, ErrorKind, Result};
pub use image::{ImageBytes, ImageSpec, image_bytes};
pub use info::{ExtentInfo, Format, HddImageInfo, HddInfo, HdsInfo, ImageInfo, VmdkInfo, info};
pub use patch::Patch;
pub use raw::RawSpec;
pub use volume::{Case, Holes, Links, Permissions, RenameOverOpen, Volume};

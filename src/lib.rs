//! One layered VM spec in; disk chains and configurations for VMware, VirtualBox, Parallels and
//! QEMU out, behind one [`Hypervisor`] trait.
//!
//! This crate knows layers, images, machines and plans; it knows no product. Products are in
//! crates of their own (`stratavm-builtin` has them all), disk formats in [`stratavm_disk`].

pub mod capability;
pub mod chain;
mod error;
mod events;
pub mod format;
mod gpt;
pub mod host;
pub mod hypervisor;
pub mod identity;
pub mod image;
pub mod layer;
mod layout;
pub mod linux;
pub mod machine;
pub mod plan;
pub mod preview;
mod registry;
pub mod resolved;
pub mod slot;
pub mod spec;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod timestamp;
mod vm;
pub mod volume;

pub use error::{Error, ErrorKind, Result};
pub use events::{Events, VmEvent};
pub use hypervisor::{Hypervisor, Product, State};
pub use plan::Plan;
pub use registry::Registry;
pub use resolved::Resolved;
pub use spec::VmSpec;
pub use store::Store;
pub use stratavm_disk::{CancelToken, Ctx, Phase, Progress};
pub use timestamp::Timestamp;
pub use vm::{Vm, block_on};

/// The README's example is a test of its own.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

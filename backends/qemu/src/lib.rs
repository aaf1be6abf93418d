//! stratavm's backend for QEMU: the embedded default, driven by QMP.
//!
//! * translate (pure): `config`, `disks`, `board`, `gaps`, `argv`;
//! * control: `control`, `qmp`, `endpoint`, `process`, `accel`, `detect`, `known`, `sys`;
//! * `backend` puts both behind [`stratavm::Hypervisor`], `capability` says what they can do.
//!
//! ```
//! use stratavm::Hypervisor as _;
//!
//! let qemu = stratavm_qemu::Qemu::new();
//! assert_eq!(qemu.product().as_str(), "qemu");
//! ```

mod accel;
mod argv;
mod backend;
mod board;
mod capability;
mod config;
mod control;
mod detect;
mod disks;
mod endpoint;
mod gaps;
mod known;
mod launch;
mod process;
mod qmp;
mod sys;

pub use backend::{PRODUCT, Qemu};

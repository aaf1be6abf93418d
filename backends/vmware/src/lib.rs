//! stratavm's backend for VMware Workstation, Player and Fusion.
//!
//! The translate half: a resolved machine becomes one `.vmx` file over chains that core made. The
//! control half is not here yet. No VMware product was at hand when this was written: what rests on
//! anything weaker than public source or documentation is collected and marked in `facts`.

mod backend;
mod capability;
mod config;
mod devices;
mod disks;
mod facts;
mod policy;
#[cfg(test)]
mod testing;
mod vmx;

pub use backend::Vmware;

//! stratavm's backend for Parallels Desktop.
//!
//! The translate half: a resolved machine becomes a `.pvm` bundle with its `config.pvs` and one
//! `.hdd` bundle for each disk, whose descriptor names images that core made. The control half is
//! not here yet. No Parallels product was at hand when this was written: what rests on anything
//! weaker than public source or documentation is collected and marked in `facts`.

mod backend;
mod bundle;
mod capability;
mod config;
mod devices;
mod disks;
mod facts;
mod policy;
#[cfg(test)]
mod testing;
mod xml;

pub use backend::Parallels;

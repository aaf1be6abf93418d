//! The VirtualBox backend of stratavm: a resolved machine becomes a `.vbox` settings file.
//!
//! The settings are written at the lowest version that expresses the spec (1.15, which VirtualBox
//! 5.0 and all later ones read), with a media registry of their own that names every level of every
//! chain. Only translating is here; nothing talks to a VirtualBox.

mod backend;
mod capability;
mod config;
mod disks;
mod guest_os;
mod policy;
mod xml;

pub use backend::VirtualBox;

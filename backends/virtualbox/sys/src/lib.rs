//! VirtualBox through XPCOM, its component model on Linux and macOS, without choosing a version at compile time.
//!
//! The vtables and interface ids of VirtualBox differ from version to version. The product ships its own type library,
//! though: [`xpt`] reads it, and says at which slot of a vtable a method of a known signature is in the version that
//! is installed, if it is there at all.

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod contract;
mod error;
#[cfg(unix)]
mod machine;
#[cfg(unix)]
mod sys;
pub mod xpt;

#[cfg(unix)]
pub use client::Client;
pub use error::{Error, ErrorKind, Result};
#[cfg(unix)]
pub use machine::{Machine, VirtualBox};

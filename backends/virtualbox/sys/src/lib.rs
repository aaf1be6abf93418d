//! VirtualBox through XPCOM, its component model on Linux and macOS, without choosing a version at compile time.
//!
//! The vtables and interface ids of VirtualBox differ from version to version. The product ships its own type library,
//! though: [`xpt`] reads it, and says at which slot of a vtable a method of a known signature is in the version that
//! is installed, if it is there at all.

mod error;
pub mod xpt;

pub use error::{Error, ErrorKind, Result};

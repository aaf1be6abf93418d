//! The library.

#[cfg(feature = "testkit")]
pub mod testkit;

//! What tests of `Hypervisor` implementations share. Feature `testkit`; no part of a product.

pub mod clock;
pub mod conformance;
pub mod gpt;
pub mod guest;
mod sample;

pub use sample::Sample;
pub use stratavm_disk::fs::fault;

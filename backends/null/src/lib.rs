//! A backend without a product: machines run in memory, or in a folder where they outlive their
//! supervisor, and do what the boot-sector guest's command
//! table says (`fixtures/bootsector/boot.S`).
//!
//! It is a backend like any other: it translates into a configuration file, refuses what it lacks,
//! starts only what was applied, and takes its state from the machine, not from the caller. The
//! conformance suite runs on it, and so can the tests of a program that uses stratavm.

mod backend;
mod capability;
mod config;
mod control;
mod disks;
mod guest;
mod table;

pub use backend::Null;

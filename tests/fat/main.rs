//! Machines on FAT32 and exFAT: whatever is done to them, the volume refuses nothing of it, no file becomes longer than
//! it may, and no link is made. The volumes are folders that the file layer has behave so (`testkit::fault::FatVolume`);
//! a real exFAT is in `tests/exfat.rs`, where the host can mount one.
//!
//! * `volume`: such a folder, and what must hold on it at any time
//! * `small`: the life of a machine whose disks are larger than a file may be, with its content, in a few MiB
//! * `linux`: guests under the contract for Linux, with their session disks
//! * `large`: disks of more than 4 GiB on the real limits, which the store has to find out by itself

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]
#![cfg(unix)]

#[path = "../common/desk.rs"]
mod desk;
#[path = "../common/machine.rs"]
mod harness;
mod large;
mod linux;
#[path = "../common/report.rs"]
mod report;
mod small;
#[path = "../common/tree.rs"]
mod tree;
mod volume;

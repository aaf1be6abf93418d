//! Machines whose every byte is known: what the model test, the kill -9 storm and the odd worlds share.
//!
//! * `vmdk`: grains of chains, read and written by code that is not the library's
//! * `product`: a product that is none, whose guest writes known patterns
//! * `world`: a store with images of known content, and operations done to its machines
//! * `model`, `layer`, `change`, `run`: what each operation must do, in memory
//! * `draw`: operations from a seed
//! * `history`: what a log of operations by several processes allows a machine to be
//! * `check`: a machine in the store against its model
//!
//! Holds no test.
#![allow(dead_code, reason = "not every test uses every part")]

pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod draw;
pub(crate) mod history;
pub(crate) mod layer;
pub(crate) mod model;
pub(crate) mod product;
pub(crate) mod run;
pub(crate) mod vmdk;
pub(crate) mod world;

/// A folder for a world: in memory where the host has such a place, since nothing of it is to outlive the host.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::Builder::new()
            .prefix("strata-")
            .tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.unwrap()
}

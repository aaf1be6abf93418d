//! What integration tests share. Holds no test.
//!
//! * `report`: which reader read what, for the closing table of `cargo xtask test`
//! * `readers`: parsers that are not ours
//! * `program`: running a program that is not ours, with an end to it
//! * `rig`: the real VirtualBox, installed or in its rig, with a home of its own for each test
//! * `values`: what a spec sets, as keys and values, and comparing them with what a reader saw
//! * `views`: from what a reader says to the same keys and values
//! * `draw`, `fixtures`: drawn and committed specs, and the images that they name
//! * `machines`: specs translated for every product
//! * `agreement`: what readers must see in those
#![allow(dead_code, reason = "not every test uses every part")]

pub(crate) mod agreement;
pub(crate) mod draw;
pub(crate) mod fixtures;
pub(crate) mod machines;
pub(crate) mod program;
pub(crate) mod readers;
pub(crate) mod report;
pub(crate) mod rig;
pub(crate) mod values;
pub(crate) mod views;

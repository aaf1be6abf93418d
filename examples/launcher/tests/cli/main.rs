//! The launcher as its users meet it: the real binary, its answers checked against the committed
//! schemas, each test in a store of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod bench;
mod controllers;
mod damage;
mod detached;
mod disk_check;
mod disk_convert;
mod disk_map;
mod disks;
mod golden;
mod history;
mod images;
mod killed;
mod layers;
mod machines;
#[cfg(unix)]
mod products;
#[path = "../../../../disk/tests/common/qemu.rs"]
mod qemu;
#[path = "../../../../tests/common/report.rs"]
mod report;
mod run;
mod schema;
#[cfg(target_os = "linux")]
mod space;
mod specs;
mod store;
mod translate;
mod usage;

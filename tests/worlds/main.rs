//! Worlds that are not as one thinks of them: a volume without room or names left, a clock that jumps back, a process
//! number that belongs to somebody else now, ten thousand revisions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[cfg(target_os = "linux")]
mod full;
mod long;
#[path = "../common/report.rs"]
mod report;
#[path = "../common/sim/mod.rs"]
mod sim;
mod time;

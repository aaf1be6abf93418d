//! Processes that write to chains, freeze their heads or convert them are killed with SIGKILL at drawn moments. What they
//! said to be flushed is there, every image opens and is sound after a safe repair, and what was to be made is whole or
//! not there.
//!
//! `worker` is what the killed processes do: this program, started again. `checker` starts, kills and judges them by
//! what they said alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unused_crate_dependencies
)]

mod checker;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/families.rs"]
mod families;
#[path = "../../../tests/common/report.rs"]
mod report;
#[path = "../common/qemu.rs"]
mod tools;
mod worker;
#[path = "../../../tests/common/written.rs"]
mod written;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(orders) = worker::Orders::of_environment() {
        worker::work(&orders);
        return ExitCode::SUCCESS;
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trial = |name: &str, test: fn()| {
        libtest_mimic::Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("no_kill_loses_what_was_flushed", checker::writing),
        trial("no_kill_breaks_a_chain_that_is_frozen", checker::freezing),
        trial("no_kill_leaves_half_of_a_new_image", checker::converting),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

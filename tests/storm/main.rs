//! The storm: processes do drawn operations on the same machines and are killed with -9 at drawn points. Each writes
//! what it is about to do, and what came of it, to a log outside of the store; a checker that has only that log says
//! what each machine may be, and looks whether it is.
//!
//! `checker` holds the test's side, `crowd` that of many processes of which none is killed, `worker` what the killed processes run: this program, started again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[cfg(unix)]
mod checker;
#[cfg(unix)]
mod crowd;
#[cfg(unix)]
#[path = "../common/report.rs"]
mod report;
#[cfg(unix)]
#[path = "../common/sim/mod.rs"]
mod sim;
#[cfg(unix)]
mod worker;

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    if let Some(orders) = worker::Orders::of_environment() {
        worker::run(&orders);
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
        trial("no_kill_loses_or_mixes_a_state", checker::storm),
        trial("twenty_processes_take_turns", crowd::take_turns),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// There is no signal 9 elsewhere.
#[cfg(not(unix))]
fn main() -> ExitCode {
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), Vec::new()).exit_code()
}

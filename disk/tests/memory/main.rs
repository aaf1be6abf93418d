//! How much memory images take: small hostile ones, of which none may make us allocate, read or go on for more than its
//! size is worth, and huge ones that are nearly empty.
//!
//! `sys` counts what is allocated, `hostile` draws images and opens them, `seeds` are what they are drawn from, `tebibyte` has the huge ones: each
//! in a process of its own, this program started again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unused_crate_dependencies
)]

#[path = "../common/mod.rs"]
mod common;
mod hostile;
#[path = "../../../tests/common/report.rs"]
mod report;
mod seeds;
mod sys;
mod tebibyte;
#[path = "../../../tests/common/written.rs"]
mod written;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting;

fn main() -> ExitCode {
    if let Some(orders) = tebibyte::Orders::of_environment() {
        tebibyte::work(&orders);
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
        trial("no_small_image_takes_more_than_a_mebibyte", hostile::all),
        trial("a_tebibyte_takes_less_than_32_mib", tebibyte::all),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

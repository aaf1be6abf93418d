//! Miri over the unit tests of `stratavm-disk` that need no files: it sees undefined behaviour and races that the
//! machine forgives. Only for full runs: it needs minutes.

use std::process::Command;

use super::Outcome;
use super::phases::{Counts, FULL_LIMIT};
use crate::exec::{self, Error};
use crate::setup;
use crate::workspace;

/// Modules whose tests open no file, which Miri would not let them, and draw nothing: it is hundreds of times slower.
const TESTS: [&str; 8] = [
    "check::claims::",
    "convert::",
    "ctx::",
    "engine::",
    "error::",
    "patch::",
    "qcow2::header::",
    "vdi::header::",
];

pub(super) fn run(outcome: &mut Outcome) -> Result<(), Error> {
    if !setup::has_miri() {
        let reason = "rustup has no nightly toolchain with it: `rustup toolchain install nightly --component miri`";
        outcome.skips.push(format!("Miri: {reason}"));
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.current_dir(workspace::root());
    command.args(["run", "nightly", "cargo", "miri", "test"]);
    command.args(["--package", "stratavm-disk", "--lib", "--target-dir"]);
    command.arg(workspace::target().join("miri"));
    command.arg("--").args(TESTS);
    // cargo sets these for xtask itself; the other toolchain's cargo must find its own.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    let ended = exec::pass_through(&mut command, FULL_LIMIT)?;
    let counts = Counts::of(&ended.stdout);
    outcome.passed += counts.passed;
    outcome.failures.extend(counts.failures);
    outcome.failures.extend(ended.why);
    if (!ended.ok || counts.passed == 0) && outcome.failures.is_empty() {
        outcome
            .failures
            .push("does not build, or no test ran".into());
    }
    Ok(())
}

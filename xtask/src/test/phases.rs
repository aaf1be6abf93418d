//! What each phase runs, and how its outcome is read from what was printed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Context, Extent, Outcome, Skips, fuzz, miri, virtualbox};
use crate::exec::{self, Error};
use crate::setup;
use crate::workspace;

/// A phase that takes longer hangs: the slowest builds everything from nothing.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// The same where everything is tried in full.
pub(super) const FULL_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Phase {
    /// Formatting.
    Fmt,
    /// shellcheck of every shell script.
    Scripts,
    /// Lints, warnings denied.
    Clippy,
    /// rustdoc, warnings denied.
    Docs,
    /// Unit tests, and integration tests that belong to no other phase.
    Unit,
    /// Examples in the documentation.
    Doctests,
    /// Plans against the committed ones: test targets named golden*.
    Golden,
    /// The conformance suite: test targets named conformance*.
    Conformance,
    /// Reading back by parsers that are not ours: test targets named interop*.
    Interop,
    /// The real VirtualBox, installed here or in the rig that is built for it: test targets named virtualbox*.
    Virtualbox,
    /// Machines under drawn operations, faults, kill -9 and crowds of processes: test targets named model*, faults*,
    /// storm*, worlds*.
    Storm,
    /// Each fuzz target for 20 seconds.
    Fuzz,
    /// Miri over the disk engine's unit tests: part of full runs only, unless it is asked for.
    Miri,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fmt => "fmt",
            Self::Scripts => "scripts",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Unit => "unit",
            Self::Doctests => "doctests",
            Self::Golden => "golden",
            Self::Conformance => "conformance",
            Self::Interop => "interop",
            Self::Virtualbox => "virtualbox",
            Self::Storm => "storm",
            Self::Fuzz => "fuzz",
            Self::Miri => "miri",
        })
    }
}

impl Phase {
    pub(crate) const ALL: [Self; 13] = [
        Self::Fmt,
        Self::Scripts,
        Self::Clippy,
        Self::Docs,
        Self::Unit,
        Self::Doctests,
        Self::Golden,
        Self::Conformance,
        Self::Interop,
        Self::Virtualbox,
        Self::Storm,
        Self::Fuzz,
        Self::Miri,
    ];

    /// Whether a run of this extent has it, if no phase was asked for.
    pub(super) fn is_part_of(self, extent: Extent) -> bool {
        self != Self::Miri || extent == Extent::Full
    }

    /// Those of all integration test targets that belong to this phase.
    pub(crate) fn targets(self, all: &[String]) -> Vec<String> {
        let named = |target: &str| match target {
            target if target.starts_with("golden") => Self::Golden,
            target if target.starts_with("conformance") => Self::Conformance,
            target if target.starts_with("interop") => Self::Interop,
            target if target.starts_with("virtualbox") => Self::Virtualbox,
            target
                if ["model", "faults", "storm", "worlds"]
                    .iter()
                    .any(|n| target.starts_with(n)) =>
            {
                Self::Storm
            }
            _ => Self::Unit,
        };
        all.iter()
            .filter(|target| named(target) == self)
            .cloned()
            .collect()
    }
}

pub(super) fn run(phase: Phase, context: &Context) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::new(phase);
    let done = match phase {
        Phase::Fmt => plain(&mut outcome, &["fmt", "--all", "--check"], &[]),
        Phase::Clippy => {
            let args = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ];
            plain(&mut outcome, &args, &[])
        }
        Phase::Docs => {
            let deny = [("RUSTDOCFLAGS", "-D warnings")];
            // Libraries only: the launcher's program has the library's name, and their pages would overwrite each other.
            plain(
                &mut outcome,
                &["doc", "--workspace", "--no-deps", "--lib"],
                &deny,
            )
        }
        Phase::Scripts => scripts(&mut outcome, context),
        Phase::Doctests => tests(&mut outcome, context, &["--doc"]),
        Phase::Unit => targets(&mut outcome, context, &["--lib", "--bins", "--examples"]),
        Phase::Golden | Phase::Conformance | Phase::Interop | Phase::Storm => {
            targets(&mut outcome, context, &[])
        }
        Phase::Virtualbox => match virtualbox::runner() {
            Ok(runner) => {
                let runner: Vec<&str> = runner.iter().map(String::as_str).collect();
                targets(&mut outcome, context, &runner)
            }
            Err(error) => {
                outcome.skips.push(format!("VirtualBox: {error}"));
                Ok(())
            }
        },
        Phase::Fuzz => fuzz::run(&mut outcome, context),
        Phase::Miri => miri::run(&mut outcome),
    };
    if let Err(error) = done {
        outcome.failures.push(error.to_string());
    }
    outcome.took = started.elapsed();
    outcome
}

/// The integration tests of a phase, and what more cargo is to be told.
fn targets(outcome: &mut Outcome, context: &Context, more: &[&str]) -> Result<(), Error> {
    let phase = outcome.phase;
    let all = workspace::test_targets()?;
    let targets = phase.targets(&all);
    if targets.is_empty() {
        return Err(Error::new(format!("no test target is named {phase}*")));
    }
    let mut args = more.to_vec();
    args.extend(targets.iter().flat_map(|target| ["--test", target]));
    tests(outcome, context, &args)
}

/// One cargo command that passes or fails as a whole.
fn plain(outcome: &mut Outcome, args: &[&str], env: &[(&str, &str)]) -> Result<(), Error> {
    let mut command = workspace::cargo();
    command.args(args).envs(env.iter().copied());
    let ended = exec::pass_through(&mut command, LIMIT)?;
    match ended.ok {
        true => outcome.passed += 1,
        false => outcome
            .failures
            .push(ended.why.unwrap_or_else(|| "see above".into())),
    }
    Ok(())
}

/// `cargo test` over the workspace; the tests are told where to report and which Python has the validators.
fn tests(outcome: &mut Outcome, context: &Context, args: &[&str]) -> Result<(), Error> {
    let mut command = workspace::cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(args);
    command.env("STRATAVM_REPORT", context.report.path());
    command.env("STRATAVM_PHASE", outcome.phase.to_string());
    command.env("INSTA_UPDATE", "no");
    if context.skips == Skips::Failures {
        command.env("STRATAVM_STRICT", "1");
    }
    let limit = match context.extent {
        Extent::Usual => LIMIT,
        Extent::Full => {
            command.env("STRATAVM_SLOW", "1");
            FULL_LIMIT
        }
    };
    if let Some(python) = &context.found.python {
        command.env("STRATAVM_PYTHON", python);
    }
    let ended = exec::pass_through(&mut command, limit)?;
    let counts = Counts::of(&ended.stdout);
    outcome.passed += counts.passed;
    outcome.failures.extend(counts.failures);
    outcome.skips.extend(counts.ignored);
    outcome.failures.extend(ended.why);
    if !ended.ok && outcome.failures.is_empty() {
        outcome
            .failures
            .push("does not build, or ended without naming a test".into());
    }
    if ended.ok && counts.passed == 0 {
        outcome.failures.push("no test ran".into());
    }
    Ok(())
}

/// What libtest and libtest-mimic print.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failures: Vec<String>,
    ignored: Vec<String>,
}

impl Counts {
    pub(super) fn of(printed: &str) -> Self {
        let mut counts = Self::default();
        for line in printed.lines() {
            if let Some(summary) = line.strip_prefix("test result: ") {
                let passed = summary
                    .split_once(". ")
                    .and_then(|(_, rest)| rest.split_once(" passed"));
                counts.passed += passed
                    .and_then(|(count, _)| count.parse().ok())
                    .unwrap_or(0);
            } else if let Some(test) = line.strip_prefix("test ") {
                let Some((name, result)) = test.rsplit_once("... ") else {
                    continue;
                };
                let name = name.trim().to_owned();
                match result.split([',', ' ']).next() {
                    Some("FAILED") => counts.failures.push(name),
                    Some("ignored") => counts.ignored.push(format!("{name}: ignored")),
                    _ => {}
                }
            }
        }
        counts
    }
}

fn scripts(outcome: &mut Outcome, context: &Context) -> Result<(), Error> {
    let Some(shellcheck) = setup::find_program("shellcheck") else {
        let reason = context
            .found
            .why_missing("shellcheck")
            .unwrap_or("not installed");
        outcome.skips.push(format!("shellcheck: {reason}"));
        return Ok(());
    };
    let mut list = Command::new("git");
    list.current_dir(workspace::root());
    list.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    for name in exec::output(&mut list)?.split_terminator('\0') {
        let path = workspace::root().join(name);
        let mut start = [0; 64];
        let read = File::open(&path)
            .and_then(|mut file| file.read(&mut start))
            .unwrap_or(0);
        if !is_shell(&start[..read]) {
            continue;
        }
        let mut command = Command::new(&shellcheck);
        match exec::output(command.env("LC_ALL", "C.UTF-8").arg(&path)) {
            Ok(_) => outcome.passed += 1,
            Err(_) => {
                let _ = exec::pass_through(command.arg("--color=never"), LIMIT);
                outcome.failures.push(name.to_owned());
            }
        }
    }
    Ok(())
}

/// Whether a file begins with a line that names a shell.
fn is_shell(start: &[u8]) -> bool {
    let line = start
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    line.starts_with(b"#!")
        && String::from_utf8_lossy(line)
            .split(['/', ' '])
            .any(|word| matches!(word, "sh" | "bash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_from_what_test_runners_print() {
        let printed = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\n\
                       test d ... ignored, needs a host\ntest src/lib.rs - x (line 3) ... ok\n\
                       test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured\n\
                       test result: ok. 5 passed; 0 failed; 0 ignored\n";
        let counts = Counts::of(printed);
        assert_eq!(counts.passed, 7);
        assert_eq!(counts.failures, ["c"]);
        assert_eq!(counts.ignored, ["d: ignored"]);
    }

    #[test]
    fn every_target_belongs_to_one_phase() {
        let all = [
            "golden",
            "golden_disk",
            "interop",
            "conformance",
            "store",
            "storm",
            "model",
            "virtualbox_disks",
        ];
        let all = all.map(String::from);
        assert_eq!(Phase::Golden.targets(&all), ["golden", "golden_disk"]);
        assert_eq!(Phase::Unit.targets(&all), ["store"]);
        assert_eq!(Phase::Virtualbox.targets(&all), ["virtualbox_disks"]);
        assert_eq!(Phase::Storm.targets(&all), ["storm", "model"]);
    }

    #[test]
    fn shell_scripts_are_told_by_their_first_line() {
        assert!(is_shell(b"#!/bin/sh\necho"));
        assert!(is_shell(b"#!/usr/bin/env bash\n"));
        assert!(is_shell(b"#!/bin/busybox sh\n"));
        assert!(!is_shell(b"#!/usr/bin/env python3\n"));
        assert!(!is_shell(b"# sh\n"));
    }
}

//! The fuzz smoke phase: builds every target, then runs each for 20 seconds from its committed corpus, two at a time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, thread};

use super::{Context, Outcome};
use crate::exec::{self, Error};
use crate::setup;
use crate::workspace;

const SECONDS: u64 = 20;
const AT_A_TIME: usize = 2;

pub(super) fn run(outcome: &mut Outcome, context: &Context) -> Result<(), Error> {
    if cfg!(windows) {
        outcome
            .skips
            .push("libFuzzer: needs an address sanitizer that is not set up here".into());
        return Ok(());
    }
    if let Some(reason) = context.found.why_missing("cargo-fuzz") {
        outcome.skips.push(format!("cargo-fuzz: {reason}"));
        return Ok(());
    }
    let targets = targets()?;
    let build = workspace::target().join("fuzz");
    let programs = compile(&build)?;
    let waiting = Mutex::new(targets.into_iter());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(target) = next(&waiting) {
                    let result = smoke(&programs, &build, &target);
                    if let Ok(mut results) = results.lock() {
                        results.push((target, result));
                    }
                }
            });
        }
    });
    for (target, result) in results.into_inner().unwrap_or_default() {
        match result {
            Ok(inputs) => {
                outcome.passed += 1;
                context.report.ran("fuzz", "libFuzzer", &target)?;
                println!("fuzz {target}: {inputs} inputs, no fault");
            }
            Err(error) => outcome.failures.push(format!("{target}: {error}")),
        }
    }
    Ok(())
}

fn next(waiting: &Mutex<impl Iterator<Item = String>>) -> Option<String> {
    waiting.lock().ok()?.next()
}

/// The targets are the files of `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>, Error> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder)
        .map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let rust = path.extension().is_some_and(|extension| extension == "rs");
            rust.then(|| path.file_stem()?.to_str().map(str::to_owned))
                .flatten()
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; answers with the folder of the programs.
fn compile(build: &Path) -> Result<PathBuf, Error> {
    let host = host()?;
    let mut command = Command::new(setup::cargo_fuzz()?);
    command.current_dir(workspace::root());
    // The parsers hold no unsafe code, so the address sanitizer would find nothing: bounds checks panic by themselves.
    command.args(["fuzz", "build", "--sanitizer", "none", "--target", &host]);
    command.arg("--target-dir").arg(build);
    match setup::has_nightly() {
        true => command.env("RUSTUP_TOOLCHAIN", "nightly"),
        false => command.env("RUSTC_BOOTSTRAP", "1"),
    };
    // cargo sets these for xtask itself; the other toolchain's cargo must find its own.
    for name in ["CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    let ended = exec::pass_through(&mut command, Duration::from_secs(1200))?;
    if !ended.ok {
        return Err(Error::new(
            ended
                .why
                .unwrap_or_else(|| "the targets do not build".into()),
        ));
    }
    Ok(build.join(host).join("release"))
}

fn host() -> Result<String, Error> {
    let version = exec::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Error::new("rustc -vV names no host"))
}

/// Runs one target; answers with the number of inputs tried.
fn smoke(programs: &Path, build: &Path, target: &str) -> Result<u64, Error> {
    // New inputs go to the first folder, so that the committed corpus stays as it is.
    let found = build.join("corpus").join(target);
    let artifacts = build.join("artifacts").join(target);
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder)
            .map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
    }
    let corpus = workspace::root().join("fuzz/corpus").join(target);
    if !corpus.is_dir() {
        return Err(Error::new(format!("no corpus at fuzz/corpus/{target}")));
    }
    let mut command = Command::new(programs.join(target));
    command.arg(format!("-max_total_time={SECONDS}"));
    command.args([
        "-timeout=5",
        "-rss_limit_mb=512",
        "-print_final_stats=1",
        "-verbosity=0",
    ]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(&found).arg(&corpus);
    let output = command
        .output()
        .map_err(|error| Error::new(format!("{error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let tail: Vec<&str> = said.lines().rev().take(40).collect();
        println!("fuzz {target}:");
        tail.iter().rev().for_each(|line| println!("  {line}"));
        return Err(Error::new(format!(
            "a fault; the input is under {}",
            artifacts.display()
        )));
    }
    let inputs = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    inputs
        .and_then(|count| count.trim().parse().ok())
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::new("it tried no input"))
}

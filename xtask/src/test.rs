//! `cargo xtask test`: all phases run even when one fails, then one table says what happened. What a phase runs is in
//! `phases`, the fuzz targets in `fuzz`, Miri in `miri`, where the tests of VirtualBox run in `virtualbox`, what the tests reported in `report`, the table in `table`.

mod fuzz;
mod miri;
mod phases;
mod report;
mod table;
mod virtualbox;

use std::time::Duration;

use crate::exec::{self, Error};
use crate::setup::{self, Found};
use crate::workspace;

pub(crate) use phases::Phase;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A skip is a failure (on Linux, where everything can be installed).
    #[arg(long)]
    strict: bool,
    /// Kills, fault points and drawn cases in full, and Miri: for hours rather than minutes.
    #[arg(long)]
    slow: bool,
    /// Only these phases.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Phase>,
}

/// What came of one phase.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) phase: Phase,
    pub(crate) took: Duration,
    pub(crate) passed: u64,
    /// One line for each thing that failed.
    pub(crate) failures: Vec<String>,
    /// One line, with its reason, for each thing that could not run.
    pub(crate) skips: Vec<String>,
}

impl Outcome {
    fn new(phase: Phase) -> Self {
        let took = Duration::ZERO;
        Self {
            phase,
            took,
            passed: 0,
            failures: Vec::new(),
            skips: Vec::new(),
        }
    }
}

/// What all phases share.
struct Context {
    found: Found,
    report: report::File,
    skips: Skips,
    extent: Extent,
}

/// How much of what could be tried is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What a change can wait for.
    Usual,
    /// Everything.
    Full,
}

/// What a skip does to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skips {
    Reported,
    Failures,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let found = setup::for_tests()?;
    found.print();
    let strict = args.strict && cfg!(target_os = "linux");
    let skips = if strict {
        Skips::Failures
    } else {
        Skips::Reported
    };
    let context = Context {
        found,
        report: report::File::create()?,
        skips,
        extent: match args.slow {
            true => Extent::Full,
            false => Extent::Usual,
        },
    };
    let mut outcomes = Vec::new();
    for phase in Phase::ALL {
        let asked = match args.only.is_empty() {
            true => phase.is_part_of(context.extent),
            false => args.only.contains(&phase),
        };
        if asked {
            println!("\n== {phase}");
            outcomes.push(phases::run(phase, &context));
        }
    }
    let readings = context.report.read()?;
    for outcome in &mut outcomes {
        let of_phase = readings
            .iter()
            .filter(|one| one.phase == outcome.phase.to_string());
        outcome
            .skips
            .extend(of_phase.filter_map(report::Reading::skipped));
    }
    let failed = table::print(&outcomes, &readings, skips);
    if failed {
        Err(Error::new("a phase failed"))
    } else {
        Ok(())
    }
}

/// Rewrites what golden tests compare with: they write instead when `STRATAVM_BLESS` is set.
pub(crate) fn bless() -> Result<(), Error> {
    let golden = Phase::Golden.targets(&workspace::test_targets()?);
    if golden.is_empty() {
        return Err(Error::new("no test target is named golden*"));
    }
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.args(golden.iter().flat_map(|target| ["--test", target.as_str()]));
    rewrite(command)
}

/// Rewrites the committed JSON Schemas, by every test that has `schema` in its name.
pub(crate) fn schema() -> Result<(), Error> {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--", "schema"]);
    rewrite(command)
}

fn rewrite(mut command: std::process::Command) -> Result<(), Error> {
    command
        .env("STRATAVM_BLESS", "1")
        .env("INSTA_UPDATE", "always");
    let ended = exec::pass_through(&mut command, Duration::from_secs(1800))?;
    if !ended.ok {
        return Err(Error::new("not everything could be rewritten"));
    }
    println!("rewritten; read the diff before you commit it");
    Ok(())
}

//! `cargo xtask bench`: the library beside the programs that people would use instead, on a RAM disk and on a disk, and
//! its peak memory. Writes the table of `docs/benchmarks.md`; what is measured is in the modules below.

mod add;
mod begin;
mod create;
mod data;
mod disk;
mod machine;
mod many;
mod measure;
mod memory;
mod operations;
mod place;
mod report;

use std::path::PathBuf;
use std::process::Command;

use crate::exec::Error;
use crate::workspace;
use clap::ValueEnum as _;
use place::Place;
use report::Report;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder on a disk, for what is measured with every flush; the build folder if it is not given.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Prints the table and leaves docs/benchmarks.md alone.
    #[arg(long)]
    dry_run: bool,
    /// Measures one part alone, and prints it.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measures the peak memory of one operation in this process: `OPERATION=FOLDER`.
    #[arg(long, hide = true)]
    memory: Option<String>,
}

/// What is measured, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Add,
    Create,
    Operations,
    Memory,
    Start,
    Many,
    Disk,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Add,
        Self::Create,
        Self::Operations,
        Self::Memory,
        Self::Start,
        Self::Many,
        Self::Disk,
    ];

    fn measure(self, place: &Place, report: &mut Report) -> Result<(), Error> {
        match self {
            Self::Add => add::measure(place, report),
            Self::Create => create::measure(place, report),
            Self::Operations => operations::measure(place, report),
            Self::Memory => memory::measure(place, report),
            Self::Start => begin::measure(place, report),
            Self::Many => many::measure(place, report),
            Self::Disk => disk::measure(place, report),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if cfg!(debug_assertions) {
        return run_released(args);
    }
    if let Some(what) = &args.memory {
        return memory::child(what);
    }
    let folder = args.folder.clone().unwrap_or_else(workspace::target);
    let places = [Place::ram()?, Place::disk(&folder)?];
    let mut report = Report::default();
    for part in Part::ALL {
        if args.only.is_some_and(|only| only != part) {
            continue;
        }
        for place in &places {
            part.measure(place, &mut report)?;
        }
    }
    let page = report.page(&places)?;
    print!("{page}");
    if !args.dry_run && args.only.is_none() {
        let path = workspace::root().join("docs/benchmarks.md");
        std::fs::write(&path, page)
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// The same task built with optimisation: debug builds say nothing about speed.
fn run_released(args: &Args) -> Result<(), Error> {
    let mut command: Command = workspace::cargo();
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    command.arg("bench");
    if let Some(folder) = &args.folder {
        command.arg("--folder").arg(folder);
    }
    if args.dry_run {
        command.arg("--dry-run");
    }
    if let Some(part) = args.only.and_then(|part| part.to_possible_value()) {
        command.arg("--only").arg(part.get_name());
    }
    if let Some(what) = &args.memory {
        command.arg("--memory").arg(what);
    }
    let status = command
        .status()
        .map_err(|error| Error::new(format!("cannot run cargo: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new("the benchmark did not come to its end"))
    }
}

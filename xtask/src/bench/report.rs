//! The rows that were measured, and the page that they make.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::measure::{RUNS, ratio, show};
use super::place::Place;
use crate::exec::{Error, output};
use crate::workspace;

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// One line of the table.
pub(crate) struct Row {
    what: String,
    place: String,
    ours: String,
    peer: String,
    ratio: String,
    limit: String,
    met: Met,
}

/// Whether a limit was kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Yes,
    No,
}

impl Row {
    fn cells(&self) -> [&str; 7] {
        let kept = match self.met {
            Met::Yes => "yes",
            Met::No => "**no**",
        };
        let Self {
            what,
            place,
            ours,
            peer,
            ratio,
            limit,
            ..
        } = self;
        [what, place, ours, peer, ratio, limit, kept]
    }

    /// A time beside a peer's: at most `limit` times as long.
    pub(crate) fn ratio(
        what: &str,
        place: &Place,
        ours: Duration,
        peer: &str,
        time: Duration,
        limit: f64,
    ) -> Self {
        let found = ratio(ours, time);
        let shown = |ratio: f64| match ratio {
            small if small < 0.2 => format!("1/{:.0}", 1.0 / small),
            other => format!("{other:.2}"),
        };
        Self {
            what: what.to_owned(),
            place: place.name().to_owned(),
            ours: show(ours),
            peer: format!("{peer}: {}", show(time)),
            ratio: shown(found),
            limit: format!("≤ {}", shown(limit)),
            met: met(found <= limit),
        }
    }

    /// A time of its own: at most `limit`.
    pub(crate) fn time(what: &str, place: &Place, ours: Duration, limit: Duration) -> Self {
        Self {
            what: what.to_owned(),
            place: place.name().to_owned(),
            ours: show(ours),
            peer: String::new(),
            ratio: String::new(),
            limit: format!("≤ {}", show(limit)),
            met: met(ours <= limit),
        }
    }

    /// An amount of bytes: at most `limit`.
    pub(crate) fn bytes(what: &str, place: &Place, ours: u64, limit: u64) -> Self {
        let shown = |bytes: u64| match bytes {
            small if small < 1 << 20 => format!("{} KiB", small.div_ceil(1 << 10)),
            other => format!("{:.1} MiB", other as f64 / f64::from(1 << 20)),
        };
        Self {
            what: what.to_owned(),
            place: place.name().to_owned(),
            ours: shown(ours),
            peer: String::new(),
            ratio: String::new(),
            limit: format!("≤ {}", shown(limit)),
            met: met(ours <= limit),
        }
    }
}

fn met(kept: bool) -> Met {
    if kept { Met::Yes } else { Met::No }
}

impl Report {
    pub(crate) fn push(&mut self, row: Row) {
        println!("bench: {}", row.cells().join(" | "));
        self.rows.push(row);
    }

    /// The whole of `docs/benchmarks.md`.
    pub(crate) fn page(&self, places: &[Place]) -> Result<String, Error> {
        let mut page = format!(
            "# Benchmarks\n\n\
             Written by `cargo xtask bench`; do not edit (the notes below the table are `benchmarks-notes.md`). Release \
             build, best of {RUNS} runs, ours and the peers in turn.\n\n"
        );
        for line in machine(places)? {
            page.push_str(&format!("* {line}\n"));
        }
        page.push_str("\n| what | where | ours | beside | ratio | limit | kept |\n");
        page.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for row in &self.rows {
            page.push_str(&format!("| {} |\n", row.cells().join(" | ")));
        }
        let notes = workspace::root().join("docs/benchmarks-notes.md");
        if let Ok(notes) = fs::read_to_string(notes) {
            page.push('\n');
            page.push_str(&notes);
        }
        Ok(page)
    }
}

/// What the figures were taken on.
fn machine(places: &[Place]) -> Result<Vec<String>, Error> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gib = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse::<f64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let first_line = |command: &mut Command| -> Result<String, Error> {
        Ok(output(command)?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())
    };
    let mut lines = vec![
        format!(
            "{} ({cores} cores), {:.0} GiB of memory",
            field(&read("/proc/cpuinfo"), "model name"),
            gib.unwrap_or_default() / f64::from(1 << 20)
        ),
        format!("kernel {}", read("/proc/sys/kernel/osrelease").trim()),
        format!(
            "{}, {}",
            first_line(Command::new("qemu-img").arg("--version"))?,
            first_line(Command::new("cp").arg("--version"))?
        ),
    ];
    lines.extend(places.iter().map(Place::describe));
    Ok(lines)
}

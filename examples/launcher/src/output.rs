//! How answers and errors leave the program: text for people, or one JSON value.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

/// How the program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines for people.
    Text,
    /// One JSON value on stdout.
    Json,
}

/// What a command answers.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For people.
    pub(crate) text: String,
    /// For programs; each command's schema is committed.
    pub(crate) json: Value,
    /// Whether the command did what was asked.
    pub(crate) outcome: Outcome,
}

/// The exit status of a command that did not fail by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Status 0.
    Done,
    /// Status 1: the answer says why.
    Failed,
}

impl Answer {
    /// A command that did what was asked.
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
            outcome: Outcome::Done,
        }
    }
}

/// Prints an answer.
pub(crate) fn answer(answer: &Answer, form: Form) -> ExitCode {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice, not an error.
    let _ = match form {
        Form::Json => writeln!(out, "{}", answer.json),
        Form::Text if answer.text.is_empty() => Ok(()),
        Form::Text => writeln!(out, "{}", answer.text.trim_end_matches('\n')),
    };
    match answer.outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::FAILURE,
    }
}

/// Prints an error: what and where, its causes, the next step.
pub(crate) fn error(error: &stratavm::Error, form: Form) -> ExitCode {
    let causes = causes(error);
    if form == Form::Json {
        let value = json!({"error": {
            "kind": error.kind().as_str(),
            "message": error.to_string(),
            "causes": causes,
            "next": error.next_step(),
        }});
        let _ = writeln!(std::io::stdout().lock(), "{value}");
    }
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "error: {error}");
    for cause in causes {
        let _ = writeln!(err, "  caused by: {cause}");
    }
    if let Some(next) = error.next_step() {
        let _ = writeln!(err, "  next: {next}");
    }
    ExitCode::FAILURE
}

fn causes(error: &stratavm::Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

/// Lines of a table, columns padded to their widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..0x10_0000 => format!("{:.1} KiB", count as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", count as f64 / 1_073_741_824.0),
    }
}

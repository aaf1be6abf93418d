//! How answers and errors leave the program: text for people, or one JSON value.

use std::error::Error as _;
use std::io::{BufWriter, StdoutLock, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use serde_json::{Value, json};
use stratavm::ErrorKind;

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
    outcome: Outcome,
}

/// The exit status of a command that did not fail by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
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

    /// The same answer of a command that did what was asked only if this holds.
    pub(crate) fn done_if(mut self, holds: bool) -> Self {
        self.outcome = if holds {
            Outcome::Done
        } else {
            Outcome::Failed
        };
        self
    }
}

/// A list that is printed item by item, for answers that do not fit into memory: lines for people,
/// or one JSON array. Nothing may fail once it was begun.
pub(crate) struct List {
    out: BufWriter<StdoutLock<'static>>,
    form: Form,
    items: u64,
}

impl List {
    /// Begins the list; `head` stands above the lines.
    pub(crate) fn new(form: Form, head: &str) -> Self {
        let mut out = BufWriter::new(std::io::stdout().lock());
        // A closed pipe is the reader's choice, not an error; the first item notices it.
        let _ = match form {
            Form::Json => write!(out, "["),
            Form::Text => write!(out, "{head}"),
        };
        Self {
            out,
            form,
            items: 0,
        }
    }

    /// Prints an item, as a line or as a value. Breaks when nobody reads on.
    pub(crate) fn item(
        &mut self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> ControlFlow<()> {
        let written = match self.form {
            Form::Text => write!(self.out, "\n{}", visible(&text())),
            Form::Json if self.items == 0 => write!(self.out, "\n {}", plain(&json())),
            Form::Json => write!(self.out, ",\n {}", plain(&json())),
        };
        self.items += 1;
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Ends the list: the answer of a command that has printed it.
    pub(crate) fn end(mut self) -> Answer {
        let _ = match self.form {
            Form::Json => writeln!(self.out, "\n]"),
            Form::Text => writeln!(self.out),
        };
        let _ = self.out.flush();
        Answer::new("", Value::Null)
    }
}

/// Prints an answer.
pub(crate) fn answer(answer: &Answer, form: Form) -> ExitCode {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice, not an error.
    let _ = match form {
        Form::Json if answer.json.is_null() => Ok(()),
        Form::Json => writeln!(out, "{}", plain(&answer.json)),
        Form::Text if answer.text.is_empty() => Ok(()),
        Form::Text => writeln!(out, "{}", visible(answer.text.trim_end_matches('\n'))),
    };
    match answer.outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::FAILURE,
    }
}

/// Prints an error: what and where, its causes, the next step.
pub(crate) fn error(error: &stratavm::Error, form: Form) -> ExitCode {
    let causes = causes(error);
    let next = error.next_step().unwrap_or(usual_step(error.kind()));
    if form == Form::Json {
        let value = json!({"error": {
            "kind": error.kind().as_str(),
            "message": error.to_string(),
            "causes": causes,
            "next": next,
        }});
        let _ = writeln!(std::io::stdout().lock(), "{}", plain(&value));
    }
    let mut text = format!("error: {}\n", line(error));
    for cause in causes {
        text.push_str("  caused by: ");
        // A cause may be a list: one fault of a spec on each line.
        text.push_str(&cause.replace('\n', "\n             "));
        text.push('\n');
    }
    text.push_str(&format!("  next: {}\n", line(next)));
    let _ = std::io::stderr()
        .lock()
        .write_all(visible(&text).as_bytes());
    ExitCode::FAILURE
}

/// What usually helps, for errors that know nothing better.
fn usual_step(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "correct it and try again; `stratavm COMMAND --help` shows examples",
        ErrorKind::NotFound => "check the path or name",
        ErrorKind::Exists => "choose another name, or remove what is there",
        ErrorKind::Busy => "stop what uses it, then try again",
        ErrorKind::Unsupported => "change what was asked for; `stratavm doctor` shows what works",
        ErrorKind::NotDriven => "translate the spec, and start it with the product itself",
        ErrorKind::Unavailable => "install it; `stratavm doctor` shows what was found",
        ErrorKind::Product => "read what the product said; STRATAVM_LOG=debug shows more",
        ErrorKind::Malformed | ErrorKind::Mismatch => {
            "put the file back as it was, from a copy or from where it came"
        }
        ErrorKind::FromTheFuture => "use a newer version of stratavm",
        ErrorKind::NoSpace => "make room on the volume, or use a smaller disk, then try again",
        ErrorKind::PermissionDenied => "see to it that you may write there, then try again",
        ErrorKind::Cancelled => "give the command again",
        ErrorKind::Timeout => "try again with more time",
        _ => "try again; STRATAVM_LOG=debug shows more",
    }
}

/// Text that cannot drive a terminal: whatever a guest, a product or a file put into it, control
/// characters but line ends and tabs are shown as escapes, and so is what turns the line around.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A JSON value in one line that is harmless on a terminal too: the same value, written otherwise.
fn plain(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    // The writer has escaped what is below a blank; the rest can only stand in strings.
    for c in text.chars() {
        if hidden(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// What drives a terminal, or turns a line around.
fn hidden(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A path or a text of somebody else, in one line.
pub(crate) fn line(text: impl ToString) -> String {
    stratavm::machine::escape(&text.to_string())
}

pub(crate) fn causes(error: &stratavm::Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

/// Lines of a table, columns padded to their widest cell. A cell never breaks its line.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(self::line).collect())
        .collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
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

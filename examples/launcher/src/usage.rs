//! Command lines that cannot be carried out: wrong usage, and values that are not valid.
//!
//! An unknown option is wrong usage: status 2, in words on stderr, since nobody can know what was
//! meant. A value that breaks a rule, such as a name with a slash, is an error like any other.

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use stratavm::Error;

use crate::output::{self, Form};

/// Says why the command line is refused; `--help` and `--version` end up here as well.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::ValueValidation {
        let json = std::env::args_os().any(|argument| argument == "--json");
        let form = if json { Form::Json } else { Form::Text };
        return output::error(&invalid(error), form);
    }
    // A closed pipe is the reader's choice, not an error.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The value that breaks a rule, and the rule.
fn invalid(error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let value = text(ContextKind::InvalidValue);
    let shown: String = value.chars().take(80).collect();
    let dots = if shown.len() < value.len() { "..." } else { "" };
    let argument = text(ContextKind::InvalidArg);
    let what = Error::invalid(format!("{argument}: {shown:?}{dots} is not valid"))
        .next("`stratavm COMMAND --help` shows what the command takes");
    match error.source() {
        Some(rule) => what.caused_by(rule.to_string()),
        None => what,
    }
}

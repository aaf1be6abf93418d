//! `stratavm`: a launcher for layered machines, and the example program of the library.
//!
//! Here is only how a command's answer or error leaves the program; the commands are in
//! [`commands`], their arguments in [`cli`].

mod cli;
mod commands;
mod context;
mod interrupt;
mod output;
mod progress;
mod sys;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::refuse(&error),
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("STRATAVM_LOG"))
        .with_writer(std::io::stderr)
        .try_init();
    let form = cli.form();
    match commands::run(cli) {
        Ok(answer) => output::answer(&answer, form),
        Err(error) => output::error(&error, form),
    }
}

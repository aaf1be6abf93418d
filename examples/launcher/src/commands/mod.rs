//! The commands, one module for each group.

mod detach;
mod disk;
mod doctor;
mod golden;
mod history;
mod image;
mod layer;
mod machine;
mod revision;
mod run;
mod store;
mod translate;

use clap::CommandFactory as _;
use stratavm::Result;
use stratavm::machine::Pin;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::output::Answer;

/// Runs the command of `cli`.
pub(crate) fn run(cli: Cli) -> Result<Answer> {
    let context = Context::new(&cli);
    match cli.command {
        Command::Doctor => doctor::doctor(&context),
        Command::Translate(args) => translate::translate(&context, &args),
        Command::Image(command) => image::image(&context, &command),
        Command::Create(args) => machine::create(&context, &args),
        Command::List => machine::list(&context),
        Command::Status(args) => machine::status(&context, &args.name),
        Command::Delete(args) => machine::delete(&context, &args),
        Command::Start(args) => run::start(&context, &args, None),
        Command::Supervise(args) => detach::supervise(&context, &args),
        Command::Stop(args) => run::stop(&context, &args),
        Command::Pause(args) => run::pause(&context, &args.name),
        Command::Resume(args) => run::resume(&context, &args.name),
        Command::Suspend(args) => run::suspend(&context, &args.name),
        Command::Console(args) => run::console(&context, &args.name),
        Command::Layers(args) => history::layers(&context, &args),
        Command::History(args) => history::history(&context, &args),
        Command::Snapshot(args) => layer::snapshot(&context, &args),
        Command::Label(args) => revision::label(&context, &args),
        Command::Pin(args) => revision::pin(&context, &args, Pin::Pinned),
        Command::Unpin(args) => revision::pin(&context, &args, Pin::Unpinned),
        Command::Point(command) => revision::point(&context, &command),
        Command::Retention(args) => revision::retention(&context, &args),
        Command::Rollback(args) => layer::rollback(&context, &args),
        Command::Update(args) => layer::update(&context, &args),
        Command::Golden(command) => golden::golden(&context, &command),
        Command::Publish(args) => golden::publish(&context, &args),
        Command::Add(args) => layer::add(&context, &args),
        Command::Remove(args) => layer::remove(&context, &args),
        Command::Rejuvenate(args) => layer::rejuvenate(&context, &args.name),
        Command::Undo(args) => layer::undo(&context, &args.name),
        Command::Adopt(args) => machine::adopt(&context, &args),
        Command::Fsck(args) => store::fsck(&context, &args),
        Command::Prune(args) => store::prune(&context, &args),
        Command::Disk(command) => disk::disk(&context, &command),
        Command::Completions(args) => Ok(completions(args.shell)),
    }
}

fn completions(shell: clap_complete::Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stratavm", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let json = serde_json::json!({"shell": shell.to_string(), "script": script});
    Answer::new(script, json)
}

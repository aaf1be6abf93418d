//! `cargo xtask`: the project's own tasks. Command line only; each task lives in a module of its own.

mod bench;
mod bindings;
mod demo;
mod exec;
mod rig;
mod setup;
mod specs;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The project's own tasks",
    disable_version_flag = true
)]
enum Task {
    /// Runs every check: fmt, scripts, clippy, docs, unit, doctests, golden, conformance, interop,
    /// virtualbox, storm, fuzz smoke; with --slow Miri.
    Test(test::Args),
    /// Makes a Linux guest from Debian packages and shows each promise by its own boots.
    Demo(demo::Args),
    /// Measures the library beside other programs and writes docs/benchmarks.md.
    Bench(bench::Args),
    /// Installs what the checks need and nothing else.
    Setup,
    /// Builds a product to test against in a root folder of its own, or runs a command in it.
    Rig(rig::Args),
    /// Copies the committed specs with the images that they name, to be translated by hand.
    Specs(specs::Args),
    /// Rewrites the golden files from what the library makes now; look at the diff before you commit.
    Bless,
    /// Rewrites the committed bindings to VirtualBox's C interface from their header; needs libclang.
    Bindings,
    /// Rewrites the committed JSON Schemas, by every test that has `schema` in its name.
    Schema,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test(args) => test::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Setup => setup::for_tests().map(|found| found.print()),
        Task::Rig(args) => return answer(rig::run(&args)),
        Task::Specs(args) => specs::run(&args),
        Task::Bless => test::bless(),
        Task::Bindings => bindings::write(),
        Task::Schema => test::schema(),
    };
    answer(done.map(|()| ExitCode::SUCCESS))
}

fn answer(done: Result<ExitCode, exec::Error>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

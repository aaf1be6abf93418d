//! `cargo xtask rig`: real products in root folders of their own, for tests on machines that do not have them. What a
//! rig holds and how it is built is in `virtualbox`; how a program is run inside one, in `enter`.

mod enter;
mod virtualbox;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::exec::Error;

pub(crate) use virtualbox::{PACKAGES, Rig};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    which: Which,
}

#[derive(clap::Subcommand)]
enum Which {
    /// VirtualBox from Debian sid below target/rigs, built once, with QEMU beside it; as root, on Linux, x86_64.
    ///
    /// Without a command: builds it and prints its versions. A command runs inside, in this folder, with the project,
    /// the build folder and the folder of temporary files at their own places:
    ///
    ///     cargo xtask rig virtualbox -- /usr/lib/virtualbox/VBoxManage -q list hostinfo
    ///
    /// Delete target/rigs to have it built anew from what Debian has now.
    #[command(verbatim_doc_comment)]
    Virtualbox(Inside),
    /// What runs in the name spaces that `virtualbox` makes; not for people.
    #[command(hide = true)]
    Entered(enter::Args),
}

#[derive(clap::Args)]
struct Inside {
    /// Fails if the command leaves a process of the product behind; what it leaves is ended in any case.
    #[arg(long)]
    tidy: bool,
    /// The command and its arguments.
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.which {
        Which::Virtualbox(inside) => {
            let rig = Rig::ready()?;
            if inside.command.is_empty() {
                println!("{}\n{}", rig.root().display(), rig.versions()?);
                return Ok(ExitCode::SUCCESS);
            }
            let left = match inside.tidy {
                true => enter::Leftovers::Fail,
                false => enter::Leftovers::End,
            };
            Err(enter::become_command(rig.root(), left, &inside.command))
        }
        Which::Entered(args) => enter::entered(args),
    }
}

//! Running a program in a rig: in mount and process name spaces of its own, so that whatever ends it, nothing stays
//! mounted and nothing stays running. `unshare` makes the name spaces, this program is the first process in them: it
//! mounts, starts the command with `chroot`, and collects whatever the command's processes leave.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::exec::{self, Error};
use crate::workspace;

/// Where Debian has its programs; the caller's folders are not in the rig.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(clap::Args)]
pub(super) struct Args {
    root: PathBuf,
    #[arg(long, value_enum)]
    leftovers: Leftovers,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// What is done when the command has ended and processes of the product have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Leftovers {
    /// They are ended.
    End,
    /// They are ended, and the command has failed.
    Fail,
}

impl Leftovers {
    fn word(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Fail => "fail",
        }
    }
}

/// `unshare` with this program in it, which runs `command` inside `root`.
pub(super) fn command(root: &Path, leftovers: Leftovers, command: &[OsString]) -> Command {
    let mut unshare = namespaces();
    unshare.arg(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    unshare.args(["rig", "entered", "--leftovers", leftovers.word()]);
    unshare.arg(root).arg("--").args(command);
    unshare
}

/// `unshare` as far as the program that it is to run.
pub(super) fn namespaces() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--"]);
    unshare.env("LC_ALL", "C");
    unshare
}

/// Goes on as `command` inside `root`; comes back only with the reason why that cannot be.
#[cfg(unix)]
pub(super) fn become_command(root: &Path, leftovers: Leftovers, inside: &[OsString]) -> Error {
    use std::os::unix::process::CommandExt;

    let error = command(root, leftovers, inside).exec();
    Error::new(format!(
        "cannot run unshare: {error}; install util-linux and run as root"
    ))
}

/// Rigs are for Linux.
#[cfg(not(unix))]
pub(super) fn become_command(_: &Path, _: Leftovers, _: &[OsString]) -> Error {
    Error::new("rigs are for Linux; install the product itself")
}

/// The first process in the name spaces: mounts, runs the command, answers as it does.
pub(super) fn entered(args: &Args) -> Result<ExitCode, Error> {
    if std::process::id() != 1 {
        return Err(Error::new("`rig entered` is for `cargo xtask rig` alone"));
    }
    let current = env::current_dir()
        .map_err(|error| Error::new(format!("the folder that this runs in: {error}")))?;
    // What a command leaves in its home goes with it; the project may lie below there.
    mount("tmpfs", &args.root.join("root"))?;
    for folder in shared(&current) {
        bind(&args.root, &folder)?;
    }
    bind(&args.root, Path::new("/dev"))?;
    let proc = args.root.join("proc");
    mount("proc", &proc)?;
    let mut chroot = Command::new("chroot");
    chroot.arg(&args.root).arg("/usr/bin/env");
    chroot.arg("--chdir").arg(&current).args(&args.command);
    chroot.env("PATH", PATH).env("HOME", "/root");
    let code = first_process::run(&mut chroot)?;
    let left = products(&proc);
    if left.is_empty() || args.leftovers == Leftovers::End {
        return Ok(ExitCode::from(code));
    }
    let left = left.join(", ");
    Err(Error::new(format!("the command left running: {left}")))
}

/// The folders that are at the same place inside and outside, none below another: temporary files, the project, its
/// build, and where the caller is.
fn shared(current: &Path) -> Vec<PathBuf> {
    let folders = [
        env::temp_dir(),
        workspace::root(),
        workspace::target(),
        current.to_owned(),
    ];
    let mut folders: Vec<PathBuf> = folders
        .into_iter()
        .filter(|folder| folder.is_absolute() && folder.parent().is_some())
        .collect();
    folders.sort();
    folders.dedup_by(|below, above| below.starts_with(above));
    folders
}

/// Makes a folder of the host visible at its own place inside `root`.
fn bind(root: &Path, folder: &Path) -> Result<(), Error> {
    let inside = root.join(folder.strip_prefix("/").unwrap_or(folder));
    let place = fs::create_dir_all(&inside)
        .and_then(|()| inside.canonicalize())
        .map_err(|error| Error::new(format!("{}: {error}", inside.display())))?;
    // A link inside the root, such as /var/lock, would lead out of it.
    if !place.starts_with(root) {
        return Err(Error::new(format!(
            "{} cannot be had in the rig: a link leads from there to {}",
            folder.display(),
            place.display()
        )));
    }
    let mut mount = Command::new("mount");
    exec::output(mount.arg("--rbind").arg(folder).arg(&place)).map(drop)
}

/// Mounts a file system that has no device.
fn mount(kind: &str, place: &Path) -> Result<(), Error> {
    let mut mount = Command::new("mount");
    exec::output(mount.args(["-t", kind, kind]).arg(place)).map(drop)
}

/// The product's processes that live, by the process table at `proc`.
fn products(proc: &Path) -> Vec<String> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| product(&stat))
        .collect()
}

/// Name and number of a process if it is the product's and lives: `pid (name) state ...`.
fn product(stat: &str) -> Option<String> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, state) = rest.rsplit_once(") ")?;
    let lives = !state.starts_with(['Z', 'X']);
    (lives && name.starts_with("VBox")).then(|| format!("{name} ({pid})"))
}

#[cfg(unix)]
mod first_process {
    //! What the first process of a name space owes the others: their ends are collected by nobody else.

    use std::process::Command;

    use rustix::process::{WaitOptions, wait};

    use crate::exec::Error;

    /// Runs a command to its end, and collects all others that end meanwhile. The answer is the command's exit status,
    /// 128 more than the signal if one ended it.
    pub(super) fn run(command: &mut Command) -> Result<u8, Error> {
        let failed =
            |error: &dyn std::fmt::Display| Error::new(format!("cannot run chroot: {error}"));
        let child = command.spawn().map_err(|error| failed(&error))?;
        loop {
            let Some((pid, status)) = wait(WaitOptions::empty()).map_err(|error| failed(&error))?
            else {
                continue;
            };
            if u32::try_from(pid.as_raw_nonzero().get()) == Ok(child.id()) {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                let code = status.exit_status().or(signal).unwrap_or(255);
                return Ok(u8::try_from(code).unwrap_or(255));
            }
        }
    }
}

#[cfg(not(unix))]
mod first_process {
    //! Rigs are for Linux.

    use std::process::Command;

    use crate::exec::Error;

    pub(super) fn run(_: &mut Command) -> Result<u8, Error> {
        Err(Error::new("rigs are for Linux"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_below_shared_ones_are_not_bound_twice() {
        let folders = shared(&workspace::root().join("disk"));
        assert!(folders.iter().any(|one| workspace::root().starts_with(one)));
        assert!(!folders.contains(&workspace::root().join("disk")));
    }

    #[test]
    fn processes_of_the_product_are_told_from_others_and_from_dead_ones() {
        assert_eq!(
            product("12 (VBoxSVC) S 1 12").as_deref(),
            Some("VBoxSVC (12)")
        );
        assert_eq!(product("13 (VBoxHeadless) Z 1"), None);
        assert_eq!(product("14 (a ) VBox) R 1"), None);
    }
}

//! `demo --crash`: what a user lives through when things go wrong, with the launcher's own words printed as they come.
//! The guest counts in user data for as long as it runs and says each number once it is on its disk; after every
//! mishap it has to find that number again. Unix only.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::launcher::{Launcher, show, text};
use super::machine::{Bench, Machine};
use super::promises::{Goods, Promise};
use super::task::{Kept, Task};
use super::terminal::Terminal;
use super::tool::{At, Tool};
use crate::exec::Error;

/// How long a guest may take to come up and count on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often something that has to come is looked for.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) const PROMISES: &[Promise] = &[
    Promise {
        name: "started-detached-and-the-terminal-closed",
        show: terminal_closed,
    },
    Promise {
        name: "supervisor-killed",
        show: supervisor_killed,
    },
    Promise {
        name: "qemu-killed",
        show: product_killed,
    },
    Promise {
        name: "supervisor-and-qemu-killed-at-once",
        show: both_killed,
    },
    Promise {
        name: "store-moved-to-another-folder",
        show: store_moved,
    },
    Promise {
        name: "machine-copied-by-hand",
        show: machine_copied,
    },
    Promise {
        name: "machine-folder-renamed-by-hand",
        show: machine_renamed,
    },
];

fn terminal_closed(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = counting(bench, goods, "terminal")?;
    let args = ["start", machine.name(), "--product", "qemu"];
    let terminal = Terminal::run(&machine.launcher().command_line(&args))?;
    let (done, printed) = terminal.close_after(PATIENCE)?;
    show(&args, &printed);
    if !done {
        return Err(Error::new("it was not started"));
    }
    let then = kept(&machine, 1)?;
    let later = kept(&machine, then + 3)?; // it goes on without its terminal
    expect_state(&machine, "running")?;
    said(&machine, &["stop", "--force"], "switched off")?;
    find_again(&mut machine, later)
}

fn supervisor_killed(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = counting(bench, goods, "supervisor")?;
    let last = started(&machine)?;
    let [supervisor, product] = processes(&machine)?;
    kill(&[supervisor])?;
    gone(product)?;
    after_a_kill(&mut machine, last)
}

fn product_killed(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = counting(bench, goods, "product")?;
    let last = started(&machine)?;
    let [supervisor, product] = processes(&machine)?;
    kill(&[product])?;
    gone(supervisor)?;
    after_a_kill(&mut machine, last)
}

fn both_killed(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = counting(bench, goods, "both")?;
    let last = started(&machine)?;
    let both = processes(&machine)?;
    kill(&both)?;
    gone(both[0])?;
    gone(both[1])?;
    after_a_kill(&mut machine, last)
}

fn store_moved(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let machine = counting(bench, goods, "moved")?;
    let last = started(&machine)?;
    let both = processes(&machine)?;
    kill(&both)?; // moved with the traces of a run that nobody ended
    gone(both[0])?;
    gone(both[1])?;
    let name = machine.name().to_owned();
    let here = bench.launcher.home().to_owned();
    let there = here.with_file_name("store moved to another place");
    super::cache::remove(&there)?;
    fs::rename(&here, &there).at(here.display())?;
    println!("  the store's folder is now called {:?}", file_name(&there));
    bench.launcher = bench.launcher.at_home(there.clone());
    let shown = move_on(bench, &name, last);
    bench.launcher = bench.launcher.at_home(here.clone());
    fs::rename(&there, &here).at(there.display())?;
    shown
}

fn move_on(bench: &mut Bench, name: &str, last: u64) -> Result<(), Error> {
    let mut machine = bench.machine(name);
    said(&machine, &["status"], "off")?;
    find_again(&mut machine, last)
}

fn machine_copied(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = counting(bench, goods, "original")?;
    let last = started(&machine)?;
    said(&machine, &["stop", "--force"], "switched off")?;
    off(&machine)?;
    let copy = machine.folder().with_file_name("copy");
    Tool::named("cp")?
        .arg("-a")
        .arg(machine.folder())
        .arg(&copy)
        .run()?;
    println!("  cp -a machines/original machines/copy");
    refused(machine.launcher(), &["start", "copy"], "adopt")?;
    find_again(&mut machine, last)?; // the original is none the worse
    done(machine.launcher(), &["adopt", "copy", "--new-id"], "copy")?;
    find_again(&mut machine, last)?;
    let mut copied = bench.machine("copy");
    find_again(&mut copied, last)
}

fn machine_renamed(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let machine = counting(bench, goods, "oldname")?;
    let last = started(&machine)?;
    said(&machine, &["stop", "--force"], "switched off")?;
    off(&machine)?;
    let folder = machine.folder();
    let renamed = folder.with_file_name("newname");
    fs::rename(&folder, &renamed).at(folder.display())?;
    println!("  mv machines/oldname machines/newname");
    refused(machine.launcher(), &["start", "newname"], "adopt")?;
    done(
        machine.launcher(),
        &["adopt", "newname", "--moved"],
        "newname",
    )?;
    let mut machine = bench.machine("newname");
    find_again(&mut machine, last)
}

/// A machine whose guest counts in user data for as long as it runs.
fn counting<'a>(bench: &'a mut Bench, goods: &Goods, name: &str) -> Result<Machine<'a>, Error> {
    let mut machine = goods.machine(bench, name)?;
    machine.give(&Task::new().keep_counting(Kept::Home))?;
    Ok(machine)
}

/// Starts it as a user does; the number that the guest has reached then.
fn started(machine: &Machine<'_>) -> Result<u64, Error> {
    said(machine, &["start", "--product", "qemu"], "runs on qemu")?;
    kept(machine, 3)
}

/// Waits until the guest has said that number `least` is on its disk; the newest that it has said.
fn kept(machine: &Machine<'_>, least: u64) -> Result<u64, Error> {
    let begun = Instant::now();
    loop {
        let console = machine.console();
        let numbers = console
            .lines()
            .filter_map(|line| line.trim().strip_prefix("demo: kept "));
        let newest = numbers
            .filter_map(|number| number.trim().parse().ok())
            .next_back();
        if let Some(newest) = newest.filter(|newest| *newest >= least) {
            return Ok(newest);
        }
        if begun.elapsed() > PATIENCE {
            return Err(super::machine::with_console(
                format!("the guest does not come to count {least}"),
                &console,
            ));
        }
        thread::sleep(LOOK);
    }
}

/// What a user does after something was killed: look, look closer, start again.
fn after_a_kill(machine: &mut Machine<'_>, last: u64) -> Result<(), Error> {
    said(machine, &["status"], "next: stratavm start")?;
    said(machine, &["layers"], "home")?;
    find_again(machine, last)
}

/// Starts the machine once more: the guest has to find what it had kept, on an os that is clean.
fn find_again(machine: &mut Machine<'_>, last: u64) -> Result<(), Error> {
    let task = Task::new().expect_clean_os().expect_at_least("home", last);
    machine.boot(&task.expect("degraded", "no"))?;
    println!("  the guest found its user data: {last} or more");
    Ok(())
}

/// Runs `VERB <machine> OPTIONS`, which has to be done and to print `word`.
fn said(machine: &Machine<'_>, command: &[&str], word: &str) -> Result<(), Error> {
    let mut args = vec![command[0], machine.name()];
    args.extend(&command[1..]);
    done(machine.launcher(), &args, word)
}

fn done(launcher: &Launcher, args: &[&str], word: &str) -> Result<(), Error> {
    match launcher.say(args)? {
        (true, printed) if printed.contains(word) => Ok(()),
        (true, _) => Err(Error::new(format!("{args:?} does not say {word:?}"))),
        (false, _) => Err(Error::new(format!("{args:?} was not done"))),
    }
}

/// Runs a command that has to be refused, saying what to do next.
fn refused(launcher: &Launcher, args: &[&str], next: &str) -> Result<(), Error> {
    match launcher.say(args)? {
        (false, printed) if printed.contains(next) => Ok(()),
        (false, _) => Err(Error::new(format!(
            "the refusal of {args:?} does not lead to {next:?}"
        ))),
        (true, _) => Err(Error::new(format!("{args:?} was not refused"))),
    }
}

fn expect_state(machine: &Machine<'_>, state: &str) -> Result<(), Error> {
    said(machine, &["status"], state)
}

/// Waits until the machine is off.
fn off(machine: &Machine<'_>) -> Result<(), Error> {
    until("the machine does not end", || {
        let status = machine.launcher().run(&["status", machine.name()])?;
        Ok(text(&status, "state") == "off")
    })
}

/// The processes of the supervisor and of QEMU, from the record that they are found by again.
fn processes(machine: &Machine<'_>) -> Result<[u64; 2], Error> {
    let path = machine.folder().join("machine.json");
    let record = fs::read(&path).at(path.display())?;
    let record: Value = serde_json::from_slice(&record)
        .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    let pid = |pointer: &str| {
        let found = record.pointer(pointer).and_then(Value::as_u64);
        found.ok_or_else(|| Error::new(format!("no {pointer} in {}", path.display())))
    };
    Ok([
        pid("/run/supervisor/pid")?,
        pid("/run/endpoint/process/pid")?,
    ])
}

fn kill(processes: &[u64]) -> Result<(), Error> {
    let ids = processes.iter().map(u64::to_string);
    println!("  kill -9 {}", ids.clone().collect::<Vec<_>>().join(" "));
    Tool::named("kill")?.arg("-9").args(ids).run().map(drop)
}

/// Waits until a process has ended; one that nobody has reaped yet has.
fn gone(process: u64) -> Result<(), Error> {
    let stat = PathBuf::from(format!("/proc/{process}/stat"));
    until(&format!("process {process} does not end"), || {
        let state = fs::read_to_string(&stat).unwrap_or_default();
        let state = state.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        Ok(state.is_none_or(|state| state.starts_with('Z')))
    })
}

fn until(what: &str, mut reached: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let begun = Instant::now();
    while !reached()? {
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(what));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

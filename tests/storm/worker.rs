//! A process of the storm: draws operations, logs each before and after, and works until it is killed.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stratavm::ErrorKind;
use stratavm::testkit::fault::{Fault, Faults};

use crate::crowd;
use crate::sim::draw::Draw;
use crate::sim::history::Event;
use crate::sim::model::{Answer, Op};
use crate::sim::world::World;

/// What tells a process that it is a worker.
const VARIABLE: &str = "STRATAVM_STORM_WORKER";

/// The machines.
pub(crate) const MACHINES: [&str; 3] = ["alpha", "beta", "gamma"];

/// What one worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The world's folder; the log lies beside the store in it.
    pub(crate) folder: PathBuf,
    pub(crate) worker: u32,
    pub(crate) seed: u64,
    pub(crate) task: Task,
    /// It kills itself in this operation, or in one after it.
    pub(crate) die: Option<(u64, Death)>,
}

/// When a worker kills itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Death {
    /// So many microseconds after the operation began.
    After(u64),
    /// When so many changes were made to files of the store.
    AtPoint(usize),
}

/// What a worker takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    /// All operations on all machines, until it is killed.
    Storm,
    /// A few on one machine, to the end.
    Crowd,
}

impl Task {
    /// Operations after which a worker that nobody killed ends.
    fn most(self) -> u64 {
        match self {
            Self::Storm => 400,
            Self::Crowd => 100_000,
        }
    }

    fn draw(self, draw: &mut Draw, worker: u32) -> (String, Op) {
        let machine = MACHINES[draw.below(3) as usize];
        match self {
            Self::Storm => (machine.to_owned(), draw.op()),
            Self::Crowd => (MACHINES[0].to_owned(), crowd::op(draw, worker)),
        }
    }
}

impl Orders {
    pub(crate) fn of_environment() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// This program, with these orders.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(VARIABLE, serde_json::to_string(self).unwrap());
        command
    }
}

/// The log of a world.
pub(crate) fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// Appends one event, durably, in one write: a line is there or not.
pub(crate) fn log(file: &File, event: &Event) {
    let line = format!("{}\n", serde_json::to_string(event).unwrap());
    let mut file = file;
    file.write_all(line.as_bytes()).unwrap();
    file.sync_data().unwrap();
}

pub(crate) fn open_log(folder: &Path) -> File {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options.open(log_path(folder)).unwrap()
}

pub(crate) fn run(orders: &Orders) {
    let mut world = World::at(&orders.folder);
    world.pace = Duration::from_micros(100);
    let file = open_log(&orders.folder);
    let mut draw = Draw::new(orders.seed);
    let worker = orders.worker;
    let mut done = 0;
    let mut faults = None;
    for n in 0..orders.task.most() {
        let (machine, op) = orders.task.draw(&mut draw, worker);
        match orders.die.filter(|(at, _)| *at == n) {
            None => {}
            Some((_, Death::After(time))) => {
                log(&file, &Event::Doomed { worker });
                die_in(Duration::from_micros(time));
            }
            Some((_, Death::AtPoint(at))) => {
                log(&file, &Event::Doomed { worker });
                let home = world.store.home();
                faults = Some(Faults::below(home, Fault::Kill { at }).unwrap());
            }
        }
        // What is freed may be any machine's.
        let machines = match op {
            Op::Prune => MACHINES.map(ToOwned::to_owned).to_vec(),
            _ => vec![machine],
        };
        for machine in machines.clone() {
            let op = op.clone();
            log(
                &file,
                &Event::Intent {
                    worker,
                    n,
                    machine,
                    op,
                },
            );
        }
        let answer = match world.try_perform(&machines[0], &op) {
            Ok(answer) => answer,
            Err(error) => {
                if op == Op::Prune {
                    let what = format!("prune: {error}");
                    log(&file, &Event::Violation { worker, what });
                }
                Answer::refused(error.kind())
            }
        };
        let busy = answer == Answer::refused(ErrorKind::Busy);
        done += u64::from(!busy);
        for machine in machines {
            let answer = answer.clone();
            log(
                &file,
                &Event::Answer {
                    worker,
                    n,
                    machine,
                    answer,
                },
            );
        }
        for what in world.violations.lock().unwrap().drain(..) {
            log(&file, &Event::Violation { worker, what });
        }
        if orders.task == Task::Crowd {
            if done == crowd::EACH {
                break;
            }
            if busy {
                std::thread::sleep(Duration::from_micros(500 + draw.below(4000)));
            }
        }
    }
    drop(faults);
}

/// Sends this process signal 9 after a while, on another thread.
fn die_in(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
    });
}

//! Rounds of the storm: two workers are started and killed, then the log is read and every machine compared with what
//! the log allows it to be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use crate::report;
use crate::sim::draw::Draw;
use crate::sim::history::{Event, History};
use crate::sim::model::{Model, Op, Tally};
use crate::sim::world::World;
use crate::sim::{self, check};
use crate::worker::{self, Death, MACHINES, Orders, Task};

/// Rounds after which the world is made anew, so that chains do not grow for ever.
const ROUNDS_OF_A_WORLD: u64 = 25;

/// Changes of files after which a worker kills itself, at most: a run with a reboot makes about two hundred.
const POINTS: u64 = 250;

/// What each machine may be.
type Known = BTreeMap<&'static str, Vec<Model>>;

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    /// Kills at drawn moments.
    timed: u64,
    /// Kills at drawn changes of files.
    at_points: u64,
    answered: u64,
    cut: u64,
    done: BTreeMap<String, u64>,
    tally: Tally,
}

impl Counts {
    fn report(&self, seed: u64) {
        let counted = |what: &str, count| report::counted("storm", what, count, Some(seed));
        counted("processes killed with -9", self.timed + self.at_points);
        counted("of these at a drawn moment", self.timed);
        counted("of these at a drawn change of a file", self.at_points);
        counted("operations answered before a kill", self.answered);
        counted("operations cut short by a kill", self.cut);
        for (kind, count) in &self.done {
            counted(&format!("operations done: {kind}"), *count);
        }
        for (what, count) in self.tally.named() {
            counted(what, count);
            assert!(count > 0, "{what}: {count}");
        }
        assert!(self.timed > 0 && self.at_points > 0, "{self:?}");
    }
}

pub(crate) fn storm() {
    let seed = report::seed(4);
    let rounds = if report::slow() { 1000 } else { 100 };
    println!(
        "seed {seed}; STRATAVM_SEED={seed} repeats the draws, the moments of the kills excepted"
    );
    let mut draw = Draw::new(seed);
    let mut world = new_world();
    let mut counts = Counts::default();
    for round in 0..rounds {
        if round > 0 && round % ROUNDS_OF_A_WORLD == 0 {
            world = new_world();
        }
        let (folder, known) = &mut world;
        let log = worker::log_path(folder.path());
        let _ = fs::remove_file(&log);
        one_round(folder.path(), &mut draw, &mut counts);
        let text = fs::read_to_string(&log).unwrap();
        if let Err(why) = judge(folder.path(), &text, known, &mut counts) {
            let (folder, _) = world;
            let kept = folder.keep();
            panic!(
                "seed {seed}, round {round}: {why}\nthe store and the log are in {}",
                kept.display()
            );
        }
    }
    counts.report(seed);
    // A storm in which nothing was hit says nothing.
    let cut = counts.cut;
    assert!(
        cut > rounds / 4,
        "{cut} operations were cut short in {rounds} rounds"
    );
}

fn new_world() -> (tempfile::TempDir, Known) {
    let folder = sim::folder();
    World::at(folder.path());
    let known = MACHINES.map(|machine| (machine, vec![Model::default()]));
    (folder, known.into())
}

/// Starts two workers and kills them, if they are still at work.
fn one_round(folder: &std::path::Path, draw: &mut Draw, counts: &mut Counts) {
    let die = match draw.below(4) {
        0 => None,
        1 => Some((draw.below(20), Death::After(draw.below(3000)))),
        _ => {
            let at = draw.below(POINTS) as usize;
            Some((draw.below(20), Death::AtPoint(at)))
        }
    };
    let orders = [0, 1].map(|worker| Orders {
        folder: folder.to_owned(),
        worker,
        seed: draw.number(),
        task: Task::Storm,
        die: die.filter(|_| worker == 0),
    });
    let start =
        |orders: &Orders| -> Child { orders.command().stdin(Stdio::null()).spawn().unwrap() };
    let mut children = orders.each_ref().map(start);
    let file = worker::open_log(folder);
    match die {
        Some((_, how)) => {
            let died = u64::from(!children[0].wait().unwrap().success());
            match how {
                Death::After(_) => counts.timed += died,
                Death::AtPoint(_) => counts.at_points += died,
            }
        }
        None => {
            std::thread::sleep(Duration::from_micros(8000 + draw.below(60_000)));
            counts.timed += kill(&file, &mut children[0], 0);
        }
    }
    // The other one goes on for a moment with what the first has left behind.
    std::thread::sleep(Duration::from_micros(draw.below(8000)));
    counts.timed += kill(&file, &mut children[1], 1);
}

fn kill(log: &File, child: &mut Child, worker: u32) -> u64 {
    worker::log(log, &Event::Doomed { worker });
    child.kill().unwrap();
    u64::from(!child.wait().unwrap().success())
}

/// Compares the machines with what the log allows.
fn judge(
    folder: &std::path::Path,
    log: &str,
    known: &mut Known,
    counts: &mut Counts,
) -> Result<(), String> {
    for model in known.values_mut().flatten() {
        model.tally = Tally::default();
    }
    let mut histories: BTreeMap<&'static str, History> = known
        .iter()
        .map(|(machine, models)| (*machine, History::new(models.clone())))
        .collect();
    let mut begun = BTreeMap::new();
    // A line that was cut off was never written.
    let lines = log
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    for line in lines {
        let event: Event =
            serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        match event {
            Event::Intent {
                worker,
                n,
                machine,
                op,
            } => {
                let history = histories
                    .get_mut(machine.as_str())
                    .ok_or("an unknown machine")?;
                history.intent((worker, n), op.clone());
                begun.insert((worker, n), op);
            }
            Event::Answer {
                worker,
                n,
                machine,
                answer,
            } => {
                if let Some(op) = begun.remove(&(worker, n)) {
                    counts.answered += 1;
                    for kind in answer.done(&op) {
                        *counts.done.entry(kind).or_default() += 1;
                    }
                }
                let history = histories
                    .get_mut(machine.as_str())
                    .ok_or("an unknown machine")?;
                let taken = history.answer((worker, n), &answer);
                taken.map_err(|why| format!("{machine}: {why}"))?;
            }
            Event::Doomed { worker } => histories.values_mut().for_each(|h| h.doomed(worker)),
            Event::Violation { what, .. } => return Err(what),
        }
    }
    counts.cut += begun.len() as u64;
    let world = World::at(folder);
    for (machine, history) in histories {
        let mut may_be = history.ends();
        let mut why_not = Vec::new();
        may_be.retain(|model| match check::machine(&world, machine, model) {
            Ok(()) => true,
            Err(why) => {
                why_not.push(why);
                false
            }
        });
        if may_be.is_empty() {
            why_not.sort();
            why_not.dedup();
            let some = why_not[..why_not.len().min(8)].join("\n  ");
            return Err(format!("{machine} is none of what it may be:\n  {some}"));
        }
        counts.tally += may_be[0].tally;
        known.insert(machine, may_be);
    }
    pruned(&world, known)
}

/// Lets two hours pass for the temporary files in the store's own folders: prune leaves younger ones alone, as the number
/// in their names may be that of a process of another host.
fn age(world: &World) {
    let home = world.store.home();
    let then = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    for folder in [home.to_owned(), home.join("machines/.ids")] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(".stratavm-tmp-")
            {
                let file = File::options().write(true).open(entry.path()).unwrap();
                file.set_modified(then).unwrap();
            }
        }
    }
}

/// One prune leaves nothing behind, and every machine what it is.
fn pruned(world: &World, known: &mut Known) -> Result<(), String> {
    age(world);
    world.prune().map_err(|error| format!("prune: {error}"))?;
    for model in known.values_mut().flatten() {
        model.apply(&Op::Prune);
    }
    world.sound()?;
    let mut left = check::litter(world);
    for (machine, may_be) in known {
        left.extend(check::leftovers(world, machine));
        for model in may_be {
            let same = check::machine(world, machine, model);
            same.map_err(|why| format!("{machine} after a prune: {why}"))?;
        }
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("a prune leaves behind {left:?}")),
    }
}

//! Rounds of the storm: two workers are started and killed, then the log is read and every machine compared with what
//! the log allows it to be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::report;
use crate::sim::draw::Draw;
use crate::sim::history::{Event, History};
use crate::sim::model::Model;
use crate::sim::world::World;
use crate::sim::{self, check};
use crate::worker::{self, MACHINES, Orders, Task};

/// Rounds after which the world is made anew, so that chains do not grow for ever.
const ROUNDS_OF_A_WORLD: u64 = 25;

/// What each machine may be.
type Known = BTreeMap<&'static str, Vec<Model>>;

pub(crate) fn storm() {
    let seed = report::seed(4);
    let rounds = if report::slow() { 1000 } else { 100 };
    println!(
        "seed {seed}; STRATAVM_SEED={seed} repeats the draws, the moments of the kills excepted"
    );
    let mut draw = Draw::new(seed);
    let mut world = new_world();
    let (mut kills, mut answered, mut cut) = (0, 0, 0);
    for round in 0..rounds {
        if round > 0 && round % ROUNDS_OF_A_WORLD == 0 {
            world = new_world();
        }
        let (folder, known) = &mut world;
        let log = worker::log_path(folder.path());
        let _ = fs::remove_file(&log);
        kills += one_round(folder.path(), &mut draw);
        let text = fs::read_to_string(&log).unwrap();
        match judge(folder.path(), &text, known) {
            Ok(seen) => {
                answered += seen.0;
                cut += seen.1;
            }
            Err(why) => {
                let (folder, _) = world;
                let kept = folder.keep();
                panic!(
                    "seed {seed}, round {round}: {why}\nthe store and the log are in {}",
                    kept.display()
                );
            }
        }
    }
    report::counted("storm", "processes killed with -9", kills, Some(seed));
    report::counted(
        "storm",
        "operations answered before a kill",
        answered,
        Some(seed),
    );
    report::counted("storm", "operations cut short by a kill", cut, Some(seed));
    // A storm in which nothing was hit says nothing.
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

/// Starts two workers and kills them; answers how many were still at work.
fn one_round(folder: &std::path::Path, draw: &mut Draw) -> u64 {
    let by_count = draw.below(2) == 0;
    let orders = [0, 1].map(|worker| Orders {
        folder: folder.to_owned(),
        worker,
        seed: draw.number(),
        task: Task::Storm,
        die: (by_count && worker == 0).then(|| (draw.below(20), draw.below(3000))),
    });
    let start =
        |orders: &Orders| -> Child { orders.command().stdin(Stdio::null()).spawn().unwrap() };
    let mut children = orders.each_ref().map(start);
    let file = worker::open_log(folder);
    let mut kills = 0;
    if by_count {
        kills += u64::from(!children[0].wait().unwrap().success());
    } else {
        std::thread::sleep(Duration::from_micros(8000 + draw.below(60_000)));
        kills += kill(&file, &mut children[0], 0);
    }
    // The other one goes on for a moment with what the first has left behind.
    std::thread::sleep(Duration::from_micros(draw.below(8000)));
    kills + kill(&file, &mut children[1], 1)
}

fn kill(log: &File, child: &mut Child, worker: u32) -> u64 {
    worker::log(log, &Event::Doomed { worker });
    child.kill().unwrap();
    u64::from(!child.wait().unwrap().success())
}

/// Compares the machines with what the log allows; answers how many operations were answered and how many cut short.
fn judge(folder: &std::path::Path, log: &str, known: &mut Known) -> Result<(u64, u64), String> {
    let mut histories: BTreeMap<&'static str, History> = known
        .iter()
        .map(|(machine, models)| (*machine, History::new(models.clone())))
        .collect();
    let (mut begun, mut answered) = (0, 0);
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
                begun += 1;
                let history = histories
                    .get_mut(machine.as_str())
                    .ok_or("an unknown machine")?;
                history.intent((worker, n), op);
            }
            Event::Answer {
                worker,
                n,
                machine,
                answer,
            } => {
                answered += 1;
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
        known.insert(machine, may_be);
    }
    pruned(&world, known)?;
    Ok((answered, begun - answered))
}

/// One prune leaves nothing behind, and every machine what it is.
fn pruned(world: &World, known: &Known) -> Result<(), String> {
    world.prune().map_err(|error| format!("prune: {error}"))?;
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

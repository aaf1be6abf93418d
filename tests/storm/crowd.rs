//! Twenty processes on one machine, and prune among them. Nobody is killed: whatever was answered is there, in an order
//! in which it can have happened, and nothing else is.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use stratavm::machine::layer::LayerState;

use crate::report;
use crate::sim::history::Event;
use crate::sim::model::{Answer, BLOCKS, Op, Write};
use crate::sim::world::World;
use crate::sim::{self, check, draw::Draw, vmdk};
use crate::worker::{self, Orders, Task};

/// The machine that they are all at.
const MACHINE: &str = "alpha";
const CROWD: u32 = 20;
/// Operations that each of them gets done.
pub(crate) const EACH: u64 = 3;

/// What one of them does: snapshots of two layers, and runs whose guest writes to a block of its own.
pub(crate) fn op(draw: &mut Draw, worker: u32) -> Op {
    let layer = ["home", "cache"][draw.below(2) as usize].to_owned();
    match draw.below(2) {
        0 => Op::Snapshot { layer },
        _ => Op::run(vec![vec![Write {
            layer,
            block: u64::from(worker) % BLOCKS as u64,
            pattern: draw.number() >> 8,
        }]]),
    }
}

/// Something that was done: between which lines of the log.
struct Done {
    from: usize,
    to: usize,
    op: Op,
    revision: Option<u64>,
}

pub(crate) fn take_turns() {
    let seed = report::seed(4);
    let folder = sim::folder();
    let world = World::at(folder.path());
    assert_eq!(world.perform(MACHINE, &Op::Create), Answer::PLAIN);
    let mut draw = Draw::new(seed);
    let start = |worker| -> Child {
        let orders = Orders {
            folder: folder.path().to_owned(),
            worker,
            seed: draw.number(),
            task: Task::Crowd,
            die: None,
        };
        orders.command().stdin(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..CROWD).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let log = std::fs::read_to_string(worker::log_path(folder.path())).unwrap();
    let (done, busy) = read(&log);
    let record = world
        .store
        .machine(&MACHINE.parse().unwrap())
        .unwrap()
        .record()
        .unwrap();
    for layer in record
        .layers
        .iter()
        .filter(|layer| layer.name().as_str() != "os")
    {
        let about = |done: &&Done| match &done.op {
            Op::Snapshot { layer: name } => name == layer.name().as_str(),
            _ => false,
        };
        in_order(layer, &done.iter().filter(about).collect::<Vec<_>>());
        explained(&world, layer, &done);
    }
    assert_eq!(
        check::leftovers(&world, MACHINE),
        Vec::<std::path::PathBuf>::new()
    );
    assert!(
        done.len() as u64 == u64::from(CROWD) * EACH && busy > 0,
        "{} done, {busy} busy",
        done.len()
    );
    report::counted(
        "storm",
        "operations of a crowd that were done",
        done.len() as u64,
        Some(seed),
    );
    report::counted(
        "storm",
        "operations of a crowd that found it busy",
        busy,
        Some(seed),
    );
}

/// What was done, and how often somebody was told to wait.
fn read(log: &str) -> (Vec<Done>, u64) {
    let mut begun = BTreeMap::new();
    let (mut done, mut busy) = (Vec::new(), 0);
    for (to, line) in log.lines().enumerate() {
        match serde_json::from_str(line).unwrap() {
            Event::Intent { worker, n, op, .. } => drop(begun.insert((worker, n), (to, op))),
            Event::Answer {
                worker, n, answer, ..
            } => {
                let (from, op) = begun.remove(&(worker, n)).unwrap();
                match answer {
                    Answer::Done { revision, .. } => done.push(Done {
                        from,
                        to,
                        op,
                        revision,
                    }),
                    Answer::Ran(_) | Answer::Staged => done.push(Done {
                        from,
                        to,
                        op,
                        revision: None,
                    }),
                    Answer::Refused(kind) => {
                        assert_eq!(kind, "Busy", "{op:?}");
                        busy += 1;
                    }
                }
            }
            Event::Violation { what, .. } => panic!("{what}"),
            Event::Doomed { .. } => {}
        }
    }
    (done, busy)
}

/// Every snapshot that was answered is a revision, no other is there, and none has a number below that of one that was
/// answered before it began.
fn in_order(layer: &LayerState, done: &[&Done]) {
    let mut numbers: Vec<_> = done.iter().filter_map(|done| done.revision).collect();
    numbers.sort_unstable();
    let found: Vec<_> = layer
        .history
        .revisions
        .iter()
        .skip(1)
        .map(|revision| revision.n)
        .collect();
    assert_eq!(numbers, found, "layer {}", layer.name());
    for revision in layer.history.revisions.iter().skip(1) {
        assert_eq!(revision.parent, Some(revision.n - 1));
    }
    for one in done {
        let early = done
            .iter()
            .find(|other| other.to < one.from && other.revision > one.revision);
        assert!(
            early.is_none(),
            "{:?} was answered {:?} too late",
            one.op,
            one.revision
        );
    }
}

/// What the head holds was written by runs that were answered, and by the last ones.
fn explained(world: &World, layer: &LayerState, done: &[Done]) {
    let name = format!("head-{}.vmdk", layer.head.generation);
    let files = world
        .machine_folder(MACHINE)
        .join("layers")
        .join(layer.name().as_str());
    let content = vmdk::content(&files.join(name)).unwrap();
    for (block, found) in (0..).zip(content) {
        let wrote = |done: &&Done| pattern(&done.op, layer.name().as_str(), block);
        let runs: Vec<_> = done.iter().filter(|done| wrote(done).is_some()).collect();
        let Some(run) = runs.iter().find(|done| wrote(done) == Some(found)) else {
            assert!(found == 0 && runs.is_empty(), "block {block} is {found:x}");
            continue;
        };
        let later = runs.iter().find(|other| other.from > run.to);
        assert!(
            later.is_none(),
            "block {block}: a later run's write is lost"
        );
    }
}

fn pattern(op: &Op, layer: &str, block: u64) -> Option<u64> {
    let Op::Run(session) = op else { return None };
    let write = session
        .boots
        .iter()
        .flat_map(|boot| &boot.writes)
        .find(|w| w.layer == layer && w.block == block);
    write.map(|write| write.pattern)
}

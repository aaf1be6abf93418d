//! Drawn operations on a machine beside a model of it in memory. After each one the record, what every revision and
//! head holds, and the bytes of all files that are nobody's head are compared. A failure shrinks to the fewest
//! operations that show it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../common/report.rs"]
mod report;
#[path = "../common/sim/mod.rs"]
mod sim;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sim::check;
use sim::draw::Draw;
use sim::model::{Answer, Model, Op, Tally};
use sim::world::World;

const MACHINE: &str = "desk";
/// Operations of one case.
const STEPS: usize = 30;

/// An operation; shrinking leaves some out, and does not make others of them.
fn op() -> impl Strategy<Value = Op> {
    any::<u64>()
        .no_shrink()
        .prop_map(|seed| Draw::new(seed).op())
}

#[test]
fn every_operation_does_what_the_model_says() {
    let seed = report::seed(4);
    let cases = if report::slow() { 3000 } else { 60 };
    println!("seed {seed}; STRATAVM_SEED={seed} repeats it");
    let config = Config {
        cases,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let folder = sim::folder();
    let steps = prop::collection::vec(op(), STEPS / 3..=STEPS);
    let done = RefCell::new(BTreeMap::new());
    let tally = RefCell::new(Tally::default());
    let ran = TestRunner::new_with_rng(config, rng).run(&steps, |steps| {
        let case = case(&folder.path().join("world"), &steps, &mut done.borrow_mut());
        *tally.borrow_mut() += case.map_err(TestCaseError::fail)?;
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    let counted = |what: &str, count| report::counted("model", what, count, Some(seed));
    counted("drawn cases of operations", cases.into());
    for (kind, count) in done.take() {
        counted(&format!("operations done: {kind}"), count);
    }
    for (what, count) in tally.take().named() {
        counted(what, count);
        assert!(count > 0, "{what}: {count}");
    }
}

/// One case in a store of its own. Counts by kind what was not refused.
fn case(folder: &Path, steps: &[Op], done: &mut BTreeMap<String, u64>) -> Result<Tally, String> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let world = World::at(folder);
    let mut model = Model::default();
    for op in [&Op::Create].into_iter().chain(steps) {
        let answer = step(&world, &mut model, op).map_err(|why| format!("{op:?}: {why}"))?;
        for kind in answer.done(op) {
            *done.entry(kind).or_default() += 1;
        }
    }
    Ok(model.tally)
}

fn step(world: &World, model: &mut Model, op: &Op) -> Result<Answer, String> {
    let layers = world.machine_folder(MACHINE).join("layers");
    let files = check::files(&layers);
    let heads = check::heads(world, MACHINE);
    let before = model.clone();
    let expected = model.apply(op);
    let answer = world.perform(MACHINE, op);
    if answer != expected {
        return Err(format!("answers {answer:?}, not {expected:?}"));
    }
    check::machine(world, MACHINE, model)?;
    let violations = world.violations.lock().map_err(|error| error.to_string())?;
    if let Some(what) = violations.first() {
        return Err(what.clone());
    }
    let leftovers = check::leftovers(world, MACHINE);
    if !leftovers.is_empty() {
        return Err(format!("left behind: {leftovers:?}"));
    }
    let after = check::files(&layers);
    for (path, bytes) in files.iter().filter(|(path, _)| !heads.contains(*path)) {
        if after.get(path).is_some_and(|now| now != bytes) {
            return Err(format!("{} was no head and changed", path.display()));
        }
    }
    unchanged(op, [&before, model], [&files, &after])?;
    Ok(answer)
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The files of layers that the operation is not about are what they were, byte for byte; where retention dropped a
/// revision of one, some may be gone.
fn unchanged(op: &Op, models: [&Model; 2], [before, after]: [&Files; 2]) -> Result<(), String> {
    for (path, bytes) in before {
        let folder = path.parent().and_then(Path::file_name);
        let Some(layer) = folder.and_then(|folder| folder.to_str()) else {
            continue;
        };
        if models[0].touches(op, layer) {
            continue;
        }
        let revisions = models.map(|model| model.layer(layer).map(|l| l.revisions.len()));
        match after.get(path) {
            Some(now) if now == bytes => {}
            None if revisions[1] < revisions[0] => {}
            _ => return Err(format!("{} changed", path.display())),
        }
    }
    Ok(())
}

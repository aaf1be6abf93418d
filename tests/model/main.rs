//! Drawn layer operations on a machine beside a model of it in memory. After each one the record, what every revision
//! and head holds, and the bytes of all files that are nobody's head are compared. A failure shrinks to the fewest
//! operations that show it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../common/report.rs"]
mod report;
#[path = "../common/sim/mod.rs"]
mod sim;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sim::check;
use sim::draw::LAYERS;
use sim::model::{BLOCKS, IMAGES, Kept, Model, Op, Write};
use sim::world::World;

const MACHINE: &str = "desk";
/// Operations of one case.
const STEPS: usize = 25;

fn main_layer() -> impl Strategy<Value = String> {
    // Layers that are always there are drawn more often than those that come and go.
    prop_oneof![3 => 0..3usize, 1 => 3..LAYERS.len()].prop_map(|n| LAYERS[n].to_owned())
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![3 => Just(Kept::Preserve), 1 => Just(Kept::Discard)]
}

fn boot() -> impl Strategy<Value = Vec<Write>> {
    let write = (main_layer(), 0..BLOCKS as u64, 1..u64::from(u32::MAX));
    let write = write.prop_map(|(layer, block, pattern)| Write {
        layer,
        block,
        pattern,
    });
    prop::collection::vec(write, 0..6)
}

fn op() -> impl Strategy<Value = Op> {
    let images = || 0..IMAGES;
    let to = prop_oneof![1 => Just(None), 2 => (1..8u64).prop_map(Some)];
    prop_oneof![
        5 => prop::collection::vec(boot(), 1..3).prop_map(|boots| Op::Run { boots }),
        4 => main_layer().prop_map(|layer| Op::Snapshot { layer }),
        4 => (main_layer(), to, kept()).prop_map(|(layer, to, kept)| Op::Rollback { layer, to, kept }),
        3 => (main_layer(), images(), kept())
            .prop_map(|(layer, image, kept)| Op::Update { layer, image, kept }),
        2 => (main_layer(), images()).prop_map(|(layer, image)| Op::Add { layer, image }),
        2 => (main_layer(), kept()).prop_map(|(layer, kept)| Op::Remove { layer, kept }),
        2 => Just(Op::Rejuvenate),
        1 => prop_oneof![Just(Op::Create), Just(Op::Delete)],
    ]
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
    let steps = prop::collection::vec(op(), 1..=STEPS);
    let done = TestRunner::new_with_rng(config, rng).run(&steps, |steps| {
        case(&folder.path().join("world"), &steps).map_err(TestCaseError::fail)
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    report::counted(
        "model",
        "drawn cases of operations",
        cases.into(),
        Some(seed),
    );
}

/// One case in a store of its own.
fn case(folder: &Path, steps: &[Op]) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let world = World::at(folder);
    let mut model = Model::default();
    for op in [&Op::Create].into_iter().chain(steps) {
        step(&world, &mut model, op).map_err(|why| format!("{op:?}: {why}"))?;
    }
    Ok(())
}

fn step(world: &World, model: &mut Model, op: &Op) -> Result<(), String> {
    let layers = world.machine_folder(MACHINE).join("layers");
    let before = check::files(&layers);
    let heads = check::heads(world, MACHINE);
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
    for (path, bytes) in before.iter().filter(|(path, _)| !heads.contains(*path)) {
        if after.get(path).is_some_and(|now| now != bytes) {
            return Err(format!("{} was no head and changed", path.display()));
        }
    }
    unchanged(op, &before, &after)
}

/// The files of layers that the operation is not about are what they were, byte for byte.
fn unchanged(
    op: &Op,
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), String> {
    let other = |path: &PathBuf| {
        let folder = path.parent().and_then(Path::file_name)?.to_str()?;
        Some(!op.touches(folder))
    };
    for (path, bytes) in before.iter().filter(|(path, _)| other(path) == Some(true)) {
        if after.get(path) != Some(bytes) {
            return Err(format!("{} changed", path.display()));
        }
    }
    Ok(())
}

//! Machines that are created together and share their flushes: each is what creating it alone makes, and after a power
//! cut at any moment each is whole or not there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/report.rs"]
mod report;
#[path = "common/sim/mod.rs"]
mod sim;

use std::path::Path;

use sim::check;
use sim::model::{Model, Op};
use sim::world::World;
use stratavm::machine::{CreateOptions, Machine};
use stratavm::spec::Name;
use stratavm::{Ctx, ErrorKind, Result, VmSpec};
use stratavm_disk::fs::fault::{Fault, Faults, Lost};

const NAMES: [&str; 2] = ["alpha", "beta"];

fn create_all(world: &World, names: &[&str]) -> Result<Vec<Machine>> {
    let spec = |name: &&str| world.spec(&name.parse::<Name>().unwrap());
    let specs: Vec<VmSpec> = names.iter().map(spec).collect();
    let options = CreateOptions::default();
    world
        .store
        .create_all(&specs, Path::new("."), &options, &Ctx::none())
}

fn created() -> Model {
    let mut model = Model::default();
    model.apply(&Op::Create);
    model
}

#[test]
fn each_is_what_creating_it_alone_makes() {
    let folder = sim::folder();
    let world = World::at(folder.path());
    let machines = create_all(&world, &NAMES).unwrap();
    assert_eq!(machines.len(), NAMES.len());
    let mut ids = Vec::new();
    for (machine, name) in machines.iter().zip(NAMES) {
        assert_eq!(machine.name().as_str(), name);
        ids.push(machine.record().unwrap().id);
        assert_eq!(check::machine(&world, name, &created()), Ok(()));
        assert!(check::leftovers(&world, name).is_empty());
        let run = Op::run(vec![Vec::new()]);
        assert_eq!(world.perform(name, &run), created().apply(&run));
    }
    ids.dedup();
    assert_eq!(ids.len(), NAMES.len());
    assert_eq!(world.sound(), Ok(()));
}

#[test]
fn none_is_made_where_one_of_them_cannot_be() {
    let folder = sim::folder();
    let world = World::at(folder.path());
    for (names, kind) in [
        (["alpha", sim::world::KEEPER], ErrorKind::Exists),
        (["alpha", "alpha"], ErrorKind::Busy),
    ] {
        assert_eq!(create_all(&world, &names).unwrap_err().kind(), kind);
        assert_eq!(check::machine(&world, "alpha", &Model::default()), Ok(()));
        assert!(!world.machine_folder("alpha").exists());
        assert_eq!(check::litter(&world), Vec::<std::path::PathBuf>::new());
    }
}

/// Cuts the power at point `at`: whether it came that far.
fn cut(at: usize, lost: Lost) -> bool {
    let folder = sim::folder();
    let world = World::at(folder.path());
    let faults = Faults::below(world.store.home(), Fault::PowerCut { at }).unwrap();
    let done = create_all(&world, &NAMES);
    let struck = faults.struck();
    drop(world);
    faults.crash(lost).unwrap();
    let world = World::at(folder.path());
    for name in NAMES {
        let there = world.machine_folder(name).join("machine.json").exists();
        assert!(
            there || done.is_err(),
            "{name} was created, and is lost: point {at}, {lost:?}"
        );
        let model = if there { created() } else { Model::default() };
        assert_eq!(
            check::machine(&world, name, &model),
            Ok(()),
            "point {at}, {lost:?}"
        );
    }
    world.prune().unwrap();
    // Prune leaves alone what belongs to a process that lives: this one.
    let mine = format!(".stratavm-tmp-{}-", std::process::id());
    let mut litter = check::litter(&world);
    litter.retain(|path| !path.to_string_lossy().contains(&mine));
    assert!(litter.is_empty(), "{litter:?}: point {at}, {lost:?}");
    assert_eq!(world.sound(), Ok(()), "point {at}, {lost:?}");
    struck
}

#[test]
fn a_power_cut_leaves_each_whole_or_not_there() {
    let seed = report::seed(4);
    // Every fourth point, and of each kind of loss other ones; all of them when there is time.
    let step = if report::slow() { 1 } else { 4 };
    let mut points = 0;
    for (first, lost) in [Lost::Unflushed, Lost::Any(seed), Lost::Later(seed)]
        .into_iter()
        .enumerate()
    {
        // The point itself makes another draw.
        let at = |at: usize| match lost {
            Lost::Any(seed) => Lost::Any(seed + at as u64),
            Lost::Later(seed) => Lost::Later(seed + at as u64),
            other => other,
        };
        let steps = (first % step..).step_by(step);
        points += steps.take_while(|point| cut(*point, at(*point))).count() as u64;
    }
    assert!(points > 40, "{points} points");
    report::counted(
        "faults",
        "power cuts while machines are created together",
        points,
        Some(seed),
    );
}

//! What becomes of a machine's state through faults at each change that it makes to a file: saving it, going on from it,
//! dropping it, finding out what became of a run without a supervisor and taking that over; and, in `upgrade`, the first
//! change of a machine that version 1 wrote. The product is `null` in a folder, whose machines outlive their supervisor.
//! Pausing changes no file, and is held to that.
//!
//! A supervisor that is killed is one whose thread unwinds: locks and handles go, nothing is written any more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../common/faulted/mod.rs"]
mod faulted;
#[allow(dead_code, reason = "it judges the tasks of the other test")]
#[path = "../faults/judge.rs"]
mod judge;
#[path = "../common/report.rs"]
mod report;
#[allow(dead_code, reason = "the tasks are those of the other test")]
#[path = "../faults/scene.rs"]
mod scene;
#[path = "../common/sim/mod.rs"]
mod sim;
mod upgrade;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use faulted::{CASE, Case, Product, cases, desk};
use scene::DESK;
use sim::world::World;
use stratavm::hypervisor::{Endpoint, Stop};
use stratavm::machine::record::RunPhase;
use stratavm::machine::{Recovered, RunEvent, RunOptions, RunReport};
use stratavm::testkit::fault::{Fault, Faults};
use stratavm::{Ctx, Hypervisor as _, Result, block_on};
use stratavm_null::Null;

/// The null product of a world, with its machines.
const NULL: Product = Product {
    files: |world| {
        let folder = world.machine_folder(DESK).join("products/null");
        vec![folder.join(format!("{DESK}.null.state"))]
    },
    power_cut: |world| plug(world).unwrap(),
    state: |world| {
        let found = recover(world).map_err(|error| judge::chain(&error))?;
        Ok(match found {
            Recovered::Off => "off".to_owned(),
            Recovered::Suspended => "suspended".to_owned(),
            Recovered::Unattended(_) => "it runs".to_owned(),
            other => format!("{other:?}"),
        })
    },
    run: |world| to_its_end(world).map(drop),
};

const ON_NULL: Case = Case {
    product: &NULL,
    ..CASE
};

const CASES: &[Case] = &[
    Case {
        name: "a run that is suspended",
        act: |world| suspended(world).map(drop),
        layers: &["os", "apps"],
        ..ON_NULL
    },
    Case {
        name: "suspend without a supervisor",
        prepare: abandoned,
        act: |world| block_on(desk(world).suspend(&null(world), &soon())),
        ..ON_NULL
    },
    Case {
        name: "go on from a saved state",
        prepare: |world| drop(suspended(world).unwrap()),
        act: |world| to_its_end(world).map(drop),
        ..ON_NULL
    },
    Case {
        name: "drop a saved state",
        prepare: |world| drop(suspended(world).unwrap()),
        act: |world| block_on(desk(world).discard_state(&null(world), &soon())),
        ..ON_NULL
    },
    Case {
        name: "recover a run that ended unseen",
        prepare: |world| {
            abandoned(world);
            plug(world).unwrap();
        },
        act: |world| recover(world).map(drop),
        ..ON_NULL
    },
    Case {
        name: "recover a run that was suspended unseen",
        prepare: |world| {
            abandoned(world);
            let endpoint = endpoint(world);
            block_on(null(world).suspend(&endpoint, &soon())).unwrap();
        },
        act: |world| recover(world).map(drop),
        ..ON_NULL
    },
    Case {
        name: "recover a run that was not heard of",
        prepare: unheard,
        act: |world| recover(world).map(drop),
        ..ON_NULL
    },
    Case {
        name: "take over what runs",
        prepare: abandoned,
        act: |world| to_its_end(world).map(drop),
        ..ON_NULL
    },
    Case {
        name: "stop what nobody supervises",
        prepare: abandoned,
        act: |world| block_on(desk(world).stop(&null(world), Stop::PowerOff, &soon())),
        ..ON_NULL
    },
];

fn null(world: &World) -> Null {
    let folder = world.store.home().parent().unwrap().join("product");
    std::fs::create_dir_all(&folder).unwrap();
    Null::in_folder(folder)
}

/// No test waits for it.
fn soon() -> Ctx {
    Ctx::none().with_deadline(Instant::now() + Duration::from_secs(60))
}

/// Where the machine's run is, as the product says without having been asked.
fn endpoint(world: &World) -> Endpoint {
    let null = null(world);
    let resolved = desk(world).resolve(null.product()).unwrap();
    null.endpoint(&resolved).unwrap()
}

/// Ends what the product has in memory of the machine; a state that is saved stays.
fn plug(world: &World) -> Result<()> {
    block_on(null(world).stop(&endpoint(world), Stop::PowerOff, &soon()))
}

fn recover(world: &World) -> Result<Recovered> {
    block_on(desk(world).recover(&null(world), &soon()))
}

/// A run in which `then` is done as soon as the machine is under way.
fn supervised(
    world: &World,
    then: impl Fn(&Null, &Endpoint) + Send + Sync + 'static,
) -> Result<RunReport> {
    let product = null(world);
    let options = RunOptions::default().on_event({
        let product = product.clone();
        move |event| match event {
            RunEvent::Running(at) | RunEvent::Attached(at) | RunEvent::Resumed(at) => {
                then(&product, at);
            }
            _ => {}
        }
    });
    block_on(desk(world).run(Arc::new(product), options, &soon()))
}

/// From whatever it is doing to its power-off.
fn to_its_end(world: &World) -> Result<RunReport> {
    supervised(world, |null, endpoint| {
        block_on(null.stop(endpoint, Stop::PowerOff, &soon())).unwrap();
    })
}

/// A run whose state is saved by the product.
fn suspended(world: &World) -> Result<RunReport> {
    supervised(world, |null, endpoint| {
        block_on(null.suspend(endpoint, &soon())).unwrap();
    })
}

/// A run whose supervisor is killed as soon as it has written down where the machine is.
fn abandoned(world: &World) {
    struct Killed;
    let run = || supervised(world, |_, _| resume_unwind(Box::new(Killed)));
    let ended = catch_unwind(AssertUnwindSafe(run));
    assert!(ended.is_err_and(|why| why.is::<Killed>()));
    let run = desk(world).record().unwrap().run.unwrap();
    assert_eq!(
        (run.phase, run.endpoint),
        (RunPhase::Running, Some(endpoint(world)))
    );
}

/// The same where it was killed a moment earlier.
fn unheard(world: &World) {
    abandoned(world);
    let path = desk(world).folder().join("machine.json");
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["run"].as_object_mut().unwrap().remove("endpoint");
    std::fs::write(path, record.to_string()).unwrap();
}

#[test]
fn pausing_changes_no_file() {
    let scene = scene::Scene::new(&scene::rich());
    let folder = scene.copy();
    let world = World::at(folder.path());
    abandoned(&world);
    let before = judge::files(folder.path());
    let faults = Faults::below(world.store.home(), Fault::None).unwrap();
    let (machine, null) = (desk(&world), null(&world));
    block_on(machine.pause(&null, &soon())).unwrap();
    block_on(machine.resume(&null, &soon())).unwrap();
    let is_change =
        |point: &String| !point.starts_with("lock ") && !point.starts_with("open lock ");
    let changes: Vec<_> = faults.points().into_iter().filter(is_change).collect();
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(judge::files(folder.path()), before);
    to_its_end(&world).unwrap();
}

cases! {
    "points of states", CASES:
    a_suspended_run = 0,
    a_suspension_without_a_supervisor = 1,
    going_on_from_a_saved_state = 2,
    a_dropped_state = 3,
    a_lost_run_that_ended = 4,
    a_lost_run_that_was_suspended = 5,
    a_lost_run_that_was_not_heard_of = 6,
    a_run_taken_over = 7,
    a_stop_without_a_supervisor = 8,
}

//! Points, undo, retention, labels, decisions and staged changes through faults at each change that they make to a file.
//! What a machine is afterwards is compared with what it was and with what it becomes without a fault, by what every
//! revision and kept head holds; `tests/faults` has a model for the operations on layers.
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

use faulted::{CASE, Case, Steps, cases, desk, name, run};
use sim::product::Fake;
use sim::run::Session;
use sim::world::World;
use stratavm::machine::{Kept, Pin, RunEvent, RunOptions, Scope, retention::Retention};
use stratavm::{Ctx, Result, block_on};

const CASES: &[Case] = &[
    Case {
        name: "make a point",
        act: |world| desk(world).create_point(&name("good"), None, &[]).map(drop),
        layers: &["cache", "home"],
        ..CASE
    },
    Case {
        name: "go back to a point",
        prepare: |world| {
            desk(world).create_point(&name("good"), None, &[]).unwrap();
            run(world).unwrap();
            desk(world)
                .update(&name("apps"), &world.images[1], Kept::Preserve)
                .unwrap();
        },
        act: |world| {
            desk(world)
                .rollback_to_point(&name("good"), Kept::Preserve)
                .map(drop)
        },
        layers: &["cache", "home", "os", "apps"],
        ..CASE
    },
    Case {
        name: "undo a rollback",
        prepare: |world| {
            desk(world)
                .rollback(&name("home"), Some(1), Kept::Preserve)
                .unwrap();
            run(world).unwrap();
        },
        act: |world| desk(world).undo().map(drop),
        layers: &["home"],
        ..CASE
    },
    Case {
        name: "undo a removal",
        prepare: |world| {
            drop(
                desk(world)
                    .remove_layer(&name("home"), Kept::Preserve)
                    .unwrap(),
            )
        },
        act: |world| desk(world).undo().map(drop),
        layers: &["home"],
        ..CASE
    },
    Case {
        name: "take a layer back",
        prepare: |world| {
            desk(world)
                .remove_layer(&name("home"), Kept::Preserve)
                .unwrap();
            desk(world).rejuvenate().unwrap();
        },
        act: |world| desk(world).take_back_layer(&name("home")).map(drop),
        layers: &["home"],
        ..CASE
    },
    Case {
        name: "snapshot with retention",
        prepare: |world| {
            let machine = desk(world);
            // A revision beside the others, which nothing lies on: its delta goes with it.
            machine
                .rollback(&name("home"), Some(1), Kept::Preserve)
                .unwrap();
            run(world).unwrap();
            for _ in 0..2 {
                machine.snapshot(&name("home"), None).unwrap();
                run(world).unwrap();
            }
            let rule = Retention::new(Some(1), None);
            machine.set_retention(&Scope::Machine, Some(rule)).unwrap();
        },
        act: |world| desk(world).snapshot(&name("home"), None).map(drop),
        // The rule is the machine's: it drops revisions of the others too.
        layers: &["os", "cache", "apps", "home"],
        ..CASE
    },
    Case {
        name: "label and pin",
        act: |world| {
            desk(world).set_label(&name("home"), 1, Some("first".to_owned()))?;
            desk(world).set_pin(&name("home"), 1, Pin::Pinned)
        },
        steps: Steps::Two,
        ..CASE
    },
    Case {
        name: "accept a session",
        act: |world| desk(world).decide(&[name("os")], &[]).map(drop),
        layers: &["os"],
        ..CASE
    },
    Case {
        name: "start with staged changes",
        prepare: |world| staged(world).unwrap(),
        act: run,
        layers: &["os", "apps", "home", "cache"],
        ..CASE
    },
];

/// A run in which changes are asked for.
fn staged(world: &World) -> Result<()> {
    let session = Session::new(vec![Vec::new()]);
    let product = std::sync::Arc::new(Fake::new(&session, world.pace, &world.violations));
    let (machine, image) = (desk(world), world.images[1]);
    let options = RunOptions::default().on_event(move |event| {
        if matches!(event, RunEvent::Running(_)) {
            let machine = machine.clone();
            machine
                .update(&name("apps"), &image, Kept::Preserve)
                .unwrap();
            machine
                .rollback(&name("home"), Some(1), Kept::Preserve)
                .unwrap();
        }
    });
    block_on(desk(world).run(product, options, &Ctx::none()))?;
    assert_eq!(desk(world).record()?.next.len(), 2);
    Ok(())
}

cases! {
    "points of history and staging", CASES:
    a_point = 0,
    back_to_a_point = 1,
    undo_of_a_rollback = 2,
    undo_of_a_removal = 3,
    a_layer_taken_back = 4,
    a_snapshot_with_retention = 5,
    label_and_pin = 6,
    an_accepted_session = 7,
    a_start_with_staged_changes = 8,
}

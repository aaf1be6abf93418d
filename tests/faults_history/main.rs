//! Points, undo, retention, labels, decisions and staged changes through faults at each change that they make to a file.
//! What a machine is afterwards is compared with what it was and with what it becomes without a fault, by what every
//! revision and kept head holds; `tests/faults` has a model for the operations on layers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../common/report.rs"]
mod report;
#[allow(dead_code, reason = "the tasks are those of the other test")]
#[path = "../faults/scene.rs"]
mod scene;
#[path = "../common/sim/mod.rs"]
mod sim;

use std::fmt::Write as _;
use std::path::Path;

use scene::{DESK, Scene};
use sim::draw::Draw;
use sim::model::{Answer, Op, Role};
use sim::product::Fake;
use sim::vmdk;
use sim::world::World;
use stratavm::machine::revision::History;
use stratavm::machine::{
    Kept, Machine, Pin, RunEvent, RunOptions, Scope, layer::LayerState, retention::Retention,
};
use stratavm::spec::Name;
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm::{Ctx, Result, block_on};

/// Something that is done under faults, after what is done before.
struct Case {
    name: &'static str,
    prepare: fn(&World),
    act: fn(&World) -> Result<()>,
}

const CASES: &[Case] = &[
    Case {
        name: "make a point",
        prepare: |_| {},
        act: |world| desk(world).create_point(&name("good"), None, &[]).map(drop),
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
    },
    Case {
        name: "label and pin",
        prepare: |_| {},
        act: |world| {
            desk(world).set_label(&name("home"), 1, Some("first".to_owned()))?;
            desk(world).set_pin(&name("home"), 1, Pin::Pinned)
        },
    },
    Case {
        name: "accept a session",
        prepare: |_| {},
        act: |world| desk(world).decide(&[name("os")], &[]).map(drop),
    },
    Case {
        name: "start with staged changes",
        prepare: |world| staged(world).unwrap(),
        act: run,
    },
];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn desk(world: &World) -> Machine {
    world.store.machine(&name(DESK)).unwrap()
}

/// A start whose guest writes nothing.
fn run(world: &World) -> Result<()> {
    let op = Op::Run {
        boots: vec![Vec::new()],
    };
    world.try_perform(DESK, &op).map(drop)
}

/// A run in which changes are asked for.
fn staged(world: &World) -> Result<()> {
    let product = std::sync::Arc::new(Fake::new(&[Vec::new()], world.pace, &world.violations));
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

/// What people have of the machine, in words.
fn view(world: &World) -> std::result::Result<String, String> {
    let machine = world
        .store
        .machine(&name(DESK))
        .map_err(|e| e.to_string())?;
    let record = machine.record().map_err(|e| e.to_string())?;
    let folder = machine.folder().join("layers");
    let mut text = String::new();
    for layer in &record.layers {
        let files = folder.join(layer.name().as_str());
        let _ = writeln!(text, "layer {} at {}", layer.name(), layer.history.current);
        history(&files, &layer.history, &mut text)?;
        if Role::of(layer.name().as_str()).keeps() {
            let _ = writeln!(text, " head {}", head(&files, layer)?);
        }
    }
    for layer in &record.removed {
        let _ = writeln!(text, "removed {}", layer.name());
        history(
            &folder.join(layer.name().as_str()),
            &layer.history,
            &mut text,
        )?;
    }
    for point in &record.points {
        let layers: Vec<_> = point
            .layers
            .iter()
            .map(|l| (l.layer.as_str(), l.revision))
            .collect();
        let _ = writeln!(text, "point {} {layers:?}", point.name);
    }
    let _ = writeln!(text, "{} staged, {:?}", record.next.len(), record.retention);
    Ok(text)
}

fn history(files: &Path, history: &History, text: &mut String) -> std::result::Result<(), String> {
    for found in &history.revisions {
        let content = match history.top(found.n) {
            Some(delta) => content(files, delta.generation)?,
            None => "its image".to_owned(),
        };
        let about = (
            found.parent,
            found.reason.as_str(),
            &found.label,
            found.pinned,
        );
        let _ = writeln!(text, " {} {about:?} on {}: {content}", found.n, found.image);
    }
    Ok(())
}

fn head(files: &Path, layer: &LayerState) -> std::result::Result<String, String> {
    content(files, layer.head.generation)
}

fn content(files: &Path, generation: u64) -> std::result::Result<String, String> {
    let content = vmdk::content(&files.join(format!("head-{generation}.vmdk")))?;
    Ok(format!("{content:x?}"))
}

/// One fault: an error, or a power cut with what is lost by it.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Error(Failure, Then),
    Cut(Lost),
}

fn blows(draw: &mut Draw) -> Vec<Blow> {
    let mut all: Vec<_> = Failure::ALL
        .into_iter()
        .flat_map(|failure| {
            [Then::Recovers, Then::StaysBroken].map(|then| Blow::Error(failure, then))
        })
        .collect();
    let one = all.swap_remove(draw.below(all.len() as u64) as usize);
    let cuts = [
        Lost::Nothing,
        Lost::Unflushed,
        Lost::Later(draw.number()),
        Lost::Any(draw.number()),
    ];
    match report::slow() {
        true => all
            .into_iter()
            .chain([one])
            .chain(cuts.map(Blow::Cut))
            .collect(),
        false => vec![one, Blow::Cut(cuts[draw.below(4) as usize])],
    }
}

fn every_point(case: &Case) {
    let scene = Scene::new(&scene::rich());
    let prepared = || {
        let copy = scene.copy();
        (case.prepare)(&World::at(copy.path()));
        copy
    };
    let folder = prepared();
    let world = World::at(folder.path());
    let before = view(&world).unwrap();
    let faults = Faults::below(&folder.path().join("home"), Fault::None).unwrap();
    (case.act)(&world).unwrap();
    let points = faults.points();
    drop(faults);
    let after = view(&world).unwrap();
    assert!(!points.is_empty());
    let seed = report::seed(11);
    let mut draw = Draw::new(seed);
    let mut trials = 0;
    for at in 0..=points.len() {
        for blow in blows(&mut draw) {
            let folder = prepared();
            if let Err(why) = trial(case, folder.path(), at, blow, [&before, &after]) {
                let point = points.get(at).map_or("the end", String::as_str);
                panic!(
                    "{}: {blow:?} at point {at}, {point}: {why}\nseed {seed}",
                    case.name
                );
            }
            trials += 1;
        }
    }
    println!("{}: {} points, {trials} trials", case.name, points.len());
    report::counted(
        "faults",
        "points of history and staging",
        points.len() as u64,
        None,
    );
    report::counted(
        "faults",
        "faults at points of history and staging",
        trials,
        Some(seed),
    );
}

fn trial(
    case: &Case,
    folder: &Path,
    at: usize,
    blow: Blow,
    [before, after]: [&String; 2],
) -> std::result::Result<(), String> {
    let fault = match blow {
        Blow::Error(failure, then) => Fault::Error { at, failure, then },
        Blow::Cut(_) => Fault::PowerCut { at },
    };
    let world = World::at(folder);
    let faults = Faults::below(&folder.join("home"), fault).unwrap();
    let done = (case.act)(&world);
    match blow {
        Blow::Error(..) => drop(faults),
        Blow::Cut(lost) => faults.crash(lost).unwrap(),
    }
    drop(world);
    let world = World::at(folder);
    let now = view(&world)?;
    let said = done.as_ref().err().map(ToString::to_string);
    match (&done, now == *before, now == *after) {
        (_, _, true) => {}
        // Two notes are two changes: the first may stand alone.
        (Err(_), false, false) if case.name == "label and pin" => {}
        (Err(_), true, false) => {}
        _ => {
            return Err(format!(
                "after {said:?} it is\n{now}\nbefore\n{before}\nafter\n{after}"
            ));
        }
    }
    if now != *after {
        (case.act)(&world).map_err(|error| format!("not again after {said:?}: {error}"))?;
        let now = view(&world)?;
        if now != *after {
            return Err(format!("done again it is\n{now}\nnot\n{after}"));
        }
    }
    let started = Op::Run {
        boots: vec![Vec::new()],
    };
    let answer = world.perform(DESK, &started);
    if answer != Answer::PLAIN {
        return Err(format!("the next start: {answer:?}"));
    }
    world.assert_unviolated();
    world.prune()?;
    world.sound()
}

macro_rules! cases {
    ($($test:ident = $index:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            every_point(&CASES[$index]);
        })*

        #[test]
        fn every_case_has_a_test() {
            assert_eq!(CASES.len(), [$($index),*].len());
        }
    };
}

cases! {
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

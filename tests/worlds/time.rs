//! Clocks that jump back, and process numbers that were given to somebody else.

use stratavm::machine::record::Record;
use stratavm::testkit::clock;

use crate::sim::model::{Kept, Model, Op, Write};
use crate::sim::world::World;
use crate::sim::{self, check};

const MACHINE: &str = "desk";
const YEAR: i64 = 365 * 24 * 3600;

fn run(pattern: u64) -> Op {
    let write = |layer: &str| Write {
        layer: layer.to_owned(),
        block: 3,
        pattern,
    };
    Op::run(vec![vec![write("home"), write("os"), write("cache")]])
}

fn done(world: &World, model: &mut Model, op: &Op) {
    assert_eq!(world.perform(MACHINE, op), model.apply(op), "{op:?}");
    assert_eq!(check::machine(world, MACHINE, model), Ok(()), "{op:?}");
}

fn record(world: &World) -> Record {
    world
        .store
        .machine(&MACHINE.parse().unwrap())
        .unwrap()
        .record()
        .unwrap()
}

#[test]
fn the_order_of_revisions_does_not_follow_the_clock() {
    let folder = sim::folder();
    let world = World::at(folder.path());
    let mut model = Model::default();
    done(&world, &mut model, &Op::Create);
    let layer = || "home".to_owned();
    for (year, pattern) in [(0, 11), (-1, 12), (-30, 13), (2, 14), (-3, 15)] {
        clock::shift(year * YEAR);
        done(&world, &mut model, &run(pattern));
        done(&world, &mut model, &Op::Snapshot { layer: layer() });
        done(
            &world,
            &mut model,
            &Op::Update {
                layer: "os".to_owned(),
                image: 2,
                kept: Kept::Preserve,
            },
        );
        done(
            &world,
            &mut model,
            &Op::Update {
                layer: "os".to_owned(),
                image: 1,
                kept: Kept::Preserve,
            },
        );
    }
    let times: Vec<_> = record(&world).layers[2]
        .history
        .revisions
        .iter()
        .map(|r| r.time)
        .collect();
    assert!(!times.is_sorted(), "the clock did not jump: {times:?}");
    // The parent of the newest one, and the newest clean one: neither is the latest by the clock.
    done(
        &world,
        &mut model,
        &Op::Rollback {
            layer: layer(),
            to: None,
            kept: Kept::Preserve,
        },
    );
    done(&world, &mut model, &run(16));
    done(&world, &mut model, &Op::Rejuvenate);
    clock::shift(0);
}

#[test]
fn a_process_number_that_somebody_else_has_now_keeps_nobody_from_anything() {
    let folder = sim::folder();
    let world = World::at(folder.path());
    let mut model = Model::default();
    done(&world, &mut model, &Op::Create);
    done(&world, &mut model, &run(21));
    // As if the supervisor had been killed, and its number, and its product's, were this process's now.
    let path = world.machine_folder(MACHINE).join("machine.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let this = serde_json::json!({"pid": std::process::id(), "started": 1});
    json["run"] = serde_json::json!({
        "product": "fake", "generation": json["generation"], "heads": [], "plan": "",
        "endpoint": {"product": "fake", "address": "here", "process": this},
        "supervisor": this, "since": "2026-01-01T00:00:00Z", "boots": 1,
    });
    std::fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    assert!(record(&world).run.is_some());
    model = model.torn();
    done(
        &world,
        &mut model,
        &Op::Snapshot {
            layer: "home".to_owned(),
        },
    );
    done(&world, &mut model, &run(22));
    assert!(record(&world).run.is_none());
}

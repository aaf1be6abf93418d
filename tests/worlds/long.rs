//! A machine with ten thousand revisions of one layer.

use serde_json::{Value, json};

use crate::sim;
use crate::sim::model::{Kept, Op, Write};
use crate::sim::world::World;
use crate::sim::{check, model::Model};

const MACHINE: &str = "desk";
const REVISIONS: u64 = 10_000;

/// Every operation works on it and does what the model says. The revisions are put into its record as snapshots of an
/// untouched head would: making them one by one takes a while.
#[test]
fn ten_thousand_revisions_are_none_too_many() {
    let folder = sim::folder();
    let world = World::at(folder.path());
    let mut model = Model::default();
    let layer = || "home".to_owned();
    let snapshot = Op::Snapshot { layer: layer() };
    for op in [&Op::Create, &snapshot] {
        assert_eq!(world.perform(MACHINE, op), model.apply(op));
    }
    let path = world.machine_folder(MACHINE).join("machine.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let home = &mut json["layers"][2];
    let revisions = home["history"]["revisions"].as_array_mut().unwrap();
    let pattern = revisions[1].clone();
    for n in 3..=REVISIONS {
        let mut revision = pattern.clone();
        revision["n"] = json!(n);
        revision["parent"] = json!(n - 1);
        revisions.push(revision);
        model.apply(&snapshot);
    }
    home["history"]["current"] = json!(REVISIONS);
    home["history"]["next-revision"] = json!(REVISIONS + 1);
    std::fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    let write = |pattern| Write {
        layer: layer(),
        block: 5,
        pattern,
    };
    let run = |pattern| Op::run(vec![vec![write(pattern)]]);
    let kept = Kept::Preserve;
    let rest = [
        run(7),
        snapshot.clone(),
        Op::Rollback {
            layer: layer(),
            to: Some(REVISIONS / 2),
            kept,
        },
        run(8),
        Op::Rollback {
            layer: layer(),
            to: Some(REVISIONS + 1),
            kept,
        },
        Op::Update {
            layer: layer(),
            image: 2,
            kept: Kept::Discard,
        },
        Op::Rejuvenate,
        Op::Remove {
            layer: layer(),
            kept,
        },
        Op::Delete,
    ];
    for op in &rest {
        assert_eq!(world.perform(MACHINE, op), model.apply(op), "{op:?}");
        assert_eq!(check::machine(&world, MACHINE, &model), Ok(()), "{op:?}");
    }
}

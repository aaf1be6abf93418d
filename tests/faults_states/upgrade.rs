//! The first change of a machine that version 1 wrote: through every fault it leaves the record of version 1 as it was,
//! byte for byte, or one of version 2 that says the same; keys that nobody knows are in either.
//!
//! The machine is made by this version, and its record is then put as version 1 put it, with the keys that the committed
//! record of that version has and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use stratavm::machine::Kept;
use stratavm::machine::record::Record;

use crate::faulted::{CASE, Case, cases, desk, name, run};
use crate::sim::world::World;

/// As the last release with version 1 wrote it.
const V1: &str = include_str!("../../fixtures/machine/v1.json");

/// A key of nobody.
const FUTURE: &str = "x-future";

const OF_VERSION_1: Case = Case {
    prepare: put_as_version_1,
    check: is_one_of_both,
    ..CASE
};

const CASES: &[Case] = &[
    Case {
        name: "label on a machine of version 1",
        act: |world| desk(world).set_label(&name("cache"), 1, Some("first".to_owned())),
        ..OF_VERSION_1
    },
    Case {
        name: "snapshot of a machine of version 1",
        act: |world| desk(world).snapshot(&name("cache"), None).map(drop),
        layers: &["cache"],
        ..OF_VERSION_1
    },
    Case {
        name: "start of a machine of version 1",
        act: run,
        layers: &["os", "apps"],
        ..OF_VERSION_1
    },
    Case {
        name: "return of a layer that version 1 removed",
        act: |world| desk(world).take_back_layer(&name("home")).map(drop),
        layers: &["home"],
        ..OF_VERSION_1
    },
];

/// Removes a layer that holds what a guest wrote, and puts the machine's record as version 1 did.
fn put_as_version_1(world: &World) {
    desk(world)
        .remove_layer(&name("home"), Kept::Preserve)
        .unwrap();
    let new = desk(world).record().unwrap();
    let old = version_1(serde_json::to_value(&new).unwrap());
    // It says what the record of this version says.
    let read = Record::parse(old.to_string().as_bytes()).unwrap();
    assert_eq!(read.layers, new.layers);
    // Where the layer was, and when it went, version 1 did not say.
    let histories = |record: &Record| {
        record
            .removed
            .iter()
            .map(|r| r.history.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(histories(&read), histories(&new));
    let old = with_future(old).to_string();
    fs::write(desk(world).folder().join("machine.json"), &old).unwrap();
    fs::write(aside(world), old).unwrap();
}

/// The record as it was at the beginning, outside of the store.
fn aside(world: &World) -> PathBuf {
    world.store.home().with_file_name("v1.json")
}

fn is_one_of_both(world: &World) -> Result<(), String> {
    let found = fs::read(desk(world).folder().join("machine.json")).map_err(|e| e.to_string())?;
    let old = fs::read(aside(world)).map_err(|e| e.to_string())?;
    if found == old {
        return Ok(());
    }
    let found: Value = serde_json::from_slice(&found).map_err(|e| e.to_string())?;
    let old: Value = serde_json::from_slice(&old).map_err(|e| e.to_string())?;
    if found["format"]["version"] != 2 {
        return Err(format!(
            "neither version 1 as it was nor version 2: {found:#}"
        ));
    }
    let (kept, wanted) = (futures_of(&found), futures_of(&old));
    match wanted.difference(&kept).collect::<Vec<_>>() {
        lost if lost.is_empty() => Ok(()),
        lost => Err(format!("keys that nobody knows are lost: {lost:?}")),
    }
}

/// The inverse of the step from version 1.
fn version_1(mut record: Value) -> Value {
    let known: Value = serde_json::from_str(V1).unwrap();
    (record["format"]["version"], record["format"]["min-reader"]) = (json!(1), json!(1));
    let head = record["layers"][0]["head"].clone();
    for list in ["layers", "removed"] {
        for layer in record[list].as_array_mut().unwrap() {
            let layer = layer.as_object_mut().unwrap();
            let history = layer.remove("history").unwrap();
            layer.extend(history.as_object().unwrap().clone());
            let revisions = layer["revisions"].as_array_mut().unwrap();
            for at in 0..revisions.len() {
                let mut deltas = Vec::new();
                if let Some(base) = revisions[at].get("base").cloned() {
                    let base = revisions.iter().find(|revision| revision["n"] == base);
                    // Those before it say all their deltas already.
                    deltas.extend(base.unwrap()["deltas"].as_array().unwrap().clone());
                }
                let own = revisions[at].get("deltas").and_then(Value::as_array);
                deltas.extend(own.cloned().unwrap_or_default());
                revisions[at]["deltas"] = deltas.into();
            }
            if list == "removed" {
                let newest = layer["revisions"].as_array().unwrap().last().unwrap();
                assert_eq!(newest["reason"], "before-remove");
                layer["current"] = newest["parent"].clone();
                layer.insert("head".to_owned(), head.clone());
            }
            only(layer, &known[list][0]);
            for revision in layer["revisions"].as_array_mut().unwrap() {
                only_of_any(revision.as_object_mut().unwrap(), &known);
            }
        }
    }
    only(record.as_object_mut().unwrap(), &known);
    record
}

/// Leaves the keys of version 1.
fn only(table: &mut Map<String, Value>, known: &Value) {
    table.retain(|key, _| known.get(key).is_some());
}

/// The same for a revision, of which the committed record has many: not every one has a label.
fn only_of_any(revision: &mut Map<String, Value>, known: &Value) {
    let layers = ["layers", "removed"].map(|list| known[list].as_array().unwrap());
    let of = |layer: &Value| layer["revisions"].as_array().unwrap().clone();
    let known: Vec<Value> = layers.into_iter().flatten().flat_map(of).collect();
    revision.retain(|key, _| known.iter().any(|known| known.get(key).is_some()));
}

/// Puts a key that nobody knows into the record, its layers and their revisions, each with a value of its own.
fn with_future(mut record: Value) -> Value {
    let put = |table: &mut Value, what: String| {
        let table = table.as_object_mut().unwrap();
        table.insert(FUTURE.to_owned(), json!({"is": [what, null]}));
    };
    put(&mut record, "the record".to_owned());
    for list in ["layers", "removed"] {
        for layer in record[list].as_array_mut().unwrap() {
            let of = layer["spec"]["name"].clone();
            put(layer, format!("{of}"));
            for revision in layer["revisions"].as_array_mut().unwrap() {
                let n = revision["n"].clone();
                put(revision, format!("{of} {n}"));
            }
        }
    }
    record
}

/// What these keys hold, anywhere.
fn futures_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match value {
        Value::Object(table) => {
            found.extend(table.get(FUTURE).map(Value::to_string));
            found.extend(table.values().flat_map(futures_of));
        }
        Value::Array(list) => found.extend(list.iter().flat_map(futures_of)),
        _ => {}
    }
    found
}

cases! {
    "points of upgrades", CASES:
    a_label = 0,
    a_snapshot = 1,
    a_start = 2,
    a_layer_that_comes_back = 3,
}

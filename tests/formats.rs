//! The formats of the store's files over time: `machine.json` as version 1 wrote it, keys of newer
//! versions, readers that are too old.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;

use harness::Harness;
use serde_json::{Map, Value, json};
use stratavm::image::ImageMeta;
use stratavm::machine::record::Record;
use stratavm::machine::revision::History;
use stratavm::{ErrorKind, Store};

/// As the last release with version 1 wrote it, after snapshots, rollbacks, an update and the
/// removal of a layer with kept writes.
const V1: &str = include_str!("../fixtures/machine/v1.json");

fn v1() -> Value {
    serde_json::from_str(V1).unwrap()
}

fn parse(value: &Value) -> stratavm::Result<Record> {
    Record::parse(value.to_string().as_bytes())
}

fn written(record: &Record) -> Value {
    serde_json::from_slice(&record.to_bytes().unwrap()).unwrap()
}

/// Puts a key of the future into every table but those whose keys all have a meaning: the spec, what
/// is staged, and a process.
fn add_keys(value: &mut Value) {
    if let Value::Object(table) = value {
        for (key, value) in table.iter_mut() {
            if !["spec", "change", "supervisor"].contains(&key.as_str()) {
                add_keys(value);
            }
        }
        table.insert("x-future".to_owned(), json!({"is": [1, null, "here"]}));
    }
    if let Value::Array(list) = value {
        list.iter_mut().for_each(add_keys);
    }
}

fn count_keys(value: &Value) -> usize {
    match value {
        Value::Object(table) => {
            let below: usize = table.values().map(count_keys).sum();
            below + usize::from(table.contains_key("x-future"))
        }
        Value::Array(list) => list.iter().map(count_keys).sum(),
        _ => 0,
    }
}

#[test]
fn a_record_of_version_1_says_the_same_in_version_2() {
    let (old, record) = (v1(), Record::parse(V1.as_bytes()).unwrap());
    assert_eq!((record.format.version, record.format.min_reader), (2, 2));
    let same = |old: &Value, history: &History| {
        let revisions = old["revisions"].as_array().unwrap();
        assert_eq!(revisions.len(), history.revisions.len());
        assert_eq!(old["next-revision"], history.next_revision);
        for (old, new) in revisions.iter().zip(&history.revisions) {
            assert_eq!(old["n"], new.n);
            assert_eq!(old["reason"], new.reason.as_str());
            assert_eq!(old["image"], new.image.to_string());
            assert_eq!(old["time"], new.time.to_string());
            assert_eq!(
                old.get("label").and_then(Value::as_str),
                new.label.as_deref()
            );
            assert_eq!(old.get("parent").and_then(Value::as_u64), new.parent);
            let chain = history.chain(new.n).into_iter();
            let chain: Vec<_> = chain.map(|link| json!(link.delta)).collect();
            assert_eq!(old["deltas"], json!(chain), "revision {}", new.n);
        }
    };
    let layers = old["layers"].as_array().unwrap();
    for (old, new) in layers.iter().zip(&record.layers) {
        same(old, &new.history);
        assert_eq!(old["current"], new.history.current);
        assert_eq!(old["head"], json!(new.head));
    }
    let removed = old["removed"].as_array().unwrap();
    assert_eq!((removed.len(), record.removed.len()), (1, 1));
    same(&removed[0], &record.removed[0].history);
    // What the guest saw last, frozen by the removal.
    assert_eq!(record.removed[0].history.current, 3);
    assert!(written(&record)["removed"][0].get("head").is_none());
    for key in [
        "id",
        "name",
        "created",
        "generation",
        "family",
        "spec",
        "hardware",
    ] {
        assert_eq!(old[key], written(&record)[key], "{key}");
    }
    assert_eq!(Record::parse(&record.to_bytes().unwrap()).unwrap(), record);
}

#[test]
fn each_delta_belongs_to_one_revision() {
    let record = Record::parse(V1.as_bytes()).unwrap();
    let home = &record.layer(&"home".parse().unwrap()).unwrap().history;
    let own: Vec<_> = home
        .deltas()
        .map(|(r, delta)| (r.n, delta.generation))
        .collect();
    assert_eq!(own, [(2, 3), (3, 7), (4, 11)]);
    let bases: Vec<_> = home.revisions.iter().map(|r| r.base).collect();
    assert_eq!(bases, [None, None, Some(2), None, Some(3)]);
}

#[test]
fn keys_of_newer_versions_are_kept_at_every_level() {
    let mut old = v1();
    add_keys(&mut old);
    let phantom = count_keys(&old["removed"][0]["head"]);
    // A version 1 said each delta once for each revision that lies on it.
    let shared = |list: &Value| -> usize {
        let revisions = list.as_array().unwrap().iter();
        let said = revisions.flat_map(|r| r["deltas"].as_array().unwrap());
        let said: Vec<_> = said.map(|delta| delta["generation"].as_u64()).collect();
        let mut once = said.clone();
        once.sort_unstable();
        once.dedup();
        said.len() - once.len()
    };
    let layers = old["layers"].as_array().unwrap().iter();
    let layers = layers.chain(old["removed"].as_array().unwrap());
    let shared: usize = layers.map(|layer| shared(&layer["revisions"])).sum();
    let record = parse(&old).unwrap();
    assert_eq!(
        count_keys(&written(&record)),
        count_keys(&old) - phantom - shared
    );

    let mut new = everything();
    add_keys(&mut new);
    assert!(count_keys(&new) > 25, "{}", count_keys(&new));
    assert!(written(&parse(&new).unwrap()) == new, "{new:#}");
}

/// A record of version 2 that has every kind of table.
fn everything() -> Value {
    let mut record = written(&Record::parse(V1.as_bytes()).unwrap());
    let time = "2026-11-23T21:55:06Z";
    let image = record["layers"][0]["history"]["revisions"][0]["image"].clone();
    let more = json!({
        "next": [
            {"time": time, "change": {"do": "accept", "layer": "os"}},
            {"time": time, "change": {"do": "rollback", "layer": "home", "to": 1, "kept": "preserve"}},
            {"time": time, "change": {"do": "update", "layer": "tool", "image": image, "kept": "discard"}},
        ],
        "points": [{"name": "good", "time": time, "layers": [{"layer": "home", "revision": 2}]}],
        "last": {"operation": "undo", "undid": "rollback", "time": time,
                 "layers": [{"layer": "home", "revision": 3, "size": "2 MiB", "writes": "kept"}]},
        "retention": {"keep-last": 10, "keep-days": 30},
        "session": {"generation": 5, "family": "vmdk"},
        "run": {"product": "null", "generation": 22, "plan": "", "since": time, "boots": 1,
                "heads": [{"disk": "os", "generation": 21}],
                "supervisor": {"pid": 1, "started": 2}},
    });
    let table: &mut Map<String, Value> = record.as_object_mut().unwrap();
    table.extend(more.as_object().unwrap().clone());
    record["layers"][2]["retention"] = json!({"keep-last": 3});
    let port = json!({"disk": "stuff", "controller": "ide", "slot": 3});
    record["removed"][0]["port"] = port;
    // What is not said above has its usual value.
    written(&parse(&record).unwrap())
}

#[test]
fn older_readers_refuse_and_newer_records_say_so() {
    let mut future = everything();
    future["format"]["version"] = json!(3);
    assert_eq!(written(&parse(&future).unwrap()), future, "min-reader is 2");
    future["format"]["min-reader"] = json!(3);
    future["layers"] = json!("something else");
    let error = parse(&future).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FromTheFuture);
    assert!(error.next_step().is_some());
    // A change that is not known is refused, not skipped.
    let mut unknown = everything();
    unknown["next"][0]["change"] = json!({"do": "polish", "layer": "os"});
    assert_eq!(parse(&unknown).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn a_machine_of_version_1_is_written_as_version_2_by_its_next_change() {
    let harness = Harness::new();
    let path = harness.machine().folder().join("machine.json");
    let mut old: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for layer in old["layers"].as_array_mut().unwrap() {
        let table = layer.as_object_mut().unwrap();
        let history = table.remove("history").unwrap();
        table.extend(history.as_object().unwrap().clone());
        for revision in table["revisions"].as_array_mut().unwrap() {
            revision["deltas"] = json!([]);
        }
    }
    (old["format"]["version"], old["format"]["min-reader"]) = (json!(1), json!(1));
    std::fs::write(&path, old.to_string()).unwrap();
    let before = std::fs::read(&path).unwrap();
    harness.machine().record().unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        before,
        "reading writes nothing"
    );
    harness
        .machine()
        .snapshot(&"home".parse().unwrap(), None)
        .unwrap();
    let new: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(new["format"]["version"], 2);
    assert_eq!(new["layers"][2]["history"]["current"], 2);
}

#[test]
fn the_stores_other_files_follow_the_same_rules() {
    let harness = Harness::new();
    let image = harness.store().images().list().unwrap().remove(0).unwrap();
    let path = image.folder.join("image.json");
    let mut meta: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (meta["format"]["version"], meta["x-future"]) = (json!(9), json!(1));
    ImageMeta::parse(meta.to_string().as_bytes()).unwrap();
    meta["format"]["min-reader"] = json!(9);
    let error = ImageMeta::parse(meta.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FromTheFuture);

    let path = harness.store().home().join("store.json");
    let mut store: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (store["format"]["version"], store["x-future"]) = (json!(9), json!(1));
    std::fs::write(&path, store.to_string()).unwrap();
    Store::open(harness.store().home()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), store.to_string());
    store["format"]["min-reader"] = json!(9);
    std::fs::write(&path, store.to_string()).unwrap();
    let error = Store::open(harness.store().home()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FromTheFuture);
    assert_eq!(error.path(), Some(path.as_path()));
}

//! `layers`, `history` and the layer operations, as far as no guest is needed.

use serde_json::{Value, json};
use stratavm::testkit::guest::BootSector;

use crate::bench::Home;

fn desk() -> Home {
    let home = Home::new();
    home.desk(&BootSector::new());
    home
}

fn layer(home: &Home, name: &str) -> Value {
    let answer = home.ok("layers", &["layers", "desk"]);
    let layers = answer["layers"].as_array().unwrap().clone();
    layers
        .into_iter()
        .find(|l| l["name"] == name)
        .unwrap_or(Value::Null)
}

fn reasons(home: &Home, layer: &str) -> Vec<Value> {
    let answer = home.ok("history", &["history", "desk", layer]);
    let revisions = answer["revisions"].as_array().unwrap();
    assert_eq!(revisions.iter().filter(|r| r["current"] == true).count(), 1);
    revisions.iter().map(|r| r["reason"].clone()).collect()
}

#[test]
fn layers_say_what_becomes_of_them() {
    let home = desk();
    let os = layer(&home, "os");
    assert_eq!(
        (&os["writes"], &os["next-start"]),
        (&json!("discard"), &json!("fresh head"))
    );
    assert_eq!(os["rejuvenate"], "reset");
    let kept = layer(&home, "home");
    assert_eq!(
        (&kept["writes"], &kept["next-start"]),
        (&json!("keep"), &json!("kept"))
    );
    assert_eq!(
        (&kept["rejuvenate"], &kept["revisions"]),
        (&json!("keep"), &json!(1))
    );
    assert_eq!(home.fails(&["layers", "nobody"]).kind, "not-found");
    assert_eq!(
        home.fails(&["history", "desk", "nothing"]).kind,
        "not-found"
    );
}

#[test]
fn tables_are_aligned() {
    let home = desk();
    let text = home.text(&["layers", "desk"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    for (head, cells) in [
        ("ROLE", ["os", "apps", "user-data"]),
        ("IMAGE", ["sha256c:"; 3]),
    ] {
        let column = lines[0].find(head).unwrap();
        for (line, cell) in lines[1..].iter().zip(cells) {
            assert!(line[column..].starts_with(cell), "{text}");
            assert!(line[..column].ends_with(' '), "{text}");
        }
    }
}

#[test]
fn update_and_rollback_move_one_layer_alone() {
    let home = desk();
    home.disk("office-2.raw", 1, None, "office v2");
    let first = layer(&home, "office")["image"].clone();
    let others = home.other_layers("desk", "office");

    let done = home.ok("update", &["update", "desk", "office", "office-2.raw"]);
    assert_eq!(
        (&done["layers"], &done["revision"]),
        (&json!(["office"]), &json!(2))
    );
    let second = layer(&home, "office")["image"].clone();
    assert_ne!(first, second);
    let again = home.ok(
        "update",
        &["update", "desk", "office", second.as_str().unwrap()],
    );
    assert_eq!(again["layers"], json!([]), "it has this image already");

    let back = home.ok("rollback", &["rollback", "desk", "office"]);
    assert_eq!(back["revision"], 1);
    assert_eq!(layer(&home, "office")["image"], first);
    home.ok("rollback", &["rollback", "desk", "office", "--to", "2"]);
    assert_eq!(layer(&home, "office")["image"], second);
    assert_eq!(reasons(&home, "office"), ["create", "update"]);
    assert_eq!(others, home.other_layers("desk", "office"));
}

#[test]
fn snapshots_have_a_label_and_rejuvenate_leaves_them() {
    let home = desk();
    let label = "before \u{1b}[31mtaxes";
    let done = home.ok("snapshot", &["snapshot", "desk", "os", "--label", label]);
    assert_eq!(done["revision"], 2);
    assert_eq!(
        done["notes"],
        json!([]),
        "under `disks` it holds all that was written"
    );
    let history = home.ok("history", &["history", "desk", "os"]);
    assert_eq!(history["revisions"][1]["label"], label);
    let shown = home.text(&["history", "desk", "os"]);
    assert!(
        shown.contains("before \\u{1b}[31mtaxes") && !shown.contains('\u{1b}'),
        "{shown}"
    );

    let kept = home.other_layers("desk", "os");
    let done = home.ok("rejuvenate", &["rejuvenate", "desk"]);
    assert_eq!(done["layers"], json!(["os"]));
    assert_eq!(layer(&home, "os")["current"], 1);
    assert_eq!(kept, home.other_layers("desk", "os"));
    let idle = home.ok("rejuvenate", &["rejuvenate", "desk"]);
    assert_eq!(idle["layers"], json!([]));
    assert!(home.text(&["rejuvenate", "desk"]).contains("nothing to do"));
}

#[test]
fn layers_are_added_and_removed() {
    let home = desk();
    home.disk("crm.raw", 1, None, "crm");
    home.file(
        "crm.toml",
        "name = \"crm\"\nrole = \"apps\"\nimage = \"crm.raw\"\n",
    );
    let others = home.other_layers("desk", "crm");
    let done = home.ok("add", &["add", "desk", "crm.toml"]);
    assert_eq!(done["layers"], json!(["crm"]));
    assert_eq!(layer(&home, "crm")["role"], "apps");
    assert_eq!(home.fails(&["add", "desk", "crm.toml"]).kind, "exists");
    let done = home.ok("remove", &["remove", "desk", "crm"]);
    assert_eq!(done["layers"], json!(["crm"]));
    assert!(layer(&home, "crm").is_null());
    assert_eq!(others, home.other_layers("desk", "crm"));
}

#[test]
fn operations_that_cannot_be_done_change_nothing() {
    let home = desk();
    home.disk("spare.raw", 1, None, "spare");
    home.file(
        "os-2.toml",
        "name = \"os-2\"\nrole = \"os\"\nimage = \"spare.raw\"\n",
    );
    home.file(
        "faulty.toml",
        "name = \"a b\"\nrole = \"app\"\nsise = \"1 MiB\"\n",
    );
    // Its image is in the store from now on: a refused layer leaves nothing else behind.
    home.ok("image-add", &["image", "add", "spare.raw"]);
    let before = home.snapshot();
    let none = format!("sha256c:{}", "0".repeat(64));
    for (arguments, kind) in [
        (&["rollback", "desk", "home"][..], "invalid"),
        (&["rollback", "desk", "home", "--to", "9"], "not-found"),
        (&["snapshot", "desk", "nothing"], "not-found"),
        (&["snapshot", "nobody", "os"], "not-found"),
        (&["update", "desk", "office", "missing.raw"], "not-found"),
        (&["update", "desk", "office", "."], "invalid"),
        (&["update", "desk", "office", &none], "not-found"),
        (&["update", "desk", "office", "sha256c:12"], "invalid"),
        (&["remove", "desk", "os"], "invalid"),
        (&["remove", "desk", "nothing"], "not-found"),
        (&["add", "desk", "os-2.toml"], "invalid"),
        (&["add", "desk", "missing.toml"], "not-found"),
    ] {
        let failure = home.fails(arguments);
        assert_eq!(failure.kind, kind, "{arguments:?}: {failure:?}");
        assert_eq!(before, home.snapshot(), "{arguments:?}");
    }
    let faults = home.fails(&["add", "desk", "faulty.toml"]);
    for place in [
        "faulty.toml:1:8: name",
        "faulty.toml:2:8: role",
        "faulty.toml:3:1: sise",
    ] {
        assert!(faults.all.contains(place), "{faults:?}");
    }
    assert_eq!(before, home.snapshot());
}

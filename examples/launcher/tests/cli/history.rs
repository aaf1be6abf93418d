//! Going back and forth: staged changes, undo, labels, pins, points, retention, removed layers,
//! sessions that are kept or dropped.

use serde_json::{Value, json};
use stratavm::testkit::guest::{BootSector, End};

use crate::bench::{Home, MARK, checked, wait_for};
use crate::run::{qemu, stop_by_force, wait_for_boots};

fn desk() -> Home {
    let home = Home::new();
    home.desk(&BootSector::new());
    home
}

/// The revisions of a layer.
fn revisions(home: &Home, layer: &str) -> Vec<Value> {
    let answer = home.ok("history", &["history", "desk", layer]);
    answer["revisions"].as_array().unwrap().clone()
}

fn current(home: &Home, layer: &str) -> u64 {
    let all = revisions(home, layer);
    let current = all.iter().find(|r| r["current"] == true);
    current.unwrap()["n"].as_u64().unwrap()
}

#[test]
fn undo_takes_each_operation_back_and_forth() {
    let home = desk();
    assert_eq!(home.fails(&["undo", "desk"]).kind, "invalid");
    home.disk("office-2.raw", 1, None, "office v2");
    home.ok("update", &["update", "desk", "office", "office-2.raw"]);
    let others = home.other_layers("desk", "office");
    let done = home.ok("undo", &["undo", "desk"]);
    assert_eq!(
        (&done["when"], &done["revision"]),
        (&json!("now"), &json!(1))
    );
    assert_eq!(current(&home, "office"), 1);
    assert!(
        home.text(&["undo", "desk"])
            .contains("update is done again")
    );
    assert_eq!(current(&home, "office"), 2);
    assert_eq!(others, home.other_layers("desk", "office"));

    home.ok("remove", &["remove", "desk", "office"]);
    let layers = home.ok("layers", &["layers", "desk"]);
    assert_eq!(layers["removed"][0]["name"], "office");
    assert!(
        home.text(&["layers", "desk", "--removed"])
            .contains("--back LAYER")
    );
    let back = home.ok("add", &["add", "desk", "--back", "office"]);
    assert_eq!(back["revision"], 2);
    let names = home.ok("layers", &["layers", "desk"]);
    assert_eq!(names["layers"][1]["name"], "office", "where it was");
    assert_eq!(
        home.fails(&["add", "desk", "--back", "office"]).kind,
        "exists"
    );

    home.ok("snapshot", &["snapshot", "desk", "home"]);
    let nothing = home.fails(&["undo", "desk"]);
    assert!(nothing.message.contains("snapshot"), "{nothing:?}");
    let history = home.ok("history", &["history", "desk"]);
    assert_eq!(history["last"]["operation"], "snapshot");
    assert_eq!(history["layers"].as_array().unwrap().len(), 3);
}

#[test]
fn revisions_have_labels_pins_and_an_end() {
    let home = desk();
    for _ in 0..5 {
        home.ok("snapshot", &["snapshot", "desk", "home"]);
    }
    home.ok("label", &["label", "desk", "home", "3", "before taxes"]);
    home.ok("pin", &["pin", "desk", "home", "3"]);
    home.ok("pin", &["pin", "desk", "home", "4"]);
    home.ok("unpin", &["unpin", "desk", "home", "4"]);
    let text = home.text(&["history", "desk", "home"]);
    assert!(
        text.contains("pinned") && text.contains("before taxes"),
        "{text}"
    );
    assert_eq!(home.fails(&["pin", "desk", "home", "99"]).kind, "not-found");
    let long = "x".repeat(1001);
    assert_eq!(
        home.fails(&["label", "desk", "home", "3", &long]).kind,
        "invalid"
    );

    let said = home.ok("retention", &["retention", "desk", "--keep-last", "1"]);
    assert_eq!(
        said["layers"][2],
        json!({"layer": "home", "keep-last": 1, "keep-days": null, "from": "machine"})
    );
    home.ok(
        "retention",
        &["retention", "desk", "--layer", "os", "--off"],
    );
    let done = home.ok("snapshot", &["snapshot", "desk", "home"]);
    assert!(
        done["notes"][0]
            .as_str()
            .unwrap()
            .contains("retention dropped"),
        "{done}"
    );
    let left: Vec<_> = revisions(&home, "home")
        .iter()
        .map(|r| r["n"].clone())
        .collect();
    assert_eq!(left, [1, 3, 7], "clean, pinned, current");
    let parents: Vec<_> = revisions(&home, "home")
        .iter()
        .map(|r| r["parent"].clone())
        .collect();
    assert_eq!(parents, [Value::Null, json!(1), json!(3)]);
    let shown = home.ok(
        "retention",
        &["retention", "desk", "--layer", "os", "--inherit"],
    );
    assert_eq!(shown["layers"][0]["from"], "machine");
}

#[test]
fn points_hold_several_layers() {
    let home = desk();
    let made = home.ok(
        "point-create",
        &["point", "create", "desk", "good", "--label", "it works"],
    );
    assert_eq!(made["layers"], json!(["os", "office", "home"]));
    assert_eq!(
        home.fails(&["point", "create", "desk", "good"]).kind,
        "exists"
    );
    home.disk("office-2.raw", 1, None, "office v2");
    home.ok("update", &["update", "desk", "office", "office-2.raw"]);
    home.ok("snapshot", &["snapshot", "desk", "home"]);
    let back = home.ok("rollback", &["rollback", "desk", "--to-point", "good"]);
    assert_eq!(back["layers"], json!(["office", "home"]));
    assert_eq!((current(&home, "office"), current(&home, "home")), (1, 1));
    home.ok("undo", &["undo", "desk"]);
    assert_eq!((current(&home, "office"), current(&home, "home")), (2, 2));
    let list = home.ok("point-list", &["point", "list", "desk"]);
    assert_eq!(list["points"][0]["label"], "it works");
    assert!(
        home.text(&["history", "desk", "office"])
            .contains("point good")
    );
    home.ok("point-remove", &["point", "remove", "desk", "good"]);
    let gone = home.fails(&["rollback", "desk", "--to-point", "good"]);
    assert_eq!(gone.kind, "not-found");
}

#[test]
fn sessions_are_decided_on_only_where_there_was_one() {
    let home = desk();
    let before = home.snapshot();
    for (arguments, said) in [
        (
            &["stop", "desk", "--keep", "os"][..],
            "holds nothing of a session",
        ),
        (&["stop", "desk", "--keep", "home"], "keeps what is written"),
        (
            &["stop", "desk", "--discard", "os"],
            "discards what is written",
        ),
    ] {
        let failure = home.fails(arguments);
        assert_eq!(failure.kind, "invalid", "{failure:?}");
        assert!(failure.message.contains(said), "{failure:?}");
        assert_eq!(before, home.snapshot());
    }
    let idle = home.ok("stop", &["stop", "desk", "--discard", "home"]);
    assert_eq!(idle["decided"], json!([]));
}

#[test]
fn changes_of_a_running_machine_wait_for_its_next_start() {
    let Some(home) = qemu("staged changes, sessions kept and dropped") else {
        return;
    };
    home.desk(&BootSector::new().print(MARK).end(End::Hang));
    home.disk("office-2.raw", 1, None, "office v2");
    let running = home.spawn(&["start", "desk", "--wait", "--revertible", "home"]);
    wait_for_boots(&home, 1);
    let done = home.ok("update", &["update", "desk", "office", "office-2.raw"]);
    assert_eq!(
        (&done["when"], &done["revision"]),
        (&json!("next-start"), &Value::Null)
    );
    home.ok("rejuvenate", &["rejuvenate", "desk"]);
    assert!(home.text(&["undo", "desk"]).contains("staged rejuvenate"));
    let layers = home.ok("layers", &["layers", "desk"]);
    assert_eq!(layers["layers"][1]["current"], 1);
    assert_eq!(layers["staged"][0]["operation"], "update");
    let text = home.text(&["layers", "desk"]);
    assert!(text.contains("update, then fresh head"), "{text}");

    let arguments = [
        "stop",
        "desk",
        "--force",
        "--keep",
        "os",
        "--discard",
        "home",
    ];
    let stopped = home.ok("stop", &arguments);
    assert_eq!(stopped["decided"], json!(["os", "home"]));
    checked("start", 0, &running.output());
    // What was decided is done; what waits for the next start still does.
    let reasons: Vec<_> = revisions(&home, "os")
        .iter()
        .map(|r| r["reason"].clone())
        .collect();
    assert_eq!(reasons, ["create", "accept"]);
    assert_eq!(current(&home, "office"), 1);
    let running = home.spawn(&["start", "desk", "--wait"]);
    wait_for("the second run", || {
        let state = home.ok("status", &["status", "desk"])["state"].clone();
        (state == "running").then_some(())
    });
    stop_by_force(&home);
    checked("start", 0, &running.output());
    assert_eq!(current(&home, "office"), 2);
    assert!(
        home.ok("layers", &["layers", "desk"])["staged"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

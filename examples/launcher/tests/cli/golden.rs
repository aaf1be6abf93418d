//! `golden edit` and `publish`: what a guest wrote to the operating system becomes a golden that other machines take.

use serde_json::json;
use stratavm::testkit::guest::BootSector;

use crate::bench::{DESK, Home, MARK};
use crate::run::qemu;

/// A second machine from the same images.
fn lamp(home: &Home) {
    home.file("lamp.toml", DESK.replace("\"desk\"", "\"lamp\""));
    home.ok("create", &["create", "lamp.toml"]);
}

/// What the first disk of a machine held when its guest began.
fn seen(home: &Home, machine: &str) -> String {
    home.ok("start", &["start", machine, "--wait"]);
    home.boots(machine)[0].texts(MARK)[0].to_owned()
}

#[test]
fn what_a_guest_wrote_is_published_taken_by_another_machine_and_left_again() {
    let Some(home) = qemu("publish") else {
        return;
    };
    home.desk(&BootSector::new().print(MARK).write(0, MARK, "edited"));
    lamp(&home);
    let edited = home.ok("golden-edit", &["golden", "edit", "desk", "os", "--wait"]);
    assert_eq!(
        (&edited["ended"], &edited["edit"], &edited["revision"]),
        (&json!("power-off"), &json!("frozen"), &json!(2))
    );
    assert_eq!(home.boots("desk")[0].texts(MARK)[0], "os v1");
    let history = home.ok("history", &["history", "desk", "os"]);
    assert_eq!(
        (
            &history["revisions"][1]["reason"],
            &history["last"]["operation"]
        ),
        (&json!("edit"), &json!("edit"))
    );

    let arguments = ["publish", "desk", "os", "--label", "May"];
    let first = home.ok("publish", &arguments);
    assert_eq!(
        (&first["existing"], &first["revision"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(
        (&first["label"], &first["name"]),
        (&json!("May"), &json!("desk"))
    );
    let again = home.ok("publish", &arguments);
    assert_eq!(
        (&again["existing"], &again["digest"]),
        (&json!(true), &first["digest"])
    );
    let digest = first["digest"].as_str().unwrap();
    assert!(
        home.text(&arguments)
            .contains(&format!("stratavm update NAME os {digest}"))
    );
    let old = home.ok("publish", &["publish", "desk", "os", "--rev", "1"]);
    assert_eq!(
        (&old["digest"], &old["parent"]),
        (&first["parent"], &first["parent"])
    );

    home.ok("update", &["update", "lamp", "os", digest]);
    assert_eq!(seen(&home, "lamp"), "edited");
    home.ok("rollback", &["rollback", "lamp", "os"]);
    assert_eq!(seen(&home, "lamp"), "os v1");
    for image in [digest, first["parent"].as_str().unwrap()] {
        assert_eq!(
            home.ok("image-verify", &["image", "verify", image])["intact"],
            true
        );
    }
}

#[test]
fn what_cannot_be_published_is_refused_with_a_next_step() {
    let home = Home::new();
    home.desk(&BootSector::new());
    assert_eq!(home.fails(&["publish", "nobody", "os"]).kind, "not-found");
    assert_eq!(home.fails(&["publish", "desk", "attic"]).kind, "not-found");
    let kept = home.fails(&["golden", "edit", "desk", "home", "--wait"]);
    assert!(kept.next.contains("stratavm publish desk home"), "{kept:?}");
    assert_eq!(
        home.fails(&["golden", "edit", "desk", "attic"]).kind,
        "not-found"
    );
    let missing = home.fails(&["publish", "desk", "os", "--rev", "7"]);
    assert!(missing.next.contains("use one of: 1"), "{missing:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_edit_whose_supervisor_is_killed_is_shown_and_goes_on() {
    use crate::bench::wait_for;
    use crate::detached::signal;
    use stratavm::testkit::guest::End;

    let Some(home) = qemu("a killed edit") else {
        return;
    };
    let guest = BootSector::new().print(MARK).write(0, MARK, "edited");
    home.desk(&guest.end(End::Hang));
    let written = || {
        wait_for("the guest's end", || {
            home.boots("desk")
                .iter()
                .any(|boot| boot.ended)
                .then_some(())
        });
    };
    let edit = ["golden", "edit", "desk", "os"];
    let left = home.ok("golden-edit", &edit);
    assert_eq!(
        (&left["layer"], &left["running"]),
        (&json!("os"), &json!(true))
    );
    written();
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(status["edit"], json!({"layer": "os", "state": "running"}));
    let busy = home.fails(&["golden", "edit", "desk", "os", "--wait"]);
    assert_eq!(busy.kind, "busy");

    signal("KILL", left["supervisor"].as_u64().unwrap());
    let status = wait_for("the end of the run", || {
        let status = home.ok("status", &["status", "desk"]);
        (status["state"] == "off").then_some(status)
    });
    assert_eq!(
        status["edit"],
        json!({"layer": "os", "state": "unfinished"})
    );
    assert_eq!(status["last-run"]["ended"], "lost");
    assert!(
        home.text(&["status", "desk"])
            .contains("stratavm golden edit desk os goes on")
    );
    let layers = home.ok("layers", &["layers", "desk"]);
    assert_eq!(
        layers["layers"][0]["next-start"],
        "edit set aside, fresh head"
    );
    let refused = home.fails(&["publish", "desk", "os"]);
    assert!(refused.next.contains("golden edit desk os"), "{refused:?}");

    home.ok("golden-edit", &edit);
    written();
    assert_eq!(home.boots("desk")[0].texts(MARK)[0], "edited", "it went on");
    home.ok("stop", &["stop", "desk", "--force"]);
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(
        (&status["state"], &status["edit"]),
        (&json!("off"), &json!(null))
    );
    let history = home.ok("history", &["history", "desk", "os"]);
    assert_eq!(history["revisions"][1]["reason"], "edit");
    home.ok("publish", &["publish", "desk", "os"]);
}

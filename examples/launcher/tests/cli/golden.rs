//! `publish`: what a guest wrote to the operating system becomes a golden that other machines take.

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
    assert_eq!(seen(&home, "desk"), "os v1");
    home.ok("stop", &["stop", "desk", "--keep", "os"]);

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
    let missing = home.fails(&["publish", "desk", "os", "--rev", "7"]);
    assert!(missing.next.contains("use one of: 1"), "{missing:?}");
}

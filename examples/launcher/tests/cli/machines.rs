//! `doctor`, `create`, `list`, `status`, `delete`, and `start` where nothing is started.

use stratavm::testkit::guest::BootSector;

use crate::bench::{DESK, Home};

#[test]
fn doctor_tells_every_product() {
    let home = Home::new();
    let answer = home.ok("doctor", &["doctor"]);
    let products = answer["products"].as_array().unwrap();
    let of = |name: &str| products.iter().find(|p| p["product"] == name).unwrap();
    for name in ["virtualbox", "vmware"] {
        assert_eq!(of(name)["driven-by"], "translate only");
    }
    assert_ne!(of("qemu")["driven-by"], "translate only");
    assert_eq!(of("qemu")["features"]["a reboot ends the run"], "hard");
    let text = home.text(&["doctor"]);
    assert!(
        text.contains("virtualbox: ") && text.contains("translate only"),
        "{text}"
    );
    assert!(!home.store().exists(), "looking around makes no store");
}

#[test]
fn a_machine_is_created_listed_shown_and_deleted() {
    let home = Home::new();
    assert_eq!(
        home.ok("list", &["list"])["machines"],
        serde_json::json!([])
    );
    assert!(home.text(&["list"]).contains("no machines yet"));

    let made = home.desk(&BootSector::new());
    assert_eq!(made["layers"], serde_json::json!(["os", "office", "home"]));
    assert_eq!(made["family"], "vmdk");
    let list = home.ok("list", &["list"]);
    let desk = &list["machines"][0];
    assert_eq!(
        (&desk["state"], &desk["title"]),
        (&"off".into(), &"Desk of the tests".into())
    );
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(
        (&status["id"], &status["state"]),
        (&made["id"], &"off".into())
    );
    assert!(status["since"].is_null() && status["boots"].is_null());
    assert!(home.text(&["status", "desk"]).starts_with("desk is off\n"));

    let before = home.snapshot();
    let twice = home.fails(&["create", "desk.toml"]);
    assert_eq!(twice.kind, "exists");
    assert!(twice.next.contains("delete desk"), "{twice:?}");
    assert_eq!(before, home.snapshot());

    assert_eq!(home.ok("delete", &["delete", "desk"])["deleted"], "desk");
    assert!(!home.machine("desk").exists());
    assert_eq!(home.fails(&["delete", "desk"]).kind, "not-found");
    let images = home.ok("image-list", &["image", "list"]);
    assert_eq!(images["images"].as_array().unwrap().len(), 3, "images stay");
    for image in images["images"].as_array().unwrap() {
        assert_eq!(image["used-by"], serde_json::json!([]));
    }
}

#[test]
fn the_product_chooses_the_format_of_the_disks() {
    let home = Home::new();
    home.desk(&BootSector::new());
    home.file("other.toml", DESK.replacen("\"desk\"", "\"other\"", 1));
    let made = home.ok(
        "create",
        &["create", "other.toml", "--product", "virtualbox"],
    );
    assert_eq!(made["family"], "vmdk");
    let unknown = home.fails(&["create", "other.toml", "--product", "bochs"]);
    assert_eq!(unknown.kind, "not-found");
    assert!(unknown.next.contains("virtualbox"), "{unknown:?}");
}

#[test]
fn what_cannot_be_started_says_why_and_changes_nothing() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let before = home.snapshot();
    for product in ["virtualbox", "vmware"] {
        let failure = home.fails(&["start", "desk", "--wait", "--product", product]);
        assert_eq!(failure.kind, "not-driven");
        assert!(failure.message.contains(product), "{failure:?}");
        assert!(failure.next.contains("stratavm translate"), "{failure:?}");
    }
    let detached = home.fails(&["start", "desk", "--product", "vmware"]);
    assert_eq!(detached.kind, "not-driven");
    assert_eq!(home.fails(&["start", "nobody", "--wait"]).kind, "not-found");
    assert_eq!(
        home.fails(&["start", "desk", "--wait", "--product", "bochs"])
            .kind,
        "not-found"
    );
    assert_eq!(before, home.snapshot());
}

#[test]
fn a_machine_that_never_ran_is_off_and_has_no_console() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let stopped = home.ok("stop", &["stop", "desk"]);
    assert!(stopped["asked"].is_null());
    assert!(
        home.text(&["stop", "desk", "--force"])
            .contains("off already")
    );
    let failure = home.fails(&["console", "desk"]);
    assert_eq!(failure.kind, "not-found");
    assert!(failure.next.contains("start"), "{failure:?}");
    assert_eq!(
        home.fails(&["stop", "desk", "--discard-state"]).kind,
        "invalid"
    );
    assert_eq!(home.fails(&["stop", "nobody"]).kind, "not-found");
}

#[test]
fn the_home_comes_from_the_environment_too() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stratavm"));
    command.arg("list").env("STRATAVM_HOME", home.store());
    let output = command.output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("desk"));
}

//! A store whose files are not what they should be: refused, named, and never touched.

use std::fs;

use stratavm::testkit::guest::BootSector;

use crate::bench::Home;

#[test]
fn a_damaged_machine_is_refused_by_every_command_and_stays_as_it_is() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let path = home.machine("desk").join("machine.json");
    let good = fs::read_to_string(&path).unwrap();
    let future = good
        .replacen("\"version\": 2", "\"version\": 9", 1)
        .replacen("\"min-reader\": 2", "\"min-reader\": 9", 1);
    assert_ne!(good, future);
    for (bad, kind) in [
        (future, "from-the-future"),
        (good[..good.len() / 2].to_owned(), "malformed"),
        (String::new(), "malformed"),
        ("\u{1b}[2J".to_owned(), "malformed"),
        (
            good.replacen("\"current\": 1", "\"current\": 7", 1),
            "malformed",
        ),
        (
            good.replacen("\"name\": \"desk\"", "\"name\": \"../desk\"", 1),
            "malformed",
        ),
        (
            good.replacen("\"name\": \"desk\"", "\"name\": \"lamp\"", 1),
            "needs-adopt",
        ),
    ] {
        fs::write(&path, &bad).unwrap();
        let before = home.snapshot();
        for arguments in [
            &["status", "desk"][..],
            &["start", "desk", "--wait"],
            &["stop", "desk"],
            &["layers", "desk"],
            &["snapshot", "desk", "home"],
            &["rejuvenate", "desk"],
            &["delete", "desk"],
            &["console", "desk"],
        ] {
            let failure = home.fails(arguments);
            assert_eq!(failure.kind, kind, "{arguments:?}: {failure:?}");
            let names = if kind == "needs-adopt" {
                "desk"
            } else {
                "machine.json"
            };
            assert!(failure.all.contains(names), "{failure:?}");
        }
        let list = home.ok("list", &["list"]);
        assert_eq!(list["machines"][0]["state"], "unknown");
        assert!(list["machines"][0]["problem"].is_string());
        assert!(!home.text(&["list"]).contains('\u{1b}'));
        assert_eq!(before, home.snapshot());
    }
    let more = good.replacen('{', "{\n  \"mood\": {\"deep\": [1]},", 1);
    fs::write(&path, more).unwrap();
    home.ok("snapshot", &["snapshot", "desk", "home"]);
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        kept["mood"],
        serde_json::json!({"deep": [1]}),
        "unknown keys are kept"
    );
}

#[test]
fn a_store_of_another_kind_or_time_is_refused() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let path = home.store().join("store.json");
    let good = fs::read_to_string(&path).unwrap();
    for (bad, kind) in [
        (
            good.replacen("\"version\": 1", "\"version\": 2", 1)
                .replacen("\"min-reader\": 1", "\"min-reader\": 2", 1),
            "from-the-future",
        ),
        (
            good.replacen("stratavm-store", "photo-library", 1),
            "malformed",
        ),
        ("{".to_owned(), "malformed"),
    ] {
        fs::write(&path, &bad).unwrap();
        let before = home.snapshot();
        let failure = home.fails(&["list"]);
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.all.contains("store.json"), "{failure:?}");
        assert_eq!(before, home.snapshot());
    }
    home.file("plain", "");
    let file = home.run(&["list", "--home", "plain"]);
    assert_eq!(file.status.code(), Some(1), "{file:?}");
}

#[test]
fn a_damaged_image_description_is_told_and_hides_no_other() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let folder = fs::read_dir(home.store().join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let path = folder.join("image.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let list = home.ok("image-list", &["image", "list"]);
    assert_eq!(list["problems"].as_array().unwrap().len(), 1);
    assert_eq!(list["images"].as_array().unwrap().len(), 2);
    assert!(list["problems"][0].as_str().unwrap().contains("image.json"));
}

//! `prune`, `fsck`, `adopt`: the store as a whole, and machines that got into it by hand.

use std::fs;

use stratavm::testkit::guest::BootSector;

use crate::bench::Home;

#[test]
fn prune_says_first_and_then_does_the_same() {
    let home = Home::new();
    home.desk(&BootSector::new());
    assert_eq!(home.ok("prune", &["prune"])["freed"], serde_json::json!([]));
    assert_eq!(home.text(&["prune", "--dry-run"]), "nothing to free\n");

    home.disk("spare.raw", 1, None, "spare");
    home.ok("image-add", &["image", "add", "spare.raw"]);
    fs::write(
        home.machine("desk").join("layers/home/head-90.vmdk"),
        "left",
    )
    .unwrap();
    let before = home.snapshot();
    let would = home.ok("prune", &["prune", "--dry-run"]);
    assert_eq!(before, home.snapshot(), "a dry run changes nothing");
    let kinds: Vec<_> = would["freed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["kind"].clone())
        .collect();
    assert_eq!(kinds, ["layer-file", "image"]);
    assert!(would["bytes"].as_u64().unwrap() > 0);
    let text = home.text(&["prune", "--dry-run"]);
    assert!(
        text.contains("would free") && text.contains("no machine refers to it"),
        "{text}"
    );

    let did = home.ok("prune", &["prune"]);
    assert_eq!(did["freed"], would["freed"]);
    assert_eq!(home.ok("prune", &["prune"])["freed"], serde_json::json!([]));
    home.ok("layers", &["layers", "desk"]);
}

#[test]
fn prune_keeps_what_a_guest_wrote_to_a_removed_layer_until_told() {
    let home = Home::new();
    home.desk(&BootSector::new());
    // As if a run had written to it.
    let path = home.machine("desk").join("machine.json");
    let record = fs::read_to_string(&path).unwrap();
    let at = record.rfind("\"use\": \"untouched\"").unwrap();
    let started = format!(
        "{}\"use\": \"started\"{}",
        &record[..at],
        &record[at + 18..]
    );
    fs::write(&path, started).unwrap();
    home.ok("remove", &["remove", "desk", "home"]);
    let kept = home.ok("prune", &["prune"]);
    assert_eq!(kept["kept"].as_array().unwrap().len(), 1, "{kept}");
    assert!(home.text(&["prune"]).contains("stratavm prune --removed"));
    let freed = home.ok("prune", &["prune", "--removed"]);
    assert!(
        freed["freed"].to_string().contains("removed-layer"),
        "{freed}"
    );
    assert_eq!(home.ok("prune", &["prune"])["kept"], serde_json::json!([]));
}

#[test]
fn a_copy_made_by_hand_is_told_and_adopted() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let (desk, lamp) = (home.machine("desk"), home.machine("lamp"));
    for folder in ["", "layers", "layers/os", "layers/office", "layers/home"] {
        fs::create_dir(lamp.join(folder)).unwrap();
        for entry in fs::read_dir(desk.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, lamp.join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    let told = home.fails(&["start", "lamp", "--wait"]);
    assert_eq!(told.kind, "needs-adopt");
    assert!(
        told.next.contains("stratavm adopt lamp --new-id"),
        "{told:?}"
    );
    assert!(home.text(&["list"]).contains("copy of machine desk"));
    let twin = home.fails(&["adopt", "lamp", "--moved"]);
    assert!(twin.next.contains("--new-id"), "{twin:?}");
    let made = home.ok("adopt", &["adopt", "lamp", "--new-id"]);
    assert_eq!(made["name"], "lamp");
    let status = |name| home.ok("status", &["status", name])["id"].clone();
    assert_eq!(made["id"], status("lamp"));
    assert_ne!(status("lamp"), status("desk"));
    home.ok("snapshot", &["snapshot", "lamp", "home"]);
    assert_eq!(
        home.run(&["adopt", "lamp"]).status.code(),
        Some(2),
        "say which of the two"
    );
}

#[test]
fn fsck_says_what_is_wrong_and_repairs_what_follows_from_the_record() {
    let home = Home::new();
    home.desk(&BootSector::new());
    assert_eq!(home.ok("fsck", &["fsck", "--digests"])["sound"], true);
    assert!(home.text(&["fsck", "desk"]).contains("nothing is wrong"));
    let layer = home.machine("desk").join("layers/os");
    for entry in fs::read_dir(&layer).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let broken = home.answer("fsck", 1, &["fsck"]);
    assert_eq!(broken["sound"], false);
    let findings = broken["findings"].as_array().unwrap();
    assert!(findings.iter().all(|f| f["remedy"] == "repair"), "{broken}");
    let repaired = home.ok("fsck", &["fsck", "--repair"]);
    assert_eq!(repaired["sound"], true, "{repaired}");
    assert_eq!(
        home.ok("fsck", &["fsck"])["findings"],
        serde_json::json!([])
    );
    assert_eq!(home.fails(&["fsck", "nobody"]).kind, "not-found");
}

#[test]
fn a_damaged_machine_can_be_deleted_and_the_original_of_a_copy_stays() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let path = home.machine("desk").join("machine.json");
    let good = fs::read(&path).unwrap();
    let lamp = home.machine("lamp");
    fs::create_dir(&lamp).unwrap();
    fs::write(lamp.join("machine.json"), &good).unwrap();
    assert_eq!(home.fails(&["delete", "lamp"]).kind, "needs-adopt");
    home.ok("delete", &["delete", "lamp", "--force"]);
    assert!(!lamp.exists());
    home.ok("snapshot", &["snapshot", "desk", "home"]);

    fs::write(&path, "{").unwrap();
    let told = home.fails(&["delete", "desk"]);
    assert_eq!(told.kind, "malformed");
    let said = home.answer("fsck", 1, &["fsck"]);
    assert!(
        said.to_string().contains("stratavm delete desk --force"),
        "{said}"
    );
    home.ok("delete", &["delete", "desk", "--force"]);
    assert!(!home.machine("desk").exists());
    let freed = home.ok("prune", &["prune"]);
    assert!(
        freed["freed"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["kind"] == "image"),
        "{freed}"
    );
    assert_eq!(
        home.ok("image-list", &["image", "list"])["images"],
        serde_json::json!([])
    );
    assert_eq!(home.fails(&["delete", "desk", "--force"]).kind, "not-found");
}

/// Clears a screen, names a window, turns text around, forges a line.
#[cfg(unix)]
const EVIL: &str = "a\u{1b}[2J\u{9b}2J\u{1b}]0;x\u{7}\u{202e}b\nnext: run me";

#[cfg(unix)]
#[test]
fn nothing_that_a_file_or_guest_says_drives_the_terminal() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let harmless = |what: &str, output: std::process::Output| {
        for stream in [&output.stdout, &output.stderr] {
            let text = crate::bench::text(stream);
            let bad =
                |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!text.chars().any(bad), "{what}: {text:?}");
            // What a guest prints has lines of its own.
            let forged = text.lines().any(|line| line.starts_with("next: run me"));
            assert!(!forged || what.contains("console"), "{what}: {text:?}");
        }
        crate::bench::text(&output.stdout) + &crate::bench::text(&output.stderr)
    };
    // Where names and texts of others come out: files and folders, consoles, images by hand.
    let file = |path: std::path::PathBuf| fs::write(path, EVIL).unwrap();
    file(
        home.machine("desk")
            .join("layers/home")
            .join(format!("{EVIL}.vmdk")),
    );
    file(home.store().join("images").join(EVIL));
    file(home.machine("desk").join("console.log"));
    file(home.folder().join(EVIL));
    fs::create_dir(home.store().join("machines").join(EVIL)).unwrap();
    fs::write(
        home.store()
            .join("machines")
            .join(EVIL)
            .join("machine.json"),
        EVIL,
    )
    .unwrap();
    for json in [&[][..], &["--json"]] {
        for arguments in [
            &["prune", "--dry-run"][..],
            &["fsck"],
            &["list"],
            &["console", "desk"],
            &["disk", "info", EVIL],
            &["image", "add", EVIL, "--exact"],
            &["image", "list"],
            &["adopt", EVIL, "--moved"],
            &["create", EVIL],
            &["translate", EVIL, "--out", EVIL],
            &["status", "desk"],
            &["layers", "desk"],
            &["history", "desk", "home"],
            &["snapshot", "desk", "home", "--label", EVIL],
        ] {
            harmless(
                &format!("{arguments:?}"),
                home.run(&[arguments, json].concat()),
            );
        }
    }
    let shown = harmless("fsck", home.run(&["fsck"]));
    assert!(
        shown.contains("\\u{1b}[2J"),
        "it is shown all the same: {shown}"
    );
}

//! `prune`: the store as a whole.

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

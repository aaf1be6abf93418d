//! `disk check` as its users meet it: status, words and repairs.

use std::fs;

use crate::bench::Home;

#[test]
fn damage_is_told_and_mended_on_demand() {
    let home = Home::new();
    home.ok(
        "disk-create",
        &["disk", "create", "a.vmdk", "--size", "8 MiB"],
    );
    let path = home.folder().join("a.vmdk");
    let good = fs::read(&path).unwrap();
    let clean = home.ok("disk-check", &["disk", "check", "a.vmdk"]);
    assert_eq!(clean["findings"].as_array().unwrap().len(), 0);

    // Room that a writer left behind, and its mark: status 1 for the mark alone.
    let mut left = good.clone();
    left.resize(good.len() + 70_000, 7);
    fs::write(&path, &left).unwrap();
    let leaked = home.ok("disk-check", &["disk", "check", "a.vmdk"]);
    assert_eq!(leaked["leaked"], 70_000);
    assert_eq!(leaked["findings"][0]["remedy"], "repair");
    left[72] = 1;
    fs::write(&path, &left).unwrap();
    let open = home.answer("disk-check", 1, &["disk", "check", "a.vmdk"]);
    assert_eq!(open["sound"], false);
    assert!(
        fs::read(&path).unwrap() == left,
        "nothing is changed unasked"
    );
    let mended = home.ok("disk-check", &["disk", "check", "a.vmdk", "--repair"]);
    let kinds: Vec<_> = mended["repaired"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["fault"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["leak", "unclean"]);
    assert!(fs::read(&path).unwrap() == good);

    // An entry behind the end: given up only if the user says so.
    let mut lost = good.clone();
    for table in [22 * 512, 27 * 512] {
        lost[table..table + 4].copy_from_slice(&[0, 0, 1, 0]);
    }
    fs::write(&path, &lost).unwrap();
    home.answer("disk-check", 1, &["disk", "check", "a.vmdk", "--repair"]);
    assert!(fs::read(&path).unwrap() == lost);
    let text = crate::bench::text(&home.run(&["disk", "check", "a.vmdk"]).stdout);
    assert!(
        text.contains("outside: a.vmdk at byte 13824") && text.contains("--drop-lost"),
        "{text}"
    );
    home.ok(
        "disk-check",
        &["disk", "check", "a.vmdk", "--repair", "--drop-lost"],
    );
    assert!(fs::read(&path).unwrap() == good);
    assert_eq!(
        home.run(&["disk", "check", "a.vmdk", "--drop-lost"])
            .status
            .code(),
        Some(2)
    );
}

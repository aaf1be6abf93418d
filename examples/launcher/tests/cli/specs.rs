//! Specs with faults, through the binary: all of them at once, each with its place.

use crate::bench::Home;

const FAULTY: &str = "stratavm = 1
name = \"Desk\"
colour = \"red\"
[guest]
os = \"linus\"
composition = \"disks\"
[hardware]
memory = \"64 MB\"
cpus = 0
[[layer]]
name = \"os\"
role = \"os\"
[[layer]]
name = \"os\"
role = \"apps\"
image = \"a\\u0007.raw\"
sise = \"1 GiB\"
";

#[test]
fn every_fault_is_told_with_line_and_column() {
    let home = Home::new();
    home.file("faulty.toml", FAULTY);
    for command in [
        &["create", "faulty.toml"][..],
        &["translate", "faulty.toml", "--out", "out"],
    ] {
        let failure = home.fails(command);
        assert_eq!(failure.kind, "invalid");
        for fault in [
            "2:8: name",
            "3:1: colour",
            "5:6: guest.os",
            "8:10: hardware.memory",
            "9:8: hardware.cpus",
            "17:1: layer[1].sise",
        ] {
            let place = format!("faulty.toml:{fault}");
            assert!(failure.all.contains(&place), "{place}: {}", failure.all);
            assert!(failure.stderr.contains(&place), "{}", failure.stderr);
        }
        assert!(
            failure.all.contains("linux") && failure.all.contains("size"),
            "nearest keys: {}",
            failure.all
        );
    }
    assert!(!home.machine("desk").exists() && !home.folder().join("out").exists());
}

#[test]
fn what_is_no_spec_at_all_is_told() {
    let home = Home::new();
    home.file("cut.toml", &FAULTY.as_bytes()[..40]);
    home.file("binary.toml", [0xff, 0xfe, 0, 1]);
    home.file("huge.toml", "#".repeat(2 << 20));
    home.file("future.toml", "stratavm = 2\nwhatever = true\n");
    home.file("cut.json", "{\"stratavm\": 1, ");
    home.file("empty.toml", "");
    for (file, kind) in [
        ("cut.toml", "invalid"),
        ("binary.toml", "invalid"),
        ("huge.toml", "invalid"),
        ("future.toml", "from-the-future"),
        ("cut.json", "invalid"),
        ("empty.toml", "invalid"),
        ("missing.toml", "not-found"),
        (".", "io"),
    ] {
        let failure = home.fails(&["create", file]);
        assert_eq!(failure.kind, kind, "{file}: {failure:?}");
        assert!(failure.all.contains(file), "{file}: {failure:?}");
    }
    assert!(!home.store().join("machines").exists());
}

//! `disk convert` and `disk flatten` as their users meet them: every format and back, chains kept, refusals with a next
//! step.

use std::fs;

use crate::bench::Home;

/// Formats and the extension of their names.
const FORMATS: [(&str, &str); 7] = [
    ("vmdk", "vmdk"),
    ("vmdk-flat", "vmdk"),
    ("vmdk-split", "vmdk"),
    ("vmdk-stream", "vmdk"),
    ("vdi", "vdi"),
    ("hdd", "hdd"),
    ("qcow2", "qcow2"),
];

#[test]
fn a_disk_goes_through_every_format_and_back() {
    let home = Home::new();
    let mut disk = vec![0; 3 << 20];
    disk[5000..900_000].fill(7);
    disk[(3 << 20) - 1] = 9;
    fs::write(home.folder().join("a.raw"), &disk).unwrap();
    for (format, extension) in FORMATS {
        let (there, back) = (format!("{format}.{extension}"), format!("{format}.raw"));
        let made = home.ok(
            "disk-convert",
            &["disk", "convert", "a.raw", &there, "--to", format],
        );
        assert_eq!(
            (&made["format"], &made["images"]),
            (&format.into(), &1.into())
        );
        let args = ["disk", "flatten", &there, &back];
        home.ok("disk-flatten", &args);
        assert!(
            fs::read(home.folder().join(&back)).unwrap() == disk,
            "{format}"
        );
        // What is there stays as it is.
        let taken = home.fails(&args);
        assert_eq!(taken.kind, "exists", "{}", taken.all);
    }
}

#[test]
fn a_chain_is_kept_or_flattened_as_asked_and_never_by_chance() {
    let home = Home::new();
    home.ok(
        "disk-create",
        &["disk", "create", "base.vmdk", "--size", "4 MiB"],
    );
    home.ok(
        "disk-create",
        &["disk", "create", "head.vmdk", "--parent", "base.vmdk"],
    );
    let refused = home.fails(&["disk", "convert", "head.vmdk", "x.vdi"]);
    assert!(refused.next.contains("--chain"), "{}", refused.all);
    let kept = home.ok(
        "disk-convert",
        &["disk", "convert", "head.vmdk", "x.hdd", "--chain"],
    );
    assert_eq!(kept["images"], 2);
    let one = home.ok("disk-flatten", &["disk", "flatten", "x.hdd", "one.raw"]);
    assert_eq!((&one["images"], &one["written"]), (&1.into(), &0.into()));
    let raw = home.fails(&["disk", "convert", "head.vmdk", "y.raw", "--chain"]);
    assert_eq!(raw.kind, "unsupported", "{}", raw.all);
    let unsaid = home.fails(&["disk", "flatten", "head.vmdk", "y"]);
    assert!(unsaid.next.contains("--to"), "{}", unsaid.all);
    assert!(!home.folder().join("y.raw").exists());
}

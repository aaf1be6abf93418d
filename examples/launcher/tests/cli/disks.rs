//! `disk info` and `disk create`, on good images and on files that lie.

use std::fs;

use crate::bench::{Home, MIB};

#[test]
fn images_are_made_and_read_back() {
    let home = Home::new();
    for (file, format) in [
        ("a.raw", "raw"),
        ("a.vmdk", "vmdk-sparse"),
        ("a.hds", "hds"),
    ] {
        let made = home.ok("disk-create", &["disk", "create", file, "--size", "8 MiB"]);
        assert_eq!(made["bytes"], 8 * MIB);
        let info = home.ok("disk-info", &["disk", "info", file]);
        assert_eq!(
            (&info["image"]["format"], &info["image"]["size"]),
            (&format.into(), &(8 * MIB).into())
        );
        assert!(
            home.text(&["disk", "info", file])
                .contains(&format!("format: {format}"))
        );
    }
    let child = home.ok(
        "disk-create",
        &["disk", "create", "b.vmdk", "--parent", "a.vmdk"],
    );
    assert_eq!(child["bytes"], 8 * MIB);
    let (parent, child) = (
        home.ok("disk-info", &["disk", "info", "a.vmdk"]),
        home.ok("disk-info", &["disk", "info", "b.vmdk"]),
    );
    let link = |info: &serde_json::Value, key: &str| info["image"]["vmdk"][key].clone();
    assert_eq!(link(&child, "parent-cid"), link(&parent, "cid"));
    assert_eq!(link(&child, "parent-uuid"), link(&parent, "uuid"));
    assert_eq!(link(&child, "parent-hint"), "a.vmdk");
    assert!(!home.store().exists(), "no store is needed");
}

#[test]
fn every_format_is_made_checked_and_has_children_where_it_can() {
    let home = Home::new();
    for (format, file) in [
        ("raw", "base.raw"),
        ("vmdk", "one.vmdk"),
        ("vmdk-flat", "flat.vmdk"),
        ("vmdk-split", "split.vmdk"),
        ("vdi", "one.vdi"),
        ("hdd", "one.hdd"),
        ("hds", "one.hds"),
        ("qcow2", "one.qcow2"),
    ] {
        let arguments = [
            "disk", "create", file, "--size", "5 MiB", "--format", format,
        ];
        assert_eq!(home.ok("disk-create", &arguments)["bytes"], 5 * MIB);
        let check = home.ok("disk-check", &["disk", "check", file]);
        assert_eq!(check["findings"].as_array().unwrap().len(), 0, "{check:#}");
        let map = home.ok("disk-map", &["disk", "map", file]);
        assert_eq!(map.as_array().unwrap().len(), 1, "{file}: {map:#}");
        home.ok(
            "disk-compare",
            &["disk", "compare", "base.raw", file, "--strict"],
        );
    }
    for (child, parent, names) in [
        ("a.vmdk", "flat.vmdk", true),
        ("a.vdi", "one.vdi", false),
        ("a.qcow2", "base.raw", true),
        ("b.qcow2", "one.vmdk", true),
    ] {
        home.ok(
            "disk-create",
            &["disk", "create", child, "--parent", parent],
        );
        let on = if names { vec![] } else { vec!["--on", parent] };
        let info = [&["disk", "info", child, "--chain"], &on[..]].concat();
        let info = home.ok("disk-info", &info);
        assert_eq!(info["chain"].as_array().unwrap().len(), 2, "{info:#}");
        let check = [&["disk", "check", child], &on[..]].concat();
        assert_eq!(home.ok("disk-check", &check)["images"], 2);
    }
}

#[test]
fn what_cannot_be_made_is_told_and_leaves_nothing() {
    let home = Home::new();
    home.ok(
        "disk-create",
        &["disk", "create", "a.vmdk", "--size", "8 MiB"],
    );
    home.file("taken.raw", "mine");
    let files = || fs::read_dir(home.folder()).unwrap().count();
    let before = files();
    for (arguments, kind) in [
        (&["taken.raw", "--size", "1 MiB"][..], "exists"),
        (&["b.xyz", "--size", "1 MiB"], "invalid"),
        (&["b.raw", "--size", "1 KiB"], "invalid"),
        (&["b.vmdk", "--size", "0 MiB"], "invalid"),
        (&["b.vmdk", "--size", "16777216 TiB"], "invalid"),
        (&["no/such/b.raw", "--size", "1 MiB"], "not-found"),
        (&["b.vmdk", "--parent", "missing.vmdk"], "not-found"),
        (&["b.vmdk", "--parent", "taken.raw"], "unsupported"),
        (&["b.vdi", "--parent", "a.vmdk"], "unsupported"),
        (
            &["b.vmdk", "--size", "8 MiB", "--format", "vmdk-stream"],
            "unsupported",
        ),
        (
            &["b.vmdk", "--parent", "a.vmdk", "--size", "9 MiB"],
            "invalid",
        ),
        (&["b.hds", "--parent", "a.vmdk"], "invalid"),
    ] {
        let arguments = [&["disk", "create"], arguments].concat();
        let failure = home.fails(&arguments);
        assert_eq!(failure.kind, kind, "{arguments:?}: {failure:?}");
        assert_eq!(before, files(), "{arguments:?}");
    }
    assert_eq!(fs::read(home.folder().join("taken.raw")).unwrap(), b"mine");
}

#[test]
fn files_that_lie_are_refused_without_following_them() {
    let home = Home::new();
    home.ok(
        "disk-create",
        &["disk", "create", "a.vmdk", "--size", "8 MiB"],
    );
    home.ok(
        "disk-create",
        &["disk", "create", "a.hds", "--size", "8 MiB"],
    );
    let vmdk = fs::read(home.folder().join("a.vmdk")).unwrap();
    let hds = fs::read(home.folder().join("a.hds")).unwrap();
    let poke = |from: &[u8], at: usize, bytes: &[u8]| {
        let mut bad = from.to_vec();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let bundle = home.folder().join("bad.hdd");
    fs::create_dir(&bundle).unwrap();
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><x>&b;</x>";
    fs::write(bundle.join("DiskDescriptor.xml"), bomb).unwrap();
    let hostile: [(&str, Vec<u8>); 6] = [
        ("cut.vmdk", vmdk[..600].to_vec()),
        ("capacity.vmdk", poke(&vmdk, 12, &[0xff; 8])),
        ("descriptor.vmdk", poke(&vmdk, 28, &[0xff; 8])),
        ("grains.vmdk", poke(&vmdk, 20, &[0; 8])),
        ("cut.hds", hds[..20].to_vec()),
        ("table.hds", poke(&hds, 32, &[0xff; 4])),
    ];
    for (name, bytes) in &hostile {
        home.file(name, bytes);
    }
    let names = hostile.iter().map(|(name, _)| *name);
    for name in names.chain(["bad.hdd"]) {
        let failure = home.fails(&["disk", "info", name]);
        assert!(
            ["malformed", "unsupported"].contains(&failure.kind.as_str()),
            "{name}: {failure:?}"
        );
        assert!(failure.all.contains(name), "{name}: {failure:?}");
    }
    assert_eq!(
        home.fails(&["disk", "info", "missing.vmdk"]).kind,
        "not-found"
    );

    // What a descriptor names is shown, escaped, and never opened.
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\nRW 2048 FLAT \"../../etc/\u{1b}[2Jshadow\" 0\n";
    home.file("named.vmdk", descriptor);
    let output = home.run(&["disk", "info", "named.vmdk"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

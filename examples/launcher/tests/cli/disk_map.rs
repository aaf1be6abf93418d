//! `disk map` and `disk info --chain` on chains that qemu-img made: the same ranges as `qemu-img map`, what an image
//! names opened only where it may be.

use serde_json::{Value, json};
use std::fs;

use crate::bench::{Home, MIB};
use crate::qemu;

/// A base of 8 MiB and two children, written to by qemu-io.
fn chain(home: &Home) {
    let (folder, path) = (home.folder(), |name: &str| home.folder().join(name));
    for (n, name) in ["base.vmdk", "middle.vmdk", "head.vmdk"].iter().enumerate() {
        let file = path(name).to_str().unwrap().to_owned();
        let parent = ["", "base.vmdk", "middle.vmdk"][n];
        let parent = folder.join(parent).to_str().unwrap().to_owned();
        let mut arguments = vec!["create", "-q", "-f", "vmdk", &file];
        match n {
            0 => arguments.push("8M"),
            _ => arguments.extend(["-b", &parent, "-F", "vmdk"]),
        }
        qemu::ok("qemu-img", &arguments);
        for (pattern, at) in [("0x11", "0"), ("0x22", "1M"), ("0x33", "5M")]
            .iter()
            .skip(n)
        {
            qemu::qemu_write(
                &json!({"driver": "vmdk", "file": {"driver": "file", "filename": file}}),
                pattern,
                at,
                "192k",
            );
        }
    }
}

/// The ranges without what only one of the two says, neighbours of the same kind merged.
fn plain(ranges: &Value) -> Vec<(u64, u64, u64, bool, bool)> {
    let mut merged: Vec<(u64, u64, u64, bool, bool)> = Vec::new();
    for range in ranges.as_array().unwrap() {
        let number = |key: &str| range[key].as_u64().unwrap();
        let flag = |key: &str| range[key].as_bool().unwrap();
        let data = flag("data");
        // Of what nobody has, the two count the depth in different ways.
        let depth = if data { number("depth") } else { 0 };
        let next = (number("start"), number("length"), depth, flag("zero"), data);
        match merged.last_mut() {
            Some(last) if (last.2, last.3, last.4) == (next.2, next.3, next.4) => last.1 += next.1,
            _ => merged.push(next),
        }
    }
    merged
}

#[test]
fn the_map_of_a_chain_is_that_of_qemu_img() {
    if qemu::missing("map of a vmdk chain") {
        return;
    }
    let home = Home::new();
    chain(&home);
    let ours = home.ok("disk-map", &["disk", "map", "head.vmdk"]);
    let head = home.folder().join("head.vmdk");
    let theirs = qemu::ok(
        "qemu-img",
        &["map", "--output=json", head.to_str().unwrap()],
    );
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    assert_eq!(plain(&ours), plain(&theirs), "{ours:#}\n{theirs:#}");
    let total: u64 = ours
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["length"].as_u64().unwrap())
        .sum();
    assert_eq!(total, 8 * MIB);
    let text = home.text(&["disk", "map", "head.vmdk"]);
    assert_eq!(
        text.lines().count(),
        ours.as_array().unwrap().len() + 1,
        "{text}"
    );
    assert!(
        text.contains("base.vmdk") && text.contains("absent"),
        "{text}"
    );

    let info = home.ok("disk-info", &["disk", "info", "head.vmdk", "--chain"]);
    let chain = info["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 3);
    assert_eq!(chain[0]["parent"]["cid"], chain[1]["cid"]);
    assert!(chain[2].get("parent").is_none(), "{info:#}");
}

#[test]
fn what_an_image_names_is_opened_only_below_the_folder_that_is_said() {
    let home = Home::new();
    fs::create_dir(home.folder().join("heads")).unwrap();
    home.ok(
        "disk-create",
        &["disk", "create", "base.vmdk", "--size", "8 MiB"],
    );
    let head = "heads/head.vmdk";
    home.ok(
        "disk-create",
        &["disk", "create", head, "--parent", "base.vmdk"],
    );
    let failure = home.fails(&["disk", "map", head]);
    assert!(failure.all.contains("--below"), "{failure:?}");
    let map = home.ok("disk-map", &["disk", "map", head, "--below", "."]);
    assert_eq!(map.as_array().unwrap().len(), 1, "{map}");
    assert_eq!(map[0]["present"], false);
    let failure = home.fails(&["disk", "info", head, "--chain"]);
    assert!(failure.all.contains("--below"), "{failure:?}");
    // Another base than the head was made over.
    fs::remove_file(home.folder().join("base.vmdk")).unwrap();
    home.ok(
        "disk-create",
        &["disk", "create", "base.vmdk", "--size", "8 MiB"],
    );
    let failure = home.fails(&["disk", "info", head, "--chain", "--below", "."]);
    assert_eq!(failure.kind, "mismatch", "{failure:?}");
    for file in ["base.vmdk", "head.vmdk"] {
        assert!(failure.all.contains(file), "{failure:?}");
    }
}

#[test]
fn the_format_is_what_the_name_or_the_user_says_never_what_stands_in_the_file() {
    let home = Home::new();
    home.ok(
        "disk-create",
        &["disk", "create", "a.vmdk", "--size", "8 MiB"],
    );
    let bytes = fs::read(home.folder().join("a.vmdk")).unwrap();
    home.file("guest.raw", &bytes);
    home.file("guest", &bytes);
    let map = home.ok("disk-map", &["disk", "map", "guest.raw"]);
    let end = map.as_array().unwrap().last().unwrap();
    let size = end["start"].as_u64().unwrap() + end["length"].as_u64().unwrap();
    assert_eq!(size, bytes.len() as u64, "a raw disk, whatever it holds");
    let failure = home.fails(&["disk", "map", "guest"]);
    assert_eq!(failure.kind, "invalid");
    assert!(failure.next.contains("--format"), "{failure:?}");
    home.ok("disk-map", &["disk", "map", "guest", "--format", "vmdk"]);
    assert_eq!(
        home.fails(&["disk", "map", "guest.raw", "--format", "hds"])
            .kind,
        "malformed"
    );
}

#[test]
fn disks_are_compared_across_formats() {
    let home = Home::new();
    let mut bytes = vec![0; 8 << 20];
    bytes[5_000_000] = 1;
    home.file("a.raw", &bytes);
    for file in ["b.vmdk", "c.hds"] {
        home.ok("disk-create", &["disk", "create", file, "--size", "8 MiB"]);
    }
    let same = home.ok("disk-compare", &["disk", "compare", "b.vmdk", "c.hds"]);
    assert_eq!(same["equal"], true);
    let other = home.answer("disk-compare", 1, &["disk", "compare", "a.raw", "b.vmdk"]);
    assert_eq!(other["first-difference"], 5_000_000);
    home.file("d.raw", [0; 512]);
    home.ok("disk-compare", &["disk", "compare", "d.raw", "b.vmdk"]);
    let strict = home.answer(
        "disk-compare",
        1,
        &["disk", "compare", "d.raw", "b.vmdk", "--strict"],
    );
    assert!(strict["first-difference"].is_null());
    let text = crate::bench::text(&home.run(&["disk", "compare", "a.raw", "c.hds"]).stdout);
    assert!(text.contains("first at byte 5000000"), "{text}");
    assert_eq!(
        home.fails(&["disk", "compare", "a.raw", "x.raw"]).kind,
        "not-found"
    );
}

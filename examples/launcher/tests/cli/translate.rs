//! `translate`: plans for one product or all, twice the same bytes, refusals beside plans.

use serde_json::json;
use stratavm::testkit::guest::BootSector;

use crate::bench::{DESK, Home, tree};

fn spec(home: &Home, text: &str) {
    home.disk("os.raw", 1, Some(&BootSector::new()), "os");
    home.disk("office.raw", 1, None, "office");
    home.file("desk.toml", text);
}

#[test]
fn one_product_gets_a_folder_that_is_complete() {
    let home = Home::new();
    spec(&home, DESK);
    let answer = home.ok(
        "translate",
        &[
            "translate",
            "desk.toml",
            "--product",
            "virtualbox",
            "--out",
            "out",
        ],
    );
    let plan = &answer["plans"][0];
    assert_eq!(plan["product"], "virtualbox");
    assert_eq!(plan["disks"].as_array().unwrap().len(), 3);
    for disk in plan["disks"].as_array().unwrap() {
        for file in disk["chain"].as_array().unwrap() {
            assert!(
                std::path::Path::new(file.as_str().unwrap()).is_file(),
                "{file}"
            );
        }
    }
    let entry = plan["entry"].as_str().unwrap();
    assert!(std::path::Path::new(entry).is_file());
    assert!(
        !home.store().join("machines").join("desk").exists(),
        "no machine is made"
    );
    let text = home.text(&[
        "translate",
        "desk.toml",
        "--product",
        "virtualbox",
        "--out",
        "out",
    ]);
    assert!(text.starts_with("product virtualbox\n"), "{text}");
}

#[test]
fn twice_the_same_bytes_for_every_product() {
    let home = Home::new();
    spec(&home, DESK);
    let first = home.ok("translate", &["translate", "desk.toml", "--out", "out"]);
    let products: Vec<_> = first["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["product"].clone())
        .collect();
    for product in ["qemu", "virtualbox", "vmware"] {
        assert!(products.contains(&json!(product)), "{products:?}");
        assert!(home.folder().join("out").join(product).is_dir());
    }
    assert_eq!(first["refused"], json!([]));
    let before = tree(&home.folder().join("out"));
    assert!(before.len() > 6);
    let second = home.ok(
        "translate",
        &["translate", "desk.toml", "--product", "all", "--out", "out"],
    );
    assert_eq!(first, second);
    assert!(
        before == tree(&home.folder().join("out")),
        "the second time wrote other bytes"
    );
}

#[test]
fn a_product_that_refuses_does_not_keep_the_others_from_their_plans() {
    let home = Home::new();
    spec(&home, &DESK.replace("\"ide\"", "\"virtio\""));
    let answer = home.ok("translate", &["translate", "desk.toml", "--out", "out"]);
    let refused = answer["refused"].as_array().unwrap();
    assert!(
        refused
            .iter()
            .any(|r| r["product"] == "vmware" && r["next"].is_string()),
        "{answer}"
    );
    assert!(
        answer["plans"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["product"] == "qemu")
    );
    assert!(
        !home.folder().join("out/vmware").exists(),
        "nothing half written"
    );
    let text = home.text(&["translate", "desk.toml", "--out", "out"]);
    assert!(text.contains("==== vmware\nrefused: "), "{text}");
    let alone = home.fails(&[
        "translate",
        "desk.toml",
        "--product",
        "vmware",
        "--out",
        "out",
    ]);
    assert_eq!(alone.kind, "unsupported");
    assert!(alone.message.contains("vmware"), "{alone:?}");
}

#[test]
fn an_image_by_digest_needs_the_store_that_has_it() {
    let home = Home::new();
    spec(&home, DESK);
    let added = home.ok("image-add", &["image", "add", "os.raw"]);
    let digest = added["digest"].as_str().unwrap();
    home.file("digest.toml", DESK.replace("os.raw", digest));
    let answer = home.ok(
        "translate",
        &[
            "translate",
            "digest.toml",
            "--product",
            "qemu",
            "--out",
            "out",
        ],
    );
    let base = answer["plans"][0]["disks"][0]["chain"][0].as_str().unwrap();
    assert!(
        std::path::Path::new(base).starts_with(home.store()),
        "{base}"
    );
    let mut bare = std::process::Command::new(env!("CARGO_BIN_EXE_stratavm"));
    bare.args(["translate", "digest.toml", "--out", "out", "--json"]);
    bare.current_dir(home.folder()).env_remove("STRATAVM_HOME");
    let failure = crate::bench::failure(&bare.output().unwrap());
    assert!(failure.next.contains("--home"), "{failure:?}");
    home.file("odd.raw", vec![1; 1000]);
    home.file("odd.toml", DESK.replace("os.raw", "odd.raw"));
    let odd = home.fails(&["translate", "odd.toml", "--out", "out"]);
    assert!(odd.next.contains("stratavm image add"), "{odd:?}");
}

#[test]
fn a_place_that_cannot_be_written_to_is_told() {
    let home = Home::new();
    spec(&home, DESK);
    home.file("out", "a file");
    let failure = home.fails(&[
        "translate",
        "desk.toml",
        "--product",
        "qemu",
        "--out",
        "out",
    ]);
    assert!(failure.all.contains("out"), "{failure:?}");
    assert_eq!(std::fs::read(home.folder().join("out")).unwrap(), b"a file");
}

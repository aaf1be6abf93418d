//! Discard and keep on every controller of QEMU, through the launcher: a machine of four layers
//! whose guest writes to all of its disks, boot after boot.

use serde_json::json;
use stratavm::testkit::guest::{BootSector, End};

use crate::bench::{Home, MARK, checked};
use crate::run::{qemu, stop_by_force, wait_for_boots};

/// What each disk's image holds, and what the guest puts over it.
const IMAGES: [&str; 4] = ["os image", "office image", "", "vault image"];
const WRITES: [&str; 4] = [
    "os written",
    "office written",
    "home written",
    "vault written",
];

/// Shows every disk's mark, then writes one to each.
fn guest(end: End) -> BootSector {
    (0_u8..)
        .zip(WRITES)
        .fold(BootSector::new().print(MARK), |guest, (disk, text)| {
            guest.write(disk, MARK, text)
        })
        .end(end)
}

fn machine(home: &Home, controller: &str) {
    home.disk("os.raw", 1, Some(&guest(End::Reset)), IMAGES[0]);
    home.disk("off.raw", 1, Some(&guest(End::PowerOff)), IMAGES[0]);
    home.disk("office.raw", 1, None, IMAGES[1]);
    home.disk("vault.raw", 1, None, IMAGES[3]);
    let spec = crate::bench::DESK.replace("\"ide\"", &format!("\"{controller}\""))
        + "[[layer]]\nname = \"vault\"\nrole = \"custom\"\nimage = \"vault.raw\"\n\
           writes = \"keep\"\nrejuvenate = \"keep\"\n";
    home.file("desk.toml", spec);
    home.ok("create", &["create", "desk.toml"]);
}

fn discards_and_keeps(controller: &str) {
    let Some(home) = qemu("4 layers on each controller") else {
        return;
    };
    machine(&home, controller);
    let digests = |home: &Home| -> Vec<String> {
        let list = home.ok("image-list", &["image", "list"]);
        let images = list["images"].as_array().unwrap();
        images
            .iter()
            .map(|i| i["digest"].as_str().unwrap().to_owned())
            .collect()
    };
    let images = digests(&home);
    let clean_and_kept = [IMAGES[0], IMAGES[1], WRITES[2], WRITES[3]];

    // The guest resets itself: each of its boots is a start on fresh heads.
    let running = home.spawn(&["start", "desk", "--wait"]);
    wait_for_boots(&home, 2);
    stop_by_force(&home);
    let answer = checked("start", 0, &running.output());
    assert_eq!(answer["ended"], "power-off");
    assert!(answer["boots"].as_u64().unwrap() >= 2, "{answer}");
    let boots = home.boots("desk");
    assert_eq!(boots[0].texts(MARK), IMAGES, "{controller}: the first boot");
    for boot in boots[1..].iter().filter(|boot| boot.ended) {
        assert_eq!(
            boot.texts(MARK),
            clean_and_kept,
            "{controller}: after a reset"
        );
    }
    assert!(
        boots[0]
            .events
            .iter()
            .all(|e| !matches!(e.outcome, stratavm::testkit::guest::Outcome::Failed(_)))
    );

    // A start from off, with the os updated meanwhile: the other layers stay what they are.
    home.ok("update", &["update", "desk", "os", "off.raw"]);
    let answer = home.ok("start", &["start", "desk", "--wait"]);
    assert_eq!(
        (&answer["ended"], &answer["boots"]),
        (&json!("power-off"), &json!(1))
    );
    assert_eq!(
        home.boots("desk")[0].texts(MARK),
        clean_and_kept,
        "{controller}: after power-off"
    );

    // Going back to before any write, and forward again.
    home.ok("rollback", &["rollback", "desk", "vault", "--to", "1"]);
    home.ok("start", &["start", "desk", "--wait"]);
    let vault = home.boots("desk")[0].text(3, MARK).map(str::to_owned);
    assert_eq!(
        vault.as_deref(),
        Some(IMAGES[3]),
        "{controller}: rolled back"
    );

    for digest in &images {
        let verified = home.ok("image-verify", &["image", "verify", digest]);
        assert_eq!(
            verified["intact"], true,
            "{controller}: a golden image changed"
        );
    }
}

#[test]
fn ide_discards_and_keeps() {
    discards_and_keeps("ide");
}

#[test]
fn sata_discards_and_keeps() {
    discards_and_keeps("sata");
}

#[test]
fn scsi_discards_and_keeps() {
    discards_and_keeps("scsi");
}

#[test]
fn nvme_discards_and_keeps() {
    discards_and_keeps("nvme");
}

#[test]
fn virtio_discards_and_keeps() {
    discards_and_keeps("virtio");
}

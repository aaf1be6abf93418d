//! A volume that fills up in the middle of an operation, or that is read-only: the error says so
//! and the store is as it was. Needs to mount a small tmpfs, which only root may.

use std::path::{Path, PathBuf};
use std::process::Command;

use stratavm::testkit::guest::BootSector;
use tempfile::TempDir;

use crate::bench::Home;
use crate::report;

/// A tmpfs of 2 MiB, unmounted with the value.
struct Small {
    folder: TempDir,
}

impl Small {
    fn mount(what: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            other => {
                report::skip(
                    "tmpfs",
                    what,
                    &format!("a tmpfs cannot be mounted: {other:?}"),
                );
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let mut command = Command::new("mount");
        let done = command.args(["-o", &options]).arg(self.path()).status();
        assert!(done.unwrap().success());
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Fills the volume and leaves `pages` of 4 KiB.
    fn leave(&self, pages: u64) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok_and(|n| n == 4096) {}
        let full = file.metadata().unwrap().len() / 4096;
        file.set_len(full.saturating_sub(pages) * 4096).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// A start that gets as far as a QEMU that refuses, or that runs out of room before.
#[test]
fn a_start_without_room_leaves_the_store_as_it_was() {
    let Some(small) = Small::mount("a full volume") else {
        return;
    };
    let mut home = Home::new().with_store(&small.path().join("home"));
    home.desk(&BootSector::new());
    let qemu = "[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.22'";
    crate::run::script_on_path(&mut home, &format!("#!/bin/sh\n{qemu}\n"));
    // What is made for the product is never truth, and made anew by every start.
    let truth = |home: &Home| {
        let mut files = home.snapshot();
        files.retain(|path, _| !path.starts_with(home.machine("desk").join("products")));
        files
    };
    let before = truth(&home);
    for pages in 0..200 {
        small.leave(pages);
        let failure = home.fails(&["start", "desk", "--wait"]);
        small.free();
        if failure.kind == "product" {
            assert!(pages > 3, "a start needs no room at all: {pages}");
            return;
        }
        assert_eq!(failure.kind, "no-space", "{pages} pages: {failure:?}");
        let after = truth(&home);
        let same = before == after;
        assert!(
            same,
            "{pages} pages: {:?} {:?}",
            before.keys(),
            after.keys()
        );
    }
    panic!("a start never gets as far as QEMU");
}

/// Gives an operation page after page until it succeeds; each failure leaves the store as it was.
/// Answers how often it failed.
fn squeezed(home: &Home, small: &Small, schema: &str, arguments: &[&str]) -> u64 {
    let before = home.snapshot();
    for pages in 0..200 {
        small.leave(pages);
        let output = home.run(&[arguments, &["--json"]].concat());
        small.free();
        if output.status.success() {
            crate::bench::checked(schema, 0, &output);
            return pages;
        }
        let failure = crate::bench::failure(&output);
        assert_eq!(failure.kind, "no-space", "{pages} pages: {failure:?}");
        assert!(failure.next.contains("room"), "{failure:?}");
        let after = home.snapshot();
        let same = before == after;
        assert!(
            same,
            "{arguments:?}, {pages} pages: {:?} {:?}",
            before.keys(),
            after.keys()
        );
    }
    panic!("{arguments:?} never succeeds");
}

#[test]
fn a_full_volume_leaves_the_store_as_it_was() {
    let Some(small) = Small::mount("a full volume") else {
        return;
    };
    let home = Home::new().with_store(&small.path().join("home"));
    home.desk(&BootSector::new());
    home.disk("office-2.raw", 1, None, "office v2");
    home.file(
        "crm.toml",
        "name = \"crm\"\nrole = \"apps\"\nimage = \"office-2.raw\"\n",
    );
    home.file(
        "other.toml",
        crate::bench::DESK.replacen("\"desk\"", "\"other\"", 1),
    );

    let mut failed = squeezed(
        &home,
        &small,
        "image-add",
        &["image", "add", "office-2.raw"],
    );
    for (schema, arguments) in [
        ("snapshot", &["snapshot", "desk", "os"][..]),
        ("update", &["update", "desk", "office", "office-2.raw"]),
        ("rollback", &["rollback", "desk", "office"]),
        ("rejuvenate", &["rejuvenate", "desk"]),
        ("create", &["create", "other.toml"]),
        ("add", &["add", "other", "crm.toml"]),
    ] {
        let times = squeezed(&home, &small, schema, arguments);
        assert!(times > 0, "{arguments:?} needs no room at all");
        failed += times;
    }
    assert!(failed > 20, "{failed}");
    report::ran("tmpfs", "a full volume");

    // A full store can still be looked at, and things be deleted from it.
    small.leave(0);
    home.ok("list", &["list"]);
    home.ok("status", &["status", "desk"]);
    home.ok("delete", &["delete", "other"]);
    small.free();
}

#[test]
fn a_read_only_store_says_so_and_stays_as_it_is() {
    let Some(small) = Small::mount("a read-only volume") else {
        return;
    };
    let home = Home::new().with_store(&small.path().join("home"));
    home.desk(&BootSector::new());
    home.file(
        "other.toml",
        crate::bench::DESK.replacen("\"desk\"", "\"other\"", 1),
    );
    let before = home.snapshot();
    small.remount("ro");
    // It can be looked at: nothing of that needs to write.
    for (schema, arguments) in [
        ("list", &["list"][..]),
        ("status", &["status", "desk"]),
        ("layers", &["layers", "desk"]),
        ("history", &["history", "desk", "home"]),
        ("image-list", &["image", "list"]),
        ("fsck", &["fsck", "--digests"]),
        ("prune", &["prune", "--dry-run"]),
    ] {
        home.ok(schema, arguments);
    }
    assert_eq!(home.ok("list", &["list"])["machines"][0]["state"], "off");
    for arguments in [
        &["create", "other.toml"][..],
        &["image", "add", "office.raw"],
        &["snapshot", "desk", "home"],
        &["rejuvenate", "desk"],
        &["start", "desk", "--wait"],
        &["delete", "desk"],
    ] {
        let failure = home.fails(arguments);
        assert_eq!(
            failure.kind, "permission-denied",
            "{arguments:?}: {failure:?}"
        );
        assert!(failure.next.contains("write"), "{failure:?}");
        assert!(
            failure.all.contains(home.store().to_str().unwrap()),
            "{failure:?}"
        );
    }
    assert_eq!(before, home.snapshot());
    small.remount("rw");
    home.ok("snapshot", &["snapshot", "desk", "home"]);
    report::ran("tmpfs", "a read-only volume");
}

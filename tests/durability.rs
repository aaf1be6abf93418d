//! What must be on disk before the record is replaced, seen from outside: under `strace` every
//! file and folder that an operation relies on is synced before the rename of `machine.json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]
#![cfg(target_os = "linux")]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/report.rs"]
mod report;

use std::path::Path;
use std::process::Command;

use harness::Harness;
use stratavm::machine::Kept;

/// Set in the traced copy of this test: what it is to do, and with which machine.
const TASK: &str = "STRATAVM_TEST_TASK";

/// Not a test of its own: the operation that the tests below trace, in a process of its own.
#[test]
fn traced_operation() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let harness = Harness::at(Path::new(&std::env::var("STRATAVM_TEST_STORE").unwrap()));
    let machine = harness.machine();
    let home = "home".parse().unwrap();
    match task.as_str() {
        "snapshot" => drop(machine.snapshot(&home, None).unwrap()),
        "rollback" => drop(machine.rollback(&home, Some(1), Kept::Preserve).unwrap()),
        "start" => harness.run(&[]),
        other => panic!("no task {other}"),
    }
}

/// Calls that matter, in order: `sync PATH` and `rename TO`.
fn trace(task: &str, store: &Path) -> Option<Vec<String>> {
    if Command::new("strace").arg("-V").output().is_err() {
        report::skip("strace", "order of syncs", "strace is not installed");
        return None;
    }
    let log = store.join(format!("{task}.trace"));
    let status = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2",
            "-s",
            "4096",
            "-o",
        ])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced_operation"])
        .env(TASK, task)
        .env("STRATAVM_TEST_STORE", store)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );
    report::ran("strace", "order of syncs");
    let text = std::fs::read_to_string(&log).unwrap();
    let step = |line: &str| {
        if let Some((_, rest)) = line.split_once("sync(") {
            let path = rest.split_once('<')?.1.split_once('>')?.0;
            return Some(format!("sync {path}"));
        }
        let (_, rest) = line.split_once("rename")?;
        let to = rest.rsplit('"').nth(1)?;
        Some(format!("rename {to}"))
    };
    Some(text.lines().filter_map(step).collect())
}

/// The steps before the first rename of `machine.json`.
fn before_commit(steps: &[String]) -> &[String] {
    let commit = steps
        .iter()
        .position(|step| step.ends_with("/machine.json"))
        .unwrap();
    &steps[..commit]
}

fn synced(steps: &[String], path: &Path) -> bool {
    steps
        .iter()
        .any(|step| *step == format!("sync {}", path.display()))
}

#[test]
fn a_snapshot_syncs_the_frozen_head_the_new_head_and_their_folder_first() {
    let harness = Harness::plain();
    harness.run(&[("home", 1, 0x11)]);
    let folder = harness.layer_folder("home");
    let frozen = harness.head("home");
    let Some(steps) = trace("snapshot", harness.folder()) else {
        return;
    };
    let before = before_commit(&steps);
    for path in [&frozen, &harness.head("home"), &folder] {
        assert!(synced(before, path), "{} in {before:#?}", path.display());
    }
    assert_ne!(frozen, harness.head("home"));
}

#[test]
fn a_start_syncs_no_head_that_is_discarded() {
    let harness = Harness::plain();
    let Some(steps) = trace("start", harness.folder()) else {
        return;
    };
    for layer in ["os", "apps"] {
        let head = harness.head(layer);
        assert!(!synced(&steps, &head), "{} in {steps:#?}", head.display());
    }
}

#[test]
fn a_rollback_syncs_what_it_froze_and_the_head_it_made_first() {
    let harness = Harness::plain();
    harness.run(&[("home", 1, 0x11)]);
    let frozen = harness.head("home");
    let Some(steps) = trace("rollback", harness.folder()) else {
        return;
    };
    let before = before_commit(&steps);
    assert!(
        synced(before, &frozen) && synced(before, &harness.head("home")),
        "{before:#?}"
    );
}

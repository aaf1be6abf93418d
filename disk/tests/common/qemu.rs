//! QEMU's tools for the tests of this folder: run with a time limit, on chains given node by node. The test that has this
//! module has `tests/common/report.rs` as `report`, too.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use crate::report;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a program to its end, at most a minute.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("{program} {args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Whether QEMU's tools are not there to read or make `what`: either way the closing table says so, and where skips are
/// failures this fails the test.
pub(crate) fn missing(what: &str) -> bool {
    let there = ["qemu-img", "qemu-io"].iter().all(|p| {
        Command::new(p)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    });
    match there {
        true => report::ran("qemu-img", what),
        false => report::skip(
            "qemu-img",
            what,
            "qemu-img and qemu-io are not on PATH (package qemu-utils)",
        ),
    }
    !there
}

pub(crate) fn ok(program: &str, args: &[&str]) -> String {
    let out = run(program, args);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success(), "{program} {args:?}: {text}");
    text
}

pub(crate) fn node(driver: &str, file: &Path, backing: Option<Value>) -> Value {
    let mut node =
        json!({"driver": driver, "file": {"driver": "file", "filename": file.to_str().unwrap()}});
    if let Some(backing) = backing {
        node["backing"] = backing;
    }
    node
}

/// The guest disk as QEMU sees it.
pub(crate) fn content(node: &Value, dir: &Path) -> Vec<u8> {
    let out = dir.join("content.raw");
    ok(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            &format!("json:{node}"),
            out.to_str().unwrap(),
        ],
    );
    fs::read(out).unwrap()
}

pub(crate) fn qemu_write(node: &Value, pattern: &str, at: &str, len: &str) {
    let command = format!("write -P {pattern} {at} {len}");
    ok("qemu-io", &["-c", &command, &format!("json:{node}")]);
}

/// Whether QEMU reads these bytes: also false where it refuses to read at all.
pub(crate) fn qemu_reads(node: &Value, pattern: &str, at: &str, len: &str) -> bool {
    let command = format!("read -P {pattern} {at} {len}");
    let out = run("qemu-io", &["-r", "-c", &command, &format!("json:{node}")]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    out.status.success() && text.contains("read ") && !text.contains("ailed")
}

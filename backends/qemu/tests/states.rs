//! Standing still and being saved: what QEMU does, and what it refuses by itself.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use common::{Bench, ctx, qemu};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use stratavm::hypervisor::{Begin, Endpoint, Launch, Stop};
use stratavm::testkit::Sample;
use stratavm::testkit::guest::{BootSector, End};
use stratavm::{ErrorKind, Hypervisor as _};

/// Asks a running QEMU without this backend's help.
fn ask(endpoint: &Endpoint, commands: &[Value]) -> Vec<Value> {
    let path = endpoint.address.strip_prefix("unix:").unwrap();
    let mut stream = UnixStream::connect(path).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut answer = || loop {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if line.get("event").is_none() {
            return line;
        }
    };
    answer();
    let mut answers = Vec::new();
    for command in [json!({"execute": "qmp_capabilities"})]
        .iter()
        .chain(commands)
    {
        writeln!(stream, "{command}").unwrap();
        answers.push(answer());
    }
    answers
}

/// The gap that plans report for `policy.suspend = "on"` is QEMU's own word.
#[test]
fn qemu_refuses_to_save_a_machine_with_vmdk_disks() {
    let Some(qemu) = qemu("qemu-system-x86_64") else {
        return;
    };
    let guest = BootSector::new().end(End::Hang);
    let bench = Bench::new(Sample::new("one").unwrap(), &guest);
    let mut running = bench.start(&qemu, 1).unwrap();
    let endpoint = running.endpoint().clone();
    let file = bench.dir.path().join("state");
    let migrate = json!({
        "execute": "migrate",
        "arguments": {"uri": format!("exec:cat > '{}'", file.display())},
    });
    let answers = ask(&endpoint, &[json!({"execute": "query-migrate"}), migrate]);
    let reasons = answers[1]["return"]["blocked-reasons"].to_string();
    assert!(reasons.contains("vmdk"), "{answers:?}");
    let refused = answers[2]["error"]["desc"].as_str().unwrap();
    assert!(refused.contains("vmdk"), "{answers:?}");
    assert!(!file.exists());

    let error = block_on(qemu.suspend(&endpoint, &ctx())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    block_on(running.stop(Stop::PowerOff, &ctx())).unwrap();
    let launch = Launch::new(bench.plan(&qemu, 1), bench.dir.path().join("run"));
    let saved = block_on(qemu.start(&launch.begin(Begin::SavedState), &ctx()));
    assert_eq!(saved.unwrap_err().kind(), ErrorKind::NotFound);
}

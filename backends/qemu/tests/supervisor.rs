//! QEMU never outlives its supervisor. The supervisor is this test program, run once more.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, LIMIT, ctx, qemu};
use futures_lite::future::block_on;
use stratavm::Hypervisor as _;
use stratavm::hypervisor::{Endpoint, State};
use stratavm::testkit::Sample;
use stratavm::testkit::guest::{BootSector, End};

const X86: &str = "qemu-system-x86_64";
/// Set where this program is the supervisor.
const ROLE: &str = "STRATAVM_TEST_SUPERVISOR";

/// What the supervisor does: starts a guest that stands still, says where it is, and waits.
#[test]
fn supervisor_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let qemu = qemu(X86).unwrap();
    let bench = Bench::new(
        Sample::new("one").unwrap(),
        &BootSector::new().end(End::Hang),
    );
    let mut running = bench.start(&qemu, 1).unwrap();
    println!(
        "\nENDPOINT {}",
        serde_json::to_string(running.endpoint()).unwrap()
    );
    let _ = block_on(running.wait(&ctx()));
}

#[test]
fn qemu_dies_with_a_supervisor_that_is_killed() {
    let Some(qemu) = qemu(X86) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervisor_process", "--nocapture"])
        .env(ROLE, "1")
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let endpoint: Endpoint = lines
        .map_while(Result::ok)
        .find_map(|line| Some(serde_json::from_str(line.strip_prefix("ENDPOINT ")?).unwrap()))
        .expect("the supervisor says where its machine is");
    assert_eq!(
        block_on(qemu.state(&endpoint, &ctx())).unwrap(),
        State::Running
    );

    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let until = Instant::now() + LIMIT;
    while block_on(qemu.state(&endpoint, &ctx())).unwrap() != State::Off {
        assert!(Instant::now() < until, "QEMU outlives its supervisor");
        std::thread::sleep(Duration::from_millis(20));
    }
}

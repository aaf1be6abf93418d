//! A QEMU that hangs, talks nonsense or dies: always an error that says so, and never a wait
//! without end. The broken QEMU is a script, or this test program run once more.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use common::{Bench, ctx};
use futures_lite::future::block_on;
use stratavm::hypervisor::{Ended, Endpoint, Launch, Running, State, Stop};
use stratavm::testkit::Sample;
use stratavm::testkit::guest::BootSector;
use stratavm::{Ctx, Error, ErrorKind, Hypervisor as _};
use stratavm_qemu::{PRODUCT, Qemu};

/// What the fake QEMU says once somebody connects; set where this program is the fake.
const SAYS: &str = "STRATAVM_TEST_QMP";
const ARGUMENTS: &str = "STRATAVM_TEST_ARGUMENTS";
const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;
/// Instead of a line: the fake QEMU is gone.
const EXIT: &str = "exit";
const OK: &str = r#"{"return": {}}"#;

/// A folder with a QEMU that knows its version and otherwise does as `script` says.
fn fake(script: &str) -> (tempfile::TempDir, Qemu) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("qemu-system-x86_64");
    let version = "QEMU emulator version 7.2.22 (fake)";
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version}'; exit 0; fi\n{script}\n"
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let qemu = Qemu::new().in_folder(dir.path()).emulated();
    (dir, qemu)
}

/// A QEMU whose first socket is this program, which says `says` line by line, one for each line
/// that it hears, and then is silent.
fn talker(says: &[&str]) -> (tempfile::TempDir, Qemu) {
    let exe = std::env::current_exe().unwrap();
    let says = says.join("\n").replace('\'', "'\\''");
    fake(&format!(
        "export {SAYS}='{says}' {ARGUMENTS}=\"$*\"\n\
         exec '{}' --exact fake_qemu --nocapture >/dev/null",
        exe.display()
    ))
}

#[test]
fn fake_qemu() {
    let (Ok(says), Ok(arguments)) = (std::env::var(SAYS), std::env::var(ARGUMENTS)) else {
        return;
    };
    let (_, rest) = arguments.split_once("id=qmp-run,path=").unwrap();
    let (path, _) = rest.split_once(",server").unwrap();
    let (mut stream, _) = UnixListener::bind(path).unwrap().accept().unwrap();
    let mut heard = [0; 4096];
    for (index, line) in says.lines().enumerate() {
        if line == EXIT {
            // Once the supervisor has heard the last line and listens.
            std::thread::sleep(Duration::from_millis(200));
            std::process::exit(3);
        }
        if index > 0 {
            let _ = stream.read(&mut heard);
        }
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

fn start(qemu: &Qemu, ctx: &Ctx) -> Result<Box<dyn Running>, Error> {
    let bench = Bench::new(Sample::new("one").unwrap(), &BootSector::new());
    let launch = Launch::new(bench.plan(qemu, 1), bench.dir.path().join("run"));
    block_on(qemu.start(&launch, ctx))
}

fn soon() -> Ctx {
    Ctx::none().with_deadline(Instant::now() + Duration::from_millis(1500))
}

#[test]
fn one_that_dies_is_quoted() {
    let (_dir, qemu) = fake("echo \"qemu: could not load PC BIOS 'bios-256k.bin'\" >&2; exit 1");
    let error = start(&qemu, &ctx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Product);
    assert!(error.to_string().contains("PC BIOS"), "{error}");
    let (_dir, qemu) = fake("kill -SEGV $$");
    let error = start(&qemu, &ctx()).unwrap_err();
    assert!(error.to_string().contains("signal: 11"), "{error}");
}

#[test]
fn one_that_hangs_is_given_up_at_the_deadline() {
    let (_dir, qemu) = fake("exec sleep 600");
    assert_eq!(
        start(&qemu, &soon()).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    // Opens its socket and says nothing, or stops in the middle.
    for says in [&[][..], &[GREETING], &[GREETING, OK]] {
        let (_dir, qemu) = talker(says);
        assert_eq!(
            start(&qemu, &soon()).unwrap_err().kind(),
            ErrorKind::Timeout,
            "{says:?}"
        );
    }
}

#[test]
fn one_that_talks_nonsense_is_quoted() {
    for says in [
        &["220 mail.example ESMTP"][..],
        &[GREETING, "[]"],
        &[GREETING, OK, "{\"re"],
    ] {
        let (_dir, qemu) = talker(says);
        let error = start(&qemu, &ctx()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Product, "{says:?}");
        assert!(error.to_string().contains("is not QMP"), "{error}");
    }
}

#[test]
fn one_that_dies_while_it_runs_is_a_crash() {
    let (_dir, qemu) = talker(&[GREETING, OK, OK, EXIT]);
    let mut running = start(&qemu, &ctx()).unwrap();
    let ended = block_on(running.wait(&ctx())).unwrap();
    assert!(
        matches!(&ended, Ended::Crash(what) if what.contains("without a word")),
        "{ended:?}"
    );
}

#[test]
fn pulling_the_plug_works_on_one_that_does_not_listen() {
    // It opens no second socket, so nobody can be asked.
    let (_dir, qemu) = talker(&[GREETING, OK, OK]);
    let mut running = start(&qemu, &ctx()).unwrap();
    let endpoint = running.endpoint().clone();
    assert!(block_on(running.stop(Stop::Shutdown, &ctx())).is_err());
    #[cfg(target_os = "linux")]
    assert_eq!(
        block_on(qemu.state(&endpoint, &ctx())).unwrap(),
        State::Unknown
    );
    block_on(running.stop(Stop::PowerOff, &ctx())).unwrap();
    assert_eq!(block_on(running.wait(&ctx())).unwrap(), Ended::PowerOff);
    assert_eq!(block_on(qemu.state(&endpoint, &ctx())).unwrap(), State::Off);
}

#[test]
fn an_endpoint_where_something_else_listens_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n");
        }
    });
    let endpoint = Endpoint::new(PRODUCT, format!("unix:{}", path.display()), None);
    let qemu = Qemu::new();
    let error = block_on(qemu.state(&endpoint, &ctx())).unwrap_err();
    assert!(
        error.to_string().contains("is not QMP: HTTP/1.1"),
        "{error}"
    );
    for address in ["unix:/nonexistent/socket", "nonsense", "", "unix:"] {
        let endpoint = Endpoint::new(PRODUCT, address, None);
        assert_eq!(
            block_on(qemu.state(&endpoint, &ctx())).unwrap(),
            State::Off,
            "{address}"
        );
    }
}

#[test]
fn a_call_that_was_cancelled_starts_nothing() {
    let (_dir, qemu) = fake("exec sleep 600");
    let ctx = Ctx::none();
    ctx.cancel_token().cancel();
    assert_eq!(start(&qemu, &ctx).unwrap_err().kind(), ErrorKind::Cancelled);
}

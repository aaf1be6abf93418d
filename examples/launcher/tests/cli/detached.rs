//! `start` without `--wait`: a supervisor that outlives the command and its terminal, and errors
//! that are handed over whole. The product is the real QEMU, or a script in its place.
#![cfg(unix)]

use std::process::Command;

use serde_json::{Value, json};
use stratavm::testkit::guest::{BootSector, End};

use crate::bench::{Home, Spawned, failure, wait_for};
use crate::run::{qemu, script_on_path, stop_by_force, wait_for_boots};

/// The machine `desk` of a home, whose supervisor is ended with this value.
pub(crate) struct Left<'a>(pub(crate) &'a Home);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if let Some(pid) = self.supervisor() {
            signal("KILL", pid);
        }
    }
}

impl Left<'_> {
    /// `machine.json` as it is.
    pub(crate) fn record(&self) -> Value {
        let bytes = std::fs::read(self.0.machine("desk").join("machine.json"));
        serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
    }

    /// The supervisor that is recorded.
    pub(crate) fn supervisor(&self) -> Option<u64> {
        self.record()["run"]["supervisor"]["pid"].as_u64()
    }
}

pub(crate) fn signal(name: &str, pid: u64) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .output();
    sent.unwrap();
}

/// Whether a process is there and not only waiting to be reaped.
pub(crate) fn is_there(pid: u64) -> bool {
    let state = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

fn hanging() -> BootSector {
    BootSector::new().end(End::Hang)
}

#[test]
fn a_machine_is_left_running_and_stopped_from_another_process() {
    let Some(home) = qemu("detached start") else {
        return;
    };
    home.desk(&hanging());
    let left = Left(&home);
    let answer = home.ok("start", &["start", "desk"]);
    assert_eq!(
        (&answer["running"], &answer["product"]),
        (&json!(true), &json!("qemu"))
    );
    let supervisor = answer["supervisor"].as_u64().unwrap();
    assert_eq!(left.supervisor(), Some(supervisor));
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(
        (&status["state"], &status["supervisor"], &status["boots"]),
        (&json!("running"), &json!(supervisor), &json!(1))
    );
    assert_eq!(status["since"], answer["since"]);
    assert!(status["endpoint"].is_string(), "{status}");
    let busy = home.fails(&["start", "desk"]);
    assert_eq!(busy.kind, "busy");
    assert!(busy.next.contains("stratavm stop desk"), "{busy:?}");
    wait_for_boots(&home, 1);
    stop_by_force(&home);
    wait_for("the supervisor's end", || {
        (!is_there(supervisor)).then_some(())
    });
    assert!(left.record()["run"].is_null());
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(status["last-run"]["ended"], "power-off", "{status}");
    assert_eq!(status["last-run"]["since"], answer["since"]);
    let log = std::fs::read_to_string(answer["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("running"), "{log}");
}

#[test]
fn the_supervisor_belongs_to_no_terminal_and_holds_no_pipe_of_its_callers() {
    let Some(home) = qemu("session") else { return };
    home.desk(&hanging());
    let left = Left(&home);
    // The shell's ninth file is the pipe that this test reads to its end.
    let program = home.command(&["start", "desk"]);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "exec 9>&1; \"$@\" >/dev/null 2>&1; echo status $?",
        "sh",
    ]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(home.folder());
    for (key, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    let output = Spawned::new(&mut shell).output();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "status 0\n");
    let pid = left.supervisor().unwrap();
    let shown = Command::new("ps")
        .args(["-o", "sess=,tty=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let mut words = shown.split_whitespace();
    assert_eq!(words.next(), Some(pid.to_string().as_str()), "{shown}");
    assert!(matches!(words.next(), Some("?" | "??")), "{shown}");
    stop_by_force(&home);
}

#[test]
fn why_a_machine_does_not_run_is_handed_over_whole() {
    let mut home = Home::new();
    script_on_path(
        &mut home,
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.22' && exit\n\
         echo \"qemu: could not load PC BIOS 'bios-256k.bin'\" >&2\nexit 1\n",
    );
    home.desk(&hanging());
    let waited = home.fails(&["start", "desk", "--wait"]);
    let detached = home.fails(&["start", "desk"]);
    assert_eq!(detached.kind, "product");
    assert!(detached.all.contains("PC BIOS"), "{detached:?}");
    assert_eq!((&detached.all, &detached.next), (&waited.all, &waited.next));
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
}

#[test]
fn a_run_that_is_over_in_no_time_is_no_error() {
    let Some(home) = qemu("short run") else {
        return;
    };
    home.desk(&BootSector::new());
    let left = Left(&home);
    let answer = home.ok("start", &["start", "desk"]);
    assert!(
        answer["running"] == json!(true) || answer["ended"] == "power-off",
        "{answer}"
    );
    wait_for("the end", || left.record()["run"].is_null().then_some(()));
}

#[test]
fn a_supervisor_that_is_killed_while_it_starts_is_told() {
    let mut home = Home::new();
    script_on_path(
        &mut home,
        "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.22' && exit\n\
         for a; do [ \"$a\" = kvm ] && exit 1; done\nexec sleep 600\n",
    );
    home.desk(&hanging());
    let left = Left(&home);
    let starting = home.spawn(&["start", "desk"]);
    let pid = wait_for("the supervisor", || left.supervisor());
    signal("KILL", pid);
    let failed = failure(&starting.output());
    assert!(failed.message.contains("without a word"), "{failed:?}");
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
}

#[test]
fn a_machine_is_paused_resumed_and_never_said_to_be_saved() {
    let Some(home) = qemu("pause") else { return };
    home.desk(&hanging());
    let _left = Left(&home);
    for command in ["pause", "resume", "suspend"] {
        let off = home.fails(&[command, "desk"]);
        assert!(
            matches!(off.kind.as_str(), "invalid" | "permission-denied"),
            "{off:?}"
        );
    }
    home.ok("start", &["start", "desk"]);
    let state = || home.ok("status", &["status", "desk"])["state"].clone();
    home.ok("pause", &["pause", "desk"]);
    assert_eq!(state(), "paused");
    home.ok("resume", &["resume", "desk"]);
    assert_eq!(state(), "running");
    let denied = home.fails(&["suspend", "desk"]);
    assert_eq!(denied.kind, "permission-denied");
    assert!(denied.next.contains("policy.suspend"), "{denied:?}");
    let none = home.fails(&["stop", "desk", "--discard-state"]);
    assert_eq!(none.kind, "invalid");
    home.ok("pause", &["pause", "desk"]);
    stop_by_force(&home);
}

#[test]
fn qemu_saves_no_state_and_says_so() {
    let Some(home) = qemu("suspend") else { return };
    home.desk(&hanging());
    let allowed = std::fs::read_to_string(home.folder().join("desk.toml")).unwrap();
    let allowed = allowed.replace("\"desk\"\n", "\"deck\"\n") + "[policy]\nsuspend = \"on\"\n";
    home.file("deck.toml", allowed);
    home.ok("create", &["create", "deck.toml"]);
    let started = home.ok("start", &["start", "deck"]);
    let unsupported = home.fails(&["suspend", "deck"]);
    assert_eq!(unsupported.kind, "unsupported");
    assert!(unsupported.all.contains("VMDK"), "{unsupported:?}");
    assert_eq!(home.ok("status", &["status", "deck"])["state"], "running");
    home.ok("stop", &["stop", "deck", "--force"]);
    assert!(!is_there(started["supervisor"].as_u64().unwrap()));
}

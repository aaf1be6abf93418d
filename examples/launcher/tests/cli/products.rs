//! A QEMU that lies, dies or hangs: scripts in its place. Each is told in clear words, the machine
//! is off afterwards, and what its layers keep is what it was.

use serde_json::json;
use stratavm::testkit::guest::BootSector;

use crate::bench::{Failure, Home, failure, tree, wait_for};
use crate::run::script_on_path;

/// Answers `--version` as a good QEMU does, and refuses accelerators, so that the run is reached.
const GOOD_SO_FAR: &str = "#!/bin/sh
[ \"$1\" = --version ] && { echo 'QEMU emulator version 7.2.22 (Debian)'; exit 0; }
for argument; do [ \"$argument\" = kvm ] && exit 1; done
";

fn desk(script: &str) -> Home {
    let mut home = Home::new();
    home.desk(&BootSector::new());
    script_on_path(&mut home, script);
    home
}

fn fails(home: &Home) -> Failure {
    let kept = tree(&home.machine("desk").join("layers/home"));
    let failure = home.fails(&["start", "desk", "--wait"]);
    assert!(
        kept == tree(&home.machine("desk").join("layers/home")),
        "kept data changed"
    );
    is_off(home);
    failure
}

fn is_off(home: &Home) {
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
    let record = std::fs::read_to_string(home.machine("desk").join("machine.json")).unwrap();
    assert!(!record.contains("\"run\""), "{record}");
    assert!(
        !home.machine("desk").join("run").exists(),
        "sockets are left"
    );
    home.ok("snapshot", &["snapshot", "desk", "home"]);
    home.ok(
        "rollback",
        &["rollback", "desk", "home", "--to", "1", "--discard-writes"],
    );
}

#[test]
fn what_is_no_qemu_is_unavailable() {
    for (script, said) in [
        (
            "#!/bin/sh\nprintf '\\033[2Jhello\\n'\n",
            "does not look like QEMU",
        ),
        (
            "#!/bin/sh\necho 'QEMU emulator version 2.11.1'\n",
            "too old",
        ),
        ("#!/bin/sh\necho 'no luck' >&2; exit 3\n", "no luck"),
        ("#!/no/such/interpreter\n", "could not be started"),
    ] {
        let failure = fails(&desk(script));
        assert_eq!(failure.kind, "unavailable", "{failure:?}");
        assert!(failure.all.contains(said), "{failure:?}");
        assert!(failure.all.contains("qemu-system-x86_64"), "{failure:?}");
    }
}

#[test]
fn a_qemu_that_dies_is_quoted() {
    let script = format!("{GOOD_SO_FAR}printf 'no \\033[31mmemory\\n' >&2; exit 1\n");
    let failure = fails(&desk(&script));
    assert_eq!(failure.kind, "product");
    assert!(failure.message.contains("did not start"), "{failure:?}");
    assert!(failure.message.contains("memory"), "{failure:?}");
    let killed = fails(&desk(&format!("{GOOD_SO_FAR}kill -9 $$\n")));
    assert!(killed.message.contains("signal: 9"), "{killed:?}");
    let silent = fails(&desk(&format!("{GOOD_SO_FAR}exit 0\n")));
    assert_eq!(silent.kind, "product");
}

#[test]
fn a_qemu_that_prints_without_end_and_dies_is_cut_short() {
    let noise = "i=0; while [ $i -lt 3000 ]; do echo \"garbage \\033[0m $i\" >&2; i=$((i+1)); done; exit 9\n";
    let failure = fails(&desk(&format!("{GOOD_SO_FAR}{noise}")));
    assert_eq!(failure.kind, "product");
    assert!(failure.message.len() < 4096, "{}", failure.message.len());
}

#[test]
fn a_qemu_that_hangs_is_ended_when_the_time_is_up() {
    let home = desk(&format!("{GOOD_SO_FAR}exec sleep 600\n"));
    let answer = home.answer("start", 1, &["start", "desk", "--wait", "--timeout", "2"]);
    assert_eq!(answer["ended"], json!("timeout"));
    is_off(&home);
}

#[test]
fn a_qemu_that_hangs_is_ended_by_a_signal() {
    let home = desk(&format!(
        "{GOOD_SO_FAR}echo $$ > \"$0.pid\"; exec sleep 600\n"
    ));
    let running = home.spawn(&["start", "desk", "--wait"]);
    let pid = home.folder().join("bin/qemu-system-x86_64.pid");
    wait_for("the script", || {
        std::fs::read_to_string(&pid)
            .ok()
            .filter(|p| p.ends_with('\n'))
    });
    let process = running.id().to_string();
    let sent = std::process::Command::new("kill").arg(&process).status();
    assert!(sent.unwrap().success());
    let failure = failure(&running.output());
    assert_eq!(failure.kind, "cancelled", "{failure:?}");
    is_off(&home);
}

#[test]
fn doctor_tells_a_broken_qemu() {
    let home = desk("#!/bin/sh\nprintf '\\033[2Jhello\\n'\n");
    let answer = home.ok("doctor", &["doctor"]);
    let products = answer["products"].as_array().unwrap();
    let qemu = products.iter().find(|p| p["product"] == "qemu").unwrap();
    let told = format!("{} {}", qemu["problems"], qemu["facts"]);
    assert!(told.contains("does not look like QEMU"), "{qemu}");
    assert!(!home.text(&["doctor"]).contains('\u{1b}'));
}

//! Real runs: `start --wait`, `stop` from another process, `console`, `status`, and signals. The
//! guest is the boot sector of the library's test kit, the product QEMU.

use std::path::PathBuf;

use serde_json::json;
use stratavm::testkit::guest::{BootSector, End};

use crate::bench::{Home, MARK, checked, wait_for};
use crate::report;

pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// A store whose commands find the real QEMU; `None` where there is none, which is reported.
pub(crate) fn qemu(what: &str) -> Option<Home> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|p| p.join(PROGRAM))
        .find(|p| p.is_file());
    let Some(program) = found else {
        report::skip("qemu", what, "qemu-system-x86_64 is not installed");
        return None;
    };
    let mut home = Home::new();
    emulated(&mut home, program);
    report::ran("qemu", what);
    Some(home)
}

/// Has accelerators refused, so that guests run the same on every host: a /dev/kvm that hangs its
/// guests after the trial would be the host's fault.
#[cfg(unix)]
fn emulated(home: &mut Home, program: PathBuf) {
    let script = format!(
        "#!/bin/sh\nfor argument; do [ \"$argument\" = kvm ] && exit 1; done\nexec '{}' \"$@\"\n",
        program.display()
    );
    script_on_path(home, &script);
}

#[cfg(not(unix))]
fn emulated(_home: &mut Home, _program: PathBuf) {}

/// Puts a script in the place of QEMU.
#[cfg(unix)]
pub(crate) fn script_on_path(home: &mut Home, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = home.folder().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join(PROGRAM);
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    home.first_on_path(&folder);
}

/// A guest that shows the mark of every disk and ends as told.
fn showing(end: End) -> BootSector {
    BootSector::new().print(MARK).end(end)
}

/// Waits until the guest of `desk` has come to its end line `boots` times.
pub(crate) fn wait_for_boots(home: &Home, boots: usize) {
    wait_for("boots on the console", || {
        let ended = home.boots("desk").iter().filter(|boot| boot.ended).count();
        (ended >= boots).then_some(())
    });
}

/// Stops `desk` from another process, whatever its guest does meanwhile.
pub(crate) fn stop_by_force(home: &Home) {
    let answer = home.ok("stop", &["stop", "desk", "--force"]);
    assert_eq!(answer["asked"], "power-off");
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
}

#[test]
fn a_guest_that_powers_off_ends_the_run_well() {
    let Some(home) = qemu("power-off") else {
        return;
    };
    home.desk(&showing(End::PowerOff));
    let answer = home.ok("start", &["start", "desk", "--wait"]);
    assert_eq!(
        (&answer["ended"], &answer["boots"]),
        (&json!("power-off"), &json!(1))
    );
    assert!(answer["detail"].is_null() && answer["guest-said"].is_null());
    let console = home.ok("console", &["console", "desk"]);
    assert_eq!(console["path"], answer["console"]);
    assert!(
        console["text"]
            .as_str()
            .unwrap()
            .contains("strata-boot: end")
    );
    assert_eq!(
        console["bytes"],
        std::fs::metadata(console["path"].as_str().unwrap())
            .unwrap()
            .len()
    );
    assert_eq!(
        home.boots("desk")[0].texts(MARK),
        ["os v1", "office v1", ""]
    );
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
    let output = home.run(&["start", "desk", "--wait"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("preparing") && said.contains("running"),
        "{said}"
    );
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "desk ended: power-off after 1 boot\n"
    );
}

#[test]
fn once_ends_at_a_reboot() {
    let Some(home) = qemu("reboot") else { return };
    home.desk(&showing(End::Reset));
    let answer = home.ok("start", &["start", "desk", "--wait", "--once"]);
    assert_eq!(
        (&answer["ended"], &answer["boots"]),
        (&json!("reboot"), &json!(1))
    );
}

#[test]
fn a_guest_that_outstays_its_time_is_switched_off() {
    let Some(home) = qemu("timeout") else { return };
    home.desk(&showing(End::Hang));
    let answer = home.answer("start", 1, &["start", "desk", "--wait", "--timeout", "3"]);
    assert_eq!(answer["ended"], "timeout");
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
    // A limit that no clock can hold is no limit.
    home.disk("off.raw", 1, Some(&showing(End::PowerOff)), "os v2");
    home.ok("update", &["update", "desk", "os", "off.raw"]);
    let forever = u64::MAX.to_string();
    let answer = home.ok("start", &["start", "desk", "--wait", "--timeout", &forever]);
    assert_eq!(answer["ended"], "power-off");
}

#[test]
fn a_running_machine_is_busy_and_is_stopped_from_another_process() {
    let Some(home) = qemu("stop by force") else {
        return;
    };
    home.desk(&showing(End::Hang));
    let running = home.spawn(&["start", "desk", "--wait"]);
    wait_for_boots(&home, 1);
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(
        (&status["state"], &status["product"]),
        (&json!("running"), &json!("qemu"))
    );
    assert_eq!(status["boots"], 1);
    assert_eq!(
        home.ok("list", &["list"])["machines"][0]["state"],
        "running"
    );
    for arguments in [
        &["start", "desk", "--wait"][..],
        &["delete", "desk"],
        &["snapshot", "desk", "home"],
        &["point", "create", "desk", "now"],
        &["undo", "desk"],
    ] {
        let busy = home.fails(arguments);
        assert_eq!(busy.kind, "busy", "{arguments:?}: {busy:?}");
        assert!(busy.next.contains("stratavm stop desk"), "{busy:?}");
    }
    stop_by_force(&home);
    let answer = checked("start", 0, &running.output());
    assert_eq!(answer["ended"], "power-off");
    assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
}

#[test]
fn stop_asks_the_guest_to_shut_down() {
    let Some(home) = qemu("ACPI shutdown") else {
        return;
    };
    home.desk(&showing(End::PowerButton));
    let running = home.spawn(&["start", "desk", "--wait"]);
    wait_for_boots(&home, 1);
    // The guest says that it is done a moment before it looks at the button.
    let asked = home.ok("stop", &["stop", "desk"]);
    assert_eq!(asked["asked"], "shutdown");
    let answer = checked("start", 0, &running.output());
    assert_eq!(
        (&answer["ended"], &answer["boots"]),
        (&json!("power-off"), &json!(1))
    );
}

#[cfg(unix)]
#[test]
fn a_signal_switches_the_machine_off_and_leaves_it_fit() {
    let Some(home) = qemu("signals") else { return };
    home.desk(&showing(End::Hang));
    for signal in ["INT", "TERM"] {
        let running = home.spawn(&["start", "desk", "--wait"]);
        wait_for("the guest", || {
            home.boots("desk").iter().any(|b| b.ended).then_some(())
        });
        let process = running.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &process])
            .status();
        assert!(sent.unwrap().success());
        let failure = crate::bench::failure(&running.output());
        assert_eq!(failure.kind, "cancelled");
        assert!(
            failure.message.contains("desk was switched off"),
            "{failure:?}"
        );
        let record = std::fs::read_to_string(home.machine("desk").join("machine.json")).unwrap();
        assert!(!record.contains("\"run\""), "the run is cleared: {record}");
        assert_eq!(home.ok("status", &["status", "desk"])["state"], "off");
        std::fs::remove_file(home.machine("desk").join("console.log")).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_launcher_takes_its_machine_with_it() {
    let Some(home) = qemu("kill -9") else { return };
    home.desk(&showing(End::Hang));
    let running = home.spawn(&["start", "desk", "--wait"]);
    wait_for_boots(&home, 1);
    let record = std::fs::read(home.machine("desk").join("machine.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let qemu = record["run"]["endpoint"]["process"]["pid"]
        .as_u64()
        .unwrap();
    drop(running);
    wait_for("QEMU to go", || {
        let state = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(status["state"], "off");
    assert!(status["since"].is_null());
    assert_eq!(status["last-run"]["ended"], "lost", "{status}");
    let said = home.text(&["status", "desk"]);
    let next = "next: stratavm start desk";
    assert!(
        said.contains("ended without a word") && said.contains(next),
        "{said}"
    );
    home.ok("snapshot", &["snapshot", "desk", "home"]);
}

#[test]
fn a_guest_that_prints_escapes_cannot_drive_the_terminal() {
    let Some(home) = qemu("console") else { return };
    home.desk(&showing(End::PowerOff));
    home.ok("start", &["start", "desk", "--wait"]);
    let console = home.machine("desk").join("console.log");
    let mut bytes = std::fs::read(&console).unwrap();
    bytes.extend(b"\x1b]0;owned\x07\x1b[2J\xff\n");
    std::fs::write(&console, bytes).unwrap();
    let shown = home.text(&["console", "desk"]);
    assert!(
        shown.contains("\\u{1b}]0;owned") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
    let answer = home.ok("console", &["console", "desk"]);
    assert!(
        answer["text"].as_str().unwrap().contains('\u{1b}'),
        "programs get what was written"
    );
}

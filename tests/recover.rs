//! Machines that outlive their supervisor or are saved to disk, and what is done about a run whose
//! supervisor is gone. The product is `null` in a folder; the supervisor is this test program, run
//! once more and killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/desk.rs"]
mod desk;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use desk::{Desk, ROLE, refused, soon};
use futures_lite::StreamExt as _;
use serde_json::{Value, json};
use stratavm::hypervisor::{Ended, Stop};
use stratavm::image::ImageDigest;
use stratavm::machine::{Kept, Recovered, RunEnd, RunEvent, RunOptions};
use stratavm::{Ctx, ErrorKind, Hypervisor as _, State, Vm, VmEvent, block_on, host};

/// What the supervisor does.
#[test]
fn supervisor_process() {
    let Some(folder) = std::env::var_os(ROLE) else {
        return;
    };
    Desk::at(folder.into()).run().unwrap();
}

#[test]
fn a_machine_that_lost_its_supervisor_is_taken_over_as_it_is() {
    let desk = Desk::new();
    let endpoint = desk.abandon();
    assert_eq!(desk.state(), State::Running);
    // Without the product at hand nothing of its heads is touched.
    let busy = refused(desk.snapshot("home"), ErrorKind::Busy);
    assert!(
        busy.to_string()
            .contains("null: machine desk may still run"),
        "{busy}"
    );
    refused(desk.machine().delete(), ErrorKind::Busy);
    assert_eq!(
        desk.recover().unwrap(),
        Recovered::Unattended(endpoint.clone())
    );
    let before = desk.record();

    let started = desk.start();
    assert_eq!(desk.recover().unwrap(), Recovered::Supervised);
    let record = desk.record();
    assert_eq!(record["run"]["supervisor"]["pid"], std::process::id());
    assert!(record["run"]["attached"].is_string());
    assert_eq!(record["layers"], before["layers"], "nothing was reset");
    desk.stop();
    let (report, events) = started.report();
    assert_eq!((report.end, report.boots), (RunEnd::PowerOff, 1));
    assert_eq!(events[0], RunEvent::Attached(endpoint));
    assert!(desk.record()["run"].is_null());
    desk.snapshot("home").unwrap();
}

#[test]
fn a_machine_that_lost_its_supervisor_is_stopped_without_one() {
    let desk = Desk::new();
    desk.abandon();
    desk.stop();
    assert_eq!(desk.state(), State::Off);
    assert!(desk.record()["run"].is_null());
}

#[test]
fn a_run_that_ended_unseen_leaves_no_torn_head_to_freeze() {
    let desk = Desk::new();
    let endpoint = desk.abandon();
    block_on(desk.null().stop(&endpoint, Stop::PowerOff, &soon())).unwrap();
    assert_eq!(desk.recover().unwrap(), Recovered::Off);
    let record = desk.record();
    assert!(record["run"].is_null());
    let usage = |index: usize| record["layers"][index]["head"]["use"].clone();
    assert_eq!((usage(0), usage(1)), (json!("untouched"), json!("started")));
}

#[test]
fn a_run_whose_supervisor_died_before_it_knew_where_is_found() {
    let desk = Desk::new();
    let endpoint = desk.abandon();
    desk.forge(|record| drop(record["run"].as_object_mut().unwrap().remove("endpoint")));
    assert_eq!(desk.recover().unwrap(), Recovered::Unattended(endpoint));
    desk.stop();
}

#[test]
fn a_product_that_is_gone_or_silent_changes_nothing() {
    let desk = Desk::new();
    desk.abandon();
    let before = desk.record();
    let (folder, away) = (desk.product_folder(), desk.folder.join("away"));
    std::fs::rename(&folder, &away).unwrap();
    for error in [
        refused(desk.recover(), ErrorKind::Unavailable),
        refused(desk.run(), ErrorKind::Unavailable),
    ] {
        let said = format!("{error:?}");
        assert!(
            said.contains("not known whether machine desk still runs on null"),
            "{said}"
        );
        assert!(said.contains("folder is gone"), "{said}");
    }
    refused(desk.snapshot("home"), ErrorKind::Busy);
    refused(desk.machine().delete(), ErrorKind::Busy);
    assert_eq!(desk.record(), before);
    std::fs::rename(&away, &folder).unwrap();

    std::fs::write(folder.join("silent"), "").unwrap();
    let short = Ctx::none().with_deadline(Instant::now() + Duration::from_millis(50));
    let asked = block_on(desk.machine().recover(&desk.null(), &short));
    refused(asked, ErrorKind::Timeout);
    assert_eq!(desk.record(), before);
    std::fs::remove_file(folder.join("silent")).unwrap();
    desk.stop();
}

#[test]
fn a_machine_of_another_product_is_not_started_here() {
    let desk = Desk::new();
    desk.abandon();
    desk.forge(|record| record["run"]["product"] = json!("other"));
    let error = refused(desk.run(), ErrorKind::Busy);
    assert_eq!(
        error.next_step(),
        Some("stratavm start desk --product other")
    );
    desk.forge(|record| record["run"]["phase"] = json!("suspended"));
    refused(desk.run(), ErrorKind::Suspended);
    desk.forge(|record| {
        record["run"]["product"] = json!("null");
        record["run"]["phase"] = json!("running");
    });
    desk.stop();
}

/// A machine that was started and saved to disk.
fn suspended() -> Desk {
    let desk = Desk::new();
    let started = desk.start();
    block_on(desk.machine().suspend(&desk.null(), &soon())).unwrap();
    let (report, _) = started.report();
    assert_eq!(report.end, RunEnd::Suspended);
    desk
}

#[test]
fn a_suspended_machine_keeps_everything_and_goes_on() {
    let desk = suspended();
    assert_eq!(desk.state(), State::Suspended);
    let before = desk.record();
    assert_eq!(before["run"]["phase"], "suspended");
    refused(desk.snapshot("home"), ErrorKind::Suspended);
    refused(desk.machine().rejuvenate(), ErrorKind::Suspended);
    refused(desk.machine().delete(), ErrorKind::Suspended);
    let stop = block_on(desk.machine().stop(&desk.null(), Stop::PowerOff, &soon()));
    refused(stop, ErrorKind::Suspended);
    refused(
        block_on(desk.machine().pause(&desk.null(), &soon())),
        ErrorKind::Suspended,
    );
    assert_eq!(desk.record(), before);

    let started = desk.start();
    assert_eq!(desk.state(), State::Running);
    let record = desk.record();
    assert_eq!(
        record["generation"], before["generation"],
        "nothing was reset"
    );
    assert_eq!(record["layers"], before["layers"]);
    desk.stop();
    let (report, events) = started.report();
    assert_eq!((report.end, report.boots), (RunEnd::PowerOff, 1));
    assert!(matches!(events[0], RunEvent::Resumed(_)), "{events:?}");
    desk.snapshot("home").unwrap();
}

#[test]
fn a_saved_state_is_dropped_only_on_demand() {
    let desk = suspended();
    let home = |record: &Value| record["layers"][1].clone();
    let before = desk.record();
    block_on(desk.machine().discard_state(&desk.null(), &soon())).unwrap();
    assert_eq!(desk.state(), State::Off);
    assert_eq!(
        home(&desk.record()),
        home(&before),
        "what was written is kept"
    );
    assert_eq!(desk.record()["layers"][0]["head"]["use"], "untouched");
    let again = block_on(desk.machine().discard_state(&desk.null(), &soon()));
    refused(again, ErrorKind::Invalid);
    // A start after that is one on fresh heads, with no old memory.
    let started = desk.start();
    desk.stop();
    assert!(matches!(started.report().1[0], RunEvent::Preparing(1)));
}

#[test]
fn a_saved_state_meets_no_other_machine_than_its_own() {
    for change in [
        |record: &mut Value| record["run"]["plan"] = json!("sha256:other"),
        |record: &mut Value| record["generation"] = json!(99),
    ] {
        let desk = suspended();
        desk.forge(change);
        let error = refused(desk.run(), ErrorKind::Mismatch);
        assert!(
            error.next_step().unwrap().contains("--discard-state"),
            "{error:?}"
        );
        assert_eq!(desk.state(), State::Suspended);
    }
}

#[test]
fn a_state_that_was_saved_without_a_supervisor_is_found() {
    let desk = Desk::new();
    let endpoint = desk.abandon();
    block_on(desk.null().suspend(&endpoint, &soon())).unwrap();
    assert_eq!(desk.recover().unwrap(), Recovered::Suspended);
    refused(desk.snapshot("home"), ErrorKind::Suspended);
    block_on(desk.null().discard_state(&endpoint, &soon())).unwrap();
    assert_eq!(
        desk.recover().unwrap(),
        Recovered::Off,
        "the product dropped it"
    );
}

#[test]
fn a_policy_forbids_suspending() {
    let desk = Desk::with_suspend("off");
    let started = desk.start();
    let denied = block_on(desk.machine().suspend(&desk.null(), &soon()));
    refused(denied, ErrorKind::PermissionDenied);
    desk.stop();
    started.report();
}

#[test]
fn a_paused_machine_is_told_from_a_running_one() {
    let desk = Desk::new();
    let started = desk.start();
    block_on(desk.machine().pause(&desk.null(), &soon())).unwrap();
    assert_eq!(desk.state(), State::Paused);
    block_on(desk.machine().resume(&desk.null(), &soon())).unwrap();
    assert_eq!(desk.state(), State::Running);
    desk.stop();
    started.report();
    refused(
        block_on(desk.machine().pause(&desk.null(), &soon())),
        ErrorKind::Invalid,
    );
}

#[test]
fn what_happens_comes_as_a_stream() {
    let desk = Desk::new();
    let vm = Vm::new(desk.machine(), Arc::new(desk.null()));
    let mut events = vm.events();
    let runs = vm.clone();
    let thread = std::thread::spawn(move || block_on(runs.run(RunOptions::default(), &soon())));
    let mut next = || block_on(events.next()).unwrap();
    assert_eq!(next(), VmEvent::Run(RunEvent::Preparing(1)));
    assert!(matches!(next(), VmEvent::Run(RunEvent::Running(_))));
    block_on(vm.pause(&soon())).unwrap();
    assert_eq!(next(), VmEvent::Paused);
    block_on(vm.resume(&soon())).unwrap();
    assert_eq!(next(), VmEvent::Resumed);
    block_on(vm.suspend(&soon())).unwrap();
    assert_eq!(next(), VmEvent::Run(RunEvent::Ended(Ended::Suspended)));
    assert_eq!(next(), VmEvent::Over(RunEnd::Suspended));
    thread.join().unwrap().unwrap();
    assert_eq!(block_on(vm.recover(&soon())).unwrap(), Recovered::Suspended);
    assert_eq!(next(), VmEvent::Recovered(Recovered::Suspended));
    block_on(vm.discard_state(&soon())).unwrap();
    assert_eq!(next(), VmEvent::StateDropped);
    drop(vm);
    assert_eq!(block_on(events.next()), None);
}

#[test]
fn a_call_that_is_cancelled_late_or_dropped_leaves_a_machine_to_go_on_with() {
    let desk = Desk::new();
    let cancelled = Ctx::none();
    cancelled.cancel_token().cancel();
    let late = Ctx::none().with_deadline(Instant::now());
    for (ctx, kind) in [
        (cancelled, ErrorKind::Cancelled),
        (late, ErrorKind::Timeout),
    ] {
        let ran = block_on(
            desk.machine()
                .run(Arc::new(desk.null()), RunOptions::default(), &ctx),
        );
        assert_eq!(ran.unwrap_err().kind(), kind);
        assert_eq!(desk.state(), State::Off);
        let process = host::this_process();
        let waited = block_on(desk.machine().await_running(process, &ctx));
        assert_eq!(waited.unwrap_err().kind(), kind);
        let (machine, null) = (desk.machine(), desk.null());
        let started = desk.start();
        assert_eq!(
            block_on(machine.pause(&null, &ctx)).unwrap_err().kind(),
            kind
        );
        assert_eq!(
            block_on(machine.suspend(&null, &ctx)).unwrap_err().kind(),
            kind
        );
        let stopped = block_on(machine.stop(&null, Stop::PowerOff, &ctx));
        assert_eq!(stopped.unwrap_err().kind(), kind);
        assert_eq!(desk.state(), State::Running);
        desk.stop();
        started.report();
    }
    // Dropped at its first wait; the machine then runs or does not, and is stopped either way.
    for looks in 1..4 {
        let started = desk.start();
        let (machine, null, ctx) = (desk.machine(), desk.null(), soon());
        let mut stop = Box::pin(machine.stop(&null, Stop::PowerOff, &ctx));
        for _ in 0..looks {
            let polled = block_on(async {
                std::future::poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx))).await
            });
            if polled.is_ready() {
                break;
            }
        }
        drop(stop);
        desk.stop();
        started.report();
        assert_eq!(desk.state(), State::Off);
    }
}

#[test]
fn another_process_of_the_same_number_is_not_taken_for_the_machine() {
    let desk = Desk::new();
    let me = host::this_process();
    let run = json!({
        "product": "qemu", "generation": 2, "plan": "sha256:x", "boots": 1,
        "heads": [{"disk": "os", "generation": 1}],
        "since": "2026-01-01T00:00:00Z",
        "supervisor": {"pid": me.pid, "started": me.started + 1},
        "endpoint": {
            "product": "qemu", "address": "unix:/nowhere",
            "process": {"pid": me.pid, "started": me.started + 1},
        },
    });
    desk.forge(|record| record["run"] = run);
    assert_eq!(desk.state(), State::Off);
    // Even a change that turns out to be none ends the record of the run.
    let image: ImageDigest = serde_json::from_value(
        desk.record()["layers"][0]["history"]["revisions"][0]["image"].clone(),
    )
    .unwrap();
    let os = "os".parse().unwrap();
    let done = desk.machine().update(&os, &image, Kept::Preserve).unwrap();
    assert!(done.layers.is_empty(), "{done:?}");
    assert!(desk.record()["run"].is_null());
}

//! Changes that were asked for while the machine ran: in what order they are done, and what stands
//! in their way. What each change does is tried in `machine.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;

use harness::{Content, Ends, Harness, Write, name};
use stratavm::machine::revision::Reason;
use stratavm::machine::{Kept, Machine, RunOptions, When};

/// One boot that does `writes`; then `during` is called, and the guest switches itself off.
fn run(harness: &Harness, writes: &[Write], during: impl Fn() + Send + Sync + 'static) {
    let options = RunOptions::default();
    harness
        .run_during(options, writes, &[Ends::PowerOff], during)
        .unwrap();
}

fn staged(machine: &Machine) -> Vec<String> {
    let next = machine.record().unwrap().next;
    next.iter().map(|s| s.change.to_string()).collect()
}

#[test]
fn a_decision_on_the_session_comes_before_what_was_staged_earlier() {
    let harness = Harness::new();
    let (os2, home) = (harness.image("os-2", 0x25), name("home"));
    let machine = harness.machine();
    run(&harness, &[("os", 1, 0x31), ("home", 1, 0x32)], {
        let (machine, home) = (machine.clone(), home.clone());
        move || {
            machine.update(&name("os"), &os2, Kept::Preserve).unwrap();
            machine.rollback(&home, Some(1), Kept::Preserve).unwrap();
            let done = machine
                .decide(&[name("os")], std::slice::from_ref(&home))
                .unwrap();
            assert_eq!(done.when, When::NextStart);
            assert_eq!(done.layers, [name("os"), home.clone()]);
        }
    });
    // The decision is taken at the session's end; the rest waits for the next start.
    assert_eq!(staged(&machine).len(), 2);
    let record = machine.record().unwrap();
    let os = &record.layer(&name("os")).unwrap().history;
    assert_eq!(os.revisions.last().unwrap().reason, Reason::Accept);
    assert_eq!(harness.read("os", 1), Content::Byte(0x31));
    assert_eq!(harness.read("home", 1), Content::Byte(0));
    harness.run(&[]);
    assert_eq!(staged(&machine).len(), 0);
    assert_eq!(harness.read("os", 1), Content::Byte(0x25));
    let record = machine.record().unwrap();
    let revisions = &record.layer(&home).unwrap().history.revisions;
    assert_eq!(revisions.len(), 1, "what was to be dropped is not kept");
}

#[test]
fn a_decision_after_the_session_comes_before_what_still_waits() {
    let harness = Harness::new();
    let (machine, home) = (harness.machine(), name("home"));
    run(&harness, &[("home", 1, 0x32)], {
        let (machine, home) = (machine.clone(), home.clone());
        move || {
            machine.rollback(&home, Some(1), Kept::Preserve).unwrap();
        }
    });
    let done = machine.decide(&[], std::slice::from_ref(&home)).unwrap();
    assert_eq!(done.when, When::Now);
    assert_eq!(done.layers, std::slice::from_ref(&home));
    let record = machine.record().unwrap();
    let revisions = &record.layer(&home).unwrap().history.revisions;
    assert_eq!(revisions.len(), 1, "what was to be dropped is not kept");
    assert_eq!(harness.read("home", 1), Content::Byte(0));
}

#[test]
fn what_stands_in_the_way_of_a_start_is_named_with_what_drops_it() {
    let harness = Harness::new();
    let (machine, apps2) = (harness.machine(), harness.image("apps-2", 0x26));
    machine.create_point(&name("calm"), None, &[]).unwrap();
    run(&harness, &[], {
        let machine = machine.clone();
        move || {
            machine
                .rollback_to_point(&name("calm"), Kept::Preserve)
                .unwrap();
            machine
                .update(&name("apps"), &apps2, Kept::Preserve)
                .unwrap();
        }
    });
    machine.remove_point(&name("calm")).unwrap();
    for times in ["takes 2 of them", "drops it"] {
        let error = machine.snapshot(&name("home"), None).unwrap_err();
        assert!(
            error.to_string().contains("rollback to point calm"),
            "{error}"
        );
        let next = error.next_step().unwrap();
        assert!(
            next.starts_with("stratavm undo desk ") && next.contains(times),
            "{next}"
        );
        machine.undo().unwrap();
    }
    machine.snapshot(&name("home"), None).unwrap();
}

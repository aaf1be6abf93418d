//! Machines whose supervisor is killed: those that end with it, and those that outlive it.

use std::sync::{Arc, Mutex, PoisonError};

use futures_lite::future::block_on;

use super::bench::{Bench, Outcome, drives, ensure, refused_as};
use super::layers::{HOME, LBA, read_of};
use super::supervisor::{Desk, name};
use super::{Disks, Entry};
use crate::ErrorKind;
use crate::capability::Lifetime;
use crate::hypervisor::{Endpoint, State};
use crate::machine::{Recovered, RunEnd, RunEvent};
use crate::testkit::guest::{BootSector, End};

pub(super) const TRIALS: &[Entry] = &[Entry::new(
    "a-killed-supervisor-is-succeeded",
    drives,
    succeeded,
)];

/// A guest that says what its disks hold, writes to the one that is kept, and stands still.
pub(super) fn guest() -> BootSector {
    let guest = BootSector::new().end(End::Hang).print(LBA);
    guest.write(HOME, LBA, "written")
}

fn succeeded(bench: &Bench) -> Outcome {
    bench.needs_product()?;
    let desk = Desk::new(bench, &guest())?;
    let endpoint = desk.lose_supervisor()?;
    reads(&desk, "the killed run", "")?;
    match bench.can().lifetime {
        Lifetime::Independent => taken_over(&desk, &endpoint)?,
        _ => ended_with_it(&desk, &endpoint)?,
    }
    reads(&desk, "the run after that", "written")
}

/// Fails unless the guest of the last boot saw this on its kept disk, and nothing on its first.
pub(super) fn reads(desk: &Desk<'_>, which: &str, home: &str) -> Outcome {
    let Some(boot) = desk.console()? else {
        return Ok(());
    };
    let lost = desk.bench.options.disks == Disks::InProcess;
    for (disk, expected) in [(0, ""), (HOME, home)] {
        if lost && !expected.is_empty() {
            continue;
        }
        let read = read_of(&boot, disk)?;
        ensure!(
            read == expected,
            "{which}: disk {disk} holds {read:?}, not {expected:?}"
        );
    }
    Ok(())
}

/// It is off once its lock is free; before that nobody gets at its heads, and a start that comes at
/// once waits or is told so.
fn ended_with_it(desk: &Desk<'_>, endpoint: &Endpoint) -> Outcome {
    desk.is_over(desk.bench.other.as_ref())?;
    let state = desk.bench.state(endpoint)?;
    ensure!(
        state == State::Off,
        "its supervisor was killed, and the machine is {state}"
    );
    let endpoint = desk.lose_supervisor()?;
    reads(desk, "the run after a kill", "written")?;
    let late = Arc::<Mutex<Vec<State>>>::default();
    let report = desk.await_that("the start right after the kill", || {
        let (backend, ctx) = (Arc::clone(&desk.bench.backend), desk.ctx());
        let (old, seen) = (endpoint.clone(), Arc::clone(&late));
        let ran = desk.run(move |event| {
            // Whoever gets here has the machine to himself: what ran before must be gone.
            if let (RunEvent::Preparing(1), Ok(state)) =
                (event, block_on(backend.state(&old, &ctx)))
            {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(state);
            }
        });
        match ran {
            Ok((report, _)) => Ok(Some(report)),
            Err(error) if error.kind() == ErrorKind::Busy => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    ensure!(
        report.end == RunEnd::PowerOff,
        "the start right after the kill ended as {}",
        report.end.as_str()
    );
    let late = late.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        !late.is_empty() && late.iter().all(|state| *state == State::Off),
        "when its next start began, the machine was {late:?}"
    );
    Ok(())
}

/// It runs on: nothing is done to its heads, and the next start takes it over as it is.
fn taken_over(desk: &Desk<'_>, endpoint: &Endpoint) -> Outcome {
    let (bench, machine) = (desk.bench, desk.machine()?);
    let found = block_on(machine.recover(bench.other.as_ref(), &desk.ctx()))?;
    ensure!(
        found == Recovered::Unattended(endpoint.clone()),
        "its supervisor was killed, and it is {found:?}, not at {endpoint:?}"
    );
    let home = name("home")?;
    refused_as(
        machine.snapshot(&home, None),
        ErrorKind::Busy,
        "freezing a head under a machine that runs on",
    )?;
    let before = desk.record()?;
    let events = desk.runs("the run that was taken over")?;
    ensure!(
        events.first() == Some(&RunEvent::Attached(endpoint.clone())),
        "it was not taken over as it is, but: {events:?}"
    );
    let after = desk.record()?;
    ensure!(
        after.generation == before.generation,
        "taking it over made new heads"
    );
    ensure!(after.run.is_none(), "it has ended and is still recorded");
    let state = bench.state(endpoint)?;
    ensure!(state == State::Off, "it was stopped, and is {state}");
    desk.runs("the run after that").map(drop)
}

//! Machines that stand still, are saved to disk, or have lost the handle that started them.

use futures_lite::future::block_on;

use super::bench::{Bench, Machine, Outcome, Started, drives, ensure, refused_as};
use super::layers::{HOME, LBA, read_of};
use super::{Entry, Options};
use crate::ErrorKind;
use crate::capability::{Capabilities, Feature, Lifetime};
use crate::hypervisor::{Begin, Ended, State, Stop};
use crate::plan::Grade;
use crate::testkit::guest::{BootSector, End};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("a-paused-machine-stands-still", pauses, paused),
    Entry::new("the-plug-ends-a-paused-machine", pauses, paused_plug),
    Entry::new("a-saved-state-goes-on", suspends, goes_on),
    Entry::new("a-saved-state-meets-no-fresh-start", suspends, not_fresh),
    Entry::new("a-dropped-state-is-gone", suspends, dropped_state),
    Entry::new("a-machine-outlives-its-handle", outlives, taken_over),
    Entry::new("it-is-known-where-a-run-will-be", outlives, known_before),
    Entry::new("an-ended-run-is-not-taken-over", outlives, not_taken_over),
];

fn pauses(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && can.feature(Feature::Pause) == Grade::Hard
}

fn suspends(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && can.feature(Feature::Suspend) == Grade::Hard
}

fn outlives(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && can.lifetime == Lifetime::Independent
}

fn hanging() -> BootSector {
    BootSector::new().end(End::Hang)
}

fn is(bench: &Bench, started: &Started<'_>, expected: State) -> Outcome {
    let state = bench.state(&started.endpoint())?;
    ensure!(state == expected, "it is {state}, not {expected}");
    Ok(())
}

fn paused(bench: &Bench) -> Outcome {
    let machine = bench.machine(&hanging())?;
    let mut started = machine.start(1)?;
    let endpoint = started.endpoint();
    for handle in [&bench.other, &bench.backend] {
        block_on(handle.pause(&endpoint, &bench.ctx()))?;
        is(bench, &started, State::Paused)?;
    }
    let waited = block_on(started.running.wait(&bench.watching()));
    refused_as(waited, ErrorKind::Timeout, "waiting for a paused machine")?;
    for handle in [&bench.other, &bench.backend] {
        block_on(handle.resume(&endpoint, &bench.ctx()))?;
        is(bench, &started, State::Running)?;
    }
    started.stays("a machine that was paused")
}

fn paused_plug(bench: &Bench) -> Outcome {
    let machine = bench.machine(&hanging())?;
    let mut started = machine.start(1)?;
    block_on(bench.other.pause(&started.endpoint(), &bench.ctx()))?;
    started.stop(Stop::PowerOff)?;
    let ended = started.wait()?;
    ensure!(ended == Ended::PowerOff, "the plug ended it as {ended:?}");
    is(bench, &started, State::Off)
}

/// A machine whose guest wrote to a kept layer and whose state was then saved.
fn suspended<'a>(bench: &'a Bench) -> Result<(Machine<'a>, Started<'a>), super::Miss> {
    let guest = hanging().print(LBA).write(HOME, LBA, "written");
    let machine = bench.machine(&guest)?;
    let mut started = machine.start(1)?;
    let patience = bench.ctx();
    while machine.console().is_ok_and(|boot| !boot.ended) && patience.check().is_ok() {
        std::thread::sleep(bench.options.watch / 10);
    }
    block_on(bench.other.suspend(&started.endpoint(), &bench.ctx()))?;
    let ended = started.wait()?;
    ensure!(
        ended == Ended::Suspended,
        "saving its state ended the run as {ended:?}"
    );
    is(bench, &started, State::Suspended)?;
    Ok((machine, started))
}

fn goes_on(bench: &Bench) -> Outcome {
    let (machine, _before) = suspended(bench)?;
    let launch = machine.applied(1)?.begin(Begin::SavedState);
    let mut started = machine.launch(&launch)?;
    is(bench, &started, State::Running)?;
    started.stays("a machine that went on")?;
    let read = read_of(&machine.console()?, HOME)?;
    ensure!(
        read.is_empty(),
        "the guest was booted once more, and read {read:?}"
    );
    started.stop(Stop::PowerOff)?;
    started.wait()?;
    let again = block_on(bench.backend.start(&launch, &bench.ctx()));
    refused_as(again, ErrorKind::NotFound, "going on from a state twice")?;
    Ok(())
}

fn not_fresh(bench: &Bench) -> Outcome {
    let (machine, before) = suspended(bench)?;
    let launch = machine.applied(1)?;
    let fresh = block_on(bench.backend.start(&launch, &bench.ctx()));
    refused_as(
        fresh,
        ErrorKind::Suspended,
        "a fresh start of a machine with a saved state",
    )?;
    is(bench, &before, State::Suspended)?;
    machine.launch(&launch.begin(Begin::SavedState))?;
    Ok(())
}

fn dropped_state(bench: &Bench) -> Outcome {
    let (machine, before) = suspended(bench)?;
    for handle in [&bench.other, &bench.backend] {
        block_on(handle.discard_state(&before.endpoint(), &bench.ctx()))?;
        is(bench, &before, State::Off)?;
    }
    let launch = machine.applied(1)?;
    let saved = launch.clone().begin(Begin::SavedState);
    let went_on = block_on(bench.backend.start(&saved, &bench.ctx()));
    refused_as(
        went_on,
        ErrorKind::NotFound,
        "going on from a dropped state",
    )?;
    machine.launch(&launch)?.stays("a start after that")
}

fn taken_over(bench: &Bench) -> Outcome {
    bench.needs_product()?;
    let machine = bench.machine(&hanging())?;
    let launch = machine.applied(1)?;
    let running = block_on(bench.backend.start(&launch, &bench.ctx()))?;
    let endpoint = running.endpoint().clone();
    drop(running);
    let state = bench.state(&endpoint)?;
    ensure!(
        state == State::Running,
        "without its handle the machine is {state}"
    );
    let running = block_on(bench.other.attach(&endpoint, &bench.ctx()))?;
    ensure!(
        *running.endpoint() == endpoint,
        "taken over, it is at another place"
    );
    let mut started = machine.taken(running);
    started.stays("a machine that was taken over")?;
    started.stop(Stop::PowerOff)?;
    let ended = started.wait()?;
    ensure!(ended == Ended::PowerOff, "the plug ended it as {ended:?}");
    Ok(())
}

fn known_before(bench: &Bench) -> Outcome {
    let machine = bench.machine(&hanging())?;
    let expected = bench.other.endpoint(&machine.resolve(1));
    let started = machine.start(1)?;
    let found = started.endpoint();
    ensure!(
        expected.as_ref() == Some(&found),
        "expected at {expected:?}, it is at {found:?}"
    );
    Ok(())
}

fn not_taken_over(bench: &Bench) -> Outcome {
    let machine = bench.machine(&BootSector::new())?;
    let mut started = machine.start(1)?;
    started.wait()?;
    let attached = block_on(bench.other.attach(&started.endpoint(), &bench.ctx()));
    refused_as(attached, ErrorKind::NotFound, "taking over what has ended")?;
    Ok(())
}

//! Real machines from start to end: what the end is called, who can bring it about, and what the
//! state is meanwhile.

use futures_lite::future::block_on;

use super::bench::{Bench, Miss, Outcome, Started, drives, ensure};
use super::{Entry, Options, Panics};
use crate::capability::{Capabilities, Feature};
use crate::hypervisor::{Ended, State, Stop};
use crate::plan::Grade;
use crate::testkit::guest::{BootSector, End};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("a-power-off-ends-the-run", drives, power_off),
    Entry::new("a-reboot-ends-the-run", reboots_end, reboot),
    Entry::new("a-panic-is-a-crash", panics_seen, panic),
    Entry::new("a-running-machine-is-running", drives, running),
    Entry::new("waiting-twice-tells-the-same", drives, waits_agree),
    Entry::new("the-plug-ends-any-run", drives, plug),
    Entry::new(
        "the-power-button-reaches-the-guest",
        power_button_works,
        power_button,
    ),
    Entry::new("a-deaf-guest-runs-on", drives, deaf),
    Entry::new("stopping-what-is-off-is-no-error", drives, stop_when_off),
    Entry::new("another-handle-can-stop-it", drives, stop_from_elsewhere),
];

fn reboots_end(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && can.feature(Feature::RebootEndsRun) == Grade::Hard
}

fn panics_seen(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && options.panics == Panics::Seen
}

fn power_button_works(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && can.feature(Feature::AcpiShutdown) == Grade::Hard
}

fn guest(end: End) -> BootSector {
    BootSector::new().end(end)
}

/// Fails unless the run ended so and both handles say that the machine is off.
fn is_over(bench: &Bench, started: &mut Started<'_>, expected: &Ended) -> Outcome {
    let ended = started.wait()?;
    ensure!(
        ended == *expected,
        "it ended with {ended:?}, not {expected:?}"
    );
    is_off(bench, started)
}

fn is_off(bench: &Bench, started: &Started<'_>) -> Outcome {
    for (handle, whose) in [(&bench.backend, "the same"), (&bench.other, "another")] {
        let state = block_on(handle.state(&started.endpoint(), &bench.ctx()))?;
        ensure!(
            state == State::Off,
            "{whose} handle says {state} after the end"
        );
    }
    Ok(())
}

fn power_off(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::PowerOff))?;
    is_over(bench, &mut machine.start(1)?, &Ended::PowerOff)
}

fn reboot(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::Reset))?;
    is_over(bench, &mut machine.start(1)?, &Ended::Reboot)
}

fn panic(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::Panic))?;
    let ended = machine.start(1)?.wait()?;
    let Ended::Crash(reason) = ended else {
        return Err(Miss::Failed(format!("a panic ended with {ended:?}")));
    };
    ensure!(
        !reason.is_empty(),
        "the crash says nothing of what was seen"
    );
    Ok(())
}

fn running(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::Hang))?;
    let started = machine.start(1)?;
    for (handle, whose) in [(&bench.backend, "the same"), (&bench.other, "another")] {
        let state = block_on(handle.state(&started.endpoint(), &bench.ctx()))?;
        ensure!(state == State::Running, "{whose} handle says {state}");
    }
    let product = started.endpoint().product;
    ensure!(
        product == *bench.backend.product(),
        "the endpoint is of {product}"
    );
    Ok(())
}

fn waits_agree(bench: &Bench) -> Outcome {
    for (end, expected) in [
        (End::PowerOff, Ended::PowerOff),
        (End::Reset, Ended::Reboot),
    ] {
        if expected == Ended::Reboot && !reboots_end(bench.can(), &bench.options) {
            continue;
        }
        let machine = bench.machine(&guest(end))?;
        let mut started = machine.start(1)?;
        for time in 1..=3 {
            let ended = started.wait()?;
            ensure!(
                ended == expected,
                "asked {time} times, the end was {ended:?}"
            );
        }
    }
    Ok(())
}

fn plug(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::Hang))?;
    let mut started = machine.start(1)?;
    started.stop(Stop::PowerOff)?;
    is_over(bench, &mut started, &Ended::PowerOff)
}

fn power_button(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::PowerButton))?;
    let mut started = machine.start(1)?;
    // A guest hears it only once it listens: pressing again is what a person does too.
    let patience = bench.ctx();
    while patience.check().is_ok() {
        started.stop(Stop::Shutdown)?;
        if block_on(started.running.wait(&bench.watching())).is_ok() {
            return is_over(bench, &mut started, &Ended::PowerOff);
        }
    }
    Err(Miss::Failed(
        "the guest waits for the power button and never hears it".to_owned(),
    ))
}

fn deaf(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::Hang))?;
    let mut started = machine.start(1)?;
    started.stop(Stop::Shutdown)?;
    started.stays("a guest that ignores the power button")?;
    started.stop(Stop::PowerOff)?;
    is_over(bench, &mut started, &Ended::PowerOff)
}

fn stop_when_off(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::PowerOff))?;
    let mut started = machine.start(1)?;
    started.wait()?;
    for how in [Stop::Shutdown, Stop::PowerOff] {
        started.stop(how)?;
        for handle in [&bench.backend, &bench.other] {
            block_on(handle.stop(&started.endpoint(), how, &bench.ctx()))?;
        }
    }
    is_over(bench, &mut started, &Ended::PowerOff)
}

fn stop_from_elsewhere(bench: &Bench) -> Outcome {
    let machine = bench.machine(&guest(End::Hang))?;
    let mut started = machine.start(1)?;
    block_on(
        bench
            .other
            .stop(&started.endpoint(), Stop::PowerOff, &bench.ctx()),
    )?;
    is_over(bench, &mut started, &Ended::PowerOff)
}

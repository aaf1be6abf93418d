//! Cancelling, running out of time and walking away: the call ends as it says, and the machine is
//! in a state that one can go on from.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_lite::future::block_on;
use stratavm_disk::CancelToken;

use super::Entry;
use super::bench::{Bench, Miss, Outcome, drives, ensure, refused_as, told};
use crate::hypervisor::{State, Stop};
use crate::testkit::guest::{BootSector, End};
use crate::{Ctx, ErrorKind};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("a-cancelled-start-starts-nothing", drives, cancelled_start),
    Entry::new("a-late-start-starts-nothing", drives, late_start),
    Entry::new("a-cancelled-wait-leaves-it-running", drives, cancelled_wait),
    Entry::new("a-wait-without-time-leaves-it-running", drives, late_wait),
    Entry::new("a-dropped-start-can-be-done-again", drives, dropped_start),
    Entry::new("a-dropped-wait-can-be-done-again", drives, dropped_wait),
];

fn cancelled() -> Ctx {
    let token = CancelToken::new();
    token.cancel();
    Ctx::none().with_cancel(token)
}

fn late() -> Ctx {
    Ctx::none().with_deadline(Instant::now())
}

fn cancelled_start(bench: &Bench) -> Outcome {
    starts_nothing(bench, &cancelled(), ErrorKind::Cancelled)
}

fn late_start(bench: &Bench) -> Outcome {
    starts_nothing(bench, &late(), ErrorKind::Timeout)
}

/// Fails unless a start in `ctx` ends with `kind` and the machine is free to be started.
fn starts_nothing(bench: &Bench, ctx: &Ctx, kind: ErrorKind) -> Outcome {
    bench.needs_product()?;
    let machine = bench.machine(&BootSector::new().end(End::Hang))?;
    let launch = machine.applied(1)?;
    let started = block_on(bench.backend.start(&launch, ctx));
    refused_as(started, kind, "a start that may not go on")?;
    machine.launch(&launch)?.stays("the start after it")
}

fn cancelled_wait(bench: &Bench) -> Outcome {
    goes_on(bench, &cancelled(), ErrorKind::Cancelled)
}

fn late_wait(bench: &Bench) -> Outcome {
    goes_on(bench, &late(), ErrorKind::Timeout)
}

fn goes_on(bench: &Bench, ctx: &Ctx, kind: ErrorKind) -> Outcome {
    let machine = bench.machine(&BootSector::new().end(End::Hang))?;
    let mut started = machine.start(1)?;
    let waited = block_on(started.running.wait(ctx));
    refused_as(waited, kind, "a wait that may not go on")?;
    started.stays("the machine that was waited for")
}

fn dropped_start(bench: &Bench) -> Outcome {
    bench.needs_product()?;
    let machine = bench.machine(&BootSector::new().end(End::Hang))?;
    let launch = machine.applied(1)?;
    let ctx = bench.ctx();
    let mut start = bench.backend.start(&launch, &ctx);
    let first = poll_once(start.as_mut());
    drop(start);
    if let Poll::Ready(Ok(mut running)) = first {
        block_on(running.stop(Stop::PowerOff, &bench.ctx()))?;
        block_on(running.wait(&bench.ctx()))?;
    }
    // The dropped start may still be on its way to its end.
    let patience = bench.ctx();
    loop {
        let again = block_on(bench.backend.start(&launch, &bench.ctx()));
        match again {
            Ok(mut running) => {
                let stopped = block_on(running.stop(Stop::PowerOff, &bench.ctx()));
                return Ok(stopped?);
            }
            Err(error) if error.kind() == ErrorKind::Busy && patience.check().is_ok() => {
                std::thread::sleep(bench.options.watch / 10);
            }
            Err(error) => {
                let text = told(&error);
                return Err(Miss::Failed(format!(
                    "no start after a dropped one: {text}"
                )));
            }
        }
    }
}

fn dropped_wait(bench: &Bench) -> Outcome {
    let machine = bench.machine(&BootSector::new().end(End::Hang))?;
    let mut started = machine.start(1)?;
    let ctx = bench.ctx();
    let polled = poll_once(started.running.wait(&ctx).as_mut());
    ensure!(
        polled.is_pending(),
        "a hanging guest ended: {:?}",
        polled.map(Result::ok)
    );
    let state = bench.state(&started.endpoint())?;
    ensure!(
        state == State::Running,
        "dropping a wait left the machine {state}"
    );
    started.stop(Stop::PowerOff)?;
    started.wait()?;
    Ok(())
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

//! What others than the supervisor do to a run: wait for it, look at it, stop it, pause it, save it.

use std::time::{Duration, Instant};

use stratavm_disk::Ctx;

use crate::capability::Lifetime;
use crate::error::{Error, ErrorKind, Result};
use crate::hypervisor::{Endpoint, Hypervisor, ProcessId, State, Stop};
use crate::machine::Machine;
use crate::machine::record::{RunPhase, RunRecord};
use crate::machine::recover::{Recovered, Seen};
use crate::spec::Switch;

/// How long a machine that was told to end may take to do so.
pub(super) const END_GRACE: Duration = Duration::from_secs(30);
/// How often a machine is looked at that somebody waits for.
const LOOK: Duration = Duration::from_millis(20);

impl Machine {
    /// Waits until the run of the supervisor `by` has come so far that the product says it runs, and
    /// answers its record. For programs whose supervisor is a process of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] or [`ErrorKind::Timeout`] as `ctx` says: a supervisor that ended
    /// before is not noticed here. [`ErrorKind::NotFound`] if the machine is gone.
    pub async fn await_running(&self, by: ProcessId, ctx: &Ctx) -> Result<RunRecord> {
        loop {
            ctx.check()?;
            let run = self.record()?.run;
            if let Some(run) = run.filter(|run| run.supervisor == by && run.endpoint.is_some()) {
                return Ok(run);
            }
            async_io::Timer::after(LOOK).await;
        }
    }

    /// What the machine is doing.
    ///
    /// # Errors
    /// What the product says.
    pub async fn state(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<State> {
        let supervised = self.is_running()?;
        let Some(run) = self.record()?.run else {
            return Ok(if supervised {
                State::Starting
            } else {
                State::Off
            });
        };
        if !supervised && run.phase == RunPhase::Suspended {
            return Ok(State::Suspended);
        }
        if !supervised && run.lifetime == Lifetime::Supervised {
            return Ok(State::Off);
        }
        let Some(endpoint) = run.endpoint else {
            return Ok(if supervised {
                State::Starting
            } else {
                State::Unknown
            });
        };
        let state = backend.state(&endpoint, ctx).await?;
        Ok(match state {
            State::Running if run.phase == RunPhase::Stopping => State::Stopping,
            // Its supervisor is about to notice.
            State::Off if supervised => State::Stopping,
            state => state,
        })
    }

    /// Stops the machine, wherever it is supervised, or if nobody does. A power-off returns once its
    /// supervisor has ended, a request to shut down once the guest has it.
    ///
    /// # Errors
    /// What the product says; [`ErrorKind::Busy`] if for 30 seconds there is nobody to ask, as
    /// while the product is still coming up; [`ErrorKind::Suspended`]. A machine that is off is no
    /// error.
    pub async fn stop(&self, backend: &dyn Hypervisor, how: Stop, ctx: &Ctx) -> Result<()> {
        let until = Instant::now() + END_GRACE;
        let mut asked = None;
        loop {
            let reached = match self.recover(backend, ctx).await? {
                Recovered::Off => return Ok(()),
                Recovered::Suspended => return Err(self.suspended()),
                Recovered::Unattended(_) | Recovered::Supervised => self.record()?.run,
            };
            ctx.check()?;
            let boot = reached.and_then(|run| Some((run.endpoint?, run.boots)));
            if let Some((endpoint, boots)) = boot.filter(|boot| asked.as_ref() != Some(boot)) {
                if how != Stop::PowerOff {
                    // Before the guest hears of it: should it reboot instead, that is the end too.
                    self.note_run(|run| run.phase = RunPhase::Stopping)?;
                }
                backend.stop(&endpoint, how, ctx).await?;
                if how != Stop::PowerOff && backend.state(&endpoint, ctx).await? != State::Off {
                    return Ok(());
                }
                // This boot is over. Had the guest ended it by a reboot, another one may follow.
                asked = Some((endpoint, boots));
            }
            if Instant::now() > until {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "the machine is about to start or to end, and nobody takes the request",
                )
                .next("try again in a moment"));
            }
            async_io::Timer::after(LOOK).await;
        }
    }

    /// Stops the guest's processors until [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it does not run; [`ErrorKind::Unsupported`]; what the product says.
    pub async fn pause(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<()> {
        backend.pause(&self.reach(backend, ctx).await?, ctx).await
    }

    /// Lets a paused guest go on.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<()> {
        backend.resume(&self.reach(backend, ctx).await?, ctx).await
    }

    /// Saves the machine's state to disk and ends its run. Every head then stays as it is until the
    /// next start, which goes on from there, or [`discard_state`](Self::discard_state).
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] if the machine's policy has suspending off;
    /// [`ErrorKind::Unsupported`]; [`ErrorKind::Invalid`] if it does not run, or its guest came to an
    /// end first.
    pub async fn suspend(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<()> {
        let name = self.name();
        if self.record()?.spec.policy.suspend != Switch::On {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("the policy of machine {name} forbids suspending it"),
            )
            .next(format!(
                "stop it instead: stratavm stop {name}; `policy.suspend = \"on\"` in a spec allows it"
            )));
        }
        let endpoint = self.reach(backend, ctx).await?;
        backend.suspend(&endpoint, ctx).await?;
        loop {
            match self.recover(backend, ctx).await? {
                Recovered::Suspended => return Ok(()),
                Recovered::Supervised => {}
                Recovered::Off | Recovered::Unattended(_) => {
                    let what = format!("machine {name} ended before its state was saved");
                    return Err(Error::invalid(what).next(format!("stratavm status {name}")));
                }
            }
            ctx.check()?;
            async_io::Timer::after(LOOK).await;
        }
    }

    /// Drops the saved state of a suspended machine, as if it had lost power: kept layers hold what
    /// was written until then, layers that discard start clean.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not suspended; what the product says, and then the state is
    /// still there.
    pub async fn discard_state(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<()> {
        let name = self.name();
        let refused = || {
            Error::invalid(format!("machine {name} is not suspended"))
                .next(format!("stratavm stop {name}"))
        };
        let _held = self.take_run_lock().map_err(|error| match error.kind() {
            ErrorKind::Busy => refused(),
            _ => error,
        })?;
        let found = self.look(backend, ctx).await?;
        let endpoint = self.record()?.run.and_then(|run| run.endpoint);
        let Some(endpoint) = endpoint.filter(|_| found == Recovered::Suspended) else {
            return Err(refused());
        };
        backend.discard_state(&endpoint, ctx).await?;
        self.clear_run(Seen::Dropped)
    }

    /// Where the machine that runs is reached.
    async fn reach(&self, backend: &dyn Hypervisor, ctx: &Ctx) -> Result<Endpoint> {
        let name = self.name();
        let off = |what: &str| {
            Error::invalid(format!("machine {name} {what}")).next(format!("stratavm start {name}"))
        };
        match self.recover(backend, ctx).await? {
            Recovered::Unattended(endpoint) => Ok(endpoint),
            Recovered::Suspended => Err(self.suspended()),
            Recovered::Off => Err(off("is off")),
            Recovered::Supervised => {
                let endpoint = self.record()?.run.and_then(|run| run.endpoint);
                endpoint.ok_or_else(|| off("is about to start or to end"))
            }
        }
    }
}

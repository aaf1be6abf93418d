//! Running a machine: the supervisor's loop from the start to the end.
//!
//! The loop runs on a thread of its own, so that dropping the future asks for an end and the
//! machine is still brought to one. A reboot inside the guest ends a boot where the product can
//! tell; the loop then starts again on fresh heads.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratavm_disk::{CancelToken, Ctx};

use super::folder::Machine;
use super::record::RunRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::hypervisor::{Ended, Endpoint, Hypervisor, Launch, ProcessId, Running, State, Stop};
use crate::spec::Composition;
use crate::store::{FileLock, remove_file};
use crate::timestamp::Timestamp;

/// What a guest prints that refuses to compose its layers.
const REFUSED: &str = "strata: REFUSED ";
/// How much of the console's end is looked at for that line, in bytes.
const CONSOLE_TAIL: u64 = 64 << 10;
/// How long a machine that was told to end may take to do so.
const END_GRACE: Duration = Duration::from_secs(30);

/// How often a stop looks at the machine.
const LOOK: Duration = Duration::from_millis(20);

/// Takes what happens in a run.
type EventSink = Arc<dyn Fn(&RunEvent) + Send + Sync>;

/// How a machine is run.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RunOptions {
    /// What a reboot of the guest means.
    pub reboot: OnReboot,
    /// After this time the machine is switched off; none: it may run for ever.
    pub timeout: Option<Duration>,
    events: Option<EventSink>,
}

impl RunOptions {
    /// The same options, telling `sink` what happens, on the supervisor's thread.
    #[must_use]
    pub fn on_event(mut self, sink: impl Fn(&RunEvent) + Send + Sync + 'static) -> Self {
        self.events = Some(Arc::new(sink));
        self
    }

    /// The same options with this meaning of a reboot.
    #[must_use]
    pub fn on_reboot(mut self, reboot: OnReboot) -> Self {
        self.reboot = reboot;
        self
    }

    /// The same options with an end after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn tell(&self, event: &RunEvent) {
        if let Some(sink) = &self.events {
            sink(event);
        }
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (reboot, timeout) = (&self.reboot, &self.timeout);
        f.debug_struct("RunOptions")
            .field("reboot", reboot)
            .field("timeout", timeout)
            .finish()
    }
}

/// What a reboot of the guest means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnReboot {
    /// Start again on fresh heads.
    #[default]
    StartAgain,
    /// The run ends.
    End,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEvent {
    /// Files are made ready for this boot, counted from 1.
    Preparing(u32),
    /// The product says that the machine runs.
    Running(Endpoint),
    /// This boot ended.
    Ended(Ended),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// Switched off by the guest or the user.
    PowerOff,
    /// The guest asked for a reset, and [`OnReboot::End`] was set.
    Reboot,
    /// The product or the guest's processor failed; what was seen.
    Crash(String),
    /// The guest switched itself off after saying on its console why it does not boot. A hint
    /// only: the text is the guest's own, with control characters escaped.
    Refused(String),
    /// The time was up; the machine was switched off.
    Timeout,
}

impl RunEnd {
    /// The end as `start --wait` prints it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Crash(_) => "crash",
            Self::Refused(_) => "refused",
            Self::Timeout => "timeout",
        }
    }
}

/// What a run was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// How it ended.
    pub end: RunEnd,
    /// How many times the guest was started.
    pub boots: u32,
    /// The file with what the guest wrote to its first serial port, if the spec asks for it.
    pub console: Option<PathBuf>,
}

impl Machine {
    /// Runs the machine on `backend` and supervises it until it ends.
    ///
    /// Dropping the future asks for an end: the machine is switched off on the supervisor's own
    /// thread and its record is cleared.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it runs already; [`ErrorKind::NeedsSwitch`]; what the product says.
    pub async fn run(
        &self,
        backend: Arc<dyn Hypervisor>,
        options: RunOptions,
        ctx: &Ctx,
    ) -> Result<RunReport> {
        let guard = CancelOnDrop(Some(ctx.cancel_token().clone()));
        let (machine, ctx) = (self.clone(), ctx.clone());
        let report = blocking::unblock(move || {
            futures_lite::future::block_on(machine.supervise(backend.as_ref(), &options, &ctx))
        })
        .await;
        guard.disarm();
        report
    }

    async fn supervise(
        &self,
        backend: &dyn Hypervisor,
        options: &RunOptions,
        ctx: &Ctx,
    ) -> Result<RunReport> {
        let _run = self.off()?;
        self.clear_stale()?;
        let console = self.console(backend)?;
        if let Some(path) = &console {
            // Products append, so that the boots of one run stand in one file.
            drop(remove_file(path));
        }
        // A time that no clock can say is none.
        let until = options
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let since = Timestamp::now();
        let mut boots = 0;
        let ended = loop {
            boots += 1;
            options.tell(&RunEvent::Preparing(boots));
            let seen = console.as_deref().and_then(|path| fs::metadata(path).ok());
            let from = seen.map_or(0, |found| found.len());
            let run = RunRecord {
                boots,
                ..RunRecord::new(backend.product().clone(), 0, host::this_process(), since)
            };
            let ended = self.boot(backend, run, options, until, ctx).await;
            if let Err(error) = self.finish() {
                // How the run ended is the answer; the next look at the machine clears the record.
                tracing::warn!(machine = %self.name(), %error, "the run's record was not cleared");
            }
            match ended? {
                RunEnd::Reboot if options.reboot == OnReboot::StartAgain => {}
                RunEnd::PowerOff => break self.refusal(&console, from).unwrap_or(RunEnd::PowerOff),
                other => break other,
            }
        };
        Ok(RunReport {
            end: ended,
            boots,
            console,
        })
    }

    /// One boot: files, start, wait. Whatever happens, nothing runs any more at its end.
    async fn boot(
        &self,
        backend: &dyn Hypervisor,
        run: RunRecord,
        options: &RunOptions,
        until: Option<Instant>,
        ctx: &Ctx,
    ) -> Result<RunEnd> {
        let plan = self.prepare(backend, run, ctx)?;
        let launch = Launch::new(plan, self.runtime_folder());
        let until = until.into_iter().chain(ctx.deadline()).min();
        let waiting = until.map_or_else(|| ctx.clone(), |until| ctx.clone().with_deadline(until));
        let started = backend.start(&launch, &waiting).await;
        let mut running = match started {
            Ok(running) => running,
            Err(error) if error.kind() == ErrorKind::Timeout => return Ok(RunEnd::Timeout),
            Err(error) => return Err(error),
        };
        let endpoint = running.endpoint().clone();
        if let Err(error) = self.note_endpoint(&endpoint) {
            end(running.as_mut()).await;
            return Err(error);
        }
        options.tell(&RunEvent::Running(endpoint));
        match running.wait(&waiting).await {
            Ok(ended) => {
                options.tell(&RunEvent::Ended(ended.clone()));
                Ok(match ended {
                    Ended::PowerOff => RunEnd::PowerOff,
                    Ended::Reboot => RunEnd::Reboot,
                    Ended::Crash(seen) => RunEnd::Crash(seen),
                })
            }
            Err(error) => {
                end(running.as_mut()).await;
                if error.kind() == ErrorKind::Timeout {
                    Ok(RunEnd::Timeout)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The long lock of a machine that is off, and stays so but for us.
    fn off(&self) -> Result<FileLock> {
        let _lock = self.lock()?;
        self.run_lock()
    }

    fn console(&self, backend: &dyn Hypervisor) -> Result<Option<PathBuf>> {
        let wanted = self.record()?.spec.hardware.console == crate::spec::Console::Log;
        Ok(wanted.then(|| self.paths(backend.product()).console))
    }

    /// A run whose lock was free is over: its product died with its supervisor.
    fn clear_stale(&self) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        match record.run.take() {
            Some(stale) => self.clear_run(&mut record, &stale),
            None => Ok(()),
        }
    }

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

    fn note_endpoint(&self, endpoint: &Endpoint) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        if let Some(run) = &mut record.run {
            run.endpoint = Some(endpoint.clone());
        }
        self.save(&record)
    }

    /// Clears the run after the product said that the machine is off.
    fn finish(&self) -> Result<()> {
        self.clear_stale()
    }

    /// What the guest said when it refused to boot, if it did since byte `from` of its console.
    fn refusal(&self, console: &Option<PathBuf>, from: u64) -> Option<RunEnd> {
        if self.record().ok()?.spec.guest.composition != Composition::Linux {
            return None;
        }
        let mut file = fs::File::open(console.as_deref()?).ok()?;
        let len = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(from.max(len.saturating_sub(CONSOLE_TAIL))))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(CONSOLE_TAIL).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find_map(|line| line.split_once(REFUSED))?.1;
        Some(RunEnd::Refused(escape(line.trim_end())))
    }

    /// Stops the machine, wherever it is supervised. A power-off returns once its supervisor has
    /// ended, a request to shut down once the guest has it.
    ///
    /// # Errors
    /// What the product says; [`ErrorKind::Busy`] if for 30 seconds there is nobody to ask, as
    /// while the product is still coming up. A machine that is off is no error.
    pub async fn stop(&self, backend: &dyn Hypervisor, how: Stop, ctx: &Ctx) -> Result<()> {
        let until = Instant::now() + END_GRACE;
        let mut asked = None;
        while self.is_running()? {
            ctx.check()?;
            let endpoint = self.record()?.run.and_then(|run| run.endpoint);
            if let Some(endpoint) = endpoint.filter(|found| asked.as_ref() != Some(found)) {
                backend.stop(&endpoint, how, ctx).await?;
                if how != Stop::PowerOff && backend.state(&endpoint, ctx).await? != State::Off {
                    return Ok(());
                }
                // This boot is over. Had the guest ended it by a reboot, another one follows.
                asked = Some(endpoint);
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
        Ok(())
    }
}

/// Switches a machine off and waits for it; what keeps it from ending is for the log.
async fn end(running: &mut dyn Running) {
    let grace = Ctx::none().with_deadline(Instant::now() + END_GRACE);
    if let Err(error) = running.stop(Stop::PowerOff, &grace).await {
        tracing::warn!(%error, "the machine could not be switched off");
    }
    if let Err(error) = running.wait(&grace).await {
        tracing::warn!(%error, "the machine did not end");
    }
}

/// Text of a guest or product made safe for a terminal: control characters are escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    let escaped = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    text.chars().take(2000).fold(String::new(), |mut out, c| {
        if escaped(c) && c != '\t' {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

struct CancelOnDrop(Option<CancelToken>);

impl CancelOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(token) = &self.0 {
            token.cancel();
        }
    }
}

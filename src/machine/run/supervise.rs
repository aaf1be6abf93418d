//! The supervisor's loop: from the start, or from what is found running, to the end.
//!
//! It runs on a thread of its own, so that dropping the future asks for an end and the machine is
//! still brought to one. A reboot inside the guest ends a boot where the product can tell; the loop
//! then starts again on fresh heads.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use stratavm_disk::Ctx;

use super::control::END_GRACE;
use super::{OnReboot, RunEnd, RunEvent, RunOptions, RunReport, escape};
use crate::capability::Lifetime;
use crate::error::{Error, ErrorKind, Result};
use crate::host;
use crate::hypervisor::{Begin, Ended, Endpoint, Hypervisor, Launch, RunLock, Running, Stop};
use crate::machine::Machine;
use crate::machine::golden::EditEnd;
use crate::machine::record::{RunPhase, RunRecord};
use crate::machine::recover::{Recovered, Seen};
use crate::plan::Plan;
use crate::spec::{Composition, Name};
use crate::store::{FileLock, remove_file};
use crate::timestamp::Timestamp;

/// What a guest prints that refuses to compose its layers.
const REFUSED: &str = "strata: REFUSED ";
/// How much of the console's end is looked at for that line, in bytes.
const CONSOLE_TAIL: u64 = 64 << 10;

/// One run, as its supervisor sees it.
struct Supervisor<'a> {
    machine: &'a Machine,
    backend: &'a dyn Hypervisor,
    options: &'a RunOptions,
    ctx: &'a Ctx,
    lock: &'a FileLock,
    since: Timestamp,
    until: Option<Instant>,
    edit: Option<Name>,
    boots: u32,
}

impl Machine {
    pub(super) async fn supervise(
        &self,
        backend: &dyn Hypervisor,
        options: &RunOptions,
        ctx: &Ctx,
    ) -> Result<RunReport> {
        let lock = self.take_run_lock()?;
        let found = self.look(backend, ctx).await?;
        let edit = self.edited_layer(&found, options)?;
        // A time that no clock can say is none.
        let until = options
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let mut supervisor = Supervisor {
            machine: self,
            backend,
            options,
            ctx,
            lock: &lock,
            since: Timestamp::now(),
            until,
            edit,
            boots: 0,
        };
        let console = self.console_of(backend)?;
        let ran = supervisor.run(found, console.as_deref()).await;
        let boots = supervisor.boots;
        let mut edit = None;
        match self.finish(backend, &ran).await {
            Err(error) => {
                // How the run went is the answer; the next look at the machine clears the record.
                // The product's process keeps the lock if it still lives.
                tracing::warn!(machine = %self.name(), %error, "the run's record was not cleared");
                lock.leave();
            }
            Ok(ended) => {
                edit = ended;
                if let Err(error) = self.take_decisions() {
                    // It stays recorded: the next change, or the next start, says what stands in
                    // its way.
                    tracing::warn!(machine = %self.name(), %error, "what was decided on the session is not done yet");
                }
            }
        }
        Ok(RunReport {
            end: ran?,
            boots,
            console,
            edit,
        })
    }

    /// The layer that the run edits: one that goes on stays what it was.
    fn edited_layer(&self, found: &Recovered, options: &RunOptions) -> Result<Option<Name>> {
        if *found == Recovered::Off {
            return Ok(options.edit.clone());
        }
        let edited = self.record()?.run.and_then(|run| run.edit);
        match &options.edit {
            Some(wanted) if edited.as_ref() != Some(wanted) => {
                let name = self.name();
                Err(Error::new(
                    ErrorKind::Busy,
                    format!(
                        "machine {name} has a run that goes on, which does not edit layer {wanted}"
                    ),
                )
                .next(format!(
                    "stratavm status {name}; once it is off, edit the layer"
                )))
            }
            _ => Ok(edited),
        }
    }

    fn console_of(&self, backend: &dyn Hypervisor) -> Result<Option<PathBuf>> {
        let wanted = self.record()?.spec.hardware.console == crate::spec::Console::Log;
        Ok(wanted.then(|| self.paths(backend.product()).console))
    }

    /// Clears the run, or notes that it is suspended. Where the product's machine may have gone on
    /// in spite of us, the product is asked.
    async fn finish(
        &self,
        backend: &dyn Hypervisor,
        ran: &Result<RunEnd>,
    ) -> Result<Option<EditEnd>> {
        let Some(run) = self.record()?.run else {
            return Ok(None);
        };
        match (ran, run.lifetime) {
            (Ok(RunEnd::Suspended), _) => self.note_suspended(&run, None)?,
            (Err(_) | Ok(RunEnd::Timeout), Lifetime::Independent) => {
                self.look(backend, &Ctx::none()).await?;
            }
            _ => {
                self.prove_ended(&run)?;
                match &run.edit {
                    Some(layer) => return self.end_edit(layer, ran).map(Some),
                    None => self.clear_run(Seen::Supervised(ran))?,
                }
            }
        }
        Ok(None)
    }

    /// The product said that the machine is off; a process of it has to be gone as well.
    fn prove_ended(&self, run: &RunRecord) -> Result<()> {
        match run.lifetime {
            Lifetime::Supervised => self.prove_over(run),
            _ => Ok(()),
        }
    }

    /// What the guest said when it refused to boot, if it did since byte `from` of its console.
    fn refusal(&self, console: Option<&Path>, from: u64) -> Option<RunEnd> {
        if self.record().ok()?.spec.guest.composition != Composition::Linux {
            return None;
        }
        let mut file = stratavm_disk::fs::File::open(console?).ok()?.into_std();
        let len = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(from.max(len.saturating_sub(CONSOLE_TAIL))))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(CONSOLE_TAIL).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find_map(|line| line.split_once(REFUSED))?.1;
        Some(RunEnd::Refused(escape(line.trim_end())))
    }
}

impl Supervisor<'_> {
    /// All boots of the run. At its end the machine is off or suspended, or an error says that it
    /// could not be brought there.
    async fn run(&mut self, found: Recovered, console: Option<&Path>) -> Result<RunEnd> {
        let mut found = found;
        if found == Recovered::Off
            && let Some(path) = console
        {
            // Products append, so that the boots of one run stand in one file.
            drop(remove_file(path));
            // A product would make it readable by whomever the umask lets.
            drop(stratavm_disk::fs::File::create_new(path));
        }
        loop {
            let seen = console.and_then(|path| fs::metadata(path).ok());
            let from = seen.map_or(0, |seen| seen.len());
            let end = match found {
                Recovered::Unattended(endpoint) => self.attach(endpoint).await?,
                Recovered::Suspended => self.resume().await?,
                _ => self.boot().await?,
            };
            found = Recovered::Off;
            match end {
                RunEnd::Reboot if self.options.reboot == OnReboot::StartAgain => {
                    if self.was_told_to_stop() {
                        return Ok(RunEnd::PowerOff);
                    }
                }
                RunEnd::PowerOff => {
                    let refused = self.machine.refusal(console, from);
                    return Ok(refused.unwrap_or(RunEnd::PowerOff));
                }
                other => return Ok(other),
            }
        }
    }

    /// One boot on fresh heads: files, start, wait.
    async fn boot(&mut self) -> Result<RunEnd> {
        self.boots += 1;
        self.options.tell(&RunEvent::Preparing(self.boots));
        let product = self.backend.product().clone();
        let run = RunRecord {
            boots: self.boots,
            lifetime: self.backend.capabilities().lifetime,
            edit: self.edit.clone(),
            ..RunRecord::new(product, 0, host::this_process(), self.since)
        };
        let plan = self
            .machine
            .prepare(self.backend, run, &self.options.revertible, self.ctx)?;
        let launch = self.launch(plan, Begin::PowerOn)?;
        let started = self.backend.start(&launch, &self.waiting()).await;
        self.watch(started, RunEvent::Running).await
    }

    /// Goes on from the saved state: the same plan on the same heads, or not at all.
    async fn resume(&mut self) -> Result<RunEnd> {
        let machine = self.machine;
        let record = machine.record()?;
        let Some(run) = &record.run else {
            return Err(Error::invalid(format!("machine {} is off", machine.name())));
        };
        self.boots = run.boots;
        let resolved = machine.resolve(self.backend.product())?;
        let plan = self.backend.translate(&resolved)?;
        if record.generation != run.generation || plan.digest() != run.plan {
            let name = machine.name();
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("machine {name} is not what it was when its state was saved"),
            )
            .of(&run.product)
            .next(format!(
                "drop the saved state: stratavm stop {name} --discard-state"
            )));
        }
        let applied = plan.apply(machine.store().volume(), self.ctx);
        applied.map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.next(format!(
                "drop the saved state, which cannot go on without it: stratavm stop {} --discard-state",
                machine.name()
            )),
            _ => error,
        })?;
        machine.note_run(|run| {
            run.supervisor = host::this_process();
            run.phase = RunPhase::Running;
        })?;
        let launch = self.launch(plan, Begin::SavedState)?;
        let started = self.backend.start(&launch, &self.waiting()).await;
        self.watch(started, RunEvent::Resumed).await
    }

    /// Takes over a machine that runs.
    async fn attach(&mut self, endpoint: Endpoint) -> Result<RunEnd> {
        let attached = self.backend.attach(&endpoint, &self.waiting()).await;
        if attached.is_ok() {
            let now = Timestamp::now();
            self.machine.note_run(|run| {
                run.supervisor = host::this_process();
                run.attached = Some(now);
            })?;
        }
        self.boots = self.machine.record()?.run.map_or(1, |run| run.boots);
        self.watch(attached, RunEvent::Attached).await
    }

    fn launch(&self, plan: Plan, begin: Begin) -> Result<Launch> {
        let runtime = self.machine.runtime_folder();
        let lock = self
            .lock
            .share()
            .map_err(|error| Error::io("the run lock could not be shared", &runtime, error))?;
        let launch = Launch::new(plan, runtime).begin(begin);
        Ok(launch.lock(RunLock::new(lock)))
    }

    /// The caller's context with the run's own end.
    fn waiting(&self) -> Ctx {
        let until = self.until.into_iter().chain(self.ctx.deadline()).min();
        match until {
            Some(until) => self.ctx.clone().with_deadline(until),
            None => self.ctx.clone(),
        }
    }

    /// From the product's word that the machine runs to its end.
    async fn watch(
        &self,
        started: Result<Box<dyn Running>>,
        event: fn(Endpoint) -> RunEvent,
    ) -> Result<RunEnd> {
        let mut running = match started {
            Ok(running) => running,
            Err(error) if error.kind() == ErrorKind::Timeout => return Ok(RunEnd::Timeout),
            Err(error) => return Err(error),
        };
        let endpoint = running.endpoint().clone();
        let noted = self
            .machine
            .note_run(|run| run.endpoint = Some(endpoint.clone()));
        if let Err(error) = noted {
            end(running.as_mut()).await;
            return Err(error);
        }
        self.options.tell(&event(endpoint));
        match running.wait(&self.waiting()).await {
            Ok(ended) => {
                self.options.tell(&RunEvent::Ended(ended.clone()));
                Ok(match ended {
                    Ended::PowerOff => RunEnd::PowerOff,
                    Ended::Reboot => RunEnd::Reboot,
                    Ended::Crash(seen) => RunEnd::Crash(seen),
                    Ended::Suspended => RunEnd::Suspended,
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

    /// Whether somebody asked for an end while the guest was about to reboot.
    fn was_told_to_stop(&self) -> bool {
        let run = self.machine.record().ok().and_then(|record| record.run);
        run.is_some_and(|run| run.phase == RunPhase::Stopping)
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

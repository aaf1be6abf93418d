//! A machine in a store whose supervisor is another process, which is killed: what trials of lost
//! supervisors stand on.
//!
//! The process is the test program itself, or any other that calls [`supervise`] first of all.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tempfile::TempDir;

use super::bench::{Bench, Miss, Outcome, ensure, files_below, told};
use crate::capability::Feature;
use crate::hypervisor::{Endpoint, Stop};
use crate::machine::record::Record;
use crate::machine::{CreateOptions, Machine, Recovered, RunEnd, RunEvent, RunOptions, RunReport};
use crate::plan::Grade;
use crate::spec::{Console, Name};
use crate::testkit::guest::{Boot, BootSector, parse_console};
use crate::{Ctx, ErrorKind, Hypervisor, Store, host};

/// Set where a program is to supervise: the folder of the store with the machine.
const HOME: &str = "STRATAVM_CONFORMANCE_SUPERVISE";
/// What processes and the files of a store may take, on top of a step of a machine: the host may be
/// busy, and nothing waits for it in vain.
const OVERHEAD: Duration = Duration::from_secs(30);
/// After this time a supervisor that nobody has killed ends its machine: whoever started it is gone.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A program that supervises a machine for a trial, which kills it. It calls [`supervise`] before it
/// does anything else.
#[derive(Debug, Clone)]
pub struct Supervisor {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Supervisor {
    /// The program at `program`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            environment: Vec::new(),
        }
    }

    /// This program, once more.
    ///
    /// # Errors
    /// If the system does not say where it is.
    pub fn this_program() -> std::io::Result<Self> {
        std::env::current_exe().map(Self::new)
    }

    /// The same with this variable in its environment, such as one that says which of several
    /// backends it is to use.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }
}

/// Supervises the machine of a trial if this program was started for that, and answers its exit code
/// then: `main` ends with it. The `backend` is the one that the trial is about, as another process
/// of the same user has it.
pub fn supervise(backend: &dyn Fn() -> Arc<dyn Hypervisor>) -> Option<ExitCode> {
    let home = std::env::var_os(HOME)?;
    Some(match run_at(Path::new(&home), backend()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // It goes to the trial's log; without one nobody would read it anyway.
            let _ = writeln!(std::io::stderr(), "{}", told(&error));
            ExitCode::FAILURE
        }
    })
}

fn run_at(home: &Path, backend: Arc<dyn Hypervisor>) -> crate::Result<RunReport> {
    let store = Store::open(home)?;
    let names = store.machines()?;
    let name = names.first().ok_or_else(|| {
        crate::Error::new(ErrorKind::NotFound, "there is no machine to supervise").at(home)
    })?;
    let options = RunOptions::default().timeout(FORGOTTEN);
    block_on(store.machine(name)?.run(backend, options, &Ctx::none()))
}

/// A machine in a store of its own; it is ended with this value.
pub(super) struct Desk<'a> {
    pub(super) bench: &'a Bench,
    pub(super) store: Store,
    pub(super) name: Name,
    folder: TempDir,
}

impl<'a> Desk<'a> {
    /// A machine with this guest on its first disk.
    pub(super) fn new(bench: &'a Bench, guest: &BootSector) -> Result<Self, Miss> {
        let mut sample = bench.sample()?.content(0, guest.image_bytes()?);
        if bench.can().feature(Feature::ConsoleLog) == Grade::Hard {
            sample.spec.hardware.console = Console::Log;
        }
        let folder = TempDir::with_prefix("stratavm-trial-")?;
        let images = sample.write_images(folder.path())?;
        for (layer, image) in sample.spec.layers.iter_mut().zip(&images) {
            let image = image.strip_prefix(folder.path()).unwrap_or(image);
            layer.image = Some(image.to_string_lossy().into_owned());
        }
        let store = Store::open(folder.path().join("home"))?;
        let options = CreateOptions::default();
        store.create(&sample.spec, folder.path(), &options, &Ctx::none())?;
        Ok(Self {
            bench,
            store,
            name: sample.spec.name,
            folder,
        })
    }

    /// A context that ends when a step has taken too long.
    pub(super) fn ctx(&self) -> Ctx {
        Ctx::none().with_deadline(Instant::now() + OVERHEAD + self.bench.options.limit)
    }

    pub(super) fn machine(&self) -> Result<Machine, Miss> {
        Ok(self.store.machine(&self.name)?)
    }

    pub(super) fn record(&self) -> Result<Record, Miss> {
        Ok(self.machine()?.record()?)
    }

    /// Runs the machine under a supervisor of its own until its guest has done what it has to do,
    /// and kills that. Answers where the machine is, or was.
    pub(super) fn lose_supervisor(&self) -> Result<Endpoint, Miss> {
        let Some(supervisor) = &self.bench.options.supervisor else {
            let why = "no program to kill was given: Options::supervisor";
            return Err(Miss::Skipped(why.to_owned()));
        };
        let log = self.folder.path().join("supervisor.log");
        let child = Command::new(&supervisor.program)
            .envs(supervisor.environment.iter().cloned())
            .env(HOME, self.store.home())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut process = Process(child);
        let id = host::process(process.0.id());
        let found = self.await_that("a supervisor that runs the machine", || {
            if let Some(status) = process.0.try_wait()? {
                let said = fs::read_to_string(&log)?;
                let what = format!("the supervisor ended by itself ({status}): {said}");
                return Err(Miss::Failed(what));
            }
            let run = self.record()?.run.filter(|run| run.supervisor == id);
            let done = || {
                self.console()
                    .map(|boot| boot.is_none_or(|boot| boot.ended))
            };
            Ok(match run.and_then(|run| run.endpoint) {
                Some(endpoint) if done()? => Some(endpoint),
                _ => None,
            })
        })?;
        process.kill()?;
        Ok(found)
    }

    /// What the guest said at its last boot; `None` if the product shows no console. One without a
    /// boot so far is a boot that has not ended.
    pub(super) fn console(&self) -> Result<Option<Boot>, Miss> {
        let machine = self.machine()?;
        if machine.record()?.spec.hardware.console != Console::Log {
            return Ok(None);
        }
        let resolved = machine.resolve(self.bench.backend.product())?;
        Ok(Some(last_boot(&resolved.paths.console)))
    }

    /// Runs the machine through another process's handle, or takes over what runs, and pulls the
    /// plug once its guest has done what it has to do. `look` sees what happens, and so does the
    /// caller at the end.
    pub(super) fn run(
        &self,
        look: impl Fn(&RunEvent) + Send + Sync + 'static,
    ) -> crate::Result<(RunReport, Vec<RunEvent>)> {
        let machine = self.store.machine(&self.name)?;
        let backend = Arc::clone(&self.bench.other);
        let resolved = machine.resolve(backend.product())?;
        let log = machine.record()?.spec.hardware.console == Console::Log;
        let console = log.then_some(resolved.paths.console);
        let events = Arc::<Mutex<Vec<RunEvent>>>::default();
        let (product, seen, ctx) = (Arc::clone(&backend), Arc::clone(&events), self.ctx());
        let (pause, patience) = (self.bench.options.watch / 10, ctx.clone());
        let sink = move |event: &RunEvent| {
            look(event);
            lock(&seen).push(event.clone());
            let (RunEvent::Running(at) | RunEvent::Attached(at)) = event else {
                return;
            };
            let has_ended = |path: &PathBuf| last_boot(path).ended;
            while !console.as_ref().is_none_or(has_ended) && patience.check().is_ok() {
                std::thread::sleep(pause);
            }
            // If it does not help, the run ends by its deadline, and its report says so.
            let _ = block_on(product.stop(at, Stop::PowerOff, &patience));
        };
        let ran = block_on(machine.run(backend, RunOptions::default().on_event(sink), &ctx));
        let events = std::mem::take(&mut *lock(&events));
        Ok((ran?, events))
    }

    /// The same, which must end by the plug.
    pub(super) fn runs(&self, what: &str) -> Result<Vec<RunEvent>, Miss> {
        let (report, events) = self.run(|_| {})?;
        ensure!(
            report.end == RunEnd::PowerOff,
            "{what} ended as {}",
            report.end.as_str()
        );
        Ok(events)
    }

    /// Waits until nothing of the machine runs any more, which is found out through `backend`.
    pub(super) fn is_over(&self, backend: &dyn Hypervisor) -> Outcome {
        let machine = self.machine()?;
        self.await_that("the machine is off", || {
            match block_on(machine.recover(backend, &self.ctx())) {
                Ok(Recovered::Off) => Ok(Some(())),
                // The product is on its way out, and keeps the machine to itself until then.
                Ok(Recovered::Supervised) => Ok(None),
                Ok(other) => Err(Miss::Failed(format!("it should be off, but: {other:?}"))),
                Err(error) if error.kind() == ErrorKind::Busy => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        let run = self.record()?.run;
        ensure!(run.is_none(), "it is off and still recorded: {run:?}");
        Ok(())
    }

    /// Record and layers of the machine: what nobody may touch while it may run. Each file with its
    /// SHA-256.
    pub(super) fn kept(&self) -> Result<BTreeMap<PathBuf, String>, Miss> {
        let folder = self.machine()?.folder().to_owned();
        let mut files = files_below(&folder)?;
        files.retain(|path, _| {
            path.starts_with(folder.join("layers")) || *path == folder.join("machine.json")
        });
        Ok(files)
    }

    /// Looks again and again until there is an answer.
    pub(super) fn await_that<T>(
        &self,
        what: &str,
        mut ready: impl FnMut() -> Result<Option<T>, Miss>,
    ) -> Result<T, Miss> {
        let patience = self.ctx();
        while patience.check().is_ok() {
            if let Some(found) = ready()? {
                return Ok(found);
            }
            std::thread::sleep(self.bench.options.watch / 10);
        }
        Err(Miss::Failed(format!("{what}: waited in vain")))
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        // A trial that failed must not leave a machine behind; what this answers adds nothing.
        if let Ok(machine) = self.store.machine(&self.name) {
            let backend = self.bench.backend.as_ref();
            let _ = block_on(machine.stop(backend, Stop::PowerOff, &self.bench.ctx()));
        }
    }
}

/// A process that does not outlive its trial.
struct Process(Child);

impl Process {
    fn kill(&mut self) -> Outcome {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

pub(super) fn name(text: &str) -> Result<Name, Miss> {
    Ok(Name::new(text)?)
}

fn last_boot(console: &Path) -> Boot {
    let bytes = fs::read(console).unwrap_or_default();
    parse_console(&bytes).pop().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

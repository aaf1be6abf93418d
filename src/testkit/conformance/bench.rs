//! What trials stand on: the backend, sample machines that it takes, folders, and machines that are
//! ended whatever becomes of the trial.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future::block_on;
use sha2::{Digest as _, Sha256};
use stratavm_disk::Ctx;
use tempfile::TempDir;
use uuid::Uuid;

use super::Options;
use crate::capability::{Capabilities, Feature};
use crate::hypervisor::{Ended, Endpoint, Launch, Running, State, Stop};
use crate::plan::{Content, Grade};
use crate::spec::{Arch, Console, Firmware, NameError, Role};
use crate::testkit::Sample;
use crate::testkit::guest::{Boot, BootSector, GuestError, parse_console};
use crate::{Error, ErrorKind, Hypervisor, Plan, Resolved};

/// Why a trial did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Miss {
    /// The backend did something else than it must.
    Failed(String),
    /// It could not be tried here.
    Skipped(String),
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(what) => f.write_str(what),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Self::Failed(told(&error))
    }
}

impl From<std::io::Error> for Miss {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(format!("the trial's own files: {error}"))
    }
}

impl From<GuestError> for Miss {
    fn from(error: GuestError) -> Self {
        Self::Failed(format!("the trial's guest: {error}"))
    }
}

impl From<NameError> for Miss {
    fn from(error: NameError) -> Self {
        Self::Failed(format!("the trial's sample: {error}"))
    }
}

pub(super) type Outcome = Result<(), Miss>;

/// Fails the trial unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::testkit::conformance::Miss::Failed(format!($($message)+)));
        }
    };
}
pub(super) use ensure;

/// Everything an error says: itself, its causes and the next step.
pub(super) fn told(error: &Error) -> String {
    let mut text = format!("{} [{}]", error, error.kind());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let Some(next) = error.next_step() {
        text.push_str(&format!(" (next: {next})"));
    }
    text
}

/// The error of a result that must be one.
pub(super) fn refused<T>(result: crate::Result<T>, what: &str) -> Result<Error, Miss> {
    match result {
        Err(error) => Ok(error),
        Ok(_) => Err(Miss::Failed(format!("{what}: accepted"))),
    }
}

/// The error of a result that must be one of this kind.
pub(super) fn refused_as<T>(
    result: crate::Result<T>,
    kind: ErrorKind,
    what: &str,
) -> Result<Error, Miss> {
    let error = refused(result, what)?;
    ensure!(
        error.kind() == kind,
        "{what}: not {kind}, but {}",
        told(&error)
    );
    Ok(error)
}

/// Whether trials with running machines can be done at all: the boot-sector guest is a BIOS's.
pub(super) fn drives(can: &Capabilities, _: &Options) -> bool {
    can.feature(Feature::Control) == Grade::Hard
        && can.arches.contains(&Arch::X86_64)
        && can.firmware.contains(&Firmware::Bios)
}

pub(super) fn always(_: &Capabilities, _: &Options) -> bool {
    true
}

/// Backend and options of one trial.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) backend: Arc<dyn Hypervisor>,
    /// As another process would have it.
    pub(super) other: Arc<dyn Hypervisor>,
    pub(super) options: Options,
}

impl Bench {
    pub(super) fn new(
        backend: Arc<dyn Hypervisor>,
        other: Arc<dyn Hypervisor>,
        options: Options,
    ) -> Self {
        Self {
            backend,
            other,
            options,
        }
    }

    pub(super) fn can(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    /// Layers `os`, `office` and `home`, on hardware that the backend has.
    pub(super) fn sample(&self) -> Result<Sample, Miss> {
        let can = self.can();
        let sample = Sample::new("trial")?;
        let sample = sample
            .layer("office", Role::Apps, 4)?
            .layer("home", Role::UserData, 4)?;
        let family = can.families.first().copied();
        let family = family.ok_or_else(|| Miss::Failed("there is no family".to_owned()))?;
        let mut sample = sample.family(family);
        if !can.arches.contains(&Arch::X86_64) {
            sample.spec.guest.arch = Arch::Aarch64;
        }
        if !can.firmware.contains(&Firmware::Bios) {
            sample.spec.hardware.firmware = Firmware::Uefi;
        }
        Ok(sample)
    }

    /// Translates a sample whose files are nowhere.
    pub(super) fn plan(&self, sample: &Sample) -> crate::Result<Plan> {
        self.backend.translate(&nowhere(sample))
    }

    /// A machine with this guest on its first disk, and its image files.
    pub(super) fn machine(&self, guest: &BootSector) -> Result<Machine<'_>, Miss> {
        let mut sample = self.sample()?.content(0, guest.image_bytes()?);
        if self.can().feature(Feature::ConsoleLog) == Grade::Hard {
            sample.spec.hardware.console = Console::Log;
        }
        self.machine_of(sample)
    }

    pub(super) fn machine_of(&self, sample: Sample) -> Result<Machine<'_>, Miss> {
        let folder = TempDir::with_prefix("stratavm-trial-")?;
        let images = sample.write_images(folder.path())?;
        // Trials run side by side, perhaps on one product: each folder is another machine.
        let name = folder.path().as_os_str().as_encoded_bytes();
        let sample = sample.id(Uuid::new_v5(&Uuid::NAMESPACE_OID, name));
        Ok(Machine {
            bench: self,
            folder,
            sample,
            images,
        })
    }

    /// Skips the trial if the product is not on this host.
    pub(super) fn needs_product(&self) -> Outcome {
        let detection = block_on(self.backend.detect(&self.ctx()))?;
        if detection.found.is_none() && !detection.problems.is_empty() {
            return Err(Miss::Skipped(detection.problems.join("; ")));
        }
        Ok(())
    }

    /// A context that ends when a step has taken too long.
    pub(super) fn ctx(&self) -> Ctx {
        Ctx::none().with_deadline(Instant::now() + self.options.limit)
    }

    /// A context that ends when an idle machine was watched long enough.
    pub(super) fn watching(&self) -> Ctx {
        Ctx::none().with_deadline(Instant::now() + self.options.watch)
    }

    pub(super) fn state(&self, endpoint: &Endpoint) -> Result<State, Miss> {
        Ok(block_on(self.backend.state(endpoint, &self.ctx()))?)
    }
}

/// The machine with all its files below a folder that is not there.
pub(super) fn nowhere(sample: &Sample) -> Resolved {
    sample.resolve(&absolute("no-such-folder"))
}

/// An absolute path on any host.
pub(super) fn absolute(name: &str) -> PathBuf {
    let root = if cfg!(windows) { r"C:\" } else { "/" };
    Path::new(root).join(name)
}

/// A machine with files of its own.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) bench: &'a Bench,
    pub(super) folder: TempDir,
    pub(super) sample: Sample,
    pub(super) images: Vec<PathBuf>,
}

impl<'a> Machine<'a> {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn resolve(&self, start: u64) -> Resolved {
        self.sample.clone().start(start).resolve(self.path())
    }

    pub(super) fn plan(&self, start: u64) -> Result<(Resolved, Plan), Miss> {
        let machine = self.resolve(start);
        let plan = self.bench.backend.translate(&machine)?;
        Ok((machine, plan))
    }

    /// Applies the plan of start number `start`.
    pub(super) fn applied(&self, start: u64) -> Result<Launch, Miss> {
        let (machine, plan) = self.plan(start)?;
        plan.apply(&machine.volume, &Ctx::none())?;
        Ok(Launch::new(plan, self.path().join("runtime")))
    }

    /// Starts it for the `start`th time.
    pub(super) fn start(&self, start: u64) -> Result<Started<'a>, Miss> {
        self.bench.needs_product()?;
        let launch = self.applied(start)?;
        self.launch(&launch)
    }

    pub(super) fn launch(&self, launch: &Launch) -> Result<Started<'a>, Miss> {
        let bench = self.bench;
        let running = block_on(bench.backend.start(launch, &bench.ctx()))?;
        Ok(Started { bench, running })
    }

    /// A run of it that another handle has taken over.
    pub(super) fn taken(&self, running: Box<dyn Running>) -> Started<'a> {
        Started {
            bench: self.bench,
            running,
        }
    }

    /// Runs it from start to end; what it said on its console if there is one.
    pub(super) fn run(&self, start: u64) -> Result<(Ended, Boot), Miss> {
        let ended = self.start(start)?.wait()?;
        Ok((ended, self.console()?))
    }

    /// The last boot that the console shows.
    pub(super) fn console(&self) -> Result<Boot, Miss> {
        if self.sample.spec.hardware.console != Console::Log {
            return Err(Miss::Skipped("the product writes no console".to_owned()));
        }
        let path = self.resolve(1).paths.console;
        let bytes = fs::read(&path)?;
        parse_console(&bytes).pop().ok_or_else(|| {
            let said = String::from_utf8_lossy(&bytes).into_owned();
            Miss::Failed(format!("the console shows no boot: {said:?}"))
        })
    }

    /// SHA-256 of every image file.
    pub(super) fn image_digests(&self) -> Result<BTreeMap<PathBuf, String>, Miss> {
        self.images
            .iter()
            .map(|path| Ok((path.clone(), digest_of(path)?)))
            .collect()
    }
}

/// A machine that was started; it is ended with this value.
#[derive(Debug)]
pub(super) struct Started<'a> {
    bench: &'a Bench,
    pub(super) running: Box<dyn Running>,
}

impl Started<'_> {
    pub(super) fn endpoint(&self) -> Endpoint {
        self.running.endpoint().clone()
    }

    pub(super) fn wait(&mut self) -> Result<Ended, Miss> {
        Ok(block_on(self.running.wait(&self.bench.ctx()))?)
    }

    pub(super) fn stop(&mut self, how: Stop) -> Outcome {
        Ok(block_on(self.running.stop(how, &self.bench.ctx()))?)
    }

    /// Fails unless it goes on running for as long as machines are watched.
    pub(super) fn stays(&mut self, why: &str) -> Outcome {
        let waited = block_on(self.running.wait(&self.bench.watching()));
        refused_as(waited, ErrorKind::Timeout, why)?;
        let state = self.bench.state(self.running.endpoint())?;
        ensure!(
            matches!(state, State::Running | State::Stopping),
            "{why}: it is {state}"
        );
        Ok(())
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        // A trial that failed must not leave a machine behind; what this answers adds nothing.
        let _ = block_on(self.running.stop(Stop::PowerOff, &self.bench.ctx()));
    }
}

/// Every file below `folder` with its SHA-256.
pub(super) fn files_below(folder: &Path) -> Result<BTreeMap<PathBuf, String>, Miss> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let digest = digest_of(&path)?;
                found.insert(path, digest);
            }
        }
    }
    Ok(found)
}

fn digest_of(path: &Path) -> Result<String, Miss> {
    let digest = Sha256::digest(fs::read(path)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All text of a plan that the product reads.
pub(super) fn text_of(plan: &Plan) -> String {
    let mut text = plan.argv.join("\n");
    for file in &plan.files {
        if let Content::Text(content) = &file.content {
            text.push('\n');
            text.push_str(content);
        }
    }
    text
}

//! The one trait behind which every product stands.
//!
//! A backend has two halves. [`Hypervisor::translate`] is sync and pure: the same machine gives the
//! same plan, on any host, with no product installed. The rest controls a running product; it is
//! async, belongs to no runtime, and is optional: a backend that only translates leaves the
//! default methods, which answer [`ErrorKind::NotDriven`].
//!
//! Callers rarely use this trait: [`crate::Vm`] wraps it.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stratavm_disk::Ctx;

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::resolved::Resolved;

/// A product: the identifier of a backend, such as `qemu`.
///
/// Backends outside this project choose their own; the alphabet is that of a
/// [`Name`](crate::spec::Name).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Product(Cow<'static, str>);

impl Product {
    /// A product known at compile time.
    #[must_use]
    pub const fn new(id: &'static str) -> Self {
        Self(Cow::Borrowed(id))
    }

    /// A product named at run time: by a command line or a file of the store.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is no [`Name`](crate::spec::Name).
    pub fn named(id: &str) -> Result<Self> {
        let name = crate::spec::Name::new(id)
            .map_err(|error| Error::invalid(format!("{id:?} is no product")).caused_by(error))?;
        Ok(Self(Cow::Owned(name.into())))
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One product that machines can run on.
#[async_trait]
pub trait Hypervisor: fmt::Debug + Send + Sync {
    /// Which product this is.
    fn product(&self) -> &Product;

    /// What it can do, as data: conformance trials and documentation are made from it.
    fn capabilities(&self) -> &Capabilities;

    /// Makes the plan of `machine`: configuration, disks, gaps. Pure: no product, file, clock or
    /// randomness is touched, and equal input gives equal bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the spec's key where the product cannot do what the spec
    /// says and leaving it out would be wrong; [`ErrorKind::NeedsSwitch`] where a chain is of a
    /// family that the product does not read.
    fn translate(&self, machine: &Resolved) -> Result<Plan>;

    /// Looks for the product on this host. Finding nothing is no error.
    ///
    /// # Errors
    /// Only what keeps the search itself from ending, such as the deadline.
    async fn detect(&self, ctx: &Ctx) -> Result<Detection> {
        ctx.check()?;
        Ok(Detection::new(Driving::TranslateOnly))
    }

    /// Starts the machine of an applied plan and returns once the product says that it runs.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it, or one of its disks, is in use; [`ErrorKind::Unavailable`] if
    /// the product is not there; [`ErrorKind::Product`] if it fails, with what it said.
    async fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Box<dyn Running>> {
        let _ = (launch, ctx);
        Err(self.not_driven("start"))
    }

    /// Asks the product what has become of the machine behind `endpoint`.
    ///
    /// # Errors
    /// [`ErrorKind::Product`] if the product does not answer sensibly.
    async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        let _ = (endpoint, ctx);
        Err(self.not_driven("state"))
    }

    /// Asks for an end, or ends the machine behind `endpoint`; returns once the product has taken
    /// the request. A machine that is off already is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Product`] if the product refuses.
    async fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        let _ = (endpoint, how, ctx);
        Err(self.not_driven("stop"))
    }

    /// How the run of `machine` will be reached, where that is known before it starts. Pure. Needed
    /// of products whose machines are [`Independent`](crate::capability::Lifetime): a supervisor
    /// may die before it has written down where its machine is.
    fn endpoint(&self, machine: &Resolved) -> Option<Endpoint> {
        let _ = machine;
        None
    }

    /// Takes over the running machine behind `endpoint`, whose supervisor is gone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it does not run; [`ErrorKind::Unsupported`] where no machine
    /// outlives its supervisor.
    async fn attach(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<Box<dyn Running>> {
        let _ = (endpoint, ctx);
        Err(self.cannot("attach to a machine that runs"))
    }

    /// Stops the processors of the machine behind `endpoint` until [`resume`](Self::resume). One
    /// that is paused already is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]; [`ErrorKind::Product`] if it does not run.
    async fn pause(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        let _ = (endpoint, ctx);
        Err(self.cannot("pause a machine"))
    }

    /// Lets the machine behind `endpoint` go on that was paused. One that runs is no error.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn resume(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        let _ = (endpoint, ctx);
        Err(self.cannot("resume a machine"))
    }

    /// Saves the state of the machine behind `endpoint` to disk, durably, and ends it. Its run ends
    /// with [`Ended::Suspended`], and [`Begin::SavedState`] goes on with it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]; [`ErrorKind::Product`] if it does not run. The machine then goes
    /// on as it did.
    async fn suspend(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        let _ = (endpoint, ctx);
        Err(self.cannot("save a machine's state"))
    }

    /// Drops the saved state of the machine behind `endpoint`, as if it had lost power. One that has
    /// none is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]; [`ErrorKind::Busy`] if it runs.
    async fn discard_state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        let _ = (endpoint, ctx);
        Err(self.cannot("save a machine's state"))
    }

    /// The error of something that the product, or this backend, cannot do.
    #[doc(hidden)]
    fn cannot(&self, what: &str) -> Error {
        let message = format!("this product cannot {what}, or is not driven so far");
        Error::new(ErrorKind::Unsupported, message)
            .of(self.product())
            .next("`stratavm doctor` shows what each product can do")
    }

    /// The error of a control method that this backend does not have.
    #[doc(hidden)]
    fn not_driven(&self, method: &str) -> Error {
        Error::new(
            ErrorKind::NotDriven,
            format!("{method} is not there: translate only"),
        )
        .of(self.product())
        .next("translate it, and start it with the product itself")
    }
}

/// A machine that a product runs for us.
///
/// Dropping it does not wait: a product that lives in a child process of ours is ended, any other
/// goes on and can be reached through the endpoint.
#[async_trait]
pub trait Running: fmt::Debug + Send {
    /// How to reach it from another process.
    fn endpoint(&self) -> &Endpoint;

    /// Waits for its end. Asking again gives the same answer.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] or [`ErrorKind::Cancelled`] as `ctx` says; the machine then still
    /// runs.
    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended>;

    /// As [`Hypervisor::stop`].
    ///
    /// # Errors
    /// As there.
    async fn stop(&mut self, how: Stop, ctx: &Ctx) -> Result<()>;
}

/// What is started: an applied plan and where the run may keep its own files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Launch {
    /// The plan, applied.
    pub plan: Plan,
    /// A folder of this machine and product that only the user can enter; sockets and logs.
    pub runtime: PathBuf,
    /// What the machine begins with.
    pub begin: Begin,
    /// The machine's run lock. A backend whose product is a process of its own lets that process
    /// inherit it where the system can do so: the lock is then free only once both are gone.
    pub lock: Option<RunLock>,
}

impl Launch {
    /// A launch of `plan` from power-on with its run-time files in `runtime`.
    #[must_use]
    pub fn new(plan: Plan, runtime: impl Into<PathBuf>) -> Self {
        Self {
            plan,
            runtime: runtime.into(),
            begin: Begin::PowerOn,
            lock: None,
        }
    }

    /// The same launch, beginning otherwise.
    #[must_use]
    pub fn begin(mut self, begin: Begin) -> Self {
        self.begin = begin;
        self
    }

    /// The same launch under this run lock.
    #[must_use]
    pub fn lock(mut self, lock: RunLock) -> Self {
        self.lock = Some(lock);
        self
    }
}

/// What a machine begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Begin {
    /// Nothing in memory. Where the product holds a saved state this is refused
    /// ([`ErrorKind::Suspended`]): memory of other heads must never meet these.
    #[default]
    PowerOn,
    /// The state that the product saved; refused ([`ErrorKind::NotFound`]) where there is none.
    SavedState,
}

/// A held run lock, to be shared with the process of a product.
#[derive(Debug, Clone)]
pub struct RunLock(Arc<File>);

impl RunLock {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// The lock's file once more, for a child to inherit. On Unix the lock is held until the last
    /// descriptor of it is closed; Windows ties it to this process alone. The file is empty.
    ///
    /// # Errors
    /// What the system says.
    pub fn share(&self) -> std::io::Result<File> {
        self.0.try_clone()
    }
}

/// How to reach a running machine again, from any process of the user. Recorded in `machine.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Endpoint {
    /// The product.
    pub product: Product,
    /// The product's own way to name it: a socket's path, a UUID, a configuration file.
    pub address: String,
    /// The process, where the product has one for each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
}

impl Endpoint {
    /// An endpoint from its parts.
    #[must_use]
    pub fn new(product: Product, address: impl Into<String>, process: Option<ProcessId>) -> Self {
        Self {
            product,
            address: address.into(),
            process,
        }
    }
}

/// A process that no later one can be mistaken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessId {
    /// The process number.
    pub pid: u32,
    /// When it started, in the host's own unit (Linux: clock ticks since boot). 0 where unknown.
    pub started: u64,
}

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// Not running, nothing saved.
    Off,
    /// Between the request and the product's word that it runs.
    Starting,
    /// Running.
    Running,
    /// Stopped for now, in memory.
    Paused,
    /// Saved to disk.
    Suspended,
    /// An end was asked for.
    Stopping,
    /// The product does not say.
    Unknown,
}

impl State {
    /// The state as `status` prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// The power button: the guest shuts down if it wants to.
    Shutdown,
    /// The plug: off at once.
    PowerOff,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The guest or the user switched it off.
    PowerOff,
    /// The guest asked for a reset, which ends the run so that heads can be made anew.
    Reboot,
    /// The product, or the guest's processor, failed; what was seen.
    Crash(String),
    /// Its state was saved to disk.
    Suspended,
}

impl Ended {
    /// The end as `start --wait` prints it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Crash(_) => "crash",
            Self::Suspended => "suspended",
        }
    }
}

/// What was found of a product on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detection {
    /// How this library drives it.
    pub driving: Driving,
    /// The installation, if there is one.
    pub found: Option<Installation>,
    /// What keeps it from working, in sentences; empty if nothing does.
    pub problems: Vec<String>,
}

impl Detection {
    /// Nothing found yet.
    #[must_use]
    pub fn new(driving: Driving) -> Self {
        Self {
            driving,
            found: None,
            problems: Vec::new(),
        }
    }
}

/// How this library drives a product.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driving {
    /// Configurations and chains are written; starting is the user's affair.
    TranslateOnly,
    /// By these means, such as `QMP`.
    Driven(String),
}

/// An installed product.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installation {
    /// The program that is driven.
    pub program: PathBuf,
    /// Its version.
    pub version: semver::Version,
    /// Further facts worth showing, such as `accelerator: tcg`.
    pub facts: Vec<String>,
}

impl Installation {
    /// An installation from its parts.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, version: semver::Version, facts: Vec<String>) -> Self {
        Self {
            program: program.into(),
            version,
            facts,
        }
    }
}

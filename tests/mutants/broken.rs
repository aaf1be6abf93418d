//! The null product with one fault.

mod control;
mod plan;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use stratavm::capability::{Capabilities, Lifetime};
use stratavm::hypervisor::{Detection, Endpoint, Launch, Running, State, Stop};
use stratavm::{Ctx, Error, Hypervisor, Plan, Product, Resolved, Result};
use stratavm_null::Null;
use tempfile::TempDir;

/// What is wrong with a mutant. The names say it; how is in [`plan`] and [`control`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    CountsPlans,
    WritesWhileTranslating,
    LooksAtFiles,
    DropsLastDisk,
    NamesAnotherProduct,
    WritesElsewhere,
    OmitsHeads,
    OnePlaceForAll,
    PlacesByOrder,
    TakesAnyController,
    WrapsPorts,
    SharesPlaces,
    TakesAnyFamily,
    TakesAnyArch,
    TakesAnyFirmware,
    RefusesNamelessly,
    IgnoresClock,
    DeniesConsole,
    HidesGaps,
    MisgradesGaps,
    GivesNoReasons,
    WritesTitleRaw,
    WritesFolderRaw,
    WritesMediaRaw,
    ForgetsBases,
    PlansOneFileTwice,
    NamesNoEntryOfItsOwn,
    KeepsConfiguration,
    PlansOverImage,
    ForgetsImages,
    CallsPowerOffReboot,
    CallsRebootPowerOff,
    CallsCrashPowerOff,
    SaysOff,
    ForgetsItsEnd,
    IgnoresPlug,
    IgnoresButton,
    PullsPlugForButton,
    StopsOnlyOnce,
    StopsOnlyItsOwn,
    StartsTwice,
    StartsOnce,
    MakesMissingHeads,
    WritesImages,
    IgnoresContext,
    EndsWithTheWait,
    LeavesGhosts,
    EndsWithADroppedWait,
    RemovesConsole,
    ReversesDisks,
    LosesWrites,
    KeepsEverything,
    KeepsNothing,
    LosesScsiDisks,
    IgnoresPause,
    IgnoresPlugInPause,
    BootsForSavedState,
    DropsStateAtStart,
    KeepsDroppedState,
    EndsWithItsHandle,
    ExpectedElsewhere,
    TakesOverTheDead,
    OutlivesItsSupervisor,
    SaysOffWithoutProduct,
    StartsWithoutProduct,
}

impl Fault {
    /// Whether the mutant says of itself that its machines end with their supervisor.
    pub(crate) fn is_supervised(self) -> bool {
        matches!(
            self,
            Self::OutlivesItsSupervisor | Self::StartsWithoutProduct
        )
    }

    /// Whether its machines are in the process that starts them, so that this is true.
    pub(crate) fn is_in_process(self) -> bool {
        self == Self::StartsWithoutProduct
    }
}

/// The null product with a fault. Clones share machines, as processes of one user do.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    null: Null,
    capabilities: Capabilities,
    fault: Fault,
    calls: Arc<AtomicU64>,
    folder: Option<Arc<TempDir>>,
}

impl Broken {
    #[allow(clippy::expect_used)]
    pub(crate) fn new(fault: Fault) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the product");
        let broken = Self::at(folder.path(), fault);
        Self {
            folder: Some(Arc::new(folder)),
            ..broken
        }
    }

    /// The one that another process has in `folder`.
    pub(crate) fn at(folder: &Path, fault: Fault) -> Self {
        let null = match fault.is_in_process() {
            true => Null::new(),
            false => Null::in_folder(folder),
        };
        let mut capabilities = null.capabilities().clone();
        if fault.is_supervised() {
            capabilities.lifetime = Lifetime::Supervised;
        }
        Self {
            null,
            capabilities,
            fault,
            calls: Arc::default(),
            folder: None,
        }
    }

    /// The same where its product is not installed.
    pub(crate) fn absent(&self) -> Self {
        Self {
            null: self.null.clone().uninstalled(),
            ..self.clone()
        }
    }

    pub(crate) fn fault(&self) -> Fault {
        self.fault
    }

    /// Where its machines are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder
            .as_ref()
            .map_or(Path::new(""), |folder| folder.path())
    }

    /// How many calls there were before this one.
    fn count(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

#[async_trait]
impl Hypervisor for Broken {
    fn product(&self) -> &Product {
        self.null.product()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        let mut machine = machine.clone();
        plan::before(self.fault, &mut machine);
        let made = self.null.translate(&machine);
        let made = match (made, self.fault) {
            (Err(_), Fault::SharesPlaces) => plan::share_places(&self.null, &machine),
            (Err(error), Fault::RefusesNamelessly) => {
                Err(Error::new(error.kind(), error.to_string()))
            }
            (made, _) => made,
        };
        made.map(|mut made| {
            plan::after(self.fault, &machine, &mut made, || self.count());
            made
        })
    }

    async fn detect(&self, ctx: &Ctx) -> Result<Detection> {
        self.null.detect(ctx).await
    }

    async fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Box<dyn Running>> {
        control::start(&self.null, self.fault, launch, ctx, self.count()).await
    }

    async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        match (self.fault, self.null.state(endpoint, ctx).await) {
            (Fault::SaysOff, _) | (Fault::SaysOffWithoutProduct, Err(_)) => Ok(State::Off),
            (_, state) => state,
        }
    }

    async fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        match self.fault {
            Fault::StopsOnlyItsOwn => Ok(()),
            Fault::StopsOnlyOnce if self.null.state(endpoint, ctx).await? == State::Off => {
                Err(Error::invalid("it is off"))
            }
            _ => self.null.stop(endpoint, how, ctx).await,
        }
    }

    fn endpoint(&self, machine: &Resolved) -> Option<Endpoint> {
        let mut endpoint = self.null.endpoint(machine)?;
        if self.fault == Fault::ExpectedElsewhere {
            endpoint.address.push('x');
        }
        Some(endpoint)
    }

    async fn attach(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<Box<dyn Running>> {
        control::attach(&self.null, self.fault, endpoint, ctx).await
    }

    async fn pause(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        match self.fault {
            Fault::IgnoresPause => Ok(()),
            _ => self.null.pause(endpoint, ctx).await,
        }
    }

    async fn resume(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        self.null.resume(endpoint, ctx).await
    }

    async fn suspend(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        self.null.suspend(endpoint, ctx).await
    }

    async fn discard_state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        match self.fault {
            Fault::KeepsDroppedState => Ok(()),
            _ => self.null.discard_state(endpoint, ctx).await,
        }
    }
}

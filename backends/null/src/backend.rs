//! The backend's type and its implementation of `Hypervisor`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use stratavm::capability::{Capabilities, Feature};
use stratavm::hypervisor::{Detection, Driving, Endpoint, Launch, Running, State, Stop};
use stratavm::plan::Grade;
use stratavm::{Ctx, Hypervisor, Plan, Product, Resolved, Result};

use crate::capability::{capabilities, outliving};
use crate::config;
use crate::control::{self, Machines};

/// The product this crate is about.
pub(crate) static PRODUCT: Product = Product::new("null");

/// The null product. Clones share their machines and what these wrote to their disks; two values
/// made by [`Null::new`] know nothing of each other.
#[derive(Debug, Clone)]
pub struct Null {
    capabilities: Arc<Capabilities>,
    machines: Machines,
}

impl Null {
    /// A product with no machines.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capabilities: Arc::new(capabilities()),
            machines: Machines::in_memory(),
        }
    }

    /// A product whose machines are in `folder`, as those of a desktop product are in its service:
    /// they outlive the process that started them, and their state can be saved. The product is
    /// installed as long as the folder is there; it gives no answers about its machines while the
    /// folder holds a file called `silent`.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            capabilities: Arc::new(outliving()),
            machines: Machines::in_folder(folder.into()),
        }
    }

    /// The same product on a host where it is not installed: it translates, and knows of no machine.
    #[must_use]
    pub fn uninstalled(mut self) -> Self {
        self.machines = Machines::nowhere();
        self
    }
}

impl Default for Null {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Hypervisor for Null {
    fn product(&self) -> &Product {
        &PRODUCT
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        config::translate(machine, &self.capabilities).map_err(|error| error.of(&PRODUCT))
    }

    async fn detect(&self, ctx: &Ctx) -> Result<Detection> {
        ctx.check()?;
        Ok(Detection::new(Driving::Driven("this process".to_owned())))
    }

    async fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Box<dyn Running>> {
        let machine = named(self.machines.start(launch, ctx))?;
        Ok(Box::new(machine))
    }

    fn endpoint(&self, machine: &Resolved) -> Option<Endpoint> {
        Some(control::endpoint(machine))
    }

    async fn attach(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<Box<dyn Running>> {
        let machine = named(self.machines.attach(endpoint, ctx))?;
        Ok(Box::new(machine))
    }

    async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        named(self.machines.state(endpoint, ctx).await)
    }

    async fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        named(self.machines.stop(endpoint, how, ctx))
    }

    async fn pause(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        named(self.machines.pause(endpoint, ctx))
    }

    async fn resume(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        named(self.machines.resume(endpoint, ctx))
    }

    async fn suspend(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        if self.capabilities.feature(Feature::Suspend) == Grade::None {
            return Err(self.cannot("save a machine's state"));
        }
        named(self.machines.suspend(endpoint, ctx))
    }

    async fn discard_state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        named(self.machines.discard_state(endpoint, ctx))
    }
}

fn named<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| error.of(&PRODUCT))
}

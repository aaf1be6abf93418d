//! The backend's type and its implementation of `Hypervisor`.

use std::sync::Arc;

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::hypervisor::{Detection, Driving, Endpoint, Launch, Running, State, Stop};
use stratavm::{Ctx, Hypervisor, Plan, Product, Resolved, Result};

use crate::capability::capabilities;
use crate::config;
use crate::control::Machines;

/// The product this crate is about.
pub(crate) static PRODUCT: Product = Product::new("null");

/// The null product. Clones share their machines and what these wrote to their disks; two values
/// made by [`Null::new`] know nothing of each other.
#[derive(Debug, Clone)]
pub struct Null {
    capabilities: Arc<Capabilities>,
    machines: Arc<Machines>,
}

impl Null {
    /// A product with no machines.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capabilities: Arc::new(capabilities()),
            machines: Arc::default(),
        }
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
        let machine = self
            .machines
            .start(launch, ctx)
            .map_err(|error| error.of(&PRODUCT))?;
        Ok(Box::new(machine))
    }

    async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        self.machines
            .state(endpoint, ctx)
            .map_err(|error| error.of(&PRODUCT))
    }

    async fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        self.machines
            .stop(endpoint, how, ctx)
            .map_err(|error| error.of(&PRODUCT))
    }
}

//! A machine together with the product it runs on: what most programs hold.

use std::sync::Arc;

use stratavm_disk::Ctx;

use crate::error::{Error, ErrorKind, Result};
use crate::events::{Events, Source, VmEvent};
use crate::hypervisor::{Hypervisor, State, Stop};
use crate::machine::{Machine, Recovered, RunOptions, RunReport};
use crate::plan::Plan;
use crate::registry::Registry;
use crate::spec::Name;
use crate::store::Store;

/// A machine of a store and the product that it runs on.
#[derive(Debug, Clone)]
pub struct Vm {
    machine: Machine,
    backend: Arc<dyn Hypervisor>,
    events: Arc<Source>,
}

impl Vm {
    /// `machine` on the product of `backend`.
    #[must_use]
    pub fn new(machine: Machine, backend: Arc<dyn Hypervisor>) -> Self {
        Self {
            machine,
            backend,
            events: Arc::default(),
        }
    }

    /// The machine called `name` on the product it runs on now, or else on the first of `registry`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such machine, or no backend for its product.
    pub fn open(store: &Store, name: &Name, registry: &Registry) -> Result<Self> {
        let machine = store.machine(name)?;
        let running = machine.record()?.run.map(|run| run.product);
        let backend = match running {
            Some(product) => Arc::clone(registry.get(&product)?),
            None => registry.iter().next().map(Arc::clone).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "the registry has no products at all")
            })?,
        };
        Ok(Self::new(machine, backend))
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The product's backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Hypervisor> {
        &self.backend
    }

    /// The plan of the machine as it stands.
    ///
    /// # Errors
    /// As [`Hypervisor::translate`].
    pub fn translate(&self) -> Result<Plan> {
        self.backend
            .translate(&self.machine.resolve(self.backend.product())?)
    }

    /// Runs the machine and supervises it to its end; see [`Machine::run`].
    ///
    /// # Errors
    /// As there.
    pub async fn run(&self, options: RunOptions, ctx: &Ctx) -> Result<RunReport> {
        let events = Arc::clone(&self.events);
        let options = options.on_event(move |event| events.send(&VmEvent::Run(event.clone())));
        let backend = Arc::clone(&self.backend);
        let report = self.machine.run(backend, options, ctx).await?;
        self.events.send(&VmEvent::Over(report.end.clone()));
        Ok(report)
    }

    /// What happens to the machine from now on, through this value and its clones. Nobody waits for
    /// a slow reader: it misses the oldest events, and is told how many.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Asks for an end, or switches off; returns once the product has taken the request.
    ///
    /// # Errors
    /// What the product says. A machine that is off is no error.
    pub async fn stop(&self, how: Stop, ctx: &Ctx) -> Result<()> {
        self.machine.stop(self.backend.as_ref(), how, ctx).await
    }

    /// What the machine is doing.
    ///
    /// # Errors
    /// What the product says.
    pub async fn state(&self, ctx: &Ctx) -> Result<State> {
        self.machine.state(self.backend.as_ref(), ctx).await
    }

    /// Finds out what has become of the machine; see [`Machine::recover`].
    ///
    /// # Errors
    /// As there.
    pub async fn recover(&self, ctx: &Ctx) -> Result<Recovered> {
        let found = self.machine.recover(self.backend.as_ref(), ctx).await?;
        self.events.send(&VmEvent::Recovered(found.clone()));
        Ok(found)
    }

    /// Stops the guest's processors for a while; see [`Machine::pause`].
    ///
    /// # Errors
    /// As there.
    pub async fn pause(&self, ctx: &Ctx) -> Result<()> {
        self.machine.pause(self.backend.as_ref(), ctx).await?;
        self.events.send(&VmEvent::Paused);
        Ok(())
    }

    /// Lets a paused guest go on; see [`Machine::resume`].
    ///
    /// # Errors
    /// As there.
    pub async fn resume(&self, ctx: &Ctx) -> Result<()> {
        self.machine.resume(self.backend.as_ref(), ctx).await?;
        self.events.send(&VmEvent::Resumed);
        Ok(())
    }

    /// Saves the machine's state to disk; see [`Machine::suspend`].
    ///
    /// # Errors
    /// As there.
    pub async fn suspend(&self, ctx: &Ctx) -> Result<()> {
        self.machine.suspend(self.backend.as_ref(), ctx).await
    }

    /// Drops the saved state; see [`Machine::discard_state`].
    ///
    /// # Errors
    /// As there.
    pub async fn discard_state(&self, ctx: &Ctx) -> Result<()> {
        self.machine
            .discard_state(self.backend.as_ref(), ctx)
            .await?;
        self.events.send(&VmEvent::StateDropped);
        Ok(())
    }
}

/// Runs a future of this library to its end on the calling thread, for programs without an
/// asynchronous runtime.
///
/// All futures of this library run under any executor. Dropping one is safe at any moment: a run
/// that was dropped is brought to its end on a thread of its own, and whatever else was under way
/// leaves the old state or the new one.
///
/// ```
/// use stratavm::{Ctx, block_on};
///
/// // A machine of a store, through whatever backend: `block_on(vm.state(&Ctx::none()))`.
/// assert!(block_on(async { Ctx::none().check().is_ok() }));
/// ```
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(future)
}

//! The product that is a stand-in: its guest is a list of writes, and ends as a test says. What is done with it is in
//! [`super`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::chain::Family;
use stratavm::hypervisor::{Ended, Endpoint, Launch, Running, Stop};
use stratavm::plan::{Plan, PlanDisk};
use stratavm::spec::Controller;
use stratavm::{Ctx, Hypervisor, Product, Resolved, Result};

use super::{Ends, Write, node, run};

pub(crate) static PRODUCT: Product = Product::new("stand-in");

/// A product that is none.
pub(crate) struct StandIn {
    pub(crate) capabilities: Capabilities,
    pub(crate) writes: Vec<Write>,
    pub(crate) ends: Mutex<Vec<Ends>>,
    pub(crate) during: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for StandIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StandIn")
    }
}

impl StandIn {
    pub(crate) fn new(writes: &[Write], during: Option<Arc<dyn Fn() + Send + Sync>>) -> Self {
        let auto = Controller::Sata;
        Self {
            capabilities: Capabilities::new(vec![Family::Vmdk], auto, auto),
            writes: writes.to_vec(),
            ends: Mutex::new(vec![Ends::PowerOff]),
            during,
        }
    }
}

#[async_trait]
impl Hypervisor for StandIn {
    fn product(&self) -> &Product {
        &PRODUCT
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        let mut plan = Plan::new(PRODUCT.clone(), "nothing");
        let disk = |d: &stratavm::resolved::ResolvedDisk| {
            PlanDisk::new(
                d.name.clone(),
                Controller::Sata,
                d.slot,
                "nowhere",
                d.chain.clone(),
            )
        };
        plan.disks = machine.disks.iter().map(disk).collect();
        Ok(plan)
    }

    async fn start(&self, launch: &Launch, _: &Ctx) -> Result<Box<dyn Running>> {
        for (layer, mib, byte) in &self.writes {
            let disk = launch
                .plan
                .disks
                .iter()
                .find(|disk| disk.name.as_str() == *layer)
                .unwrap();
            let command = format!("write -P {byte} {mib}M 1M");
            run("qemu-io", &["-c", &command, &node(&disk.chain)]);
        }
        if let Some(during) = &self.during {
            during();
        }
        let mut ends = self.ends.lock().unwrap();
        let end = if ends.is_empty() {
            Ends::PowerOff
        } else {
            ends.remove(0)
        };
        Ok(Box::new(Ran {
            endpoint: Endpoint::new(PRODUCT.clone(), "here", None),
            end,
        }))
    }
}

#[derive(Debug)]
struct Ran {
    endpoint: Endpoint,
    end: Ends,
}

#[async_trait]
impl Running for Ran {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended> {
        if self.end == Ends::Never {
            loop {
                ctx.check()?;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(match self.end {
            Ends::Reboot => Ended::Reboot,
            Ends::Crash => Ended::Crash("smoke".to_owned()),
            Ends::PowerOff | Ends::Never => Ended::PowerOff,
        })
    }

    async fn stop(&mut self, _: Stop, _: &Ctx) -> Result<()> {
        self.end = Ends::PowerOff;
        Ok(())
    }
}

//! A product that is none: its guest writes known patterns into the heads that the plan names, and it holds a lock on
//! every head while it runs, as real products do. What must never happen to it is kept for the test to look at.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::chain::Family;
use stratavm::hypervisor::{Ended, Endpoint, Launch, Running, State, Stop};
use stratavm::plan::{Plan, PlanDisk};
use stratavm::resolved::ResolvedDisk;
use stratavm::spec::Controller;
use stratavm::{Ctx, Error, ErrorKind, Hypervisor, Product, Resolved, Result};

use super::model::Write;
use super::vmdk::{self, Sparse};

/// The product's name.
pub(crate) static PRODUCT: Product = Product::new("fake");

/// What the product saw that must not happen.
pub(crate) type Violations = Arc<Mutex<Vec<String>>>;

/// The product; each boot does the next list of writes and ends by a reboot while more follow.
#[derive(Debug)]
pub(crate) struct Fake {
    capabilities: Capabilities,
    boots: Mutex<Vec<Vec<Write>>>,
    pace: Duration,
    violations: Violations,
}

impl Fake {
    /// A product whose guest does `boots`, waiting `pace` before each write.
    pub(crate) fn new(boots: &[Vec<Write>], pace: Duration, violations: &Violations) -> Self {
        let auto = Controller::Sata;
        Self {
            capabilities: Capabilities::new(vec![Family::Vmdk], auto, auto),
            boots: Mutex::new(boots.to_vec()),
            pace,
            violations: Arc::clone(violations),
        }
    }
}

#[async_trait]
impl Hypervisor for Fake {
    fn product(&self) -> &Product {
        &PRODUCT
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        let mut plan = Plan::new(PRODUCT.clone(), "nothing");
        let disk = |d: &ResolvedDisk| {
            let chain = d.chain.clone();
            PlanDisk::new(d.name.clone(), Controller::Sata, d.slot, "nowhere", chain)
        };
        plan.disks = machine.disks.iter().map(disk).collect();
        Ok(plan)
    }

    async fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Box<dyn Running>> {
        ctx.check()?;
        let mut heads = Vec::new();
        for disk in &launch.plan.disks {
            let path = disk.chain.head().and_then(|head| head.path());
            let path = path.ok_or_else(|| Error::invalid("a disk without a head"))?;
            let sparse = Sparse::head(path).map_err(Error::invalid)?;
            #[cfg(unix)]
            if sparse.file().try_lock().is_err() {
                let what = format!("two runs on {}", path.display());
                note(&self.violations, what.clone());
                return Err(Error::new(ErrorKind::Busy, what));
            }
            heads.push(Head {
                layer: disk.name.as_str().to_owned(),
                path: path.to_owned(),
                sparse,
                written: Vec::new(),
            });
        }
        let (writes, more) = match self.boots.lock() {
            Ok(mut boots) if !boots.is_empty() => (boots.remove(0), !boots.is_empty()),
            _ => (Vec::new(), false),
        };
        Ok(Box::new(Ran {
            endpoint: Endpoint::new(PRODUCT.clone(), "here", None),
            heads,
            writes,
            pace: self.pace,
            end: if more { Ended::Reboot } else { Ended::PowerOff },
            violations: Arc::clone(&self.violations),
        }))
    }

    /// The guest is a thread of its supervisor: asked by anybody else, it has ended.
    async fn state(&self, _: &Endpoint, _: &Ctx) -> Result<State> {
        Ok(State::Off)
    }

    async fn stop(&self, _: &Endpoint, _: Stop, _: &Ctx) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Head {
    layer: String,
    path: PathBuf,
    sparse: Sparse,
    written: Vec<(u64, u64)>,
}

/// A run of it.
#[derive(Debug)]
struct Ran {
    endpoint: Endpoint,
    heads: Vec<Head>,
    writes: Vec<Write>,
    pace: Duration,
    end: Ended,
    violations: Violations,
}

impl Ran {
    fn guest(&mut self) -> std::result::Result<(), String> {
        for write in std::mem::take(&mut self.writes) {
            if !self.pace.is_zero() {
                std::thread::sleep(self.pace);
            }
            // The drawn layer may not be in this machine.
            let head = self.heads.iter_mut().find(|head| head.layer == write.layer);
            if let Some(head) = head {
                head.sparse
                    .write(write.block, &vmdk::block(write.pattern))?;
                head.written.retain(|(block, _)| *block != write.block);
                head.written.push((write.block, write.pattern));
            }
        }
        Ok(())
    }

    /// Under a running guest nobody else writes to its heads, replaces or removes them.
    fn look(&mut self) -> std::result::Result<(), String> {
        for head in &mut self.heads {
            let now = Sparse::head(&head.path)?;
            if now.descriptor != head.sparse.descriptor {
                return Err(format!("{} changed under its guest", head.path.display()));
            }
            head.sparse = now;
            for (block, pattern) in &head.written {
                let found = head
                    .sparse
                    .grain(*block)?
                    .map(|bytes| vmdk::pattern(&bytes));
                if found != Some(Ok(*pattern)) {
                    return Err(format!(
                        "{}: block {block} is {found:?}",
                        head.path.display()
                    ));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Running for Ran {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended> {
        ctx.check()?;
        let done = self.guest();
        if let Err(what) = done.and_then(|()| self.look()) {
            note(&self.violations, what);
        }
        Ok(self.end.clone())
    }

    async fn stop(&mut self, _: Stop, _: &Ctx) -> Result<()> {
        Ok(())
    }
}

fn note(violations: &Violations, what: String) {
    if let Ok(mut violations) = violations.lock() {
        violations.push(what);
    }
}

//! A product that is none: its guest writes known patterns into the heads that the plan names, and it holds a lock on
//! every head while it runs, as real products do. It can save a machine's state, with what its guest has written, and
//! goes on from there. What must never happen to it is kept for the test to look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stratavm::capability::{Capabilities, Feature, Lifetime};
use stratavm::chain::Family;
use stratavm::hypervisor::{Begin, Ended, Endpoint, Launch, Running, State, Stop};
use stratavm::plan::{Grade, Plan, PlanDisk};
use stratavm::resolved::ResolvedDisk;
use stratavm::spec::Controller;
use stratavm::{Ctx, Error, ErrorKind, Hypervisor, Product, Resolved, Result};

use super::model::Write;
use super::run::{End, Session};
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
    end: End,
    pace: Duration,
    violations: Violations,
}

impl Fake {
    /// A product whose guest does what `session` says, waiting `pace` before each write.
    pub(crate) fn new(session: &Session, pace: Duration, violations: &Violations) -> Self {
        let auto = Controller::Sata;
        let mut capabilities = Capabilities::new(vec![Family::Vmdk], auto, auto);
        if session.end == End::Suspend {
            // Only such a product is asked for a saved state after its supervisor was killed.
            capabilities.lifetime = Lifetime::Independent;
            capabilities.features.push((Feature::Suspend, Grade::Hard));
        }
        let boots = session.boots.iter().map(|boot| boot.writes.clone());
        Self {
            capabilities,
            boots: Mutex::new(boots.collect()),
            end: session.end,
            pace,
            violations: Arc::clone(violations),
        }
    }

    fn violated(&self, what: String) -> Error {
        note(&self.violations, what.clone());
        Error::new(ErrorKind::Busy, what)
    }

    /// The heads that were saved, if they are what is to be gone on with: the state is used up.
    fn go_on(&self, saved: &Path, heads: &mut [Head]) -> Result<()> {
        let failed = |error| Error::io("the saved state", saved, error);
        let bytes = fs::read(saved).map_err(failed)?;
        let known: Vec<Saved> = serde_json::from_slice(&bytes)
            .map_err(|error| self.violated(format!("the saved state: {error}")))?;
        if known.len() != heads.len() {
            return Err(self.violated(format!("{} heads, not {}", heads.len(), known.len())));
        }
        for (known, head) in known.into_iter().zip(heads) {
            let is = (&head.layer, &head.path, &head.sparse.descriptor);
            if is != (&known.layer, &known.path, &known.descriptor) {
                let what = format!("{} is not the head that was saved", head.path.display());
                return Err(self.violated(what));
            }
            head.written = known.written;
        }
        fs::remove_file(saved).map_err(failed)
    }
}

/// A head of a saved state.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    layer: String,
    path: PathBuf,
    descriptor: String,
    written: Vec<(u64, u64)>,
}

/// Where a machine's state is saved, by its folder, which is its address.
fn saved(folder: &Path) -> PathBuf {
    folder.join("products/fake.saved")
}

/// Whether the machine in `folder` has a saved state.
pub(super) fn is_saved(folder: &Path) -> bool {
    saved(folder).exists()
}

fn address(folder: Option<&Path>) -> Result<String> {
    let text = folder.and_then(Path::to_str);
    text.map(ToOwned::to_owned)
        .ok_or_else(|| Error::invalid("a machine without a folder"))
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
        let address = address(launch.runtime.parent())?;
        let saved = saved(Path::new(&address));
        match launch.begin {
            Begin::SavedState => self.go_on(&saved, &mut heads)?,
            _ if saved.exists() => {
                return Err(self.violated(format!("{address} was started over its saved state")));
            }
            _ => {}
        }
        let (writes, more) = match self.boots.lock() {
            Ok(mut boots) if !boots.is_empty() => (boots.remove(0), !boots.is_empty()),
            _ => (Vec::new(), false),
        };
        let mut ran = Ran {
            endpoint: Endpoint::new(PRODUCT.clone(), address, None),
            heads,
            writes,
            pace: self.pace,
            end: match (more, self.end) {
                (true, _) => Ended::Reboot,
                (false, End::PowerOff) => Ended::PowerOff,
                (false, End::Suspend) => Ended::Suspended,
            },
            violations: Arc::clone(&self.violations),
        };
        if let (Begin::SavedState, Err(what)) = (launch.begin, ran.look()) {
            note(&self.violations, what);
        }
        Ok(Box::new(ran))
    }

    fn endpoint(&self, machine: &Resolved) -> Option<Endpoint> {
        let address = address(machine.paths.layers.parent()).ok()?;
        Some(Endpoint::new(PRODUCT.clone(), address, None))
    }

    /// The guest is a thread of its supervisor: asked by anybody else, it has ended, or its state is saved.
    async fn state(&self, endpoint: &Endpoint, _: &Ctx) -> Result<State> {
        Ok(match is_saved(Path::new(&endpoint.address)) {
            true => State::Suspended,
            false => State::Off,
        })
    }

    async fn discard_state(&self, endpoint: &Endpoint, _: &Ctx) -> Result<()> {
        let saved = saved(Path::new(&endpoint.address));
        fs::remove_file(&saved).map_err(|error| Error::io("the saved state", &saved, error))
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

    /// Saves the state: it is there as a whole, or not at all.
    fn save(&self) -> Result<()> {
        let heads = self.heads.iter().map(|head| Saved {
            layer: head.layer.clone(),
            path: head.path.clone(),
            descriptor: head.sparse.descriptor.clone(),
            written: head.written.clone(),
        });
        let bytes = serde_json::to_vec(&heads.collect::<Vec<_>>()).unwrap_or_default();
        let saved = saved(Path::new(&self.endpoint.address));
        let new = saved.with_extension("new");
        let folder = saved.parent().map_or(Ok(()), fs::create_dir_all);
        folder
            .and_then(|()| fs::write(&new, bytes))
            .and_then(|()| fs::rename(&new, &saved))
            .map_err(|error| Error::io("the saved state", &saved, error))
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
        if self.end == Ended::Suspended {
            self.save()?;
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

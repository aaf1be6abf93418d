//! Running: the table of machines, and what starts, stops and waits do to it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_io::Timer;
use async_trait::async_trait;
use serde_json::Value;
use stratavm::hypervisor::{Ended, Endpoint, Launch, Running, State, Stop};
use stratavm::plan::{Content, PlanDisk};
use stratavm::{Ctx, Error, ErrorKind, Plan, Result};

use crate::backend::PRODUCT;
use crate::disks::Written;
use crate::guest::{self, Then};

/// How often a wait looks whether it was cancelled: the token cannot wake it.
const LOOK: Duration = Duration::from_millis(10);

/// All machines of one product, by address.
#[derive(Debug, Default)]
pub(crate) struct Machines(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    runs: HashMap<String, Arc<Run>>,
    written: Written,
}

/// One run of a machine. It outlives its entry in the table, so that a wait always gets its answer.
#[derive(Debug)]
struct Run {
    heads: Vec<PathBuf>,
    phase: Mutex<Phase>,
}

#[derive(Debug, Clone)]
enum Phase {
    Running { power_button: PowerButton },
    Ended(Ended),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PowerButton {
    Heard,
    Ignored,
}

/// A started machine.
#[derive(Debug)]
pub(crate) struct Machine {
    endpoint: Endpoint,
    run: Arc<Run>,
}

impl Machines {
    pub(crate) fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Machine> {
        ctx.check()?;
        let plan = &launch.plan;
        if plan.product != PRODUCT {
            return Err(Error::invalid(format!("the plan is for {}", plan.product)));
        }
        let config = applied_config(plan)?;
        let address = text_of(&config, "id")?.to_owned();
        look_for_images(&plan.disks)?;
        let heads: Vec<_> = plan
            .disks
            .iter()
            .flat_map(heads_of)
            .map(Path::to_owned)
            .collect();

        let mut table = lock(&self.0);
        if table.runs.get(&address).is_some_and(|run| run.is_running()) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("machine {address} runs already"),
            ));
        }
        for head in &heads {
            if table
                .runs
                .values()
                .any(|run| run.is_running() && run.heads.contains(head))
            {
                return Err(Error::new(ErrorKind::Busy, "another machine has the disk").at(head));
            }
        }
        let then = boot(plan, &config, &mut table.written)?;
        tracing::debug!(address, ?then, "started");
        let phase = match then {
            Then::End(ended) => Phase::Ended(ended),
            Then::Hang => Phase::Running {
                power_button: PowerButton::Ignored,
            },
            Then::PowerButton => Phase::Running {
                power_button: PowerButton::Heard,
            },
        };
        let run = Arc::new(Run {
            heads,
            phase: Mutex::new(phase),
        });
        table.runs.insert(address.clone(), Arc::clone(&run));
        Ok(Machine {
            endpoint: Endpoint::new(PRODUCT.clone(), address, None),
            run,
        })
    }

    pub(crate) fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        ctx.check()?;
        Ok(match self.run_of(endpoint)? {
            Some(run) if run.is_running() => State::Running,
            _ => State::Off,
        })
    }

    pub(crate) fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        if let Some(run) = self.run_of(endpoint)? {
            run.stop(how);
        }
        Ok(())
    }

    fn run_of(&self, endpoint: &Endpoint) -> Result<Option<Arc<Run>>> {
        if endpoint.product != PRODUCT {
            return Err(Error::invalid(format!(
                "the endpoint is of {}",
                endpoint.product
            )));
        }
        Ok(lock(&self.0).runs.get(&endpoint.address).cloned())
    }
}

impl Run {
    fn is_running(&self) -> bool {
        matches!(*lock(&self.phase), Phase::Running { .. })
    }

    fn stop(&self, how: Stop) {
        let mut phase = lock(&self.phase);
        if let Phase::Running { power_button } = *phase
            && (how == Stop::PowerOff || power_button == PowerButton::Heard)
        {
            *phase = Phase::Ended(Ended::PowerOff);
        }
    }

    fn ended(&self) -> Option<Ended> {
        match &*lock(&self.phase) {
            Phase::Running { .. } => None,
            Phase::Ended(ended) => Some(ended.clone()),
        }
    }
}

#[async_trait]
impl Running for Machine {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended> {
        loop {
            if let Some(ended) = self.run.ended() {
                return Ok(ended);
            }
            ctx.check()
                .map_err(|error| Error::from(error).of(&PRODUCT))?;
            Timer::after(LOOK).await;
        }
    }

    async fn stop(&mut self, how: Stop, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        self.run.stop(how);
        Ok(())
    }
}

/// The configuration as it was applied: what is on disk must be what the plan says.
fn applied_config(plan: &Plan) -> Result<Value> {
    let file = plan
        .files
        .iter()
        .find(|file| Some(&file.path) == plan.entry.as_ref());
    let Some((path, Content::Text(text))) = file.map(|file| (&file.path, &file.content)) else {
        return Err(Error::invalid("the plan has no configuration"));
    };
    let found = fs::read_to_string(path)
        .map_err(|error| Error::io("the configuration could not be read", path, error))?;
    if found != *text {
        let what = "the configuration is not what the plan says";
        return Err(Error::new(ErrorKind::Mismatch, what)
            .at(path)
            .next("apply the plan again"));
    }
    serde_json::from_str(&found).map_err(|error| {
        Error::new(ErrorKind::Malformed, "the configuration is no JSON")
            .at(path)
            .caused_by(error)
    })
}

fn text_of<'a>(config: &'a Value, key: &str) -> Result<&'a str> {
    config[key].as_str().ok_or_else(|| {
        Error::new(
            ErrorKind::Malformed,
            format!("the configuration has no text under {key:?}"),
        )
    })
}

fn look_for_images(disks: &[PlanDisk]) -> Result<()> {
    let members = disks.iter().flat_map(|disk| &disk.chain.members);
    for file in members.flat_map(|member| &member.files) {
        fs::metadata(&file.path)
            .map_err(|error| Error::io("a disk image is missing", &file.path, error))?;
    }
    Ok(())
}

fn heads_of(disk: &PlanDisk) -> impl Iterator<Item = &Path> {
    disk.chain
        .head()
        .into_iter()
        .flat_map(|head| &head.files)
        .map(|file| file.path.as_path())
}

/// Boots the guest from its disk and writes its console.
fn boot(plan: &Plan, config: &Value, written: &mut Written) -> Result<Then> {
    let boots_disk = config["boot"]
        .as_array()
        .is_some_and(|order| order.contains(&"disk".into()));
    let first = config["boot-disk"].as_str();
    let (mut disks, rest): (Vec<_>, Vec<_>) = plan
        .disks
        .iter()
        .partition(|disk| Some(disk.name.as_str()) == first);
    disks.extend(rest);
    let chains: Vec<_> = disks.iter().map(|disk| &disk.chain).collect();
    let (then, said) = match boots_disk {
        true => guest::run(&chains, written)?,
        false => (Then::Hang, String::new()),
    };
    if let Some(console) = config["console"].as_str().map(Path::new) {
        let failed = |error| Error::io("the console could not be written", console, error);
        if let Some(folder) = console.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(console, said).map_err(failed)?;
    }
    Ok(then)
}

/// What is behind a lock stays whole if a thread dies with it: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Running: what starts, stops, pauses, saves and waits do to the table of machines.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::Timer;
use async_trait::async_trait;
use serde_json::{Value, json};
use stratavm::chain::Member;
use stratavm::hypervisor::{Begin, Ended, Endpoint, Launch, Running, State, Stop};
use stratavm::plan::{Content, PlanDisk};
use stratavm::{Ctx, Error, ErrorKind, Plan, Resolved, Result};

use crate::backend::PRODUCT;
use crate::disks::Written;
use crate::guest::{self, Then};
use crate::table::{End, Keeper, Phase, PowerButton, Run, Table};

/// How often a wait looks whether it was cancelled: the token cannot wake it.
const LOOK: Duration = Duration::from_millis(10);

/// All machines of one product.
#[derive(Debug, Clone)]
pub(crate) struct Machines(Arc<Keeper>);

/// A started machine.
#[derive(Debug)]
pub(crate) struct Machine {
    endpoint: Endpoint,
    machines: Machines,
    number: u64,
}

impl Machines {
    pub(crate) fn in_memory() -> Self {
        Self(Arc::new(Keeper::Memory(Mutex::default())))
    }

    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self(Arc::new(Keeper::Folder(folder)))
    }

    /// Those of a product that is not there.
    pub(crate) fn nowhere() -> Self {
        Self(Arc::new(Keeper::Nowhere))
    }

    pub(crate) fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Machine> {
        ctx.check()?;
        let plan = &launch.plan;
        if plan.product != PRODUCT {
            return Err(Error::invalid(format!("the plan is for {}", plan.product)));
        }
        let (entry, config) = applied_config(plan)?;
        let address = text_of(&config, "id")?.to_owned();
        look_for_images(&plan.disks)?;
        let files = plan.disks.iter().flat_map(heads_of);
        let heads: Vec<_> = files.map(Path::to_owned).collect();
        let number = self.0.with(|table| {
            refuse_used(table, &address, &heads)?;
            let is_saved = |run: &mut Run| run.phase == Phase::Saved && run.saved.is_file();
            let saved = table.last(&address).is_some_and(is_saved);
            if launch.begin == Begin::SavedState {
                return go_on(table, &address, &heads);
            }
            if saved {
                let what = format!("machine {address} has a saved state");
                return Err(Error::new(ErrorKind::Suspended, what));
            }
            let then = boot(plan, &config, &mut table.written)?;
            tracing::debug!(address, ?then, "started");
            let phase = match then {
                Then::End(end) => Phase::Ended(end),
                Then::Hang => Phase::Running(PowerButton::Ignored),
                Then::PowerButton => Phase::Running(PowerButton::Heard),
            };
            Ok(table.push(Run {
                number: 0,
                address: address.clone(),
                heads,
                saved: entry.with_extension("state"),
                phase,
            }))
        })?;
        Ok(self.machine(address, number))
    }

    pub(crate) async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        while self.0.is_silent() {
            ctx.check()?;
            Timer::after(LOOK).await;
        }
        ctx.check()?;
        self.change(endpoint, |run| {
            Ok(match run.map(|run| (&run.phase, &run.saved)) {
                Some((Phase::Running(_), _)) => State::Running,
                Some((Phase::Paused(_), _)) => State::Paused,
                Some((Phase::Saved, file)) if file.is_file() => State::Suspended,
                _ => State::Off,
            })
        })
    }

    pub(crate) fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        self.change(endpoint, |run| {
            if let Some(run) = run {
                stop(run, how);
            }
            Ok(())
        })
    }

    pub(crate) fn attach(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<Machine> {
        ctx.check()?;
        let number = self.change(endpoint, |run| match run {
            Some(run) if run.phase.is_in_memory() => Ok(run.number),
            _ => Err(Error::new(ErrorKind::NotFound, "the machine does not run")),
        })?;
        Ok(self.machine(endpoint.address.clone(), number))
    }

    pub(crate) fn pause(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        self.change(endpoint, |run| match run.map(|run| &mut run.phase) {
            Some(phase @ Phase::Running(_)) => {
                if let Phase::Running(button) = *phase {
                    *phase = Phase::Paused(button);
                }
                Ok(())
            }
            Some(Phase::Paused(_)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Product, "the machine does not run")),
        })
    }

    pub(crate) fn resume(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        self.change(endpoint, |run| match run.map(|run| &mut run.phase) {
            Some(phase @ Phase::Paused(_)) => {
                if let Phase::Paused(button) = *phase {
                    *phase = Phase::Running(button);
                }
                Ok(())
            }
            Some(Phase::Running(_)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Product, "the machine does not run")),
        })
    }

    /// Saves what is in memory, which here is only whether the guest hears its power button.
    pub(crate) fn suspend(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        self.change(endpoint, |run| {
            let Some((run, button)) = run.and_then(|run| match run.phase {
                Phase::Running(button) | Phase::Paused(button) => Some((run, button)),
                _ => None,
            }) else {
                return Err(Error::new(ErrorKind::Product, "the machine does not run"));
            };
            let failed = |error| Error::io("the state could not be saved", &run.saved, error);
            let state = json!({
                "format": {"name": "stratavm-null-state", "version": 1},
                "power-button": button,
            });
            let mut file = File::create(&run.saved).map_err(failed)?;
            file.write_all(state.to_string().as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            run.phase = Phase::Saved;
            Ok(())
        })
    }

    pub(crate) fn discard_state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        ctx.check()?;
        self.change(endpoint, |run| match run {
            Some(run) if run.phase == Phase::Saved => {
                let gone = fs::remove_file(&run.saved);
                gone.map_err(|error| {
                    Error::io("the saved state could not be removed", &run.saved, error)
                })?;
                run.phase = Phase::Ended(End::PowerOff);
                Ok(())
            }
            Some(run) if run.phase.is_in_memory() => {
                Err(Error::new(ErrorKind::Busy, "the machine runs"))
            }
            _ => Ok(()),
        })
    }

    /// Works on the last run of the machine behind `endpoint`.
    fn change<T>(
        &self,
        endpoint: &Endpoint,
        work: impl FnOnce(Option<&mut Run>) -> Result<T>,
    ) -> Result<T> {
        if endpoint.product != PRODUCT {
            return Err(Error::invalid(format!(
                "the endpoint is of {}",
                endpoint.product
            )));
        }
        self.0.with(|table| work(table.last(&endpoint.address)))
    }

    fn machine(&self, address: String, number: u64) -> Machine {
        Machine {
            endpoint: Endpoint::new(PRODUCT.clone(), address, None),
            machines: self.clone(),
            number,
        }
    }
}

/// Where the run of a machine will be: at its id.
pub(crate) fn endpoint(machine: &Resolved) -> Endpoint {
    let address = machine.identity.uuid().to_string();
    Endpoint::new(PRODUCT.clone(), address, None)
}

fn refuse_used(table: &Table, address: &str, heads: &[PathBuf]) -> Result<()> {
    for run in table.runs.iter().filter(|run| run.phase.is_in_memory()) {
        if run.address == address {
            let what = format!("machine {address} runs already");
            return Err(Error::new(ErrorKind::Busy, what));
        }
        if let Some(head) = heads.iter().find(|head| run.heads.contains(head)) {
            return Err(Error::new(ErrorKind::Busy, "another machine has the disk").at(head));
        }
    }
    Ok(())
}

/// Goes on from the saved state, which is used up by that.
fn go_on(table: &mut Table, address: &str, heads: &[PathBuf]) -> Result<u64> {
    let none = || Error::new(ErrorKind::NotFound, "there is no saved state to go on from");
    let run = table.last(address).ok_or_else(none)?;
    if run.phase != Phase::Saved {
        return Err(none());
    }
    if run.heads != heads {
        let what = "the state was saved with other disks";
        return Err(Error::new(ErrorKind::Mismatch, what));
    }
    let failed = |error| Error::io("the saved state could not be read", &run.saved, error);
    let bytes = fs::read(&run.saved).map_err(failed)?;
    let state: Option<Value> = serde_json::from_slice(&bytes).ok();
    let button = state.and_then(|state| {
        serde_json::from_value::<PowerButton>(state.get("power-button")?.clone()).ok()
    });
    let Some(button) = button else {
        let what = "the saved state is damaged";
        return Err(Error::new(ErrorKind::Malformed, what).at(&run.saved));
    };
    let mut next = run.clone();
    next.phase = Phase::Running(button);
    fs::remove_file(&run.saved).map_err(failed)?;
    Ok(table.push(next))
}

fn stop(run: &mut Run, how: Stop) {
    let ends = match run.phase {
        Phase::Running(button) => how == Stop::PowerOff || button == PowerButton::Heard,
        Phase::Paused(_) => how == Stop::PowerOff,
        _ => false,
    };
    if ends {
        run.phase = Phase::Ended(End::PowerOff);
    }
}

impl Machine {
    fn ended(&self) -> Result<Option<Ended>> {
        self.machines.0.with(|table| match table.run(self.number) {
            Some(run) => Ok(run.phase.ended()),
            None => Err(Error::new(ErrorKind::NotFound, "the run is forgotten")),
        })
    }
}

#[async_trait]
impl Running for Machine {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended> {
        loop {
            if let Some(ended) = self.ended().map_err(|error| error.of(&PRODUCT))? {
                return Ok(ended);
            }
            ctx.check()
                .map_err(|error| Error::from(error).of(&PRODUCT))?;
            Timer::after(LOOK).await;
        }
    }

    async fn stop(&mut self, how: Stop, ctx: &Ctx) -> Result<()> {
        self.machines.stop(&self.endpoint, how, ctx)
    }
}

/// The configuration as it was applied: what is on disk must be what the plan says.
fn applied_config(plan: &Plan) -> Result<(&Path, Value)> {
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
    let config = serde_json::from_str(&found).map_err(|error| {
        Error::new(ErrorKind::Malformed, "the configuration is no JSON")
            .at(path)
            .caused_by(error)
    })?;
    Ok((path, config))
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
    for file in members.flat_map(Member::all_files) {
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

//! Faults of running machines.

use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use stratavm::hypervisor::{Begin, Ended, Endpoint, Launch, Running, State, Stop};
use stratavm::plan::Content;
use stratavm::spec::Controller;
use stratavm::{Ctx, Error, ErrorKind, Hypervisor, Result, block_on};
use stratavm_null::Null;
use uuid::Uuid;

use super::Fault;

/// Starts the machine, wrongly. `count` is another number at each call.
pub(super) async fn start(
    null: &Null,
    fault: Fault,
    launch: &Launch,
    ctx: &Ctx,
    count: u64,
) -> Result<Box<dyn Running>> {
    let mut launch = launch.clone();
    let heads = |launch: &Launch| -> Vec<PathBuf> {
        let disks = launch.plan.disks.iter();
        disks
            .filter_map(|disk| Some(disk.chain.head()?.path()?.to_owned()))
            .collect()
    };
    match fault {
        Fault::MakesMissingHeads => {
            for head in heads(&launch).iter().filter(|head| !head.exists()) {
                let _ = fs::write(head, "");
            }
        }
        Fault::WritesImages => {
            for disk in &launch.plan.disks {
                let image = disk.chain.image().and_then(|image| image.path());
                let _ =
                    image.map(|path| fs::write(path, fs::read(path).unwrap_or_default().repeat(2)));
            }
        }
        Fault::ReversesDisks => launch.plan.disks.reverse(),
        Fault::LosesScsiDisks => {
            let scsi = |index: usize, kind| index > 0 && kind == Controller::Scsi;
            let mut index = 0..;
            let keep =
                |disk: &stratavm::plan::PlanDisk| !scsi(index.next().unwrap_or(0), disk.controller);
            launch.plan.disks.retain(keep);
        }
        Fault::LosesWrites => {
            for disk in &mut launch.plan.disks {
                disk.chain.members.pop();
            }
        }
        Fault::KeepsEverything | Fault::KeepsNothing => {
            let other = if fault == Fault::KeepsNothing {
                count
            } else {
                0
            };
            for (index, disk) in (0..).zip(&mut launch.plan.disks) {
                if let Some(head) = disk.chain.members.last_mut() {
                    head.uuid = Uuid::from_u64_pair(other + 1, index);
                }
            }
        }
        Fault::StartsOnce => {
            let folder = &launch.runtime;
            if folder.exists() {
                return Err(Error::new(ErrorKind::Busy, "it ran before"));
            }
            let _ = fs::create_dir_all(folder);
        }
        _ => {}
    }
    let none = Ctx::none();
    let ctx = if fault == Fault::IgnoresContext {
        &none
    } else {
        ctx
    };
    let saved = launch.begin == Begin::SavedState;
    if fault == Fault::DropsStateAtStart && !saved || fault == Fault::BootsForSavedState && saved {
        launch.begin = Begin::PowerOn;
        drop_state(null, &launch).await;
    }
    let mut started = null.start(&launch, ctx).await;
    if fault == Fault::StartsTwice && started.as_ref().is_err_and(is_busy) {
        started = Null::new().start(&launch, ctx).await;
    }
    if fault == Fault::StartsWithoutProduct && started.is_err() {
        started = Null::new().start(&launch, ctx).await;
    }
    if fault == Fault::LeavesGhosts {
        Once::default().await;
    }
    if fault == Fault::RemovesConsole {
        remove_console(&launch);
    }
    Ok(BrokenMachine::boxed(null, fault, started?))
}

/// Takes a machine over, wrongly.
pub(super) async fn attach(
    null: &Null,
    fault: Fault,
    endpoint: &Endpoint,
    ctx: &Ctx,
) -> Result<Box<dyn Running>> {
    match null.attach(endpoint, ctx).await {
        Ok(machine) => Ok(BrokenMachine::boxed(null, fault, machine)),
        Err(_) if fault == Fault::TakesOverTheDead => Ok(Box::new(Dead(endpoint.clone()))),
        Err(error) => Err(error),
    }
}

/// Removes the state that was saved for the machine of a launch.
async fn drop_state(null: &Null, launch: &Launch) {
    let config = config_of(launch);
    let id = config.and_then(|config| config["id"].as_str().map(str::to_owned));
    let endpoint = id.map(|id| Endpoint::new(null.product().clone(), id, None));
    if let Some(endpoint) = endpoint {
        let _ = null.discard_state(&endpoint, &Ctx::none()).await;
    }
}

/// A machine that ended long ago.
#[derive(Debug)]
struct Dead(Endpoint);

#[async_trait]
impl Running for Dead {
    fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    async fn wait(&mut self, _: &Ctx) -> Result<Ended> {
        Ok(Ended::PowerOff)
    }

    async fn stop(&mut self, _: Stop, _: &Ctx) -> Result<()> {
        Ok(())
    }
}

fn is_busy(error: &Error) -> bool {
    error.kind() == ErrorKind::Busy
}

fn remove_console(launch: &Launch) {
    let config = config_of(launch);
    let console = config.and_then(|config| config["console"].as_str().map(PathBuf::from));
    let _ = console.map(fs::remove_file);
}

/// The configuration of a launch.
fn config_of(launch: &Launch) -> Option<serde_json::Value> {
    let mut files = launch.plan.files.iter();
    files.find_map(|file| match &file.content {
        Content::Text(text) => serde_json::from_str(text).ok(),
        _ => None,
    })
}

#[derive(Debug)]
struct BrokenMachine {
    machine: Box<dyn Running>,
    null: Null,
    fault: Fault,
    waits: u32,
}

impl BrokenMachine {
    fn boxed(null: &Null, fault: Fault, machine: Box<dyn Running>) -> Box<dyn Running> {
        Box::new(Self {
            machine,
            null: null.clone(),
            fault,
            waits: 0,
        })
    }
}

impl Drop for BrokenMachine {
    fn drop(&mut self) {
        if self.fault == Fault::EndsWithItsHandle {
            let _ = block_on(self.machine.stop(Stop::PowerOff, &Ctx::none()));
        }
    }
}

#[async_trait]
impl Running for BrokenMachine {
    fn endpoint(&self) -> &Endpoint {
        self.machine.endpoint()
    }

    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended> {
        self.waits += 1;
        if self.fault == Fault::EndsWithADroppedWait && self.waits == 1 {
            self.machine.stop(Stop::PowerOff, ctx).await?;
            Once::default().await;
        }
        let ended = match self.machine.wait(ctx).await {
            Ok(ended) => ended,
            Err(error) => {
                if self.fault == Fault::EndsWithTheWait {
                    self.machine.stop(Stop::PowerOff, &Ctx::none()).await?;
                }
                return Err(error);
            }
        };
        Ok(match (self.fault, ended) {
            (Fault::CallsPowerOffReboot, Ended::PowerOff) => Ended::Reboot,
            (Fault::CallsRebootPowerOff, Ended::Reboot) => Ended::PowerOff,
            (Fault::CallsCrashPowerOff, Ended::Crash(_)) => Ended::PowerOff,
            (Fault::ForgetsItsEnd, _) if self.waits > 1 => Ended::Crash("lost".to_owned()),
            (_, ended) => ended,
        })
    }

    async fn stop(&mut self, how: Stop, ctx: &Ctx) -> Result<()> {
        if self.fault == Fault::IgnoresPlugInPause {
            let state = self.null.state(self.machine.endpoint(), ctx).await?;
            if state == State::Paused {
                return Ok(());
            }
        }
        match (self.fault, how) {
            (Fault::IgnoresPlug, Stop::PowerOff) | (Fault::IgnoresButton, Stop::Shutdown) => Ok(()),
            (Fault::PullsPlugForButton, _) => self.machine.stop(Stop::PowerOff, ctx).await,
            _ => self.machine.stop(how, ctx).await,
        }
    }
}

/// A future that is ready at the second look.
#[derive(Default)]
struct Once {
    looked: bool,
}

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.looked {
            return Poll::Ready(());
        }
        self.looked = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

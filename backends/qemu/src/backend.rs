//! The backend as [`Hypervisor`]: the pure half is called directly, the control half on threads of
//! its own, since all of it blocks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::hypervisor::{
    Detection, Driving, Ended, Endpoint, Installation, Launch, Running, State, Stop,
};
use stratavm::spec::Arch;
use stratavm::{Ctx, Error, ErrorKind, Hypervisor, Plan, Product, Resolved, Result};

use crate::control::{self, Call, Hold, Machine};
use crate::{accel, capability, config, detect};

/// The product that this backend stands for.
pub const PRODUCT: Product = Product::new("qemu");

/// QEMU, as found on this host.
#[derive(Debug, Clone)]
pub struct Qemu {
    product: Product,
    capabilities: Arc<Capabilities>,
    settings: Settings,
}

/// What a caller may choose.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The only folder that QEMU's programs are looked for in.
    pub(crate) folder: Option<PathBuf>,
    /// Whether accelerators are tried.
    pub(crate) acceleration: Acceleration,
}

/// Whether accelerators are tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// What works, by trying it.
    #[default]
    Tried,
    /// Never: guests are emulated.
    Never,
}

impl Default for Qemu {
    fn default() -> Self {
        Self::new()
    }
}

impl Qemu {
    /// The QEMU of the `PATH` or of the usual folders, with an accelerator if one works.
    #[must_use]
    pub fn new() -> Self {
        Self {
            product: PRODUCT,
            capabilities: Arc::new(capability::capabilities()),
            settings: Settings::default(),
        }
    }

    /// Looks for QEMU's programs in `folder` alone, such as the one that a player brings along.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.folder = Some(folder.into());
        self
    }

    /// Emulates every guest and tries no accelerator: slower, and the same on every host.
    #[must_use]
    pub fn emulated(mut self) -> Self {
        self.settings.acceleration = Acceleration::Never;
        self
    }
}

#[async_trait]
impl Hypervisor for Qemu {
    fn product(&self) -> &Product {
        &self.product
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        config::translate(machine, &self.capabilities).map_err(|error| error.of(&PRODUCT))
    }

    async fn detect(&self, ctx: &Ctx) -> Result<Detection> {
        let settings = self.settings.clone();
        offload(ctx, move |_| Ok(look(&settings))).await
    }

    async fn start(&self, launch: &Launch, ctx: &Ctx) -> Result<Box<dyn Running>> {
        let (settings, launch) = (self.settings.clone(), launch.clone());
        let machine = offload(ctx, move |call| control::start(&settings, &launch, call)).await?;
        Ok(Box::new(machine))
    }

    async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<State> {
        let endpoint = endpoint.clone();
        offload(ctx, move |call| control::state(&endpoint, call)).await
    }

    async fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> Result<()> {
        let endpoint = endpoint.clone();
        offload(ctx, move |call| control::stop(&endpoint, how, call)).await
    }

    async fn pause(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        let endpoint = endpoint.clone();
        offload(ctx, move |call| control::hold(&endpoint, Hold::Stop, call)).await
    }

    /// Not there: QEMU refuses to save its memory while a VMDK is attached.
    async fn suspend(&self, _: &Endpoint, _: &Ctx) -> Result<()> {
        let what =
            "QEMU saves no machine whose disks are VMDKs (it blocks migration, which that is)";
        Err(Error::new(ErrorKind::Unsupported, what)
            .of(&PRODUCT)
            .next("pause it, or have the guest hibernate to its own disk"))
    }

    async fn resume(&self, endpoint: &Endpoint, ctx: &Ctx) -> Result<()> {
        let endpoint = endpoint.clone();
        offload(ctx, move |call| {
            control::hold(&endpoint, Hold::Continue, call)
        })
        .await
    }
}

#[async_trait]
impl Running for Machine {
    fn endpoint(&self) -> &Endpoint {
        self.address()
    }

    async fn wait(&mut self, ctx: &Ctx) -> Result<Ended> {
        let run = self.run();
        offload(ctx, move |call| run.wait(call)).await
    }

    async fn stop(&mut self, how: Stop, ctx: &Ctx) -> Result<()> {
        let (run, endpoint) = (self.run(), self.address().clone());
        offload(ctx, move |call| run.stop(&endpoint, how, call)).await
    }
}

/// Runs `work` on a thread. If the future is dropped, `work` is told, and comes to its end there.
async fn offload<T: Send + 'static>(
    ctx: &Ctx,
    work: impl FnOnce(&Call) -> Result<T> + Send + 'static,
) -> Result<T> {
    let call = Call::new(ctx.clone(), Arc::new(AtomicBool::new(false)));
    let _dropped = SetOnDrop(call.abandoned());
    blocking::unblock(move || {
        call.check()?;
        work(&call)
    })
    .await
    .map_err(|error| error.of(&PRODUCT))
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What `doctor` shows.
fn look(settings: &Settings) -> Detection {
    let mut detection = Detection::new(Driving::Driven("QMP".to_owned()));
    let arches = [
        (Arch::X86_64, "qemu-system-x86_64"),
        (Arch::Aarch64, "qemu-system-aarch64"),
    ];
    for (arch, name) in arches {
        match detect::detect(name, settings.folder.as_deref()) {
            Ok(found) => {
                let mut facts = facts(settings, &found, arch);
                match &mut detection.found {
                    Some(known) => known.facts.append(&mut facts),
                    None => {
                        let installation = Installation::new(found.program, found.version, facts);
                        detection.found = Some(installation);
                    }
                }
            }
            Err(error) => detection.problems.push(format!("{name}: {error}")),
        }
    }
    if detection.found.is_some() {
        // One architecture is enough; that the other is missing is a fact, no problem.
        let problems = std::mem::take(&mut detection.problems);
        if let Some(found) = &mut detection.found {
            found.facts.extend(problems);
        }
    }
    detection
}

fn facts(settings: &Settings, found: &detect::Found, arch: Arch) -> Vec<String> {
    let name = match arch {
        Arch::Aarch64 => "aarch64",
        _ => "x86_64",
    };
    let mut facts = vec![format!("{name} program: {}", found.program.display())];
    let choice = control::accelerator(settings, found, arch, accel::Finding::Fresh);
    facts.push(format!("{name} accelerator: {}", choice.accelerator));
    facts.extend(choice.refused);
    facts.push(match detect::firmware(&found.program, arch) {
        Ok((code, _)) => format!("{name} UEFI firmware: {}", code.display()),
        Err(_) => format!("{name} UEFI firmware: none found"),
    });
    facts
}

/// TCG without trying anything else.
pub(crate) fn emulation() -> accel::Choice {
    accel::Choice {
        accelerator: accel::TCG,
        refused: Vec::new(),
    }
}

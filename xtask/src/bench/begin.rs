//! One start of a machine of five layers on QEMU: what of it is ours, from the call until the machine runs, and what is
//! QEMU's.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::chain::Family;
use stratavm::hypervisor::{Endpoint, Launch, Running, Stop};
use stratavm::machine::{Machine, RunEvent, RunOptions};
use stratavm::{CancelToken, Ctx, ErrorKind, Hypervisor, Plan, Product, Resolved, State, block_on};
use stratavm_qemu::Qemu;

use super::data::{self, GIB};
use super::machine::{self, blank, failed, from_image};
use super::measure::{Best, RUNS, show};
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::Error;

/// Layers of applications beside the golden one and two that keep.
const APPS: u64 = 2;
const LIMIT: Duration = Duration::from_millis(10);

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    if place.kind() == Kind::Disk {
        // On a disk the flushes are what it takes: see the reset at start.
        return Ok(());
    }
    let store = machine::store(&place.path("store"))?;
    let mut images = Vec::new();
    for seed in 0..=APPS {
        let raw = place.path("image.raw");
        data::disk(&raw, 8 * GIB, 4 << 20, 2 * seed + 1)?;
        images.push(machine::image(&store, &raw)?);
    }
    let layers = [
        ("os", "os", from_image(&images[0])),
        ("office", "apps", from_image(&images[1])),
        ("tools", "apps", from_image(&images[2])),
        ("cache", "cache", blank(8 * GIB)),
        ("home", "user-data", blank(8 * GIB)),
    ];
    let machine = machine::create(&store, "bench", &layers, Family::Vmdk)?;
    let (mut ours, mut work, mut product) = (Best::new(), Best::new(), Best::new());
    for _ in 0..RUNS {
        let times = once(&machine)?;
        ours.take(times.before + times.after);
        work.take(times.work);
        product.take(times.product);
    }
    report.push(Row::time(
        &format!(
            "start of 5 layers on QEMU, our part: files, plan, record, and {} of processor time while QEMU comes up ({})",
            show(work.get()),
            show(product.get())
        ),
        place,
        ours.get() + work.get(),
        LIMIT,
    ));
    fs::remove_dir_all(place.path("store")).map_err(|error| Error::new(error.to_string()))
}

/// The parts of one start.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    /// From the call until the backend is asked to start.
    before: Duration,
    /// From there until QEMU says that the machine runs.
    product: Duration,
    /// What this process worked meanwhile.
    work: Duration,
    /// From there until the caller is told.
    after: Duration,
}

fn once(machine: &Machine) -> Result<Times, Error> {
    let called = Instant::now();
    let seen = Arc::new(Mutex::new((Times::default(), called)));
    let backend = Arc::new(Watched {
        inner: Qemu::new().emulated(),
        called,
        seen: Arc::clone(&seen),
    });
    let enough = CancelToken::new();
    let ctx = Ctx::none().with_cancel(enough.clone());
    let told = Arc::clone(&seen);
    let options = RunOptions::default().on_event(move |event| {
        if let (RunEvent::Running(_), Ok(mut told)) = (event, told.lock()) {
            told.0.after = told.1.elapsed();
            enough.cancel();
        }
    });
    match block_on(machine.run(backend, options, &ctx)) {
        Err(error) if error.kind() != ErrorKind::Cancelled => return Err(failed(&error)),
        _ => {}
    }
    let times = seen.lock().map(|seen| seen.0).unwrap_or_default();
    match times.product {
        Duration::ZERO => Err(Error::new("the machine never ran")),
        _ => Ok(times),
    }
}

/// QEMU, with a clock around its start.
#[derive(Debug)]
struct Watched {
    inner: Qemu,
    called: Instant,
    seen: Arc<Mutex<(Times, Instant)>>,
}

#[async_trait]
impl Hypervisor for Watched {
    fn product(&self) -> &Product {
        self.inner.product()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn translate(&self, machine: &Resolved) -> stratavm::Result<Plan> {
        self.inner.translate(machine)
    }

    async fn start(&self, launch: &Launch, ctx: &Ctx) -> stratavm::Result<Box<dyn Running>> {
        let (before, begun, worked) = (self.called.elapsed(), Instant::now(), worked());
        let running = self.inner.start(launch, ctx).await;
        if let Ok(mut seen) = self.seen.lock() {
            let work = self::worked().saturating_sub(worked);
            let product = begun.elapsed();
            *seen = (
                Times {
                    before,
                    product,
                    work,
                    after: Duration::ZERO,
                },
                Instant::now(),
            );
        }
        running
    }

    async fn state(&self, endpoint: &Endpoint, ctx: &Ctx) -> stratavm::Result<State> {
        self.inner.state(endpoint, ctx).await
    }

    async fn stop(&self, endpoint: &Endpoint, how: Stop, ctx: &Ctx) -> stratavm::Result<()> {
        self.inner.stop(endpoint, how, ctx).await
    }
}

/// The processor time of this process, in all threads that it ever had.
#[cfg(unix)]
fn worked() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Not told elsewhere: the row then says what was waited for alone.
#[cfg(not(unix))]
fn worked() -> Duration {
    Duration::ZERO
}

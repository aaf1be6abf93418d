//! What the tests with the real QEMU share: skipping where it is missing, and a machine with the
//! boot-sector guest on its first disk.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use stratavm::hypervisor::{Ended, Launch, Running};
use stratavm::spec::Console;
use stratavm::testkit::Sample;
use stratavm::testkit::guest::{Boot, BootSector, parse_console};
use stratavm::{Ctx, Hypervisor as _, Plan, Result};
use stratavm_qemu::Qemu;

/// Long enough for a busy machine; no test waits for it.
pub const LIMIT: Duration = Duration::from_secs(120);

pub fn ctx() -> Ctx {
    Ctx::none().with_deadline(Instant::now() + LIMIT)
}

/// The real QEMU, emulating; `None`, with the reason printed, where `program` is missing.
pub fn qemu(program: &str) -> Option<Qemu> {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found.then(|| Qemu::new().emulated())
}

/// Says why a test does nothing; fails instead where skipping is not allowed.
pub fn skip(reason: &str) {
    let strict = std::env::var_os("STRATAVM_STRICT").is_some_and(|value| value == "1");
    assert!(!strict, "{reason}");
    eprintln!("skipped: {reason}");
}

/// A machine in a folder of its own.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub sample: Sample,
}

impl Bench {
    /// `sample` with `guest` on its first disk and a console.
    pub fn new(mut sample: Sample, guest: &BootSector) -> Self {
        sample.spec.hardware.console = Console::Log;
        let sample = sample.content(0, guest.image_bytes().unwrap());
        let dir = tempfile::tempdir().unwrap();
        sample.write_images(dir.path()).unwrap();
        Self { dir, sample }
    }

    /// The plan of the start with this number, applied.
    pub fn plan(&self, qemu: &Qemu, start: u64) -> Plan {
        let machine = self.sample.clone().start(start).resolve(self.dir.path());
        let plan = qemu.translate(&machine).unwrap();
        plan.apply(&machine.volume, &Ctx::none()).unwrap();
        std::fs::create_dir_all(&machine.paths.config).unwrap();
        plan
    }

    pub fn start(&self, qemu: &Qemu, start: u64) -> Result<Box<dyn Running>> {
        self.launch(qemu, self.plan(qemu, start), "run")
    }

    /// Starts a plan that was applied, with its run-time files in the folder `runtime`.
    pub fn launch(&self, qemu: &Qemu, plan: Plan, runtime: &str) -> Result<Box<dyn Running>> {
        let launch = Launch::new(plan, self.dir.path().join(runtime));
        block_on(qemu.start(&launch, &ctx()))
    }

    /// One run from start to end.
    pub fn run(&self, qemu: &Qemu, start: u64) -> Ended {
        let mut running = self.start(qemu, start).unwrap();
        block_on(running.wait(&ctx())).unwrap()
    }

    /// What the console holds, every boot so far.
    pub fn boots(&self) -> Vec<Boot> {
        parse_console(&std::fs::read(self.console()).unwrap_or_default())
    }

    pub fn console(&self) -> PathBuf {
        self.dir.path().join("config/console.log")
    }

    /// Waits until the guest has come to its end line.
    pub fn guest_has_ended(&self) {
        let until = Instant::now() + LIMIT;
        while !self.boots().last().is_some_and(|boot| boot.ended) {
            assert!(Instant::now() < until, "the guest did not come to its end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

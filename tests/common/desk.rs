//! A machine on the null product in a folder, and supervisors of it: a thread of this process, or
//! this test program run once more to be killed.

#![allow(dead_code, reason = "not every test uses every part")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stratavm::hypervisor::{Endpoint, Stop};
use stratavm::machine::{Machine, Recovered, RunEvent, RunOptions, RunReport};
use stratavm::testkit::guest::{BootSector, End};
use stratavm::{Ctx, Error, ErrorKind, Result, State, Store, VmSpec, block_on, host};
use stratavm_null::Null;
use tempfile::TempDir;

/// Where this program is the supervisor: the folder of its desk.
pub(crate) const ROLE: &str = "STRATAVM_TEST_RECOVER";
/// Long enough for a busy host; no test waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn soon() -> Ctx {
    Ctx::none().with_deadline(Instant::now() + LIMIT)
}

pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A machine `desk` and a product, in one folder.
pub(crate) struct Desk {
    pub(crate) folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with_suspend("on")
    }

    /// The one that another process made in `folder`.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            _temporary: None,
        }
    }

    pub(crate) fn with_suspend(policy: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let desk = Self::made_in(temporary.path().to_owned(), policy);
        Self {
            _temporary: Some(temporary),
            ..desk
        }
    }

    /// A new one in `folder`.
    pub(crate) fn made_in(folder: PathBuf, policy: &str) -> Self {
        let desk = Self::at(folder);
        std::fs::create_dir(desk.product_folder()).unwrap();
        let guest = BootSector::new().write(1, 3, "kept").end(End::Hang);
        let mut os = guest.image_bytes().unwrap().to_vec();
        os.resize(1 << 20, 0);
        std::fs::write(desk.folder.join("os.raw"), os).unwrap();
        let spec: VmSpec = serde_json::from_value(json!({
            "stratavm": 1, "name": "desk",
            "guest": {"os": "other", "composition": "disks"},
            "layer": [
                {"name": "os", "role": "os", "image": "os.raw"},
                {"name": "home", "role": "user-data", "size": "2 MiB"},
            ],
            "policy": {"suspend": policy},
        }))
        .unwrap();
        desk.store()
            .create(&spec, &desk.folder, &Default::default(), &Ctx::none())
            .unwrap();
        desk
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.folder.join("home")).unwrap()
    }

    pub(crate) fn product_folder(&self) -> PathBuf {
        self.folder.join("product")
    }

    pub(crate) fn null(&self) -> Null {
        Null::in_folder(self.product_folder())
    }

    pub(crate) fn machine(&self) -> Machine {
        self.store().machine(&"desk".parse().unwrap()).unwrap()
    }

    /// The record as it is on disk, whatever it says.
    pub(crate) fn record(&self) -> Value {
        let bytes = std::fs::read(self.machine().folder().join("machine.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    pub(crate) fn forge(&self, change: impl FnOnce(&mut Value)) {
        let mut record = self.record();
        change(&mut record);
        let path = self.machine().folder().join("machine.json");
        std::fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
    }

    pub(crate) fn recover(&self) -> Result<Recovered> {
        block_on(self.machine().recover(&self.null(), &soon()))
    }

    pub(crate) fn state(&self) -> State {
        block_on(self.machine().state(&self.null(), &soon())).unwrap()
    }

    pub(crate) fn snapshot(&self, layer: &str) -> Result<Option<u64>> {
        let made = self.machine().snapshot(&layer.parse().unwrap(), None);
        made.map(|done| done.revision)
    }

    /// Starts the machine under a supervisor of its own, and kills that once the machine runs.
    pub(crate) fn abandon(&self) -> Endpoint {
        let mut supervisor = Supervisor(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "supervisor_process"])
                .env(ROLE, &self.folder)
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let process = host::process(supervisor.0.id());
        let run = block_on(self.machine().await_running(process, &soon())).unwrap();
        assert_eq!(self.recover().unwrap(), Recovered::Supervised);
        supervisor.0.kill().unwrap();
        supervisor.0.wait().unwrap();
        run.endpoint.unwrap()
    }

    /// Runs the machine on a thread until it says that it is under way.
    pub(crate) fn start(&self) -> Started {
        let (machine, null) = (self.machine(), self.null());
        let events = Arc::<Mutex<Vec<RunEvent>>>::default();
        let sink = Arc::clone(&events);
        let options =
            RunOptions::default().on_event(move |event| sink.lock().unwrap().push(event.clone()));
        let thread =
            std::thread::spawn(move || block_on(machine.run(Arc::new(null), options, &soon())));
        let started = Started { events, thread };
        wait_for("the start", || {
            let begun = |event: &RunEvent| !matches!(event, RunEvent::Preparing(_));
            let seen = started.events.lock().unwrap().iter().any(begun);
            (seen || started.thread.is_finished()).then_some(())
        });
        started
    }

    pub(crate) fn run(&self) -> Result<RunReport> {
        block_on(
            self.machine()
                .run(Arc::new(self.null()), RunOptions::default(), &soon()),
        )
    }

    pub(crate) fn stop(&self) {
        block_on(self.machine().stop(&self.null(), Stop::PowerOff, &soon())).unwrap();
    }
}

pub(crate) struct Started {
    events: Arc<Mutex<Vec<RunEvent>>>,
    thread: JoinHandle<Result<RunReport>>,
}

impl Started {
    pub(crate) fn report(self) -> (RunReport, Vec<RunEvent>) {
        let report = self.thread.join().unwrap().unwrap();
        let events = self.events.lock().unwrap().clone();
        (report, events)
    }
}

/// A supervisor that does not outlive its test.
pub(crate) struct Supervisor(Child);

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The error of a result that must be one of this kind, with a next step.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.next_step().is_some(), "{error:?}");
    error
}

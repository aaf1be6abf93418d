//! The threads that XPCOM is used by. It belongs to the thread that started it, which lives as long as the process does;
//! each client has a thread of its own, which enters and leaves, and runs what it is given. No object leaves its thread.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::contract::{INTERFACES, IVirtualBoxClient, METHODS};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::VirtualBox;
use crate::sys::{Binding, Library, Shared};
use crate::xpt::TypeLibrary;

/// XPCOM is started once and stays until the process ends: started a second time it was seen to fail now and then
/// (7.2.22).
static ROOT: Mutex<Option<Arc<Root>>> = Mutex::new(None);

type Job = Box<dyn FnOnce(&VirtualBox) + Send>;

/// A connection to the VirtualBox server of the user.
///
/// Which server that is follows from the process's environment, as for VirtualBox's own programs (`VBOX_USER_HOME`,
/// `VBOX_IPC_SOCKETID`). The server is started where it does not run. Once a server was killed, connecting again in the
/// same process was seen to fail (7.2.22); VBoxManage still serves then.
#[derive(Debug)]
pub struct Client {
    jobs: Sender<Job>,
    version: (u32, u32, u32),
}

impl Client {
    /// Connects to the product in this folder, which has `VBoxXPCOMC` and `components` with the type library.
    ///
    /// # Errors
    /// `Incompatible` if the library or the type library has not what is used here, each as it is declared, or if the
    /// process uses another product already; then nothing was called. `Io` if a file cannot be read, `TimedOut` after
    /// `limit`, `Failed` if the product refuses.
    pub fn connect(folder: &Path, limit: Duration) -> Result<Self> {
        let root = Root::get(folder, limit)?;
        let (jobs, waiting) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let version = root.binding.library().version();
        spawn("virtualbox-client", move || work(&root, &waiting, &tell))?;
        answer(&told, limit, "connect")??;
        Ok(Self { jobs, version })
    }

    /// The product's version, as its library tells it: major, minor, build.
    #[must_use]
    pub fn version(&self) -> (u32, u32, u32) {
        self.version
    }

    /// Runs `work` in the client's thread and waits for its answer.
    ///
    /// # Errors
    /// What `work` answers with; `TimedOut` after `limit`: then `work` may still be under way, and this client does
    /// nothing else before it has ended, but another one can be connected.
    pub fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&VirtualBox) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = mpsc::channel();
        let job = move |product: &VirtualBox| {
            // Whoever waited may have gone.
            let _ = tell.send(work(product));
        };
        let gone = |_| {
            Error::new(
                ErrorKind::Failed,
                "the thread of VirtualBox's client has ended",
            )
        };
        self.jobs.send(Box::new(job)).map_err(gone)?;
        answer(&told, limit, "answer")?
    }
}

/// The body of a client's thread.
fn work(root: &Arc<Root>, jobs: &Receiver<Job>, tell: &Sender<Result<()>>) {
    if let Err(error) = root.binding.enter_thread() {
        let _ = tell.send(Err(error));
        return;
    }
    let product = root
        .client()
        .and_then(|client| VirtualBox::new(client.receive(), Arc::clone(&root.states)));
    match product {
        Ok(product) => {
            let _ = tell.send(Ok(()));
            while let Ok(job) = jobs.recv() {
                job(&product);
            }
        }
        Err(error) => drop(tell.send(Err(error))),
    }
    root.binding.leave_thread();
}

/// What the thread that started XPCOM has for the others.
#[derive(Debug)]
struct Root {
    folder: PathBuf,
    binding: Binding,
    states: Arc<Vec<(String, i64)>>,
    requests: Mutex<Sender<Sender<Shared<IVirtualBoxClient>>>>,
}

impl Root {
    fn get(folder: &Path, limit: Duration) -> Result<Arc<Self>> {
        let mut current = ROOT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = &*current {
            if folder
                .canonicalize()
                .is_ok_and(|folder| folder == root.folder)
            {
                return Ok(Arc::clone(root));
            }
            let what = format!(
                "the process uses the VirtualBox in {} already",
                root.folder.display()
            );
            return Err(Error::incompatible(what).at(folder));
        }
        let (tell, told) = mpsc::channel();
        let folder = folder.to_owned();
        spawn("virtualbox", move || serve(&folder, &tell))?;
        let root = Arc::new(answer(&told, limit, "start")??);
        *current = Some(Arc::clone(&root));
        Ok(root)
    }

    /// A reference to the client object, made by the thread that has it.
    fn client(&self) -> Result<Shared<IVirtualBoxClient>> {
        let ended = "XPCOM has ended";
        let (tell, told) = mpsc::channel();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = requests.send(tell).ok();
        sent.and_then(|()| told.recv().ok())
            .ok_or_else(|| Error::new(ErrorKind::Failed, ended))
    }
}

/// The body of the thread that starts XPCOM.
fn serve(folder: &Path, tell: &Sender<Result<Root>>) {
    let bound = bind(folder).and_then(|(binding, states)| {
        let client = binding.initialize::<IVirtualBoxClient>()?;
        Ok((binding, states, client))
    });
    let (binding, states, client) = match bound {
        Ok(bound) => bound,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let (requests, asked) = mpsc::channel::<Sender<Shared<IVirtualBoxClient>>>();
    let root = Root {
        folder: binding.library().folder().to_owned(),
        binding,
        states: Arc::new(states),
        requests: Mutex::new(requests),
    };
    let _ = tell.send(Ok(root));
    while let Ok(answer) = asked.recv() {
        let _ = answer.send(client.share());
    }
}

/// What is known of the product before anything of it is called: its slots, and the names of the states of machines.
fn bind(folder: &Path) -> Result<(Binding, Vec<(String, i64)>)> {
    let library = Library::open(folder)?;
    let components = library.folder().join("components");
    let path = components.join("VirtualBox_XPCOM.xpt");
    let mut types = TypeLibrary::open(&path)?;
    types.resolve(&TypeLibrary::open(&components.join("VBoxXPCOMBase.xpt"))?)?;
    let states = types.interface("MachineState")?.description.as_ref();
    let states = states
        .map(|body| body.constants.clone())
        .unwrap_or_default();
    let binding =
        Binding::new(library, &types, INTERFACES, METHODS).map_err(|error| error.at(&path))?;
    Ok((binding, states))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let failed = |error| {
        Error::new(ErrorKind::Failed, "no thread can be started for VirtualBox").caused_by(error)
    };
    let builder = thread::Builder::new().name(name.into());
    builder.spawn(body).map_err(failed)
}

fn answer<T>(told: &Receiver<T>, limit: Duration, what: &str) -> Result<T> {
    told.recv_timeout(limit).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => Error::new(
            ErrorKind::TimedOut,
            format!("VirtualBox did not {what} within {} s", limit.as_secs()),
        ),
        mpsc::RecvTimeoutError::Disconnected => Error::new(
            ErrorKind::Failed,
            "the thread of VirtualBox's client has ended",
        ),
    })
}

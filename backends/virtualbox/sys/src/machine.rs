//! Machines as the product has them: found, registered, started, stopped. Thin: what a state means for a machine of ours
//! is the caller's to know.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contract::{self, IMachine, IProgress, ISession, IVirtualBox, IVirtualBoxClient};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{Ref, Text, describe, pointers};

/// `LockType_Shared`, the same in every version.
const SHARED: u32 = 1;
/// `CleanupMode_UnregisterOnly`: no medium is detached, no snapshot removed.
const UNREGISTER_ONLY: u32 = 1;
/// `SessionState_Unlocked`.
const UNLOCKED: u32 = 1;
/// Waits are cut into pieces, so that a deadline is kept whatever the product does.
const PIECE: Duration = Duration::from_millis(200);

/// The product's server, in the thread of a [`Client`](crate::Client).
#[derive(Debug)]
pub struct VirtualBox {
    client: Ref<IVirtualBoxClient>,
    server: Ref<IVirtualBox>,
    states: Arc<Vec<(String, i64)>>,
}

impl VirtualBox {
    pub(crate) fn new(
        client: Ref<IVirtualBoxClient>,
        states: Arc<Vec<(String, i64)>>,
    ) -> Result<Self> {
        let server = client.call(&contract::CLIENT_BOX, ())?;
        Ok(Self {
            client,
            server,
            states,
        })
    }

    /// The version, as the server writes it: `7.2.22_Debian`.
    ///
    /// # Errors
    /// `Failed` with what the product says.
    pub fn version(&self) -> Result<String> {
        self.server.call(&contract::BOX_VERSION, ())
    }

    /// All registered machines.
    ///
    /// # Errors
    /// `Failed` with what the product says.
    pub fn machines(&self) -> Result<Vec<Machine<'_>>> {
        let machines = self.server.call(&contract::BOX_MACHINES, ())?;
        let all = machines.into_iter().map(|object| self.machine(object));
        Ok(all.collect())
    }

    /// The registered machine of this name or UUID.
    ///
    /// # Errors
    /// `Failed` if there is none.
    pub fn find(&self, name: &str) -> Result<Machine<'_>> {
        let object = self
            .server
            .call(&contract::BOX_FIND, (&Text::new(name)?,))?;
        Ok(self.machine(object))
    }

    /// Registers the machine of a settings file, given by its absolute path.
    ///
    /// # Errors
    /// `Failed` with what the product has against it, `Invalid` for a path that is no Unicode.
    pub fn register(&self, settings: &Path) -> Result<Machine<'_>> {
        let invalid = || Error::new(ErrorKind::Invalid, "the path is no Unicode").at(settings);
        let path = Text::new(settings.to_str().ok_or_else(invalid)?)?;
        let no_password = Text::new("")?;
        let object = self
            .server
            .call(&contract::BOX_OPEN, (&path, &no_password))?;
        self.server.call(&contract::BOX_REGISTER, (&object,))?;
        Ok(self.machine(object))
    }

    fn machine(&self, object: Ref<IMachine>) -> Machine<'_> {
        Machine {
            product: self,
            object,
        }
    }
}

/// A machine of the product.
#[derive(Debug)]
pub struct Machine<'a> {
    product: &'a VirtualBox,
    object: Ref<IMachine>,
}

impl Machine<'_> {
    /// Whether its settings could be read.
    ///
    /// # Errors
    /// `Failed` with what the product says, as for all that follow.
    pub fn accessible(&self) -> Result<bool> {
        self.object.call(&contract::MACHINE_ACCESSIBLE, ())
    }

    /// Its name.
    ///
    /// # Errors
    /// `Failed`.
    pub fn name(&self) -> Result<String> {
        self.object.call(&contract::MACHINE_NAME, ())
    }

    /// Its UUID, as text without braces.
    ///
    /// # Errors
    /// `Failed`.
    pub fn id(&self) -> Result<String> {
        self.object.call(&contract::MACHINE_ID, ())
    }

    /// The path of its settings file.
    ///
    /// # Errors
    /// `Failed`.
    pub fn settings_file(&self) -> Result<String> {
        self.object.call(&contract::MACHINE_SETTINGS, ())
    }

    /// Its state, by its name in `MachineState` of the installed version: `PoweredOff`, `Running`, ...
    ///
    /// # Errors
    /// `Failed`; also for a state that the type library has no name for.
    pub fn state(&self) -> Result<String> {
        let value = i64::from(self.object.call(&contract::MACHINE_STATE, ())?);
        // Names for ranges of states stand behind those of states.
        let mut states = self.product.states.iter();
        let name = states.find(|(_, all)| *all == value);
        let unknown = || Error::new(ErrorKind::Failed, format!("there is no state {value}"));
        name.map(|(name, _)| name.clone()).ok_or_else(unknown)
    }

    /// Whether a process holds it: while it runs, and a moment longer.
    ///
    /// # Errors
    /// `Failed`.
    pub fn is_locked(&self) -> Result<bool> {
        let state = self.object.call(&contract::MACHINE_SESSION_STATE, ())?;
        Ok(state != UNLOCKED)
    }

    /// Starts it by a frontend (`headless`, `gui`), and waits until it runs.
    ///
    /// # Errors
    /// `Failed` with the product's reason, `TimedOut` after `limit`: the start is cancelled then.
    pub fn start(&self, frontend: &str, limit: Duration) -> Result<()> {
        let session = self.product.client.call(&contract::CLIENT_SESSION, ())?;
        let environment = [];
        let (count, environment) = pointers(&environment);
        let frontend = Text::new(frontend)?;
        let values = (&session, &frontend, count, environment.as_slice());
        let progress = self.object.call(&contract::MACHINE_LAUNCH, values)?;
        let done = finish(&progress, "start", limit);
        // A session that did not start is not locked; a machine that runs goes on without it.
        let _ = session.call(&contract::SESSION_UNLOCK, ());
        done
    }

    /// Powers it off at once, as pulling the plug would.
    ///
    /// # Errors
    /// `Failed`, also if it does not run; `TimedOut` after `limit`.
    pub fn power_off(&self, limit: Duration) -> Result<()> {
        let lock = self.lock()?;
        let progress = lock.console()?.call(&contract::CONSOLE_POWER_DOWN, ())?;
        finish(&progress, "power off", limit)
    }

    /// Presses its power button.
    ///
    /// # Errors
    /// `Failed`, also if it does not run.
    pub fn power_button(&self) -> Result<()> {
        self.lock()?
            .console()?
            .call(&contract::CONSOLE_POWER_BUTTON, ())
    }

    /// Halts it for a while.
    ///
    /// # Errors
    /// `Failed`, also if it does not run.
    pub fn pause(&self) -> Result<()> {
        self.lock()?.console()?.call(&contract::CONSOLE_PAUSE, ())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// `Failed`, also if it is not paused.
    pub fn resume(&self) -> Result<()> {
        self.lock()?.console()?.call(&contract::CONSOLE_RESUME, ())
    }

    /// Saves its state to disk and ends it.
    ///
    /// # Errors
    /// `Failed`, also if it does not run; `TimedOut` after `limit`.
    pub fn save_state(&self, limit: Duration) -> Result<()> {
        let lock = self.lock()?;
        let own = lock.0.call(&contract::SESSION_MACHINE, ())?;
        let progress = own.call(&contract::MACHINE_SAVE_STATE, ())?;
        finish(&progress, "save its state", limit)
    }

    /// Drops its saved state, and the file of it.
    ///
    /// # Errors
    /// `Failed`, also if there is none.
    pub fn discard_state(&self) -> Result<()> {
        let lock = self.lock()?;
        let own = lock.0.call(&contract::SESSION_MACHINE, ())?;
        own.call(&contract::MACHINE_DISCARD_STATE, (true,))
    }

    /// Takes it out of the product's registry; its files and media stay.
    ///
    /// # Errors
    /// `Failed`, also while it runs.
    pub fn unregister(self) -> Result<()> {
        let values = (UNREGISTER_ONLY,);
        let media = self.object.call(&contract::MACHINE_UNREGISTER, values)?;
        drop(media);
        Ok(())
    }

    fn lock(&self) -> Result<Lock> {
        let session = self.product.client.call(&contract::CLIENT_SESSION, ())?;
        self.object
            .call(&contract::MACHINE_LOCK, (&session, SHARED))?;
        Ok(Lock(session))
    }
}

/// A session that shares a machine with the process that runs it, until it is dropped.
struct Lock(Ref<ISession>);

impl Lock {
    fn console(&self) -> Result<Ref<contract::IConsole>> {
        let console = self.0.call(&contract::SESSION_CONSOLE, ())?;
        console.ok_or_else(|| Error::new(ErrorKind::Failed, "the machine does not run"))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A machine that has ended has taken the lock with it.
        let _ = self.0.call(&contract::SESSION_UNLOCK, ());
    }
}

/// Waits until an operation has ended.
fn finish(progress: &Ref<IProgress>, what: &str, limit: Duration) -> Result<()> {
    let started = Instant::now();
    while !progress.call(&contract::PROGRESS_COMPLETED, ())? {
        let Some(left) = limit.checked_sub(started.elapsed()) else {
            // Not every operation can be cancelled.
            let _ = progress.call(&contract::PROGRESS_CANCEL, ());
            let what = format!("the machine did not {what} within {} s", limit.as_secs());
            return Err(Error::new(ErrorKind::TimedOut, what));
        };
        let piece = left.min(PIECE).as_millis();
        let piece = i32::try_from(piece).unwrap_or(i32::MAX);
        progress.call(&contract::PROGRESS_WAIT, (piece,))?;
    }
    let code = progress.call(&contract::PROGRESS_RESULT, ())?;
    if code >= 0 {
        return Ok(());
    }
    let info = progress.call(&contract::PROGRESS_ERROR, ())?;
    let text = info.and_then(|info| describe(&info));
    let text = text.unwrap_or_else(|| "VirtualBox says no more".into());
    let error = Error::new(ErrorKind::Failed, format!("it did not {what}: {text}"));
    Err(error.with_code(code.cast_unsigned()))
}

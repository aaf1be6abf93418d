//! The control half: one run of QEMU from its start to its end, all of it blocking.
//!
//! The supervisor's thread waits; a second thread listens to QEMU's events for as long as the run
//! lasts and remembers why it ended. What arguments the host adds is in [`crate::launch`].

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use stratavm::hypervisor::{Begin, Ended, Endpoint, Launch, ProcessId, State, Stop};
use stratavm::spec::Arch;
use stratavm::{Ctx, Error, ErrorKind, Result};

use crate::accel;
use crate::backend::{self, Acceleration, PRODUCT, Settings};
use crate::detect::Found;
use crate::endpoint::{self, Sockets, Stream, Which};
use crate::launch;
use crate::process::{Process, last_lines, lock};
use crate::qmp::{self, Qmp};
use crate::sys;

/// How long QEMU may take from its start to its greeting.
const GREETING: Duration = Duration::from_secs(60);
/// How long it may take to answer a command.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a wait looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A call of the async half: the caller's context, and whether its future was dropped.
#[derive(Debug)]
pub(crate) struct Call {
    ctx: Ctx,
    abandoned: Arc<AtomicBool>,
}

impl Call {
    pub(crate) fn new(ctx: Ctx, abandoned: Arc<AtomicBool>) -> Self {
        Self { ctx, abandoned }
    }

    pub(crate) fn abandoned(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandoned)
    }

    /// Whether to go on.
    pub(crate) fn check(&self) -> Result<()> {
        if self.abandoned.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "nobody waits for the answer any more",
            ));
        }
        Ok(self.ctx.check()?)
    }

    /// The caller's deadline, or `limit` from now if that is sooner.
    fn until(&self, limit: Duration) -> Instant {
        let own = Instant::now() + limit;
        self.ctx
            .deadline()
            .map_or(own, |deadline| deadline.min(own))
    }
}

/// A running machine.
#[derive(Debug)]
pub(crate) struct Machine {
    endpoint: Endpoint,
    run: Arc<Run>,
}

impl Machine {
    pub(crate) fn address(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn run(&self) -> Arc<Run> {
        Arc::clone(&self.run)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.run.process.ended().is_none() {
            self.run.process.kill();
        }
    }
}

/// What the threads of one run share.
#[derive(Debug)]
pub(crate) struct Run {
    process: Process,
    listener: Mutex<Option<JoinHandle<()>>>,
    heard: Arc<Mutex<Option<String>>>,
    /// Set once somebody pulled the plug through this value.
    switched_off: AtomicBool,
    _sockets: Sockets,
}

/// The accelerator that guests of `arch` get.
pub(crate) fn accelerator(
    settings: &Settings,
    found: &Found,
    arch: Arch,
    finding: accel::Finding,
) -> accel::Choice {
    match settings.acceleration {
        Acceleration::Tried => accel::choose(&found.program, arch, finding),
        Acceleration::Never => backend::emulation(),
    }
}

/// Starts QEMU, connects to it and lets the guest go.
pub(crate) fn start(settings: &Settings, launch: &Launch, call: &Call) -> Result<Machine> {
    if launch.begin != Begin::PowerOn {
        let what = "QEMU keeps no saved state over VMDK chains, so there is none to go on from";
        return Err(Error::new(ErrorKind::NotFound, what));
    }
    let sockets = Sockets::new(&launch.runtime)?;
    let ready = launch::ready(settings, &launch.plan, &sockets)?;
    call.check()?;
    let process = spawn(launch, &ready.program, &ready.arguments)?;
    let deadline = call.until(GREETING);
    let mut qmp = greet(&process, &sockets, call, deadline)?;
    // The processors stand still until now, so no event of a short-lived guest is missed.
    let heard = Arc::<Mutex<Option<String>>>::default();
    qmp.execute("cont", call.until(ANSWER))
        .map_err(|error| failed(&process, call, error))?;
    let listener = {
        let heard = Arc::clone(&heard);
        thread::Builder::new()
            .name("qemu-events".to_owned())
            .spawn(move || listen(qmp, &heard))
    };
    let listener = listener.map_err(|error| {
        Error::new(
            ErrorKind::Io,
            "no thread for QEMU's events could be started",
        )
        .caused_by(error)
    })?;
    let pid = process.id();
    let id = ProcessId {
        pid,
        started: sys::started(pid),
    };
    let endpoint = Endpoint::new(PRODUCT, sockets.address(Which::Control)?, Some(id));
    let run = Run {
        process,
        listener: Mutex::new(Some(listener)),
        heard,
        switched_off: AtomicBool::new(false),
        _sockets: sockets,
    };
    Ok(Machine {
        endpoint,
        run: Arc::new(run),
    })
}

/// Starts QEMU, which inherits the machine's run lock: that is free only once QEMU is gone as well,
/// even if this process is killed in QEMU's first moment. On Windows a lock is not inherited; there
/// the job object ends QEMU together with this process, a moment after its lock is free.
fn spawn(launch: &Launch, program: &Path, arguments: &[OsString]) -> Result<Process> {
    match launch.lock.as_ref().filter(|_| cfg!(unix)) {
        Some(lock) => {
            let lock = lock.share().map_err(|error| {
                Error::io("the run lock could not be shared", &launch.runtime, error)
            })?;
            Process::spawn_under(program, arguments, lock)
        }
        None => Process::spawn(program, arguments),
    }
}

/// Connects as soon as QEMU listens.
fn greet(
    process: &Process,
    sockets: &Sockets,
    call: &Call,
    deadline: Instant,
) -> Result<Qmp<Stream>> {
    let address = sockets.address(Which::Run)?;
    loop {
        call.check()?;
        let error = match endpoint::connect(&address, deadline) {
            Ok(Some(qmp)) => return Ok(qmp),
            Ok(None) if process.ended().is_none() && Instant::now() < deadline => {
                process.wait(Duration::from_millis(10));
                continue;
            }
            Ok(None) => Error::new(ErrorKind::Product, "QEMU did not open its control socket"),
            Err(error) => error,
        };
        return Err(failed(process, call, error));
    }
}

/// What a failure at the start means: the caller's deadline, or QEMU's own words if it died, say
/// more than a connection that is lost or silent.
fn failed(process: &Process, call: &Call, error: Error) -> Error {
    if let Err(stopped) = call.check() {
        return stopped;
    }
    // A connection is lost a moment before the process is gone.
    match process.wait(Duration::from_secs(2)) {
        Some(status) if !status.success() => {
            explain(&process.stderr(), &format!("QEMU did not start ({status})"))
        }
        _ => error,
    }
}

/// An error out of what QEMU said on standard error.
fn explain(stderr: &str, what: &str) -> Error {
    let said = last_lines(stderr);
    // Its image locking: `Failed to get "write" lock`, `Is another process using the image [PATH]?`
    let locked = stderr.contains("Failed to get \"") && stderr.contains("\" lock");
    if locked {
        let image = stderr
            .split_once("using the image [")
            .and_then(|(_, rest)| rest.split_once("]?"))
            .map(|(path, _)| path);
        let error = Error::new(
            ErrorKind::Busy,
            "a disk of the machine is in use by another process",
        );
        let error = match image {
            Some(path) => error.at(path),
            None => error,
        };
        return error.next("stop the machine that uses it");
    }
    Error::new(ErrorKind::Product, format!("{what}: {said}"))
}

/// Listens until the connection ends, which it does with QEMU.
fn listen(mut qmp: Qmp<Stream>, heard: &Mutex<Option<String>>) {
    loop {
        match qmp.event(Instant::now() + Duration::from_secs(3600)) {
            Ok(None) => {}
            Ok(Some(event)) => {
                tracing::debug!(event = event.name, data = %event.data, "QEMU reports");
                let text = |key: &str| {
                    event
                        .data
                        .get(key)
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                };
                match event.name.as_str() {
                    "SHUTDOWN" => {
                        let reason = text("reason").unwrap_or_else(|| "unknown".to_owned());
                        lock(heard).get_or_insert(reason);
                    }
                    // A SHUTDOWN with its own reason may or may not follow.
                    "GUEST_PANICKED" => {
                        lock(heard).get_or_insert_with(|| GUEST_PANIC.to_owned());
                    }
                    "BLOCK_IO_ERROR" => {
                        let reason = text("reason").unwrap_or_default();
                        tracing::error!(reason, "a disk of the guest failed");
                    }
                    _ => {}
                }
            }
            Err(error) => {
                tracing::debug!(%error, "QEMU's events ended");
                return;
            }
        }
    }
}

/// The reason of a SHUTDOWN event after a panic.
const GUEST_PANIC: &str = "guest-panic";

impl Run {
    /// Waits for the end.
    pub(crate) fn wait(&self, call: &Call) -> Result<Ended> {
        loop {
            if let Some(status) = self.process.wait(LOOK) {
                if let Some(listener) = lock(&self.listener).take() {
                    // Ends with the connection, and that with the process.
                    let _ = listener.join();
                }
                let heard = lock(&self.heard).clone();
                let switched_off = self.switched_off.load(Ordering::Acquire);
                return Ok(match outcome(heard.as_deref(), status.success()) {
                    Ended::Crash(_) if switched_off => Ended::PowerOff,
                    Ended::Crash(what) => {
                        let said = last_lines(&self.process.stderr());
                        Ended::Crash(format!("{what} ({status}); {said}"))
                    }
                    ended => ended,
                });
            }
            call.check()?;
        }
    }

    /// As [`stop`]; pulling the plug works on a QEMU that hangs, too.
    pub(crate) fn stop(&self, endpoint: &Endpoint, how: Stop, call: &Call) -> Result<()> {
        if self.process.ended().is_some() {
            return Ok(());
        }
        if how == Stop::PowerOff {
            self.switched_off.store(true, Ordering::Release);
        }
        let asked = stop(endpoint, how, call);
        if how != Stop::PowerOff {
            return asked;
        }
        let left = call.until(ANSWER).saturating_duration_since(Instant::now());
        if asked.is_err() || self.process.wait(left).is_none() {
            self.process.kill();
        }
        Ok(())
    }
}

/// What QEMU's last word means (`ShutdownCause` of QEMU's QAPI schema, `run-state.json`).
fn outcome(reason: Option<&str>, exited_well: bool) -> Ended {
    let ended = match reason {
        Some("guest-shutdown" | "host-qmp-quit" | "host-ui") => Ended::PowerOff,
        Some("guest-reset" | "host-qmp-system-reset" | "subsystem-reset") => Ended::Reboot,
        Some(GUEST_PANIC) => return Ended::Crash("the guest's kernel panicked".to_owned()),
        Some("host-signal") => return Ended::Crash("QEMU was told to end by a signal".to_owned()),
        Some(other) => return Ended::Crash(format!("QEMU ended because of {other}")),
        None => return Ended::Crash("QEMU ended without a word".to_owned()),
    };
    if exited_well {
        return ended;
    }
    Ended::Crash(format!("QEMU failed after the guest's {}", ended.as_str()))
}

/// Asks the QEMU behind `endpoint` for its state.
pub(crate) fn state(endpoint: &Endpoint, call: &Call) -> Result<State> {
    let Some(status) = ask(endpoint, "query-status", call)? else {
        return Ok(if is_alive(endpoint) {
            State::Unknown
        } else {
            State::Off
        });
    };
    Ok(match status.get("status").and_then(Value::as_str) {
        Some("running") => State::Running,
        // `suspended` is the guest's own sleep, in memory.
        Some("paused" | "prelaunch" | "suspended" | "io-error" | "debug" | "guest-panicked") => {
            State::Paused
        }
        Some("shutdown") => State::Stopping,
        _ => State::Unknown,
    })
}

/// Asks the QEMU behind `endpoint` for an end, or ends it.
pub(crate) fn stop(endpoint: &Endpoint, how: Stop, call: &Call) -> Result<()> {
    let command = match how {
        Stop::Shutdown => "system_powerdown",
        _ => "quit",
    };
    let error = match ask(endpoint, command, call) {
        Ok(Some(_)) => return Ok(()),
        Ok(None) if !is_alive(endpoint) => return Ok(()),
        Ok(None) => Error::new(
            ErrorKind::Product,
            "QEMU runs, but nobody listens on its socket",
        ),
        Err(error) => error,
    };
    match endpoint.process {
        Some(process) if how == Stop::PowerOff => sys::end_process(process).map_err(|end| {
            tracing::debug!(%error, "QEMU does not answer");
            Error::new(ErrorKind::Product, "QEMU neither answers nor can be ended").caused_by(end)
        }),
        _ => Err(error),
    }
}

/// Stops the guest's processors, or lets them go on.
pub(crate) fn hold(endpoint: &Endpoint, command: Hold, call: &Call) -> Result<()> {
    let name = match command {
        Hold::Stop => "stop",
        Hold::Continue => "cont",
    };
    match ask(endpoint, name, call)? {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Product, "QEMU does not run")),
    }
}

/// What [`hold`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Stop,
    Continue,
}

/// Runs one command of the QEMU behind `endpoint`; `None` if nobody listens there.
fn ask(endpoint: &Endpoint, command: &str, call: &Call) -> Result<Option<Value>> {
    let deadline = call.until(ANSWER);
    loop {
        let answer = endpoint::connect(&endpoint.address, deadline).and_then(|qmp| {
            qmp.map(|mut qmp| qmp.execute(command, deadline))
                .transpose()
        });
        match answer {
            // It ended just now, or dies: the next try finds nobody.
            Err(error) if qmp::is_lost(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            answer => return answer,
        }
    }
}

/// Whether the recorded process is still there; no where that cannot be known.
fn is_alive(endpoint: &Endpoint) -> bool {
    endpoint
        .process
        .is_some_and(|p| p.started != 0 && sys::started(p.pid) == p.started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(outcome(Some("guest-shutdown"), true), Ended::PowerOff);
        assert_eq!(outcome(Some("host-qmp-quit"), true), Ended::PowerOff);
        assert_eq!(outcome(Some("guest-reset"), true), Ended::Reboot);
        for (reason, well) in [
            (Some("guest-panic"), true),
            (Some("host-signal"), true),
            (Some("host-error"), true),
            (Some("guest-shutdown"), false),
            (None, true),
            (None, false),
        ] {
            assert!(
                matches!(outcome(reason, well), Ended::Crash(_)),
                "{reason:?} {well}"
            );
        }
    }

    #[test]
    fn a_locked_image_is_busy() {
        // QEMU 7.2's own words.
        let stderr = "qemu-system-x86_64: -blockdev {...}: Failed to get \"write\" lock\n\
            Is another process using the image [/tmp/a b.vmdk]?\n";
        let error = explain(stderr, "QEMU did not start");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(error.path(), Some(std::path::Path::new("/tmp/a b.vmdk")));
        let other = explain(
            "qemu-system-x86_64: -m: bad\n",
            "QEMU did not start (exit status: 1)",
        );
        assert_eq!(other.kind(), ErrorKind::Product);
        assert!(other.to_string().ends_with("-m: bad"), "{other}");
    }
}

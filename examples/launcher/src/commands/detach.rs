//! `start` without `--wait`: a process of this very program, in the background, becomes the
//! machine's supervisor, and `start` returns once the machine runs.
//!
//! The two share one pipe, the supervisor's standard output. Its answer comes there when the run
//! has ended, well or not: until the machine runs, that is why it does not.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stratavm::machine::record::RunRecord;
use stratavm::machine::{Machine, RunEvent, RunOptions, escape};
use stratavm::spec::Name;
use stratavm::{CancelToken, Error, ErrorKind, Result, block_on, host};

use crate::cli::{Start, Supervise};
use crate::context::Context;
use crate::output::Answer;
use crate::sys;

/// How long a machine may take until its product says that it runs.
const LIMIT: Duration = Duration::from_secs(180);
/// How long a supervisor may take from its last word to its end.
const END: Duration = Duration::from_secs(10);
/// How much of an answer is taken, in bytes.
const ANSWER: u64 = 1 << 20;
/// How much of the end of a supervisor's log is quoted, in bytes.
const QUOTED: usize = 1000;

/// The supervisor's half.
pub(crate) fn supervise(context: &Context, args: &Supervise) -> Result<Answer> {
    let (args, edit) = (&args.start, args.edit.as_ref());
    sys::leave_terminal();
    let log = context.machine(&args.name)?.supervisor_log();
    let options = RunOptions::default().on_event(move |event| match event {
        // The machine is ours: what the log of an earlier run says is over.
        RunEvent::Preparing(1) => drop(OpenOptions::new().write(true).truncate(true).open(&log)),
        RunEvent::Preparing(boot) => tracing::info!(boot, "the guest rebooted"),
        RunEvent::Running(endpoint) => tracing::info!(address = endpoint.address, "running"),
        event => tracing::info!(?event, "supervisor"),
    });
    super::run::supervise(context, args, edit, options)
}

/// The half of the user's command.
pub(crate) fn start(context: &Context, args: &Start, edit: Option<&Name>) -> Result<Answer> {
    let vm = super::run::startable(context, args)?;
    let machine = vm.machine();
    let ctx = context.cancellable().clone();
    let ctx = ctx.with_deadline(Instant::now() + LIMIT);
    let mut supervisor = Supervisor::spawn(machine, args, edit, ctx.cancel_token().clone())?;
    let process = host::process(supervisor.child.id());
    match block_on(machine.await_running(process, &ctx)) {
        Ok(run) => Ok(left_running(args, edit, machine, &run)),
        Err(error) => match supervisor.answer() {
            // It had its say; that ended the waiting.
            Some(bytes) => verdict(machine, &bytes),
            None => {
                supervisor.end();
                Err(gave_up(args, error))
            }
        },
    }
}

/// The answer once the product says that the machine runs.
fn left_running(args: &Start, edit: Option<&Name>, machine: &Machine, run: &RunRecord) -> Answer {
    let (name, pid) = (&args.name, run.supervisor.pid);
    let runs = match run.attached {
        Some(_) => "ran already and goes on",
        None => "runs",
    };
    let mut text = format!(
        "{name} {runs} on {}, supervised by process {pid}: `stratavm stop {name}` ends it",
        run.product
    );
    let mut json = json!({
        "name": name.as_str(),
        "product": run.product.as_str(),
        "running": true,
        "supervisor": pid,
        "attached": run.attached.is_some(),
        "since": run.since.to_string(),
        "log": machine.supervisor_log().display().to_string(),
    });
    if let Some(layer) = edit {
        text.push_str(&format!(
            "\n  layer {layer} keeps what is written to it; once the guest has shut down: `stratavm \
             publish {name} {layer}`"
        ));
        json["layer"] = json!(layer.as_str());
    }
    Answer::new(text, json)
}

/// Nobody waits any longer, and the machine does not run.
fn gave_up(args: &Start, error: Error) -> Error {
    let what = match error.kind() {
        ErrorKind::Cancelled => format!("interrupted: machine {} was not started", args.name),
        ErrorKind::Timeout => format!(
            "machine {} did not run after {} s and was given up",
            args.name,
            LIMIT.as_secs()
        ),
        _ => return error,
    };
    Error::new(error.kind(), what).next(format!("stratavm start {} --wait", args.name))
}

/// A process that supervises a machine.
struct Supervisor {
    child: Child,
    answer: Receiver<Vec<u8>>,
}

impl Supervisor {
    /// Starts it; `ended` is cancelled once it has said its last word.
    fn spawn(
        machine: &Machine,
        args: &Start,
        edit: Option<&Name>,
        ended: CancelToken,
    ) -> Result<Self> {
        let failed = |what: &str, error| {
            Error::new(ErrorKind::Io, format!("{what} for the supervisor")).caused_by(error)
        };
        let program = std::env::current_exe().map_err(|error| failed("no program", error))?;
        let mut command = Command::new(program);
        command
            .args(["--json", "--home"])
            .arg(machine.store().home());
        command.args(["supervise", args.name.as_str(), "--product", &args.product]);
        for layer in &args.revertible {
            command.args(["--revertible", layer.as_str()]);
        }
        if let Some(layer) = edit {
            command.args(["--edit", layer.as_str()]);
        }
        command.current_dir(machine.store().home());
        if std::env::var_os("STRATAVM_LOG").is_none() {
            command.env("STRATAVM_LOG", "info");
        }
        let log = log_file(&machine.supervisor_log())
            .map_err(|error| failed("no log could be opened", error))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = sys::detached(&mut command)
            .spawn()
            .map_err(|error| failed("no process could be started", error))?;
        let (said, answer) = mpsc::channel();
        let stream = child.stdout.take();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // A broken pipe is a silent end.
                let _ = stream.take(ANSWER).read_to_end(&mut bytes);
            }
            // Nobody may be waiting any more.
            let _ = said.send(bytes);
            ended.cancel();
        });
        Ok(Self { child, answer })
    }

    /// Its last words; `None` if it still runs.
    fn answer(&self) -> Option<Vec<u8>> {
        self.answer.try_recv().ok()
    }

    /// Ends it, and the machine with it.
    fn end(&mut self) {
        let _ = self.child.kill();
        let until = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Opens the log to append to: a supervisor of the machine that runs may be writing to it.
fn log_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// What a supervisor said that ended before the machine was seen running: why it does not, or how a
/// run went that was over in no time.
fn verdict(machine: &Machine, bytes: &[u8]) -> Result<Answer> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| died(machine))?;
    if let Some(error) = value.get("error") {
        return Err(error_of(error));
    }
    let (ended, boots) = (value["ended"].as_str(), value["boots"].as_u64());
    let (Some(ended), Some(boots)) = (ended, boots) else {
        return Err(died(machine));
    };
    let mut text = format!(
        "{} ran and ended: {ended} after {boots} boots",
        machine.name()
    );
    for key in ["detail", "guest-said"] {
        if let Some(line) = value[key].as_str() {
            text.push_str(&format!("\n  {}", escape(line)));
        }
    }
    let as_asked = matches!(ended, "power-off" | "suspended");
    Ok(Answer::new(text, value).done_if(as_asked))
}

/// The error that another process printed with `--json`.
fn error_of(value: &Value) -> Error {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let kind = ErrorKind::named(text("kind")).unwrap_or(ErrorKind::Io);
    let causes = value["causes"].as_array().into_iter().flatten();
    let causes = causes.filter_map(Value::as_str);
    let chain = causes.rev().fold(None, |below: Option<Error>, cause| {
        let cause = Error::new(kind, cause);
        Some(match below {
            Some(below) => cause.caused_by(below),
            None => cause,
        })
    });
    let error = Error::new(kind, text("message")).next(text("next"));
    match chain {
        Some(cause) => error.caused_by(cause),
        None => error,
    }
}

/// A supervisor that ended without a word, as one does that was killed.
fn died(machine: &Machine) -> Error {
    let log = machine.supervisor_log();
    let said = std::fs::read(&log).unwrap_or_default();
    let end = &said[said.len().saturating_sub(QUOTED)..];
    let error = Error::new(
        ErrorKind::Io,
        format!(
            "the supervisor of machine {} ended without a word",
            machine.name()
        ),
    )
    .at(log)
    .next(format!("stratavm start {} --wait", machine.name()));
    match String::from_utf8_lossy(end).trim() {
        "" => error,
        end => error.caused_by(Error::new(ErrorKind::Io, format!("its log ends: {end}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_is_handed_over_whole() {
        let value = json!({
            "kind": "no-space", "message": "qemu: it does not fit: /x",
            "causes": ["one", "two"], "next": "make room",
        });
        let error = error_of(&value);
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(error.to_string(), "qemu: it does not fit: /x");
        assert_eq!(error.next_step(), Some("make room"));
        assert_eq!(crate::output::causes(&error), ["one", "two"]);
    }
}

//! Running a program that may hang, crash or talk nonsense: a child that dies with this process,
//! whose output is bounded and whose end can be waited for with a limit.
//!
//! Which programs are run and what their output means is decided elsewhere.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use shared_child::SharedChild;
use stratavm::{Error, ErrorKind, Result};

use crate::sys::Tie;

/// How much of each output stream is kept: the last so many bytes.
const KEPT_OUTPUT: usize = 64 * 1024;
/// How long a program that was told to die is waited for.
const DEATH: Duration = Duration::from_secs(10);

/// A running child. Dropping it ends the child.
#[derive(Debug)]
pub(crate) struct Process {
    program: PathBuf,
    child: Arc<SharedChild>,
    end: Arc<End>,
    stdout: Arc<Tail>,
    stderr: Arc<Tail>,
}

/// The child's end, once it is there.
#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

/// The end of an output stream.
#[derive(Debug, Default)]
struct Tail(Mutex<VecDeque<u8>>);

impl Process {
    /// Starts `program` with `arguments`: standard input empty, messages in English.
    ///
    /// # Errors
    /// `Unavailable` if the system does not start it.
    pub(crate) fn spawn(program: &Path, arguments: &[OsString]) -> Result<Self> {
        Self::spawn_with(program, arguments, Stdio::null())
    }

    /// As [`spawn`](Self::spawn), with the file of a lock, which is empty, as standard input: the
    /// lock is then held as long as the child lives, however this process ends.
    pub(crate) fn spawn_under(program: &Path, arguments: &[OsString], lock: File) -> Result<Self> {
        Self::spawn_with(program, arguments, Stdio::from(lock))
    }

    fn spawn_with(program: &Path, arguments: &[OsString], input: Stdio) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C");
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let end = Arc::<End>::default();
        let (stdout, stderr) = (Arc::<Tail>::default(), Arc::<Tail>::default());
        let (sender, receiver) = mpsc::channel();
        let thread = {
            let (end, tails) = (Arc::clone(&end), [Arc::clone(&stdout), Arc::clone(&stderr)]);
            thread::Builder::new()
                .name("qemu".to_owned())
                .spawn(move || keep(command, &end, tails, &sender))
        };
        let failed = |error: io::Error| {
            let message = "the program could not be started";
            Error::new(ErrorKind::Unavailable, message)
                .at(program)
                .caused_by(error)
        };
        thread.map_err(failed)?;
        let child = receiver
            .recv()
            .map_err(io::Error::other)
            .flatten()
            .map_err(failed)?;
        Ok(Self {
            program: program.to_owned(),
            child,
            end,
            stdout,
            stderr,
        })
    }

    /// The process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        *lock(&self.end.status)
    }

    /// Waits at most `limit` for the end.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut status = lock(&self.end.status);
        while status.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.end.changed.wait_timeout(status, left);
            status = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *status
    }

    /// Ends it at once and waits until it is gone.
    pub(crate) fn kill(&self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        if self.wait(DEATH).is_none() {
            tracing::error!(program = %self.program.display(), "a killed program does not go away");
        }
    }

    /// The last it said on standard error, as text without control characters but line ends.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The same for standard output.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// Runs `program` to its end and returns its standard output.
///
/// # Errors
/// `Unavailable` if it does not start, fails, or takes longer than `limit`; with what it said.
pub(crate) fn output(program: &Path, arguments: &[OsString], limit: Duration) -> Result<String> {
    let process = Process::spawn(program, arguments)?;
    let fault = match process.wait(limit) {
        Some(status) if status.success() => return Ok(process.stdout()),
        Some(status) => format!(
            "the program failed ({status}): {}",
            last_lines(&process.stderr())
        ),
        None => format!(
            "the program did not answer within {} s",
            limit.as_secs_f32()
        ),
    };
    Err(Error::new(ErrorKind::Unavailable, fault).at(program))
}

/// The last few lines of an output, for a message; never empty.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.len() {
        0 => "it said nothing".to_owned(),
        count => lines[count.saturating_sub(LINES)..].join("; "),
    }
}

/// The life of one child: this thread spawns it and lives until it and its output have ended, as
/// the parent-death signal asks for.
fn keep(
    mut command: Command,
    end: &End,
    tails: [Arc<Tail>; 2],
    started: &mpsc::Sender<io::Result<Arc<SharedChild>>>,
) {
    let spawned = Tie::new().and_then(|tie| {
        tie.prepare(&mut command);
        let mut child = command.spawn()?;
        if let Err(error) = tie.adopt(&child) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok((tie, Arc::new(SharedChild::new(child)?)))
    });
    let (_tie, child) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let [out_tail, err_tail] = tails;
    let out = child.take_stdout().map(|stream| drain(stream, out_tail));
    let err = child.take_stderr().map(|stream| drain(stream, err_tail));
    let _ = started.send(Ok(Arc::clone(&child)));
    // Fails only where the program around us reaps our children; an event or the output then has
    // to tell how it ended.
    let status = child.wait().unwrap_or_default();
    // A grandchild may hold the pipes open: what was said until now has to do.
    let until = Instant::now() + Duration::from_secs(1);
    for reader in [out, err].into_iter().flatten().flatten() {
        while !reader.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
    *lock(&end.status) = Some(status);
    end.changed.notify_all();
}

fn drain(
    mut stream: impl Read + Send + 'static,
    tail: Arc<Tail>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("qemu-output".to_owned())
        .spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = stream.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                let mut kept = lock(&tail.0);
                kept.extend(&buffer[..read]);
                let excess = kept.len().saturating_sub(KEPT_OUTPUT);
                kept.drain(..excess);
            }
        })
}

impl Tail {
    fn text(&self) -> String {
        let bytes: Vec<u8> = lock(&self.0).iter().copied().collect();
        String::from_utf8_lossy(&bytes)
            .chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect()
    }
}

/// What these locks guard is valid at any time, whatever a panicking thread left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sh(script: &str) -> (PathBuf, Vec<OsString>) {
        ("sh".into(), vec!["-c".into(), script.into()])
    }

    #[test]
    fn output_is_returned_and_failures_are_told() {
        let (program, arguments) = sh("echo hello");
        assert_eq!(
            output(&program, &arguments, Duration::from_secs(30)).unwrap(),
            "hello\n"
        );
        let (program, arguments) = sh("echo first; echo no luck >&2; exit 3");
        let error = output(&program, &arguments, Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("no luck"), "{error}");
        let missing = output(Path::new("/nonexistent/qemu"), &[], Duration::from_secs(30));
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let (program, arguments) = sh("exec sleep 600");
        let error = output(&program, &arguments, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not answer"), "{error}");
    }

    #[test]
    fn only_the_end_of_endless_output_is_kept() {
        let (program, arguments) =
            sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
        let text = output(&program, &arguments, Duration::from_secs(60)).unwrap();
        assert!(text.len() <= KEPT_OUTPUT && text.ends_with("line 19999\n"));
    }

    #[test]
    fn the_last_lines_make_a_message() {
        assert_eq!(last_lines(" \n"), "it said nothing");
        assert_eq!(last_lines("1\n2\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
    }
}

//! Running other programs: output passed through and kept, and an end to each within a time limit.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Why a task could not be carried out, in words for the person who ran it.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// How a program that was passed through ended.
pub(crate) struct Ended {
    /// Exit status 0 within the time limit.
    pub(crate) ok: bool,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
    /// Filled when it did not come to an end of its own.
    pub(crate) why: Option<String>,
}

/// What a short program printed; an error names the program and what it said on stderr.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::new(format!("cannot run {name}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!(
            "{name} failed ({}): {}",
            output.status,
            said.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program with its output passed through line by line, and ends it when `limit` is over.
pub(crate) fn pass_through(command: &mut Command, limit: Duration) -> Result<Ended, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::new(format!("cannot run {name}: {error}")))?;
    let (send, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                if send.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
    }
    let mut stdout = String::new();
    loop {
        match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                print!("{line}");
                let _ = std::io::stdout().flush();
                stdout.push_str(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                kill_tree(&mut child);
                let why = Some(format!("no end after {} s", limit.as_secs()));
                return Ok(Ended {
                    ok: false,
                    stdout,
                    why,
                });
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child
        .wait()
        .map_err(|error| Error::new(format!("cannot wait for {name}: {error}")))?;
    let why = status.code().is_none().then(|| status.to_string());
    Ok(Ended {
        ok: status.success(),
        stdout,
        why,
    })
}

/// Runs a program with all that it says appended to the file `log`, and ends it when `limit` is over. An error has the
/// last lines of what it said.
pub(crate) fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let cannot = |error: io::Error| Error::new(format!("cannot run {name}: {error}"));
    let file = OpenOptions::new().append(true).create(true).open(log);
    let file = file.map_err(|error| Error::new(format!("{}: {error}", log.display())))?;
    let begin = file.metadata().map_or(0, |data| data.len());
    command.stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(cannot)?);
    let mut child = command.stderr(file).spawn().map_err(cannot)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            break status;
        }
        if started.elapsed() > limit {
            kill_tree(&mut child);
            let seconds = limit.as_secs();
            return Err(Error::new(format!("{name}: no end after {seconds} s")));
        }
        thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(begin))?;
        file.read_to_end(&mut said)
    });
    read.map_err(|error| Error::new(format!("{}: {error}", log.display())))?;
    Err(Error::new(format!(
        "{name} failed ({status}), {}: {}",
        log.display(),
        reason(&String::from_utf8_lossy(&said))
    )))
}

/// Why a program of Debian's failed: the lines that it marks as errors, or else the last ones.
fn reason(said: &str) -> String {
    let marked: Vec<&str> = said.lines().filter(|line| line.starts_with("E:")).collect();
    if !marked.is_empty() {
        return marked.join("; ");
    }
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// Ends a program and, where `ps` tells them, the programs that it started: a hanging test is a grandchild of cargo.
fn kill_tree(child: &mut Child) {
    let table = output(Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]));
    let below = descendants(child.id(), &table.unwrap_or_default());
    let _ = child.kill();
    for pid in below {
        let _ = output(Command::new("kill").args(["-9", &pid.to_string()]));
    }
    let _ = child.wait();
}

fn descendants(root: u32, table: &str) -> Vec<u32> {
    let pairs: Vec<(u32, u32)> = table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            pairs
                .iter()
                .filter(|(_, up)| *up == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn descendants_are_found_through_generations() {
        let table = "  1 0\n 10 1\n 11 10\n 12 11\n 13 1\n";
        assert_eq!(descendants(10, table), [11, 12]);
        assert_eq!(descendants(13, table), [0u32; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_logged_program_says_why_it_failed_in_its_own_words_only() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let second = Duration::from_secs(60);
        let sh = |script: &str| logged(Command::new("sh").args(["-c", script]), &log, second);
        sh("echo E: not mine").unwrap();
        let error = sh("echo one; echo E: no room >&2; exit 3").unwrap_err();
        assert!(error.0.ends_with(": E: no room"), "{error}");
        let error = sh("seq 5; exit 1").unwrap_err();
        assert!(error.0.ends_with(": 3; 4; 5"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]);
        let ended = pass_through(&mut command, Duration::from_millis(500)).unwrap();
        assert!(!ended.ok && ended.why.unwrap().starts_with("no end after"));
        let state = Command::new("ps")
            .args(["-o", "stat=", "-p", ended.stdout.trim()])
            .output()
            .unwrap();
        let state = String::from_utf8(state.stdout).unwrap();
        assert!(
            state.is_empty() || state.starts_with('Z'),
            "still there: {state}"
        );
    }
}

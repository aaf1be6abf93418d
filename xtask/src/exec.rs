//! Running other programs: output passed through and kept, and an end to each within a time limit.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
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

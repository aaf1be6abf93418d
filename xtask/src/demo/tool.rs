//! Running the host's tools: an argument vector, a plain environment, an end within a time limit. Knows no tool.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exec::Error;
use crate::setup::find_program;

/// How long the tools that make images may take; all of them need a few seconds at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// One run of a program.
pub(crate) struct Tool {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, String)>,
    dir: Option<PathBuf>,
    limit: Duration,
}

/// How a program ended, and what it said.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Tool {
    /// A program from `PATH` or an `sbin` folder.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let found =
            find_program(name).ok_or_else(|| Error::new(format!("no {name} on this system")))?;
        Ok(Self::at(found))
    }

    /// A program by its path.
    pub(crate) fn at(program: PathBuf) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            limit: PATIENCE,
        }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// The folder to run in.
    pub(crate) fn in_dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it; an exit status other than 0 is an error that holds what it said.
    pub(crate) fn run(self) -> Result<Vec<u8>, Error> {
        let name = self.program.display().to_string();
        let said = self.ask()?;
        if said.ok {
            return Ok(said.stdout);
        }
        let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), said.stderr);
        Err(Error::new(format!("{name} failed: {}", text.trim())))
    }

    /// Runs it and hands on whatever it answers; an error only where it cannot run or does not end.
    pub(crate) fn ask(self) -> Result<Said, Error> {
        let name = self.program.display().to_string();
        let mut command = duct::cmd(self.program, self.args)
            .env("LC_ALL", "C")
            .env_remove("SOURCE_DATE_EPOCH") // mksquashfs refuses it beside its own options
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked();
        for (name, value) in self.env {
            command = command.env(name, value);
        }
        if let Some(dir) = self.dir {
            command = command.dir(dir);
        }
        let handle = command
            .start()
            .map_err(|error| Error::new(format!("cannot run {name}: {error}")))?;
        let ended = handle
            .wait_timeout(self.limit)
            .map_err(|error| Error::new(format!("{name}: {error}")))?;
        let Some(output) = ended else {
            let _ = handle.kill();
            return Err(Error::new(format!(
                "{name}: no end after {} s",
                self.limit.as_secs()
            )));
        };
        Ok(Said {
            ok: output.status.success(),
            stdout: output.stdout.clone(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Names the path in an I/O error.
pub(crate) trait At<T> {
    fn at(self, what: impl Display) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: impl Display) -> Result<T, Error> {
        self.map_err(|error| Error::new(format!("{what}: {error}")))
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_holds_what_the_program_said() {
        let failed = Tool::named("sh")
            .unwrap()
            .args(["-c", "echo out; echo err >&2; exit 3"])
            .run();
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("out") && text.contains("err"), "{text}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let hung = Tool::named("sleep")
            .unwrap()
            .arg("600")
            .within(Duration::from_millis(200))
            .run();
        assert!(hung.unwrap_err().to_string().contains("no end after"));
    }
}

//! The launcher, driven as a user would: its commands, `--json`, one store of the demo's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::tool::Tool;
use crate::exec::{self, Error};
use crate::workspace;

/// How long one start may take on a busy host without hardware virtualization, reboots included.
const START: Duration = Duration::from_secs(180);

/// Builds the launcher; the program.
pub(crate) fn build() -> Result<PathBuf, Error> {
    println!("demo: building the launcher");
    let mut build = workspace::cargo();
    exec::output(build.args(["build", "--quiet", "--package", "stratavm-launcher"]))?;
    let name = format!("stratavm{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace::target().join("debug").join(name))
}

/// The launcher and the store it works on.
pub(crate) struct Launcher {
    program: PathBuf,
    home: PathBuf,
}

impl Launcher {
    pub(crate) fn new(program: PathBuf, home: PathBuf) -> Self {
        Self { program, home }
    }

    /// The folder of the store.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs a command that has to be done; what it answers.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Value, Error> {
        self.ask(args)?
            .map_err(|refused| Error::new(format!("stratavm {}: {refused}", args.join(" "))))
    }

    /// Runs a command; its answer, or its refusal in words.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<Result<Value, String>, Error> {
        let said = self.tool(args).arg("--json").ask()?;
        let line = args.join(" ");
        let answer: Value = serde_json::from_slice(&said.stdout).map_err(|error| {
            let printed = String::from_utf8_lossy(&said.stdout);
            Error::new(format!(
                "stratavm {line} printed no JSON ({error}): {printed}{}",
                said.stderr
            ))
        })?;
        match answer.get("error") {
            Some(error) => Ok(Err(in_words(error))),
            None if said.ok || answer.get("ended").is_some() => Ok(Ok(answer)),
            None => Err(Error::new(format!(
                "stratavm {line} failed without saying why"
            ))),
        }
    }

    /// Runs a command as a person would and shows what it prints; whether it was done, and the text.
    pub(crate) fn say(&self, args: &[&str]) -> Result<(bool, String), Error> {
        let said = self.tool(args).ask()?;
        let printed = format!("{}{}", String::from_utf8_lossy(&said.stdout), said.stderr);
        show(args, &printed);
        Ok((said.ok, printed))
    }

    /// Starts a machine and waits for its end, reboots included.
    pub(crate) fn start(&self, machine: &str) -> Result<Result<Value, String>, Error> {
        self.limited(&["start", machine, "--product", "qemu", "--wait"])
    }

    /// Runs a command that waits for a machine's end and has to be done; what it answers.
    pub(crate) fn wait(&self, args: &[&str]) -> Result<Value, Error> {
        self.limited(args)?
            .map_err(|refused| Error::new(format!("stratavm {}: {refused}", args.join(" "))))
    }

    fn limited(&self, args: &[&str]) -> Result<Result<Value, String>, Error> {
        let limit = START.as_secs().to_string();
        self.ask(&[args, &["--timeout", &limit]].concat())
    }

    /// The same launcher on the store of another folder.
    pub(crate) fn at_home(&self, home: PathBuf) -> Self {
        Self::new(self.program.clone(), home)
    }

    /// The command line that a person would type.
    pub(crate) fn command_line(&self, args: &[&str]) -> Vec<OsString> {
        let mut line = vec![self.program.clone().into_os_string()];
        line.extend(args.iter().map(OsString::from));
        line.extend(["--home".into(), self.home.clone().into_os_string()]);
        line
    }

    fn tool(&self, args: &[&str]) -> Tool {
        let mut line = self.command_line(args).into_iter();
        let program = line.next().unwrap_or_default();
        Tool::at(program.into())
            .args(line)
            .within(START + Duration::from_secs(60))
    }
}

/// Prints a command and what it said, as it stood in the terminal.
pub(crate) fn show(args: &[&str], printed: &str) {
    println!("  $ stratavm {}", args.join(" "));
    for line in printed.lines() {
        println!("    {line}");
    }
}

fn in_words(error: &Value) -> String {
    let mut words = text(error, "message").to_owned();
    for cause in error
        .get("causes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        words.push_str(": ");
        words.push_str(cause.as_str().unwrap_or_default());
    }
    words
}

/// A text in an answer; empty where it is not there.
pub(crate) fn text<'a>(answer: &'a Value, key: &str) -> &'a str {
    answer.get(key).and_then(Value::as_str).unwrap_or_default()
}

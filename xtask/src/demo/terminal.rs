//! A terminal to type one command into and to close: the kernel then hangs up on everything that is in it.
//! Unix only; knows no launcher.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::tool::At;
use crate::exec::Error;
use crate::setup::find_program;

/// A terminal with one command in its foreground.
pub(crate) struct Terminal {
    child: Child,
    master: File,
}

impl Terminal {
    /// Opens a terminal and runs `line` as the leader of its session.
    pub(crate) fn run(line: &[OsString]) -> Result<Self, Error> {
        let io = |error: rustix::io::Errno| Error::new(format!("no terminal: {error}"));
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(io)?;
        grantpt(&master).map_err(io)?;
        unlockpt(&master).map_err(io)?;
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).map_err(io)?;
        let name = ptsname(&master, Vec::new()).map_err(io)?;
        let name = name.to_string_lossy().into_owned();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&name)
            .at(&name)?;
        let end = || slave.try_clone().map(Stdio::from).at(&name);
        let setsid = find_program("setsid")
            .ok_or_else(|| Error::new("no setsid (util-linux) on this system"))?;
        let child = Command::new(setsid)
            .arg("--ctty")
            .arg("--wait")
            .args(line)
            .env("LC_ALL", "C")
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()
            .at("setsid")?;
        Ok(Self {
            child,
            master: master.into(),
        })
    }

    /// Waits until the command has ended and closes the terminal; what stood in it, and whether it was done.
    pub(crate) fn close_after(mut self, limit: Duration) -> Result<(bool, String), Error> {
        let begun = Instant::now();
        let mut text = Vec::new();
        let status = loop {
            self.read_on(&mut text);
            if let Some(status) = self.child.try_wait().at("setsid")? {
                break status;
            }
            if begun.elapsed() > limit {
                let _ = self.child.kill();
                let text = String::from_utf8_lossy(&text).into_owned();
                return Err(Error::new(format!(
                    "no end after {} s: {text}",
                    limit.as_secs()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        };
        self.read_on(&mut text);
        drop(self.master);
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        Ok((status.success(), text))
    }

    /// What stands in the terminal by now; its end is an error of its own (EIO).
    fn read_on(&mut self, text: &mut Vec<u8>) {
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = self.master.read(&mut part) {
            text.extend(&part[..read]);
        }
    }
}

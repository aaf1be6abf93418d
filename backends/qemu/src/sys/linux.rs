//! Linux: the parent-death signal, and process numbers that are checked through a pidfd.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, PidfdFlags, Signal};
use stratavm::hypervisor::ProcessId;

/// Ties a child's life to the thread that spawns it.
///
/// The kernel sends the signal when that *thread* ends, so it has to live as long as the child.
#[derive(Debug)]
pub(crate) struct Tie(());

impl Tie {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Before the spawn.
    pub(crate) fn prepare(&self, command: &mut Command) {
        // Ctrl-C in a terminal is for us: how the guest ends then is not the terminal's to say.
        command.process_group(0);
        let parent = rustix::process::getpid();
        let tie = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have gone before the signal was set.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        };
        // SAFETY: runs in the child between fork and exec, where only async-signal-safe calls are
        // allowed: it makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(tie);
        }
    }

    /// After the spawn.
    pub(crate) fn adopt(&self, child: &Child) -> io::Result<()> {
        let _ = child;
        Ok(())
    }
}

/// When the process started, in clock ticks since boot; 0 if it is not there, or only waits to be
/// reaped.
pub(crate) fn started(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    start_ticks(&stat).unwrap_or(0)
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)), unless the third says that it is dead. The
/// second is the program's name in parentheses and may hold anything, so fields are counted from
/// its end.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Ends just this process. One that is not there any more is no error.
pub(crate) fn end_process(process: ProcessId) -> io::Result<()> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Only now: the handle stays with this process whatever becomes of its number.
    if started(process.pid) != process.started {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_start_is_read_behind_any_name() {
        let stat = "77 (a) b (c)) S 1 77 77 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 123456 7 8 9";
        assert_eq!(start_ticks(stat), Some(123_456));
        assert_eq!(start_ticks(&stat.replace(" S ", " Z ")), None);
        assert_eq!(start_ticks("77 (cut) S 1"), None);
        assert!(started(std::process::id()) > 0);
    }

    #[test]
    fn only_the_process_meant_is_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId {
            pid: child.id(),
            started: started(child.id()),
        };
        end_process(ProcessId {
            started: process.started + 1,
            ..process
        })
        .unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "a later process of that number was ended"
        );
        end_process(process).unwrap();
        assert!(!child.wait().unwrap().success());
        end_process(process).unwrap();
    }
}

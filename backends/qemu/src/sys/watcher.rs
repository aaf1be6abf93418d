//! Unix without a parent-death signal: a watcher process that holds one end of a pipe.
//!
//! The watcher is a fork of the child before it becomes QEMU; it runs nothing but a `read`. When
//! this process dies in whatever way, the kernel closes the pipe, the read ends, and the watcher
//! ends QEMU. When QEMU ends first, the pipe is closed by us and the watcher finds it gone.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use stratavm::hypervisor::ProcessId;

/// Ties a child's life to this value, and so to this process. Made for one child.
#[derive(Debug)]
pub(crate) struct Tie {
    watched: OwnedFd,
    /// Open as long as this process and this value live.
    _held: OwnedFd,
}

impl Tie {
    pub(crate) fn new() -> io::Result<Self> {
        let (watched, held) = rustix::pipe::pipe()?;
        for end in [&watched, &held] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Self {
            watched,
            _held: held,
        })
    }

    /// Before the spawn.
    pub(crate) fn prepare(&self, command: &mut Command) {
        // Ctrl-C in a terminal is for us: how the guest ends then is not the terminal's to say.
        command.process_group(0);
        let watched = self.watched.as_raw_fd();
        // SAFETY: runs in the child between fork and exec. `start_watcher` makes system calls only
        // and allocates nothing; the descriptor is open, since `self` outlives the spawn.
        unsafe {
            command.pre_exec(move || start_watcher(watched));
        }
    }

    /// After the spawn.
    pub(crate) fn adopt(&self, child: &Child) -> io::Result<()> {
        let _ = child;
        Ok(())
    }
}

/// Forks the watcher; returns in the process that becomes QEMU.
fn start_watcher(watched: libc::c_int) -> io::Result<()> {
    // SAFETY: all calls are async-signal-safe (POSIX.1-2017, section 2.4.3), which is what the
    // child of a process with threads may use; the buffer is a local of one byte.
    unsafe {
        let child = libc::getpid();
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {}
            _ => return Ok(()),
        }
        // A signal for the terminal's process group is not for the watcher; and it must hold none
        // of the descriptors that others wait for the end of.
        libc::setsid();
        let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536) as libc::c_int;
        for descriptor in (0..limit).filter(|descriptor| *descriptor != watched) {
            libc::close(descriptor);
        }
        let mut byte = 0_u8;
        loop {
            let read = libc::read(watched, (&raw mut byte).cast(), 1);
            if read == 0
                || (read < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR))
            {
                break;
            }
        }
        if libc::getppid() == child {
            libc::kill(child, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}

/// Not known on these systems.
#[cfg_attr(
    target_os = "linux",
    expect(dead_code, reason = "only the watcher is tested here")
)]
pub(crate) fn started(pid: u32) -> u64 {
    let _ = pid;
    0
}

/// Does nothing: without a start time no process is known well enough to be ended by its number.
#[cfg_attr(
    target_os = "linux",
    expect(dead_code, reason = "only the watcher is tested here")
)]
pub(crate) fn end_process(process: ProcessId) -> io::Result<()> {
    let _ = process;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn the_child_ends_with_the_pipe() {
        let tie = Tie::new().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        tie.prepare(&mut command);
        let mut child = command.spawn().unwrap();
        tie.adopt(&child).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        // What the kernel does when this process dies.
        drop(tie);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_child_that_ends_first_is_left_alone() {
        let tie = Tie::new().unwrap();
        let mut command = Command::new("true");
        tie.prepare(&mut command);
        assert!(command.spawn().unwrap().wait().unwrap().success());
    }
}

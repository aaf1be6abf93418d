//! What a process needs from the operating system to outlive the terminal that it was started from.
//!
//! Unix: a session of its own, and no files of its parent's parents. Windows: no console, and a
//! process group that no Ctrl-C reaches; there only handles that are marked so are inherited, and
//! nobody marks any.

pub(crate) use self::system::{detached, leave_terminal};

#[cfg(unix)]
mod system {
    use std::os::fd::{BorrowedFd, RawFd};
    use std::process::Command;

    /// Has the child of `command` inherit none of this process's files but its standard ones: a
    /// shell that waits for the end of a pipe would wait for the machine.
    pub(crate) fn detached(command: &mut Command) -> &mut Command {
        let open = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
        let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let inherited: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
        for number in inherited {
            // SAFETY: the number is only handed to one fcntl call, which fails for one that has
            // been closed meanwhile; a file is neither read, written nor closed.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            // Every file that this program opened itself is marked already.
            let _ = rustix::io::fcntl_setfd(file, rustix::io::FdFlags::CLOEXEC);
        }
        command
    }

    /// Called in the child: closing the terminal, or Ctrl-C in it, is not for this process.
    pub(crate) fn leave_terminal() {
        if let Err(error) = rustix::process::setsid() {
            // Only a process that leads a group already is refused.
            tracing::debug!(%error, "no session of its own");
        }
    }
}

#[cfg(windows)]
mod system {
    use std::os::windows::process::CommandExt as _;
    use std::process::Command;

    const DETACHED_PROCESS: u32 = 0x8;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;

    /// Has the child of `command` get no console, and so no signal of one.
    pub(crate) fn detached(command: &mut Command) -> &mut Command {
        command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP)
    }

    /// Nothing is left to do in the child.
    pub(crate) fn leave_terminal() {}
}

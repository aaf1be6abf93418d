//! Windows: a job object that ends its processes when its last handle is closed, which the kernel
//! does when this process dies.

use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command};

use stratavm::hypervisor::ProcessId;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW};

/// Ties a child's life to this value, and so to this process.
#[derive(Debug)]
pub(crate) struct Tie(OwnedHandle);

impl Tie {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: both arguments may be null: default security, no name.
        let raw = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        if raw.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a handle that was just made and that nobody else owns.
        let job = unsafe { OwnedHandle::from_raw_handle(raw.cast()) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let length = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
        // SAFETY: `limits` is the structure that this information class asks for, with its length.
        let set = unsafe {
            SetInformationJobObject(
                job.as_raw_handle().cast(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                length,
            )
        };
        if set == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self(job))
        }
    }

    /// Before the spawn.
    pub(crate) fn prepare(&self, command: &mut Command) {
        // Ctrl-C in a console is for us, and no console window opens for QEMU.
        command.creation_flags(CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW);
    }

    /// After the spawn.
    pub(crate) fn adopt(&self, child: &Child) -> io::Result<()> {
        // SAFETY: both handles are open for the length of the call.
        let done = unsafe {
            AssignProcessToJobObject(self.0.as_raw_handle().cast(), child.as_raw_handle().cast())
        };
        if done == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Not known here.
pub(crate) fn started(pid: u32) -> u64 {
    let _ = pid;
    0
}

/// Does nothing: without a start time no process is known well enough to be ended by its number.
pub(crate) fn end_process(process: ProcessId) -> io::Result<()> {
    let _ = process;
    Ok(())
}

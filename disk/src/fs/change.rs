//! What the file layer can change, as values: the one place that every change passes, and where tests step in.

use super::File;
#[cfg(not(feature = "fault-injection"))]
use std::borrow::Cow;
#[cfg(not(feature = "fault-injection"))]
use std::io;
use std::path::Path;

/// One change that is about to be made.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "fault-injection"),
    expect(dead_code, reason = "the values are for whoever steps in")
)]
pub(super) enum Change<'a> {
    /// A new file.
    CreateFile(&'a Path),
    CreateDir(&'a Path),
    /// A file is opened to be locked, and made if it is not there.
    OpenLock(&'a Path),
    Lock(&'a File),
    Write {
        file: &'a File,
        at: u64,
        bytes: &'a [u8],
    },
    /// Bytes that come from another file.
    Copy {
        file: &'a File,
        at: u64,
        len: u64,
    },
    /// Bytes become zeros; their blocks may go.
    Zero {
        file: &'a File,
        at: u64,
        len: u64,
    },
    SetLen {
        file: &'a File,
        len: u64,
    },
    Sync(&'a File),
    SyncDir(&'a Path),
    SyncVolume(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    RemoveFile(&'a Path),
    RemoveDir(&'a Path),
    SetAccess(&'a Path),
    /// A hard or symbolic link, which only probing makes.
    Link(&'a Path),
}

/// Makes a change.
#[cfg(not(feature = "fault-injection"))]
pub(super) fn make<T>(_: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// Flushes.
#[cfg(not(feature = "fault-injection"))]
pub(super) fn flush(_: Change<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    act()
}

/// Makes a change only to see whether the volume takes it.
#[cfg(not(feature = "fault-injection"))]
pub(super) fn try_out<T>(_: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// The path of the file that the volume takes `path` for.
#[cfg(not(feature = "fault-injection"))]
pub(super) fn found_as(path: &Path) -> Cow<'_, Path> {
    Cow::Borrowed(path)
}

/// Whether files may be made to share blocks with this one.
#[cfg(not(feature = "fault-injection"))]
pub(super) fn may_share_blocks(_: &File) -> bool {
    true
}

#[cfg(feature = "fault-injection")]
pub(super) use super::fault::{
    found_as, may_share_blocks, step_in as make, step_in_flush as flush, try_out,
};

#[cfg(feature = "fault-injection")]
impl Change<'_> {
    /// Where it is made.
    pub(super) fn path(&self) -> &Path {
        match self {
            Change::CreateFile(path)
            | Change::CreateDir(path)
            | Change::OpenLock(path)
            | Change::SyncDir(path)
            | Change::SyncVolume(path)
            | Change::RemoveFile(path)
            | Change::RemoveDir(path)
            | Change::SetAccess(path)
            | Change::Link(path)
            | Change::Rename { from: path, .. } => path,
            Change::Write { file, .. }
            | Change::Copy { file, .. }
            | Change::Zero { file, .. }
            | Change::SetLen { file, .. }
            | Change::Sync(file)
            | Change::Lock(file) => file.path(),
        }
    }

    /// A line for people, with the path below `root`.
    pub(super) fn describe(&self, root: &Path) -> String {
        let what = match self {
            Change::CreateFile(_) => "create",
            Change::CreateDir(_) => "mkdir",
            Change::OpenLock(_) => "open lock",
            Change::Lock(_) => "lock",
            Change::Write { .. } => "write",
            Change::Copy { .. } => "copy",
            Change::Zero { .. } => "zero",
            Change::SetLen { .. } => "set length",
            Change::Sync(_) | Change::SyncDir(_) | Change::SyncVolume(_) => "sync",
            Change::Rename { .. } => "rename",
            Change::RemoveFile(_) | Change::RemoveDir(_) => "remove",
            Change::SetAccess(_) => "set access",
            Change::Link(_) => "link",
        };
        let below = |path: &Path| {
            path.strip_prefix(root)
                .unwrap_or(path)
                .display()
                .to_string()
        };
        match self {
            Change::Rename { to, .. } => {
                format!("{what} {} to {}", below(self.path()), below(to))
            }
            _ => format!("{what} {}", below(self.path())),
        }
    }
}

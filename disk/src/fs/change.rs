//! What the file layer can change, as values: the one place that every change passes, and where tests step in.

use super::{Access, File};
use std::io;
use std::path::Path;

/// One change that is about to be made.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the values are for whoever steps in")]
pub(super) enum Change<'a> {
    /// A new file.
    CreateFile(&'a Path),
    CreateDir(&'a Path),
    /// An existing file is opened to be locked, or made for it.
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
    SetLen {
        file: &'a File,
        len: u64,
    },
    Sync(&'a File),
    SyncDir(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    RemoveFile(&'a Path),
    RemoveDir(&'a Path),
    SetAccess {
        path: &'a Path,
        access: Access,
    },
}

/// Makes a change.
pub(super) fn make<T>(_: Change<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

//! What the operating systems do differently about telling that a file was changed. Nothing here
//! knows what an image is.

use std::fs::File;
use std::io;

/// What changes when somebody writes to a file: length, times of content and of metadata, inode.
#[cfg(unix)]
pub(super) type Stamp = (u64, (i64, i64), (i64, i64), u64);

#[cfg(unix)]
pub(super) fn stamp(file: &File) -> io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let m = file.metadata()?;
    Ok((
        m.len(),
        (m.mtime(), m.mtime_nsec()),
        (m.ctime(), m.ctime_nsec()),
        m.ino(),
    ))
}

/// What changes when somebody writes to a file: length and time of the last write.
#[cfg(windows)]
pub(super) type Stamp = (u64, u64);

#[cfg(windows)]
pub(super) fn stamp(file: &File) -> io::Result<Stamp> {
    use std::os::windows::fs::MetadataExt as _;
    let m = file.metadata()?;
    Ok((m.len(), m.last_write_time()))
}

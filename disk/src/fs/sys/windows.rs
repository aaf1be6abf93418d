//! Windows.

use super::super::{Access, Identity, IsLink};
use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, GetFileInformationByHandle,
};

/// Fills `buf` from byte `offset` of a file.
///
/// # Errors
/// `UnexpectedEof` if the file ends before; what the operating system reports.
pub fn read_exact_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.seek_read(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub(in super::super) fn write_all_at(
    file: &File,
    mut buf: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !buf.is_empty() {
        match file.seek_write(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                buf = &buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Opens what is at `path` itself. The standard library takes just those reparse points for links that stand for
/// another name: symbolic links and junctions, not a file that the volume keeps deduplicated.
pub(in super::super) fn open_no_link(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(IsLink.into()),
        _ => options.open(path),
    }
}

/// The folder's access list holds for what is in it.
pub(in super::super) fn private(_: &mut OpenOptions) {}

/// Below a user's own folders the access list is inherited from there.
pub(in super::super) fn create_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

pub(in super::super) fn set_access(permissions: &mut Permissions, access: Access) {
    permissions.set_readonly(access == Access::ReadOnly);
}

/// There are no permission bits.
pub(in super::super) fn is_mode(_: &Permissions, _: u32) -> bool {
    false
}

/// Programs that have the file open for writing keep others out by themselves.
pub(in super::super) fn try_alone(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    })
}

pub(in super::super) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Which file this is.
///
/// # Errors
/// What the operating system reports.
pub fn identity(file: &File) -> io::Result<Identity> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open for the whole call, and `found` outlives it.
    let ok = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut found) };
    if ok == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Identity {
        volume: u64::from(found.dwVolumeSerialNumber),
        file: u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow),
    })
}

/// Not known without the file itself.
pub(in super::super) fn allocated(_: &Metadata) -> Option<u64> {
    None
}

/// Blocks are never shared.
pub(in super::super) fn clone_file(_: &File, _: &File) -> io::Result<bool> {
    Ok(false)
}

pub(in super::super) fn copy_range(
    source: &File,
    from: u64,
    target: &File,
    to: u64,
    len: u64,
) -> io::Result<()> {
    super::copy_by_hand(source, from, target, to, len)
}

pub(in super::super) fn sync_volume(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A folder opens only with backup semantics, and flushes only with write access.
pub(in super::super) fn fsync_dir(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)?
        .sync_all()
}

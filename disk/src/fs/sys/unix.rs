//! Linux, macOS and other Unix systems.

use super::super::{Access, Identity, IsLink};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

/// Fills `buf` from byte `offset` of a file.
///
/// # Errors
/// `UnexpectedEof` if the file ends before; what the operating system reports.
pub fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buf, offset)
}

pub(in super::super) fn write_all_at(file: &File, buf: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(buf, offset)
}

/// Opens what is at `path` itself: no link is followed, no pipe waited for.
pub(in super::super) fn open_no_link(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    // The bits are those of `c_int`, whatever type they come in.
    options
        .custom_flags(flags as i32)
        .open(path)
        .map_err(|error| {
            match Errno::from_io_error(&error) {
                // FreeBSD says EMLINK.
                Some(Errno::LOOP | Errno::MLINK) => IsLink.into(),
                _ => error,
            }
        })
}

/// A record lock on the whole file: it collides with those that QEMU takes on single bytes.
pub(in super::super) fn try_alone(file: &File) -> io::Result<()> {
    let taken = rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive);
    taken.map_err(|error| match error {
        Errno::AGAIN | Errno::ACCESS => io::ErrorKind::WouldBlock.into(),
        error => error.into(),
    })
}

/// A file that is created is its user's alone.
pub(in super::super) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

pub(in super::super) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

pub(in super::super) fn set_access(permissions: &mut Permissions, access: Access) {
    permissions.set_mode(match access {
        Access::Private => 0o600,
        Access::ReadOnly => 0o444,
    });
}

/// Whether these are the permission bits.
pub(in super::super) fn is_mode(permissions: &Permissions, bits: u32) -> bool {
    permissions.mode() & 0o777 == bits
}

pub(in super::super) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Which file this is.
///
/// # Errors
/// What the operating system reports.
pub fn identity(file: &File) -> io::Result<Identity> {
    Ok(identity_in(&file.metadata()?))
}

/// Which file it is that this was found out about.
pub(in super::super) fn identity_in(found: &Metadata) -> Identity {
    Identity {
        volume: found.dev(),
        file: found.ino(),
    }
}

/// Every file may have holes where the volume has them.
pub(in super::super) fn make_sparse(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Bytes that a file takes on its volume, where the system says so.
pub(in super::super) fn allocated(found: &Metadata) -> Option<u64> {
    Some(found.blocks().saturating_mul(512))
}

/// Bytes that a file takes on its volume, where the system says so.
pub(in super::super) fn allocated_of(file: &File) -> Option<u64> {
    allocated(&file.metadata().ok()?)
}

/// Punches a hole, or writes zeros where the volume has no holes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in super::super) fn zero(file: &File, at: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, at, len) {
        Ok(()) => Ok(()),
        Err(error) if is_refusal(error) => super::zero_by_hand(file, at, len),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_vendor = "apple")]
pub(in super::super) use super::apple::zero;

/// Writes zeros: punching holes has no call that works alike on the other systems.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(in super::super) fn zero(file: &File, at: u64, len: u64) -> io::Result<()> {
    super::zero_by_hand(file, at, len)
}

/// Makes `target` share all blocks of `source`. False where the volume cannot.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in super::super) fn clone_file(source: &File, target: &File) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(target, source) {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// macOS clones by name into a file that is not there yet, which does not fit the way files are made here: content is
/// copied.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in super::super) fn clone_file(_: &File, _: &File) -> io::Result<bool> {
    Ok(false)
}

/// Copies `len` bytes, inside the kernel where it can; volumes with reflinks share the blocks.
pub(in super::super) fn copy_range(
    source: &File,
    from: u64,
    target: &File,
    to: u64,
    len: u64,
) -> io::Result<()> {
    let done = copy_in_kernel(source, from, target, to, len)?;
    super::copy_by_hand(source, from + done, target, to + done, len - done)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn copy_in_kernel(
    source: &File,
    mut from: u64,
    target: &File,
    mut to: u64,
    len: u64,
) -> io::Result<u64> {
    let mut done = 0;
    while done < len {
        let left = usize::try_from(len - done).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), left) {
            // The source ended, or a file system that lies: reading tells.
            Ok(0) => break,
            Ok(copied) => done += copied as u64,
            Err(Errno::INTR) => {}
            Err(error) if is_refusal(error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn copy_in_kernel(_: &File, _: u64, _: &File, _: u64, _: u64) -> io::Result<u64> {
    Ok(0)
}

/// Whether the system says that it cannot do this here, so that another way is to be taken.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_refusal(error: Errno) -> bool {
    matches!(
        error,
        Errno::XDEV
            | Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::PERM
            | Errno::TXTBSY
            | Errno::ISDIR
    )
}

#[cfg(target_os = "linux")]
pub(in super::super) fn sync_volume(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

#[cfg(not(target_os = "linux"))]
pub(in super::super) fn sync_volume(_: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(in super::super) fn fsync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

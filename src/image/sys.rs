//! What the operating systems do differently when disks are read and copied: positioned I/O, holes,
//! clones. Nothing here knows what an image is.

pub(super) use imp::{Stamp, clone_file, copy_range, next_data, next_hole, read_exact_at, stamp};

use std::fs::File;
use std::io;

/// Bytes that pass through memory at a time where the system cannot copy by itself.
const BUFFER: usize = 256 << 10;

/// Copies `len` bytes from `source` at `from` to `target` at `to` through memory.
fn copy_by_hand(
    source: &File,
    from: u64,
    target: &File,
    to: u64,
    len: u64,
    write_all_at: fn(&File, &[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut done = 0;
    while done < len {
        let take = usize::try_from(len - done).map_or(BUFFER, |left| left.min(BUFFER));
        let part = &mut buffer[..take];
        read_exact_at(source, part, from + done)?;
        write_all_at(target, part, to + done)?;
        done += take as u64;
    }
    Ok(())
}

/// Linux, macOS and other Unix systems.
#[cfg(unix)]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use rustix::fs::SeekFrom;
    use rustix::io::Errno;

    /// What changes when somebody writes to a file: length, times of content and of metadata,
    /// inode.
    pub(in super::super) type Stamp = (u64, (i64, i64), (i64, i64), u64);

    pub(in super::super) fn stamp(file: &File) -> io::Result<Stamp> {
        let m = file.metadata()?;
        Ok((
            m.len(),
            (m.mtime(), m.mtime_nsec()),
            (m.ctime(), m.ctime_nsec()),
            m.ino(),
        ))
    }

    pub(in super::super) fn read_exact_at(
        file: &File,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        file.read_exact_at(buf, offset)
    }

    /// The first byte at or behind `offset` that is in no hole; `None` if there is none.
    pub(in super::super) fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // A file system without the call: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    /// The first byte at or behind `offset` that is in a hole; the end of the file if there is none.
    pub(in super::super) fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
        match rustix::fs::seek(file, SeekFrom::Hole(offset)) {
            Ok(hole) => Ok(hole),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(file.metadata()?.len()),
            Err(error) => Err(error.into()),
        }
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

    /// macOS clones by name into a file that is not there yet, which does not fit the way files are
    /// staged here: content is copied.
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
        let (from, to) = (from + done, to + done);
        super::copy_by_hand(source, from, target, to, len - done, |file, bytes, at| {
            file.write_all_at(bytes, at)
        })
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
            match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), left)
            {
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
}

/// Windows.
#[cfg(windows)]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::{FileExt, MetadataExt};

    /// What changes when somebody writes to a file: length and time of the last write.
    pub(in super::super) type Stamp = (u64, u64);

    pub(in super::super) fn stamp(file: &File) -> io::Result<Stamp> {
        let m = file.metadata()?;
        Ok((m.len(), m.last_write_time()))
    }

    pub(in super::super) fn read_exact_at(
        file: &File,
        mut buf: &mut [u8],
        mut offset: u64,
    ) -> io::Result<()> {
        while !buf.is_empty() {
            match file.seek_read(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Holes are not asked for: everything may be data.
    pub(in super::super) fn next_data(_: &File, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }

    pub(in super::super) fn next_hole(file: &File, _: u64) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

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
        super::copy_by_hand(source, from, target, to, len, write_all_at)
    }
}

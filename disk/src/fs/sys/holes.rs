//! Asking a Unix system where a file has holes; where it cannot be asked, everything may be data.

pub(in super::super) use imp::{next_data, next_hole};

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
))]
mod imp {
    use rustix::fs::SeekFrom;
    use rustix::io::Errno;
    use std::fs::File;
    use std::io;

    /// The first byte at or behind `offset` that is in no hole; `None` if there is none.
    pub(in super::super::super) fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // A file system without the call: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    /// The first byte at or behind `offset` that is in a hole; the end of the file if there is none.
    pub(in super::super::super) fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
        match rustix::fs::seek(file, SeekFrom::Hole(offset)) {
            Ok(hole) => Ok(hole),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(file.metadata()?.len()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
)))]
mod imp {
    use std::fs::File;
    use std::io;

    /// Everything may be data.
    pub(in super::super::super) fn next_data(_: &File, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }

    /// The end of the file.
    pub(in super::super::super) fn next_hole(file: &File, _: u64) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }
}

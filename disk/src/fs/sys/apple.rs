//! Punching holes on macOS, which no safe crate has a call for.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Punches a hole where whole blocks of the volume lie in the range, and writes zeros to the rest; to all of it where
/// the volume takes no blocks back.
pub(in super::super) fn zero(file: &File, at: u64, len: u64) -> io::Result<()> {
    let block = rustix::fs::fstatvfs(file)?.f_frsize.max(1);
    let end = at.saturating_add(len);
    let first = at.next_multiple_of(block);
    let last = end / block * block;
    if first >= last || !punch(file, first, last - first) {
        return super::zero_by_hand(file, at, len);
    }
    super::zero_by_hand(file, at, first - at)?;
    super::zero_by_hand(file, last, end - last)
}

/// False, and nothing done, where the volume cannot. The range is whole blocks.
fn punch(file: &File, at: u64, len: u64) -> bool {
    let (Ok(at), Ok(len)) = (at.try_into(), len.try_into()) else {
        return false;
    };
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: at,
        fp_length: len,
    };
    // SAFETY: the descriptor is open for the whole call, and this command reads one `fpunchhole_t`, which outlives it.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) == 0 }
}

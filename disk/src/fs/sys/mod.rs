//! What the operating systems do differently about files: opening, positioned I/O, holes, clones, folders, identities.
//! No change is counted here, and no format is known.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(unix)]
mod holes;
#[cfg(windows)]
#[path = "windows_holes.rs"]
mod holes;
#[cfg(unix)]
#[path = "unix.rs"]
mod imp;
#[cfg(windows)]
#[path = "windows.rs"]
mod imp;

#[cfg(windows)]
pub(super) use holes::{allocated_of, make_sparse, zero};
pub(super) use holes::{next_data, next_hole};
#[cfg(all(unix, feature = "fault-injection"))]
pub(super) use imp::identity_in;
pub(super) use imp::{
    allocated, clone_file, copy_range, create_dir, fsync_dir, is_mode, open_no_link, private,
    set_access, symlink, sync_volume, try_alone, write_all_at,
};
#[cfg(unix)]
pub(super) use imp::{allocated_of, make_sparse, zero};
pub use imp::{identity, read_exact_at};

use std::fs::File;
use std::io;

/// Bytes that pass through memory at a time where the system cannot copy by itself.
const BUFFER: usize = 256 << 10;

/// Copies `len` bytes from `source` at `from` to `target` at `to` through memory.
fn copy_by_hand(source: &File, from: u64, target: &File, to: u64, len: u64) -> io::Result<()> {
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

/// Writes zeros, where the volume takes no blocks back.
fn zero_by_hand(file: &File, mut at: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; BUFFER];
    let end = at.saturating_add(len);
    while at < end {
        let take = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
        write_all_at(file, &zeros[..take], at)?;
        at += take as u64;
    }
    Ok(())
}

//! The disks that are worked on: sparse raw files with incompressible data at even distances.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::exec::Error;

/// One GiB in bytes.
pub(crate) const GIB: u64 = 1 << 30;
/// Bytes of data in the golden image of the peers' comparisons.
pub(crate) const GOLDEN_DATA: u64 = 600 << 20;
/// Size of that image in bytes.
pub(crate) const GOLDEN_SIZE: u64 = 4 * GIB;
/// Bytes of one run of data: the files of an installed system lie together in the block groups of its file system.
/// Runs begin where they fall, not where chunks or grains do.
const RUN: u64 = 60 << 20;
/// Bytes that are written at a time.
const PIECE: usize = 4 << 20;

/// Makes a raw disk of `size` bytes with `data` bytes, a multiple of 4 MiB, in runs of 60 MiB that are evenly spread.
/// Different seeds give different content.
pub(crate) fn disk(path: &Path, size: u64, data: u64, seed: u64) -> Result<(), Error> {
    let failed = |error| Error::new(format!("{}: {error}", path.display()));
    let mut file = File::create(path).map_err(failed)?;
    file.set_len(size).map_err(failed)?;
    let runs = data.div_ceil(RUN).max(1);
    let mut state = seed | 1;
    let mut bytes = vec![0; PIECE];
    for run in 0..runs {
        let at = size / runs * run / 4096 * 4096;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        for _ in (run * RUN..data.min((run + 1) * RUN)).step_by(PIECE) {
            for word in bytes.chunks_exact_mut(8) {
                // xorshift64 (Marsaglia, 2003)
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&bytes).map_err(failed)?;
        }
    }
    file.sync_all().map_err(failed)
}

/// Bytes that all files below `folder` take on the volume.
pub(crate) fn allocated(folder: &Path) -> Result<u64, Error> {
    let failed = |error| Error::new(format!("{}: {error}", folder.display()));
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        sum += if metadata.is_dir() {
            allocated(&entry.path())?
        } else {
            blocks(&metadata) * 512
        };
    }
    Ok(sum)
}

#[cfg(unix)]
fn blocks(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata)
}

#[cfg(not(unix))]
fn blocks(metadata: &fs::Metadata) -> u64 {
    metadata.len() / 512
}

//! The format extension of a `.hds` image (dirty bitmaps of backup programs): whether a writer that does not keep it up
//! to date may drop it. What the features hold is not read.
//!
//! Source: QEMU's `docs/interop/parallels.rst`, "Format Extension".

use crate::bytes::{le_u32, le_u64};
use crate::file::ImageFile;
use crate::vmdk::SECTOR;
use crate::{Error, Result};

const MAGIC: u64 = 0xAB23_4CEF_23DC_EA87;
/// Magic and checksum; the features follow.
const HEAD: u64 = 24;
/// Bytes of a feature's own header.
const FEATURE: u64 = 24;
/// The file is not to be changed by a program that does not know the feature.
const NECESSARY: u64 = 1;
/// Such a program is to leave the feature as it is.
const TRANSIT: u64 = 2;
/// One is in use, the bitmap; a file with many more is not worth looking through.
const MOST_FEATURES: usize = 256;

/// Looks through the features of the extension at `sector`, a cluster.
///
/// # Errors
/// `Unsupported` naming a feature that is to be kept; `Malformed` for what is no extension, so that nothing is known of
/// its features; `Limit` for too many of them.
pub(super) fn may_be_dropped(file: &ImageFile, sector: u64, cluster_sectors: u32) -> Result<()> {
    let bytes = |sectors: u64| sectors.checked_mul(SECTOR);
    let end = bytes(sector).zip(bytes(cluster_sectors.into()));
    let place = end.and_then(|(start, len)| Some((start, start.checked_add(len)?)));
    let place = place.filter(|(start, _)| *start < file.len());
    let (start, end) =
        place.ok_or_else(|| Error::malformed(format!("no format extension at sector {sector}")))?;
    let mut head = [0; HEAD as usize];
    file.read_at(&mut head, start)?;
    if le_u64(&head, 0) != MAGIC {
        return Err(Error::malformed("no format extension").at_offset(start));
    }
    let mut at = start + HEAD;
    for _ in 0..MOST_FEATURES {
        if at + FEATURE > end {
            return Ok(());
        }
        let mut feature = [0; FEATURE as usize];
        file.read_at(&mut feature, at)?;
        let (magic, flags) = (le_u64(&feature, 0), le_u64(&feature, 8));
        if magic == 0 {
            return Ok(());
        }
        if flags & (NECESSARY | TRANSIT) != 0 {
            let what = format!("writing to an image with the feature {magic:#x}, which must stay");
            return Err(Error::unsupported(what).at_offset(at));
        }
        at += FEATURE + u64::from(le_u32(&feature, 16)).next_multiple_of(8);
    }
    Err(Error::limit("a format extension of so many features").at_offset(at))
}

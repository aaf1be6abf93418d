//! Copying files of a machine: proportional to what they hold, bounded, from regular files only.

use std::path::Path;

use stratavm_disk::fs::File;
use stratavm_disk::{Ctx, Holes, Phase, Volume};

use crate::error::{Error, ErrorKind, Result};

/// Bytes that are copied between two looks at the caller's wishes.
const STRIDE: u64 = 16 << 20;

/// Copies a file into a new one; holes stay holes, blocks are shared where the volume can. The new
/// one is flushed.
///
/// # Errors
/// [`ErrorKind::Malformed`] for a file of more than `most` bytes, or no regular one;
/// [`ErrorKind::Cancelled`]; what the file system says. Then the new file may be there in part.
pub(super) fn carry(from: &Path, to: &Path, most: u64, volume: &Volume, ctx: &Ctx) -> Result<()> {
    let unread = |error| Error::io("the file could not be read", from, error);
    let unmade = |error| Error::io("the file could not be copied", to, error);
    let source = File::open(from).map_err(unread)?;
    let len = source.size().map_err(unread)?;
    if len > most {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!("the file is {len} bytes long; full it would have at most {most}"),
        )
        .at(from));
    }
    let target = File::create_new(to).map_err(unmade)?;
    if volume.holes == Holes::Sparse {
        target.make_sparse().map_err(unmade)?;
    }
    if !target.clone_from(source.as_std()).map_err(unmade)? {
        target.set_len(len).map_err(unmade)?;
        let mut at = 0;
        while at < len {
            let Some(data) = stratavm_disk::fs::next_data(source.as_std(), at).map_err(unread)?
            else {
                break;
            };
            let hole = stratavm_disk::fs::next_hole(source.as_std(), data).map_err(unread)?;
            // A file that grows meanwhile is not followed.
            let end = hole.clamp(data, len);
            at = data;
            while at < end {
                ctx.check()?;
                let part = (end - at).min(STRIDE);
                target
                    .copy_range(source.as_std(), at, at, part)
                    .map_err(unmade)?;
                at += part;
                ctx.report(Phase::Copy, at, Some(len));
            }
            if hole <= data {
                break;
            }
            at = hole;
        }
    }
    ctx.report(Phase::Copy, len, Some(len));
    target.sync().map_err(unmade)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[cfg(unix)]
    #[test]
    fn data_is_carried_and_holes_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = std::fs::File::create(&from).unwrap();
        file.set_len(1 << 34).unwrap();
        let places = [0, 5 << 20, (1 << 34) - 3];
        for at in places {
            std::os::unix::fs::FileExt::write_all_at(&file, b"abc", at).unwrap();
        }
        let volume = Volume::default();
        carry(&from, &to, 1 << 34, &volume, &Ctx::none()).unwrap();
        let copy = File::open(&to).unwrap();
        for at in places {
            let mut buf = [0; 3];
            stratavm_disk::fs::read_exact_at(copy.as_std(), &mut buf, at).unwrap();
            assert_eq!(&buf, b"abc");
        }
        let taken = crate::store::allocated(&copy.as_std().metadata().unwrap());
        assert!(taken < 1 << 20, "{taken}");
        std::fs::remove_file(&to).unwrap();
        let error = carry(&from, &to, 1 << 20, &volume, &Ctx::none()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(!to.exists());
    }
}

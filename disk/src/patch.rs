//! Bytes to put into a new image at given places of the guest disk: a partition table, a manifest.

use crate::{Error, Result};
use std::ops::Range;

/// Bytes at a place of the guest disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where, in bytes from the start of the disk (for `.hds`: of its storage's range).
    pub offset: u64,
    /// What stands there.
    pub bytes: Vec<u8>,
}

impl Patch {
    /// First byte behind the patch. Only meaningful after [`check`].
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }
}

/// Refuses patches that are out of order, overlap, or reach beyond `size` bytes.
pub(crate) fn check(patches: &[Patch], size: u64) -> Result<()> {
    let mut free_from = 0;
    for p in patches {
        if p.offset < free_from {
            return Err(Error::invalid(format!(
                "patch at {} overlaps the one before it or is out of order",
                p.offset
            )));
        }
        let end = p.offset.checked_add(p.bytes.len() as u64);
        if end.is_none_or(|end| end > size) {
            return Err(Error::invalid(format!(
                "patch of {} bytes at {} reaches beyond the disk of {size} bytes",
                p.bytes.len(),
                p.offset
            )));
        }
        free_from = p.end();
    }
    Ok(())
}

/// The parts of checked patches in a range of the disk, as seen from its start.
pub(crate) fn within(patches: &[Patch], range: &Range<u64>) -> Vec<Patch> {
    let part = |p: &Patch| {
        let start = p.offset.max(range.start);
        let end = p.end().min(range.end);
        // Both lie in the patch, whose bytes are in memory.
        let bytes = p
            .bytes
            .get((start.checked_sub(p.offset)?) as usize..(end.checked_sub(p.offset)?) as usize)?;
        (!bytes.is_empty()).then(|| Patch {
            offset: start - range.start,
            bytes: bytes.to_vec(),
        })
    };
    patches.iter().filter_map(part).collect()
}

/// One patch's part in one block: block number, offset in that block, bytes.
pub(crate) struct BlockPart<'a> {
    pub(crate) block: u64,
    pub(crate) within: u64,
    pub(crate) bytes: &'a [u8],
}

/// Cuts checked patches at the boundaries of blocks of `block` bytes, in disk order.
pub(crate) fn by_block(patches: &[Patch], block: u64) -> impl Iterator<Item = BlockPart<'_>> {
    patches.iter().flat_map(move |p| {
        let mut rest = p.bytes.as_slice();
        let mut at = p.offset;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let within = at % block;
            let room = block - within;
            let take = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (bytes, tail) = rest.split_at(take);
            let part = BlockPart {
                block: at / block,
                within,
                bytes,
            };
            rest = tail;
            at += take as u64;
            Some(part)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind;

    fn patch(offset: u64, len: usize) -> Patch {
        Patch {
            offset,
            bytes: vec![1; len],
        }
    }

    #[test]
    fn order_overlap_and_end_are_checked() {
        assert!(check(&[patch(0, 512), patch(512, 10)], 522).is_ok());
        for bad in [
            vec![patch(512, 1), patch(0, 1)],
            vec![patch(0, 512), patch(511, 1)],
            vec![patch(0, 523)],
            vec![patch(u64::MAX, 2)],
        ] {
            assert_eq!(check(&bad, 522).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_patch_over_a_boundary_is_cut_there() {
        let p = [Patch {
            offset: 6,
            bytes: vec![1, 2, 3, 4],
        }];
        let parts: Vec<_> = by_block(&p, 8)
            .map(|b| (b.block, b.within, b.bytes.to_vec()))
            .collect();
        assert_eq!(parts, [(0, 6, vec![1, 2]), (1, 0, vec![3, 4])]);
    }
}

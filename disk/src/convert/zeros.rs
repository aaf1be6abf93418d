//! Finding the blocks of a buffer that hold anything but zeros.

use std::ops::Range;

/// Bytes of a block: what file systems give room in.
pub(super) const BLOCK: usize = 4096;

/// The parts of `buf` in order, each of whole blocks of 4096 bytes (the last as long as it is): those of zeros, and
/// those with data.
pub fn zero_runs(buf: &[u8]) -> impl Iterator<Item = (Content, Range<usize>)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = buf.get(at..).filter(|rest| !rest.is_empty())?;
        let mut blocks = rest.chunks(BLOCK).map(content);
        let first = blocks.next()?;
        let same = 1 + blocks.take_while(|c| *c == first).count();
        let start = at;
        at = (start + same * BLOCK).min(buf.len());
        Some((first, start..at))
    })
}

/// What a range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros alone.
    Zeros,
    /// Something else in each block.
    Data,
}

fn content(block: &[u8]) -> Content {
    // Folded in pieces, so that the compiler takes many bytes at once and data is told after the first piece.
    let zero = block
        .chunks(256)
        .all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0);
    match zero {
        true => Content::Zeros,
        false => Content::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_zeros_alternate_by_blocks() {
        let mut buf = vec![0; 4 * BLOCK + 10];
        buf[BLOCK] = 1;
        buf[3 * BLOCK - 1] = 1;
        buf[4 * BLOCK + 9] = 1;
        let found: Vec<_> = zero_runs(&buf).collect();
        assert_eq!(
            found,
            [
                (Content::Zeros, 0..BLOCK),
                (Content::Data, BLOCK..3 * BLOCK),
                (Content::Zeros, 3 * BLOCK..4 * BLOCK),
                (Content::Data, 4 * BLOCK..4 * BLOCK + 10),
            ]
        );
        assert_eq!(zero_runs(&[]).count(), 0);
    }
}

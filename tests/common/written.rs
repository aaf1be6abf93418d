//! Histories of writing to a chain, drawn from a seed, and what the disk may read as when one was cut short.
#![allow(dead_code, reason = "not every test uses every part")]

use stratavm_disk::{Chain, Durability, Result};

/// What is done to a head, with a flush where it says so.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Write { at: u64, len: u64, with: u8 },
    Zero { at: u64, len: u64 },
    Flush,
}

/// A generator whose whole state is its seed: SplitMix64.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn steps(&mut self, size: u64) -> Vec<Step> {
        let step = |draw: &mut Draw| {
            let at = draw.next(size);
            let most = if draw.next(8) == 0 { size } else { 150_000 };
            let len = (1 + draw.next(most)).min(size - at);
            match draw.next(10) {
                0..=4 => Step::Write {
                    at,
                    len,
                    with: 1 + draw.next(255) as u8,
                },
                5 | 6 => Step::Zero { at, len },
                _ => Step::Flush,
            }
        };
        (0..14).map(|_| step(self)).collect()
    }
}

pub(crate) fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; chain.size() as usize];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// What the disk may read as: what was flushed, and all that was written over it since.
pub(crate) struct Model {
    pub(crate) flushed: Vec<u8>,
    pub(crate) since: Vec<(u64, u64, u8)>,
}

impl Model {
    fn settle(&mut self) {
        for (at, len, with) in self.since.drain(..) {
            self.flushed[at as usize..(at + len) as usize].fill(with);
        }
    }

    pub(crate) fn check(&self, found: &[u8], what: &str) {
        let blocks = found.chunks(4096).zip(self.flushed.chunks(4096));
        for (n, (found, flushed)) in blocks.enumerate() {
            if found != flushed {
                self.check_block(n * 4096, found, flushed, what);
            }
        }
    }

    fn check_block(&self, start: usize, found: &[u8], flushed: &[u8], what: &str) {
        for (n, (found, flushed)) in found.iter().zip(flushed).enumerate() {
            let at = (start + n) as u64;
            let written = |(from, len, with): &(u64, u64, u8)| {
                (*from..from + len).contains(&at) && with == found
            };
            assert!(
                found == flushed || self.since.iter().any(written),
                "{what}: byte {at} is {found:#x}, was flushed as {flushed:#x}",
            );
        }
    }
}

/// Does the steps until one fails.
pub(crate) fn run(chain: Chain, steps: &[Step], model: &mut Model) -> Result<()> {
    for step in steps {
        match *step {
            Step::Write { at, len, with } => {
                model.since.push((at, len, with));
                chain.write_at(&vec![with; len as usize], at)?;
            }
            Step::Zero { at, len } => {
                model.since.push((at, len, 0));
                chain.zero(at, len)?;
            }
            Step::Flush => {
                chain.flush(Durability::Synced)?;
                model.settle();
            }
        }
    }
    chain.close(Durability::Synced)?;
    model.settle();
    Ok(())
}

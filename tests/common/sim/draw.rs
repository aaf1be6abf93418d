//! Operations drawn from a seed, for processes that know nothing of what they will meet.

use super::model::{BLOCKS, IMAGES, Kept, Op, Write};

/// Layers that operations are about; the last three come and go.
pub(crate) const LAYERS: [&str; 6] = ["os", "cache", "home", "apps", "tools", "home-2"];

/// Numbers from a seed: splitmix64 (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is small.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn layer(&mut self) -> String {
        // Those that are always there more often than those that come and go.
        let n = match self.below(4) {
            0 => 3 + self.below(3),
            _ => self.below(3),
        };
        LAYERS[n as usize].to_owned()
    }

    fn kept(&mut self) -> Kept {
        match self.below(4) {
            0 => Kept::Discard,
            _ => Kept::Preserve,
        }
    }

    fn image(&mut self) -> usize {
        self.below(IMAGES as u64) as usize
    }

    fn boot(&mut self) -> Vec<Write> {
        (0..self.below(6))
            .map(|_| Write {
                layer: self.layer(),
                block: self.below(BLOCKS as u64),
                pattern: self.number() >> 8,
            })
            .collect()
    }

    /// Any operation.
    pub(crate) fn op(&mut self) -> Op {
        match self.below(24) {
            0..=5 => Op::Run {
                boots: (0..=self.below(2)).map(|_| self.boot()).collect(),
            },
            6..=9 => Op::Snapshot {
                layer: self.layer(),
            },
            10..=13 => Op::Rollback {
                layer: self.layer(),
                to: Some(1 + self.below(8)).filter(|n| *n != 8),
                kept: self.kept(),
            },
            14..=16 => Op::Update {
                layer: self.layer(),
                image: self.image(),
                kept: self.kept(),
            },
            17 => Op::Add {
                layer: self.layer(),
                image: self.image(),
            },
            18 => Op::Remove {
                layer: self.layer(),
                kept: self.kept(),
            },
            19..=20 => Op::Rejuvenate,
            21..=22 => Op::Create,
            _ => Op::Delete,
        }
    }
}

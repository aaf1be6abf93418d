//! Operations drawn from a seed, for processes that know nothing of what they will meet.

use super::model::{BLOCKS, IMAGES, Kept, Op, Write};
use super::run::{Boot, End, Session};

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
        match self.below(4) {
            0 => self.guest_layer(),
            _ => LAYERS[self.below(3) as usize].to_owned(),
        }
    }

    fn guest_layer(&mut self) -> String {
        LAYERS[3 + self.below(3) as usize].to_owned()
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

    fn point(&mut self) -> String {
        format!("point-{}", self.below(2))
    }

    fn revision(&mut self) -> u64 {
        1 + self.below(4)
    }

    fn boot(&mut self) -> Boot {
        let asked = match self.below(3) {
            0 => 1 + self.below(3),
            _ => 0,
        };
        Boot {
            asked: (0..asked).map(|_| self.while_it_runs()).collect(),
            writes: (0..self.below(6)).map(|_| self.write()).collect(),
        }
    }

    fn write(&mut self) -> Write {
        Write {
            layer: self.layer(),
            block: self.below(BLOCKS as u64),
            pattern: self.number() >> 8,
        }
    }

    fn session(&mut self) -> Session {
        Session {
            boots: (0..=self.below(2)).map(|_| self.boot()).collect(),
            revertible: match self.below(4) {
                0 => vec![self.layer()],
                _ => Vec::new(),
            },
            end: match self.below(6) {
                0 => End::Suspend,
                _ => End::PowerOff,
            },
        }
    }

    /// Any operation.
    pub(crate) fn op(&mut self) -> Op {
        match self.below(20) {
            0..=4 => Op::Run(self.session()),
            5 => Op::Create,
            6 => match self.below(4) {
                0 => Op::Delete,
                1 => Op::Prune,
                _ => Op::DiscardState,
            },
            _ => self.while_it_runs(),
        }
    }

    /// What may also be asked while the machine runs: it is staged, noted, or refused.
    fn while_it_runs(&mut self) -> Op {
        let layer = self.layer();
        match self.below(40) {
            0..=3 => Op::Snapshot { layer },
            4..=8 => Op::Rollback {
                layer,
                to: Some(1 + self.below(6)).filter(|n| *n != 6),
                kept: self.kept(),
            },
            9..=12 => Op::Update {
                layer,
                image: self.image(),
                kept: self.kept(),
            },
            13..=14 => Op::Add {
                layer: self.guest_layer(),
                image: self.image(),
            },
            15..=16 => Op::Remove {
                layer,
                kept: self.kept(),
            },
            17..=19 => Op::TakeBack { layer },
            20..=21 => Op::Rejuvenate,
            22..=26 => Op::Undo,
            27..=28 => Op::Accept {
                layer: "os".to_owned(),
            },
            29..=30 => Op::Revert { layer },
            31 => Op::Point {
                name: self.point(),
                layers: match self.below(2) {
                    0 => Vec::new(),
                    _ => vec![layer, self.layer()],
                },
            },
            32..=34 => Op::ToPoint {
                point: self.point(),
                kept: self.kept(),
            },
            35 => Op::DropPoint {
                point: self.point(),
            },
            36 => Op::Label {
                layer,
                n: self.revision(),
                label: Some(format!("label {}", self.below(100))).filter(|_| self.below(3) > 0),
            },
            37 => Op::Pin {
                layer,
                n: self.revision(),
                pinned: self.below(3) > 0,
            },
            _ => Op::Retain {
                layer: Some(layer).filter(|_| self.below(2) > 0),
                last: Some(1 + self.below(3)).filter(|_| self.below(3) > 0),
            },
        }
    }
}

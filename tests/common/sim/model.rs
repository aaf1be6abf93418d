//! What operations do, in memory: a machine's layers, and what is done now, waits for the next start, or is refused.
//! Written from the documents, not from the library's code.
//!
//! `layer` has the revisions and their content, `change` what each operation does to them, `run` what takes more than
//! one moment. Left out: products that go on without their supervisor, rules of retention in days, several decisions
//! in one request, and layers that prune drops on request.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use stratavm::ErrorKind;

use super::change::{Last, Point};
use super::layer::{Head, Layer};
use super::run::{Progress, Recorded, Session};

/// Blocks of every disk: 1 MiB in grains of 64 KiB.
pub(crate) const BLOCKS: usize = 16;

/// What a disk holds: the pattern of each block.
pub(crate) type Content = [u64; BLOCKS];

/// In the place of a pattern: parts of two, since the guest was killed while it wrote one over the other.
pub(crate) const MIXED: u64 = u64::MAX;

/// Images that layers can be made of; image 0 is the blank one.
pub(crate) const IMAGES: usize = 4;

/// What image `n` holds.
pub(crate) fn image(n: usize) -> Content {
    std::array::from_fn(|block| match n {
        0 => 0,
        n => (n as u64) << 56 | block as u64,
    })
}

/// A guest's write of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) layer: String,
    pub(crate) block: u64,
    pub(crate) pattern: u64,
}

/// One operation on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    Create,
    Delete,
    Snapshot {
        layer: String,
    },
    Rollback {
        layer: String,
        to: Option<u64>,
        kept: Kept,
    },
    Update {
        layer: String,
        image: usize,
        kept: Kept,
    },
    Add {
        layer: String,
        image: usize,
    },
    TakeBack {
        layer: String,
    },
    Remove {
        layer: String,
        kept: Kept,
    },
    Rejuvenate,
    /// Keep what the session wrote to a layer that discards.
    Accept {
        layer: String,
    },
    /// Drop what the session wrote to a layer that keeps.
    Revert {
        layer: String,
    },
    Undo,
    /// Make a point of these layers; none: of all.
    Point {
        name: String,
        layers: Vec<String>,
    },
    ToPoint {
        point: String,
        kept: Kept,
    },
    DropPoint {
        point: String,
    },
    Label {
        layer: String,
        n: u64,
        label: Option<String>,
    },
    Pin {
        layer: String,
        n: u64,
        pinned: bool,
    },
    /// Keep the last revisions of a layer, or of all layers.
    Retain {
        layer: Option<String>,
        last: Option<u64>,
    },
    Run(Session),
    /// Drop the saved state.
    DiscardState,
    /// Free what nobody needs, in the whole store.
    Prune,
}

impl Op {
    /// A run whose guest reboots after each list of writes but the last, and then switches itself off.
    pub(crate) fn run(boots: Vec<Vec<Write>>) -> Self {
        Self::Run(Session::new(boots))
    }

    /// The layer that it is about; none where it is about several, or none.
    pub(super) fn layer(&self) -> Option<&str> {
        match self {
            Self::Snapshot { layer }
            | Self::Rollback { layer, .. }
            | Self::Update { layer, .. }
            | Self::Add { layer, .. }
            | Self::TakeBack { layer }
            | Self::Remove { layer, .. }
            | Self::Accept { layer }
            | Self::Revert { layer } => Some(layer),
            _ => None,
        }
    }

    /// Whether it decides on the session that ran, and so comes before what is about the next one.
    fn is_decision(&self) -> bool {
        matches!(self, Self::Accept { .. } | Self::Revert { .. })
    }

    /// What kind it is, in words.
    pub(crate) fn kind(&self) -> String {
        let text = format!("{self:?}");
        let name = text.split([' ', '(']).next().unwrap_or_default();
        name.chars().fold(String::new(), |mut words, c| {
            if c.is_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.extend(c.to_lowercase());
            words
        })
    }
}

/// As the library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kept {
    Preserve,
    Discard,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done {
        revision: Option<u64>,
        preserved: Option<u64>,
    },
    /// The machine runs: at its next start.
    Staged,
    /// A run ended as it was to; what was answered to what was asked meanwhile.
    Ran(Vec<Answer>),
    Refused(String),
}

impl Answer {
    pub(crate) const PLAIN: Self = Self::Done {
        revision: None,
        preserved: None,
    };

    pub(crate) fn refused(kind: ErrorKind) -> Self {
        Self::Refused(format!("{kind:?}"))
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The kinds of operations that were not refused: of `op`, which this is the answer to, and of what it asked.
    pub(crate) fn done(&self, op: &Op) -> Vec<String> {
        let mut kinds = match self {
            Self::Refused(_) => Vec::new(),
            Self::Staged => vec![format!("{}, staged", op.kind())],
            _ => vec![op.kind()],
        };
        if let (Op::Run(session), Self::Ran(answers)) = (op, self) {
            let asked = session.boots.iter().flat_map(|boot| &boot.asked);
            kinds.extend(asked.zip(answers).flat_map(|(op, answer)| answer.done(op)));
        }
        kinds
    }
}

/// A machine: none, or its layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) layers: Option<Vec<Layer>>,
    /// Layers that were removed: with what their guest had written, or that something may go back to.
    pub(crate) removed: Vec<Layer>,
    pub(crate) points: Vec<Point>,
    /// What waits for the next start.
    pub(crate) next: Vec<Op>,
    /// What can be taken back.
    pub(super) last: Option<Last>,
    /// How many of the newest revisions are kept, where a layer has no rule of its own.
    pub(crate) keep_last: Option<u64>,
    /// A run that is recorded: it is under way, or suspended, or nobody saw its end.
    pub(crate) run: Option<Recorded>,
    /// Whether somebody holds the lock of a run.
    pub(super) locked: bool,
    pub(crate) tally: Tally,
}

/// What was counted on the way; no part of what a machine is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Staged changes that were made.
    pub(crate) taken: u64,
    pub(crate) suspended: u64,
    pub(crate) resumed: u64,
    /// Operations that were taken back, staged ones included.
    pub(crate) undone: u64,
}

impl Tally {
    /// Each count with its name in the closing table.
    pub(crate) fn named(self) -> [(&'static str, u64); 4] {
        [
            ("staged changes that were taken", self.taken),
            ("runs that were suspended", self.suspended),
            ("runs that went on from a saved state", self.resumed),
            ("operations that were taken back", self.undone),
        ]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.taken += more.taken;
        self.suspended += more.suspended;
        self.resumed += more.resumed;
        self.undone += more.undone;
    }
}

impl PartialEq for Tally {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Tally {}

impl Model {
    /// The machine that [`Op::Create`] makes.
    fn fresh() -> Vec<Layer> {
        let layers = [("os", 1), ("cache", 0), ("home", 0)];
        let all = layers.map(|(name, image)| Layer::new(name, 1, image));
        all.into()
    }

    pub(crate) fn layer(&self, name: &str) -> Option<&Layer> {
        let mut layers = self.layers.iter().flatten();
        layers.find(|layer| layer.name == name)
    }

    /// Does `op` to the model, from its beginning to its end. A refusal changes nothing.
    pub(crate) fn apply(&mut self, op: &Op) -> Answer {
        let mut progress = Progress::default();
        loop {
            if let Some(answer) = self.step(op, &mut progress) {
                return answer;
            }
        }
    }

    /// Whether `op` may change the files of `layer`. All others stay byte for byte what they are.
    pub(crate) fn touches(&self, op: &Op, layer: &str) -> bool {
        let by = |op: &Op| match op {
            Op::Create | Op::Delete | Op::Run(_) | Op::DiscardState => true,
            Op::Rejuvenate => super::layer::Role::of(layer).resets(),
            Op::Point { layers, .. } => {
                layers.is_empty() || layers.iter().any(|name| name == layer)
            }
            Op::ToPoint { point, .. } => {
                let mut points = self.points.iter().filter(|known| known.name == *point);
                points.any(|known| known.layers.iter().any(|(name, _)| name == layer))
            }
            Op::Undo => {
                let mut last = self.last.iter().flat_map(|last| &last.layers);
                last.any(|(name, _)| name == layer)
            }
            op => op.layer() == Some(layer),
        };
        by(op) || self.next.iter().any(by)
    }

    /// What takes but one moment.
    pub(super) fn at_once(&mut self, op: &Op) -> Answer {
        self.try_at_once(op).unwrap_or_else(Answer::refused)
    }

    fn try_at_once(&mut self, op: &Op) -> Result<Answer, ErrorKind> {
        if self.layers.is_none() {
            if *op != Op::Create {
                return Err(ErrorKind::NotFound);
            }
            *self = Self {
                layers: Some(Self::fresh()),
                tally: self.tally,
                ..Self::default()
            };
            return Ok(Answer::PLAIN);
        }
        match op {
            Op::Create => return Err(ErrorKind::Exists),
            Op::Delete => {
                self.off()?;
                *self = Self {
                    tally: self.tally,
                    ..Self::default()
                };
            }
            Op::Snapshot { layer } => return self.while_off(|model| model.snapshot(layer)),
            Op::Point { name, layers } => {
                return self.while_off(|model| model.point(name, layers));
            }
            // What people say of layers changes none: it is noted whatever the machine is doing.
            Op::DropPoint { point } => {
                let known = self.points.iter().position(|known| known.name == *point);
                self.points.remove(known.ok_or(ErrorKind::NotFound)?);
            }
            Op::Label { layer, n, label } => {
                let found = self.find(layer)?.revision_mut(*n);
                found.ok_or(ErrorKind::NotFound)?.label.clone_from(label);
            }
            Op::Pin { layer, n, pinned } => {
                let found = self.find(layer)?.revision_mut(*n);
                found.ok_or(ErrorKind::NotFound)?.pinned = *pinned;
            }
            Op::Retain { layer, last } => match layer {
                Some(layer) => self.find(layer)?.keep_last = *last,
                None => self.keep_last = *last,
            },
            change => return self.now_or_next(change),
        }
        Ok(Answer::PLAIN)
    }

    /// Fails unless the machine is off. A run that is over without anybody to say so is cleared.
    pub(super) fn off(&mut self) -> Result<(), ErrorKind> {
        match &self.run {
            _ if self.locked => Err(ErrorKind::Busy),
            None => Ok(()),
            Some(run) => {
                run.is_over()?;
                self.clear_lost();
                Ok(())
            }
        }
    }

    /// Does what waits, then `what`: all of it, or nothing.
    fn while_off(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<super::change::Done, ErrorKind>,
    ) -> Result<Answer, ErrorKind> {
        self.off()?;
        let mut after = self.clone();
        after.take_staged()?;
        let done = what(&mut after)?;
        after.tidy();
        *self = after;
        Ok(done.answer())
    }

    /// Makes a change, or lets it wait for the next start if it can be made then.
    fn now_or_next(&mut self, op: &Op) -> Result<Answer, ErrorKind> {
        if !self.locked {
            self.off()?;
        }
        let waits = !self.next.is_empty();
        let mut after = self.clone();
        if self.locked && self.run.is_some() {
            // Nobody has noticed yet that these are of a run that is over.
            let layers = after.layers.iter_mut().flatten();
            layers
                .filter(|layer| layer.head == Head::Torn)
                .for_each(|layer| layer.head = Head::Started(layer.at().content));
        }
        let done = match op.is_decision() {
            // It is about the session that ran; what waits is about the next one.
            true => {
                after.take_decisions()?;
                let done = after.change(op)?;
                after.take_staged()?;
                done
            }
            false => {
                after.take_staged()?;
                after.change(op)?
            }
        };
        let changes = !done.layers.is_empty();
        if self.locked {
            let decided = self.next.iter().take_while(|op| op.is_decision()).count();
            let place = match op.is_decision() {
                true => decided,
                false => self.next.len(),
            };
            if changes {
                self.next.insert(place, op.clone());
            }
            return Ok(Answer::Staged);
        }
        if changes || waits {
            after.tidy();
            *self = after;
        }
        Ok(done.answer())
    }

    /// Makes what waits, in order.
    pub(super) fn take_staged(&mut self) -> Result<(), ErrorKind> {
        for op in std::mem::take(&mut self.next) {
            self.change(&op)?;
            self.tally.taken += 1;
        }
        Ok(())
    }

    /// Makes what was decided on the session that ran. Answers whether anything was.
    pub(super) fn take_decisions(&mut self) -> Result<bool, ErrorKind> {
        let waits = std::mem::take(&mut self.next);
        let (decisions, rest): (Vec<_>, _) = waits.into_iter().partition(Op::is_decision);
        self.next = rest;
        for op in &decisions {
            self.change(op)?;
            self.tally.taken += 1;
        }
        Ok(!decisions.is_empty())
    }
}

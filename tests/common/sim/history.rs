//! What several processes' operations on one machine allow it to be: every operation takes effect at one moment between
//! its intent and its answer, or, when its process was killed, perhaps never, or as far as it came.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{Answer, Model, Op};

/// One line of the log that all processes append to: the order of lines is the order of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The operation is about to begin.
    Intent {
        worker: u32,
        n: u64,
        machine: String,
        op: Op,
    },
    /// It returned.
    Answer {
        worker: u32,
        n: u64,
        machine: String,
        answer: Answer,
    },
    /// The process is about to be killed.
    Doomed { worker: u32 },
    /// The product saw what must never happen.
    Violation { worker: u32, what: String },
}

type Id = (u32, u64);

#[derive(Debug)]
struct Pending {
    op: Op,
    /// Another operation on the machine was under way at the same time.
    overlapped: bool,
}

/// One way in which it may have gone: the machine, and the operations that took effect without having been answered,
/// with the answer they will give; none for one that was cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    model: Model,
    taken: BTreeMap<Id, Option<Answer>>,
}

/// What is known of one machine.
#[derive(Debug)]
pub(crate) struct History {
    pending: BTreeMap<Id, Pending>,
    /// Processes whose operations may end at any moment.
    doomed: BTreeSet<u32>,
    ways: Vec<Way>,
}

impl History {
    /// A machine that is one of `models`.
    pub(crate) fn new(models: Vec<Model>) -> Self {
        let way = |model| Way {
            model,
            taken: BTreeMap::new(),
        };
        Self {
            pending: BTreeMap::new(),
            doomed: BTreeSet::new(),
            ways: models.into_iter().map(way).collect(),
        }
    }

    pub(crate) fn intent(&mut self, id: Id, op: Op) {
        let overlapped = !self.pending.is_empty();
        for other in self.pending.values_mut() {
            other.overlapped = true;
        }
        self.pending.insert(id, Pending { op, overlapped });
    }

    pub(crate) fn doomed(&mut self, worker: u32) {
        self.doomed.insert(worker);
    }

    /// Takes an answer: an error if no way of what happened explains it.
    pub(crate) fn answer(&mut self, id: Id, answer: &Answer) -> Result<(), String> {
        let Some(pending) = self.pending.get(&id) else {
            return Err(format!("{id:?} was never begun"));
        };
        if *answer == Answer::Refused("Busy".to_owned()) {
            if !pending.overlapped {
                return Err(format!(
                    "{:?} was refused as busy, and nobody was there",
                    pending.op
                ));
            }
            // Nothing happened.
            self.ways.retain(|way| !way.taken.contains_key(&id));
        } else {
            let op = pending.op.clone();
            let before: Vec<_> = self.ways.iter().map(|way| way.model.clone()).collect();
            self.ways = self.closure();
            self.ways
                .retain(|way| way.taken.get(&id) == Some(&Some(answer.clone())));
            if self.ways.is_empty() {
                return Err(format!("{op:?} answered {answer:?} on {before:#?}"));
            }
        }
        self.pending.remove(&id);
        for way in &mut self.ways {
            way.taken.remove(&id);
        }
        self.dedup();
        Ok(())
    }

    /// What the machine may be now that nobody is at work any more.
    pub(crate) fn ends(&self) -> Vec<Model> {
        let mut models = Vec::new();
        for way in self.closure() {
            if !models.contains(&way.model) {
                models.push(way.model);
            }
        }
        models
    }

    /// Every way, with every choice of pending operations that have taken effect.
    fn closure(&self) -> Vec<Way> {
        let mut found = self.ways.clone();
        let mut next = 0;
        while next < found.len() {
            let way = found[next].clone();
            for (id, pending) in &self.pending {
                if !way.taken.contains_key(id) {
                    for after in self.outcomes(&way, *id, pending) {
                        if !found.contains(&after) {
                            found.push(after);
                        }
                    }
                }
            }
            next += 1;
        }
        found
    }

    fn outcomes(&self, way: &Way, id: Id, pending: &Pending) -> Vec<Way> {
        let mut whole = way.clone();
        let answer = whole.model.apply(&pending.op);
        whole.taken.insert(id, Some(answer));
        let mut found = vec![whole];
        if let (Op::Run { boots }, true) = (&pending.op, self.doomed.contains(&id.0)) {
            found.extend(way.model.cut_short(boots).into_iter().map(|model| {
                let mut cut = way.clone();
                cut.model = model;
                cut.taken.insert(id, None);
                cut
            }));
        }
        found
    }

    fn dedup(&mut self) {
        let mut kept: Vec<Way> = Vec::new();
        for way in self.ways.drain(..) {
            if !kept.contains(&way) {
                kept.push(way);
            }
        }
        self.ways = kept;
    }
}

//! What several processes' operations on one machine allow it to be: every step of an operation takes effect at one
//! moment between its intent and its answer, or, when its process was killed, perhaps never.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stratavm::ErrorKind;

use super::model::{Answer, Model, Op};
use super::run::Progress;

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

/// One way in which it may have gone: the machine, and how far the operations have come that were not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    come: BTreeMap<Id, Come>,
    model: Model,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Come {
    /// More is to follow.
    On(Progress),
    /// It is done, and will give this answer.
    Done(Answer),
    /// Its process was killed in it.
    Cut,
}

/// What is known of one machine.
#[derive(Debug)]
pub(crate) struct History {
    pending: BTreeMap<Id, Op>,
    /// Those that were not alone from their beginning to their end.
    crowded: BTreeSet<Id>,
    /// Processes whose operations may end at any moment.
    doomed: BTreeSet<u32>,
    ways: Vec<Way>,
}

impl History {
    /// A machine that is one of `models`.
    pub(crate) fn new(models: Vec<Model>) -> Self {
        let way = |model| Way {
            model,
            come: BTreeMap::new(),
        };
        Self {
            pending: BTreeMap::new(),
            crowded: BTreeSet::new(),
            doomed: BTreeSet::new(),
            ways: models.into_iter().map(way).collect(),
        }
    }

    pub(crate) fn intent(&mut self, id: Id, op: Op) {
        self.pending.insert(id, op);
        if self.pending.len() > 1 {
            self.crowded.extend(self.pending.keys());
        }
    }

    pub(crate) fn doomed(&mut self, worker: u32) {
        self.doomed.insert(worker);
    }

    /// Takes an answer: an error if no way of what happened explains it.
    pub(crate) fn answer(&mut self, id: Id, answer: &Answer) -> Result<(), String> {
        let Some(op) = self.pending.get(&id) else {
            return Err(format!("{id:?} was never begun"));
        };
        if *op == Op::Create && *answer == Answer::refused(ErrorKind::Busy) {
            // It does not wait for others who make, delete or prune a machine of that name.
            if !self.crowded.remove(&id) {
                return Err(format!("{op:?} was refused as busy, and nobody was there"));
            }
            self.pending.remove(&id);
            self.ways.retain(|way| !way.come.contains_key(&id));
            return Ok(());
        }
        let before: Vec<_> = self.ways.iter().map(|way| way.model.clone()).collect();
        self.ways = self.closure();
        let given = Come::Done(answer.clone());
        self.ways.retain(|way| way.come.get(&id) == Some(&given));
        if self.ways.is_empty() {
            return Err(format!("{op:?} answered {answer:?} on {before:#?}"));
        }
        self.pending.remove(&id);
        for way in &mut self.ways {
            way.come.remove(&id);
        }
        self.dedup();
        Ok(())
    }

    /// What the machine may be now that nobody is at work any more.
    pub(crate) fn ends(&self) -> Vec<Model> {
        let mut models = Vec::new();
        let over = |way: &Way| !way.come.values().any(|come| matches!(come, Come::On(_)));
        for way in self.closure().into_iter().filter(over) {
            if !models.contains(&way.model) {
                models.push(way.model);
            }
        }
        models
    }

    /// Every way, with every choice of steps of pending operations that have taken effect.
    fn closure(&self) -> Vec<Way> {
        let mut found = self.ways.clone();
        let mut next = 0;
        while next < found.len() {
            let way = found[next].clone();
            for (id, op) in &self.pending {
                for after in self.outcomes(&way, *id, op) {
                    if !found.contains(&after) {
                        found.push(after);
                    }
                }
            }
            next += 1;
        }
        found
    }

    /// What the next step of an operation may make of a way.
    fn outcomes(&self, way: &Way, id: Id, op: &Op) -> Vec<Way> {
        let mut on = match way.come.get(&id) {
            None => Progress::default(),
            Some(Come::On(progress)) => progress.clone(),
            Some(Come::Done(_) | Come::Cut) => return Vec::new(),
        };
        let mut found = Vec::new();
        let mut add = |model, come| {
            let mut after = way.clone();
            after.model = model;
            after.come.insert(id, come);
            found.push(after);
        };
        if self.doomed.contains(&id.0) {
            for model in way.model.killed(op, &on) {
                add(model, Come::Cut);
            }
        }
        let mut model = way.model.clone();
        match model.step(op, &mut on) {
            Some(answer) => add(model, Come::Done(answer)),
            None => add(model, Come::On(on)),
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

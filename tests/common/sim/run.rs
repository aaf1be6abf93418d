//! What takes more than one moment, in memory: runs, with what is asked while they last, and what others may do in
//! between; dropping a saved state; undo and prune, which look before they change anything. Each step is one moment,
//! and in each a kill can leave the machine as it is.

use serde::{Deserialize, Serialize};
use stratavm::ErrorKind;

use super::layer::Head;
use super::model::{Answer, MIXED, Model, Op, Write};

/// A run: its boots, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) boots: Vec<Boot>,
    /// Layers whose session is to be one that can be dropped.
    pub(crate) revertible: Vec<String>,
    pub(crate) end: End,
}

/// One boot: what its guest writes, and what is asked before it writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) asked: Vec<Op>,
    pub(crate) writes: Vec<Write>,
}

/// How the last boot ends; the others end by a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    PowerOff,
    /// The product saves the machine's state. Only products whose machines may outlive their supervisor do.
    Suspend,
}

impl Session {
    /// Boots whose guests write these, and at the end a power-off.
    pub(crate) fn new(boots: Vec<Vec<Write>>) -> Self {
        let boot = |writes| Boot {
            asked: Vec::new(),
            writes,
        };
        Self {
            boots: boots.into_iter().map(boot).collect(),
            revertible: Vec::new(),
            end: End::PowerOff,
        }
    }

    /// One without boots.
    pub(super) fn ends(end: End) -> Self {
        Self {
            end,
            ..Self::new(Vec::new())
        }
    }
}

/// A run as the record has it, and what the product has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) phase: Phase,
    /// Who knows whether it is over.
    pub(crate) witness: Witness,
    /// Whether the product has a saved state.
    pub(crate) saved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Suspended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Witness {
    /// It is over when its lock is free.
    Kernel,
    /// Only the product says.
    Product,
}

impl Recorded {
    /// Whether it counts as running, and there is nothing to go on with.
    pub(super) fn is_lost(self) -> bool {
        self.phase == Phase::Running && !self.saved
    }

    /// Fails unless it is certain, without asking the product, that a run is over of which the lock is free.
    pub(super) fn is_over(self) -> Result<(), ErrorKind> {
        match (self.phase, self.witness) {
            (Phase::Suspended, _) => Err(ErrorKind::Suspended),
            (Phase::Running, Witness::Product) => Err(ErrorKind::Busy),
            (Phase::Running, Witness::Kernel) => Ok(()),
        }
    }
}

/// How far an operation has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    at: At,
    boot: usize,
    /// Whether the boot goes on from a saved state.
    resumed: bool,
    /// Whether the run began so: no boot of it is its first.
    continued: bool,
    /// How many of the things that are asked in this boot were.
    asked: usize,
    answers: Vec<Answer>,
    /// How far the one that is being asked has come.
    inner: Option<Box<Progress>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum At {
    #[default]
    Before,
    /// Something was looked at, and nothing is held.
    Asked,
    /// The lock of a run is held.
    Locked,
    /// It is known what became of the run before.
    Looked,
    /// The guest is about to write.
    Booted,
    /// The product has dropped the saved state.
    Dropped,
    /// There was no further boot.
    Failed(ErrorKind),
    /// The run is over and cleared.
    Over(Answer),
    /// All is done but letting go of the lock.
    Leaving(Answer),
}

impl Model {
    /// Does the next step of `op`, and answers if that was the last one.
    pub(crate) fn step(&mut self, op: &Op, on: &mut Progress) -> Option<Answer> {
        match op {
            Op::Run(session) => self.step_run(session, on),
            Op::DiscardState => self.step_discard(on),
            Op::Undo => self.step_undo(on),
            Op::Prune => self.step_prune(on),
            _ => Some(self.at_once(op)),
        }
    }

    fn step_run(&mut self, session: &Session, on: &mut Progress) -> Option<Answer> {
        match on.at.clone() {
            At::Looked => match &mut self.run {
                Some(run) => {
                    (run.phase, run.saved) = (Phase::Running, false);
                    (on.resumed, on.continued) = (true, true);
                    on.at = At::Booted;
                    self.tally.resumed += 1;
                }
                None => self.boot(session, on),
            },
            At::Booted => {
                let boot = &session.boots[on.boot];
                if let Some(op) = boot.asked.get(on.asked) {
                    let mut inner = on.inner.take().unwrap_or_default();
                    match self.step(op, &mut inner) {
                        None => on.inner = Some(inner),
                        Some(answer) => {
                            on.answers.push(answer);
                            on.asked += 1;
                        }
                    }
                    return None;
                }
                self.write(&boot.writes);
                (on.resumed, on.asked) = (false, 0);
                on.boot += 1;
                match (on.boot < session.boots.len(), session.end) {
                    (true, _) => self.boot(session, on),
                    (false, end) => {
                        self.end(end);
                        on.at = At::Over(Answer::Ran(std::mem::take(&mut on.answers)));
                    }
                }
            }
            At::Failed(kind) => {
                // The product is asked where it may have gone on, and nobody saw the end then.
                match self.run.map(|run| run.witness) {
                    Some(Witness::Product) => self.clear_lost(),
                    _ => self.run = None,
                }
                on.at = At::Over(Answer::refused(kind));
            }
            At::Over(answer) => {
                self.decide();
                on.at = At::Leaving(answer);
            }
            _ => return self.step_lock(on, ErrorKind::Busy),
        }
        None
    }

    /// The steps that all have who take the lock of a run.
    fn step_lock(&mut self, on: &mut Progress, busy: ErrorKind) -> Option<Answer> {
        match on.at.clone() {
            At::Before if self.layers.is_none() => {
                return Some(Answer::refused(ErrorKind::NotFound));
            }
            At::Before if self.locked => return Some(Answer::refused(busy)),
            At::Before => {
                self.locked = true;
                on.at = match self.run {
                    Some(_) => At::Locked,
                    None => At::Looked,
                };
            }
            At::Locked => {
                self.look();
                on.at = At::Looked;
            }
            At::Leaving(answer) => {
                self.locked = false;
                return Some(answer);
            }
            _ => {}
        }
        None
    }

    fn step_discard(&mut self, on: &mut Progress) -> Option<Answer> {
        match (&on.at, &mut self.run) {
            (At::Looked, Some(run)) => {
                run.saved = false;
                on.at = At::Dropped;
            }
            (At::Looked, None) => on.at = At::Leaving(Answer::refused(ErrorKind::Invalid)),
            (At::Dropped, _) => {
                self.clear_lost();
                on.at = At::Leaving(Answer::PLAIN);
            }
            _ => return self.step_lock(on, ErrorKind::Invalid),
        }
        None
    }

    fn step_undo(&mut self, on: &mut Progress) -> Option<Answer> {
        if self.layers.is_none() {
            return Some(Answer::refused(ErrorKind::NotFound));
        }
        if on.at == At::Before {
            if self.next.pop().is_some() {
                self.tally.undone += 1;
                return Some(Answer::PLAIN);
            }
            on.at = At::Asked;
            return None;
        }
        let mut after = self.clone();
        let done = self.off().and_then(|()| {
            after.clone_from(self);
            after.undo()
        });
        Some(match done {
            Ok(done) => {
                after.tidy();
                after.tally.undone += 1;
                *self = after;
                done.answer()
            }
            Err(kind) => Answer::refused(kind),
        })
    }

    /// Retention lets go without any operation: of a machine that is off.
    fn step_prune(&mut self, on: &mut Progress) -> Option<Answer> {
        let expires = self.clone().retain();
        match on.at {
            At::Before if self.layers.is_some() && expires => {
                on.at = At::Asked;
                return None;
            }
            At::Before => {}
            _ => {
                if self.layers.is_some() && self.off().is_ok() {
                    self.tidy();
                }
            }
        }
        Some(Answer::PLAIN)
    }

    /// Finds out what became of the run that is recorded.
    fn look(&mut self) {
        match &mut self.run {
            Some(run) if run.phase == Phase::Running && run.witness == Witness::Kernel => {
                self.clear_lost();
            }
            Some(run) if run.saved => run.phase = Phase::Suspended,
            Some(_) => self.clear_lost(),
            None => {}
        }
    }

    /// Clears a run whose end nobody saw: heads of layers that discard are not to be relied on.
    pub(super) fn clear_lost(&mut self) {
        self.run = None;
        self.discarded(Head::Torn);
    }

    /// The next boot on fresh heads: what waits is done first.
    fn boot(&mut self, session: &Session, on: &mut Progress) {
        let first = on.boot == 0 && !on.continued;
        let mut after = self.clone();
        after.run = None;
        on.at = match after.prepare(session, first) {
            Err(kind) => At::Failed(kind),
            Ok(()) => {
                *self = after;
                At::Booted
            }
        };
    }

    fn prepare(&mut self, session: &Session, first: bool) -> Result<(), ErrorKind> {
        self.take_staged()?;
        for name in session.revertible.iter().filter(|_| first) {
            let layer = self.find(name)?;
            if !layer.role().keeps() {
                return Err(ErrorKind::Invalid);
            }
            if layer.started() {
                layer.freeze("before-session");
            }
        }
        self.tidy();
        for layer in self.layers.iter_mut().flatten() {
            let goes_on = layer.holds_kept();
            if !goes_on {
                layer.head = Head::Started(layer.at().content);
            }
            // Of a head that an earlier session began this one is not the only one.
            layer.session = !goes_on || (layer.session && !first);
        }
        self.run = Some(Recorded {
            phase: Phase::Running,
            witness: match session.end {
                End::PowerOff => Witness::Kernel,
                End::Suspend => Witness::Product,
            },
            saved: false,
        });
        Ok(())
    }

    fn write(&mut self, writes: &[Write]) {
        for layer in self.layers.iter_mut().flatten() {
            if let Head::Started(content) = &mut layer.head {
                for write in writes.iter().filter(|write| write.layer == layer.name) {
                    content[write.block as usize] = write.pattern;
                }
            }
        }
    }

    fn end(&mut self, end: End) {
        match (end, &mut self.run) {
            (End::Suspend, Some(run)) => {
                (run.phase, run.saved) = (Phase::Suspended, true);
                self.tally.suspended += 1;
            }
            _ => self.run = None,
        }
    }

    /// Makes what was decided on the session, if that can be made.
    fn decide(&mut self) {
        let mut after = self.clone();
        if self.run.is_none() && after.take_decisions() == Ok(true) {
            after.tidy();
            *self = after;
        }
    }

    /// What a machine may be if the process that does `op` is killed before its next step comes to its end.
    pub(crate) fn killed(&self, op: &Op, on: &Progress) -> Vec<Self> {
        let mut here = self.clone();
        match &on.at {
            // It may have come as far as to clear a run that is over, before it was refused or did anything.
            At::Before => {
                let over = self.run.is_some_and(|run| run.is_over().is_ok()) && !self.locked;
                here.clear_lost();
                return if over { vec![here] } else { Vec::new() };
            }
            At::Asked => {}
            _ => here.locked = false,
        }
        let mut found = vec![here.clone()];
        let Op::Run(session) = op else { return found };
        match &on.at {
            At::Looked => {
                // It is noted that it goes on, and the product was not told yet.
                here.run
                    .iter_mut()
                    .for_each(|run| run.phase = Phase::Running);
                found.push(here);
            }
            At::Booted => {
                let writes = &session.boots[on.boot].writes;
                found.clear();
                for written in 0..=writes.len() {
                    let mut cut = here.clone();
                    cut.write(&writes[..written]);
                    found.push(cut.clone().torn());
                    if let Some(write) = writes.get(written) {
                        let mut half = write.clone();
                        half.pattern = MIXED;
                        cut.write(&[half]);
                        found.push(cut.torn());
                    }
                }
                if on.boot + 1 == session.boots.len() && session.end == End::Suspend {
                    here.write(writes);
                    here.run.iter_mut().for_each(|run| run.saved = true);
                    found.push(here);
                }
            }
            _ => {}
        }
        found
    }

    /// Every state that a run can be cut short in, by a kill or by an error: before it, after each of its writes, and
    /// after each boot that ended by itself.
    pub(crate) fn cut_short(&self, op: &Op) -> Vec<Self> {
        let mut found = vec![self.clone()];
        let (mut here, mut on) = (self.clone(), Progress::default());
        let mut add = |models: Vec<Self>| {
            for model in models {
                if !found.contains(&model) {
                    found.push(model);
                }
            }
        };
        loop {
            add(here.killed(op, &on));
            if let (At::Booted, Op::Run(session)) = (&on.at, op) {
                let mut ended = here.clone();
                ended.write(&session.boots[on.boot].writes);
                (ended.run, ended.locked) = (None, false);
                add(vec![ended]);
            }
            if here.step(op, &mut on).is_some() {
                return found;
            }
        }
    }

    /// The same after a power cut, if the heads of layers that discard were made shortly before.
    pub(crate) fn unsure(mut self) -> Self {
        self.discarded(Head::Unsure);
        self
    }

    /// The same after a run that nobody ended: heads of layers that discard are not to be relied on.
    pub(crate) fn torn(mut self) -> Self {
        self.discarded(Head::Torn);
        self.run.get_or_insert(Recorded {
            phase: Phase::Running,
            witness: Witness::Kernel,
            saved: false,
        });
        self
    }

    fn discarded(&mut self, head: Head) {
        let layers = self.layers.iter_mut().flatten();
        for layer in layers.filter(|layer| !layer.role().keeps()) {
            layer.head = head;
        }
    }
}

//! What operations do, in memory: layers, revisions, and what each block of them holds. Written from the documents, not
//! from the library's code.

use serde::{Deserialize, Serialize};
use stratavm::ErrorKind;

/// Blocks of every disk: 1 MiB in grains of 64 KiB.
pub(crate) const BLOCKS: usize = 16;

/// What a disk holds: the pattern of each block.
pub(crate) type Content = [u64; BLOCKS];

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
    Remove {
        layer: String,
        kept: Kept,
    },
    Rejuvenate,
    /// One list of writes for each boot.
    Run {
        boots: Vec<Vec<Write>>,
    },
}

impl Op {
    /// Whether the operation may change the files of `layer`. All others stay byte for byte what they are.
    pub(crate) fn touches(&self, layer: &str) -> bool {
        match self {
            Self::Create | Self::Delete | Self::Run { .. } => true,
            Self::Rejuvenate => Role::of(layer).resets(),
            Self::Snapshot { layer: about }
            | Self::Rollback { layer: about, .. }
            | Self::Update { layer: about, .. }
            | Self::Add { layer: about, .. }
            | Self::Remove { layer: about, .. } => about == layer,
        }
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
    Refused(String),
}

impl Answer {
    pub(crate) const PLAIN: Self = Self::Done {
        revision: None,
        preserved: None,
    };

    fn revision(n: u64, preserved: Option<u64>) -> Self {
        Self::Done {
            revision: Some(n),
            preserved,
        }
    }

    pub(crate) fn refused(kind: ErrorKind) -> Self {
        Self::Refused(format!("{kind:?}"))
    }
}

/// A machine: none, or its layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) layers: Option<Vec<Layer>>,
    /// Layers that were removed: with what their guest had written, or by the last operation.
    pub(crate) removed: Vec<Layer>,
    /// The layers of the last operation, which can be taken back.
    last: Vec<String>,
}

/// What becomes of a layer's writes at a start, and of the layer when the machine is rejuvenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Os,
    Apps,
    Cache,
    UserData,
}

impl Role {
    /// The role of a layer of this name.
    pub(crate) fn of(layer: &str) -> Self {
        match layer {
            "os" => Self::Os,
            "cache" => Self::Cache,
            layer if layer.starts_with("home") => Self::UserData,
            _ => Self::Apps,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Apps => "apps",
            Self::Cache => "cache",
            Self::UserData => "user-data",
        }
    }

    pub(crate) fn keeps(self) -> bool {
        matches!(self, Self::Cache | Self::UserData)
    }

    fn resets(self) -> bool {
        self != Self::UserData
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) revisions: Vec<Revision>,
    pub(crate) current: u64,
    pub(crate) next: u64,
    pub(crate) head: Head,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) n: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) image: usize,
    pub(crate) content: Content,
    pub(crate) deltas: usize,
    pub(crate) reason: &'static str,
}

/// What the head holds on top of the current revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// It was never started.
    Untouched,
    /// It was, and the disk holds this.
    Started(Content),
    /// A run was cut short, and the layer's writes are dropped at the next start anyway.
    Torn,
    /// The power was cut, and heads of layers that discard are never flushed: it may be anything, or not be there.
    Unsure,
}

impl Layer {
    fn new(name: &str, base: usize) -> Self {
        let first = Revision {
            n: 1,
            parent: None,
            image: base,
            content: image(base),
            deltas: 0,
            reason: "create",
        };
        Self {
            name: name.to_owned(),
            revisions: vec![first],
            current: 1,
            next: 2,
            head: Head::Untouched,
        }
    }

    pub(crate) fn role(&self) -> Role {
        Role::of(&self.name)
    }

    pub(crate) fn revision(&self, n: u64) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.n == n)
    }

    pub(crate) fn at(&self) -> &Revision {
        self.revision(self.current).unwrap_or(&self.revisions[0])
    }

    fn push(&mut self, image: usize, content: Content, deltas: usize, reason: &'static str) -> u64 {
        let n = self.next;
        self.revisions.push(Revision {
            n,
            parent: Some(self.current),
            image,
            content,
            deltas,
            reason,
        });
        self.next += 1;
        self.current = n;
        n
    }

    /// The head becomes a revision; one that was never started adds nothing to what is there.
    fn freeze(&mut self, reason: &'static str) -> u64 {
        let at = self.at().clone();
        let (content, deltas) = match self.head {
            Head::Started(content) => (content, at.deltas + 1),
            Head::Untouched | Head::Torn | Head::Unsure => (at.content, at.deltas),
        };
        if let Head::Started(_) = self.head {
            self.head = Head::Untouched;
        }
        self.push(at.image, content, deltas, reason)
    }

    fn started(&self) -> bool {
        matches!(self.head, Head::Started(_))
    }

    fn holds_writes(&self) -> bool {
        self.revisions.iter().any(|revision| revision.deltas > 0)
    }

    /// Forgets every revision that holds what a guest wrote.
    fn drop_writes(&mut self) {
        if self.at().deltas > 0 {
            let clean = self
                .revisions
                .iter()
                .rev()
                .find(|r| ["create", "update"].contains(&r.reason));
            self.current = clean.map_or(self.current, |clean| clean.n);
        }
        let all = std::mem::take(&mut self.revisions);
        for revision in all.iter().filter(|r| r.deltas == 0) {
            let mut parent = revision.parent;
            while let Some(gone) = all.iter().find(|r| Some(r.n) == parent && r.deltas > 0) {
                parent = gone.parent;
            }
            self.revisions.push(Revision {
                parent,
                ..revision.clone()
            });
        }
    }

    /// Kept writes become a revision beside the current one.
    fn preserve(&mut self, kept: Kept, reason: &'static str) -> Option<u64> {
        let before = self.current;
        let keep = self.role().keeps() && self.started() && kept == Kept::Preserve;
        let n = keep.then(|| self.freeze(reason));
        self.current = before;
        n
    }
}

impl Model {
    /// The machine that [`Op::Create`] makes.
    fn fresh() -> Vec<Layer> {
        vec![
            Layer::new("os", 1),
            Layer::new("cache", 0),
            Layer::new("home", 0),
        ]
    }

    pub(crate) fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers
            .as_ref()?
            .iter()
            .find(|layer| layer.name == name)
    }

    /// Does `op` to the model. A refusal changes nothing.
    pub(crate) fn apply(&mut self, op: &Op) -> Answer {
        let mut after = self.clone();
        match after.try_apply(op) {
            Ok(answer) => {
                let last = after.last.clone();
                after
                    .removed
                    .retain(|layer| layer.holds_writes() || last.contains(&layer.name));
                *self = after;
                answer
            }
            Err(kind) => Answer::refused(kind),
        }
    }

    fn try_apply(&mut self, op: &Op) -> Result<Answer, ErrorKind> {
        let Some(layers) = &mut self.layers else {
            return match op {
                Op::Create => {
                    *self = Self {
                        layers: Some(Self::fresh()),
                        ..Self::default()
                    };
                    Ok(Answer::PLAIN)
                }
                _ => Err(ErrorKind::NotFound),
            };
        };
        let find = |layers: &mut Vec<Layer>, name: &str| {
            let found = layers.iter().position(|layer| layer.name == name);
            found.ok_or(ErrorKind::NotFound)
        };
        match op {
            Op::Create => Err(ErrorKind::Exists),
            Op::Delete => {
                *self = Self::default();
                Ok(Answer::PLAIN)
            }
            Op::Snapshot { layer } => {
                let at = find(layers, layer)?;
                self.last.clear();
                Ok(Answer::revision(layers[at].freeze("snapshot"), None))
            }
            Op::Rollback { layer, to, kept } => {
                let at = find(layers, layer)?;
                let layer = &mut layers[at];
                let target = match to {
                    Some(n) => layer.revision(*n).ok_or(ErrorKind::NotFound)?.n,
                    None => layer.at().parent.ok_or(ErrorKind::Invalid)?,
                };
                let preserved = layer.preserve(*kept, "before-rollback");
                self.last = vec![layer.name.clone()];
                layer.current = target;
                layer.head = Head::Untouched;
                Ok(Answer::revision(target, preserved))
            }
            Op::Update {
                layer,
                image: base,
                kept,
            } => {
                let at = find(layers, layer)?;
                let layer = &mut layers[at];
                let writes = layer.at().deltas > 0 || layer.started();
                if layer.role().keeps() && writes && *kept == Kept::Preserve {
                    return Err(ErrorKind::Invalid);
                }
                let same = layer.at().image == *base && layer.at().deltas == 0;
                if same && !layer.started() {
                    return Ok(Answer::revision(layer.current, None));
                }
                let preserved = layer.preserve(*kept, "before-update");
                self.last = vec![layer.name.clone()];
                let n = layer.push(*base, image(*base), 0, "update");
                layer.head = Head::Untouched;
                Ok(Answer::revision(n, preserved))
            }
            Op::Add { layer, image } => {
                if find(layers, layer).is_ok() {
                    return Err(ErrorKind::Exists);
                }
                // Numbers of a removed layer of that name are not used again.
                let removed = self.removed.iter().filter(|removed| removed.name == *layer);
                let n = removed.map(|removed| removed.next).max().unwrap_or(1);
                let mut new = Layer::new(layer, *image);
                (new.revisions[0].n, new.current, new.next) = (n, n, n + 1);
                layers.push(new);
                self.last = vec![layer.clone()];
                Ok(Answer::revision(n, None))
            }
            Op::Remove { layer, kept } => {
                let at = find(layers, layer)?;
                if layers[at].role() == Role::Os {
                    return Err(ErrorKind::Invalid);
                }
                let mut layer = layers.remove(at);
                let preserved = layer.preserve(*kept, "before-remove");
                layer.head = Head::Untouched;
                layer.current = preserved.unwrap_or(layer.current);
                if *kept == Kept::Discard {
                    layer.drop_writes();
                }
                self.last = vec![layer.name.clone()];
                self.removed.push(layer);
                Ok(Answer::Done {
                    revision: None,
                    preserved,
                })
            }
            Op::Rejuvenate => {
                let mut reset = Vec::new();
                for layer in layers.iter_mut().filter(|layer| layer.role().resets()) {
                    let clean = |r: &&Revision| ["create", "update"].contains(&r.reason);
                    // A torn head that lies there already is nobody's, and made anew at the next start.
                    let clean = layer.revisions.iter().rev().find(clean).map(|r| r.n);
                    let there = clean == Some(layer.current) && !layer.started();
                    if let Some(clean) = clean.filter(|_| !there) {
                        layer.current = clean;
                        layer.head = Head::Untouched;
                        reset.push(layer.name.clone());
                    }
                }
                if !reset.is_empty() {
                    self.last = reset;
                }
                Ok(Answer::PLAIN)
            }
            Op::Run { boots } => {
                for writes in boots {
                    Self::boot(layers, writes);
                }
                Ok(Answer::PLAIN)
            }
        }
    }

    fn boot(layers: &mut [Layer], writes: &[Write]) {
        for layer in layers {
            let mut content = match layer.head {
                Head::Started(content) if layer.role().keeps() => content,
                _ => layer.at().content,
            };
            for write in writes.iter().filter(|write| write.layer == layer.name) {
                content[write.block as usize] = write.pattern;
            }
            layer.head = Head::Started(content);
        }
    }

    /// Every state that a run can be cut short in: before it, after each of its writes, and after each boot that ended
    /// by itself.
    pub(crate) fn cut_short(&self, boots: &[Vec<Write>]) -> Vec<Self> {
        let after = |boots: Vec<Vec<Write>>| {
            let mut model = self.clone();
            model.apply(&Op::Run { boots });
            model
        };
        let mut found = vec![self.clone()];
        for (boot, writes) in boots.iter().enumerate() {
            for written in 0..=writes.len() {
                let mut cut = boots[..boot].to_vec();
                cut.push(writes[..written].to_vec());
                found.push(after(cut).torn());
            }
            found.push(after(boots[..=boot].to_vec()));
        }
        found
    }

    /// The same after a power cut, if the heads of layers that discard were made shortly before.
    pub(crate) fn unsure(self) -> Self {
        self.with_discarded(Head::Unsure)
    }

    /// The same after a run that nobody ended: heads of layers that discard are not to be relied on.
    pub(crate) fn torn(self) -> Self {
        self.with_discarded(Head::Torn)
    }

    fn with_discarded(mut self, head: Head) -> Self {
        let layers = self.layers.iter_mut().flatten();
        for layer in layers.filter(|layer| !layer.role().keeps()) {
            layer.head = head;
        }
        self
    }
}

//! Layers in memory: their revisions, what each block of these and of the head holds, and which revisions are dropped.
//! Written from the documents, not from the library's code.

use super::model::{Content, Kept, image};

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

    pub(crate) fn resets(self) -> bool {
        self != Self::UserData
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) revisions: Vec<Revision>,
    pub(crate) current: u64,
    /// The number of the next revision.
    pub(crate) next: u64,
    pub(crate) head: Head,
    /// Whether the last session alone wrote to the head.
    pub(crate) session: bool,
    /// How many of the newest revisions are kept, where that is not the machine's rule.
    pub(crate) keep_last: Option<u64>,
    /// How many layers stood before it when it was removed.
    pub(super) position: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) n: u64,
    pub(crate) parent: Option<u64>,
    /// The revision that its own deltas lie on.
    pub(super) base: Option<u64>,
    pub(crate) image: usize,
    pub(crate) content: Content,
    /// How many deltas it is made of, those of its base included.
    pub(crate) deltas: usize,
    pub(crate) reason: &'static str,
    pub(crate) label: Option<String>,
    pub(crate) pinned: bool,
}

impl Revision {
    /// Whether it is one to rejuvenate to.
    pub(super) fn is_clean(&self) -> bool {
        ["create", "update"].contains(&self.reason)
    }
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
    /// A layer whose first revision is `n`.
    pub(super) fn new(name: &str, n: u64, base: usize) -> Self {
        let first = Revision {
            n,
            parent: None,
            base: None,
            image: base,
            content: image(base),
            deltas: 0,
            reason: "create",
            label: None,
            pinned: false,
        };
        Self {
            name: name.to_owned(),
            revisions: vec![first],
            current: n,
            next: n + 1,
            head: Head::Untouched,
            session: false,
            keep_last: None,
            position: 0,
        }
    }

    pub(crate) fn role(&self) -> Role {
        Role::of(&self.name)
    }

    pub(crate) fn revision(&self, n: u64) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.n == n)
    }

    pub(super) fn revision_mut(&mut self, n: u64) -> Option<&mut Revision> {
        self.revisions.iter_mut().find(|revision| revision.n == n)
    }

    pub(crate) fn at(&self) -> &Revision {
        self.revision(self.current).unwrap_or(&self.revisions[0])
    }

    /// The newest clean revision.
    pub(super) fn clean(&self) -> Option<u64> {
        let clean = self.revisions.iter().rev().find(|r| r.is_clean());
        clean.map(|revision| revision.n)
    }

    pub(super) fn started(&self) -> bool {
        matches!(self.head, Head::Started(_))
    }

    /// Whether the head holds what no start may lose.
    pub(super) fn holds_kept(&self) -> bool {
        self.role().keeps() && self.started()
    }

    /// Whether any revision holds what a guest wrote.
    pub(super) fn holds_writes(&self) -> bool {
        self.revisions.iter().any(|revision| revision.deltas > 0)
    }

    /// A new revision from an image.
    pub(super) fn push_image(&mut self, from: usize) -> u64 {
        self.push(from, image(from), (0, None), "update")
    }

    fn push(
        &mut self,
        image: usize,
        content: Content,
        (deltas, base): (usize, Option<u64>),
        reason: &'static str,
    ) -> u64 {
        let n = self.next;
        self.revisions.push(Revision {
            n,
            parent: Some(self.current),
            base,
            image,
            content,
            deltas,
            reason,
            label: None,
            pinned: false,
        });
        self.next += 1;
        self.current = n;
        n
    }

    /// The head becomes a revision; one that was never started adds nothing to what is there.
    pub(super) fn freeze(&mut self, reason: &'static str) -> u64 {
        let at = self.at().clone();
        let below = at.base.and_then(|base| self.revision(base));
        let adds = at.deltas > below.map_or(0, |below| below.deltas);
        let base = if adds { Some(at.n) } else { at.base };
        let (content, deltas) = match self.head {
            Head::Started(content) => (content, at.deltas + 1),
            Head::Untouched | Head::Torn | Head::Unsure => (at.content, at.deltas),
        };
        if self.started() {
            self.head = Head::Untouched;
        }
        self.push(at.image, content, (deltas, base), reason)
    }

    /// Kept writes become a revision beside the current one.
    pub(super) fn preserve(&mut self, kept: Kept, reason: &'static str) -> Option<u64> {
        let before = self.current;
        let keep = self.holds_kept() && kept == Kept::Preserve;
        let n = keep.then(|| self.freeze(reason));
        self.current = before;
        n
    }

    /// The revisions that a rule to keep the `last` ones lets go, oldest first: never the current one, the newest clean
    /// one, pinned ones, and those of `held`.
    pub(super) fn expired(&self, last: u64, held: &[u64]) -> Vec<u64> {
        let newest = self.revisions.len() - (last as usize).min(self.revisions.len());
        let stays = |revision: &&Revision| {
            revision.pinned
                || revision.n == self.current
                || Some(revision.n) == self.clean()
                || held.contains(&revision.n)
        };
        let old = self.revisions[..newest].iter();
        old.filter(|r| !stays(r)).map(|r| r.n).collect()
    }

    /// Takes revisions out, the newest first. Where one other lies on it, that one gets its deltas; where several do,
    /// it stays. Answers which went.
    pub(super) fn drop_revisions(&mut self, gone: &[u64]) -> Vec<u64> {
        let mut dropped = Vec::new();
        for n in gone.iter().rev() {
            let users = self.revisions.iter().filter(|r| r.base == Some(*n)).count();
            let Some(found) = self.revision(*n).filter(|_| users < 2).cloned() else {
                continue;
            };
            for revision in &mut self.revisions {
                if revision.base == Some(*n) {
                    revision.base = found.base;
                }
                if revision.parent == Some(*n) {
                    revision.parent = found.parent;
                }
            }
            self.revisions.retain(|revision| revision.n != *n);
            dropped.push(*n);
        }
        dropped
    }

    /// Forgets what a guest wrote, but for pinned revisions and those of `named`.
    pub(super) fn drop_writes(&mut self, named: &[u64]) {
        let goes = |r: &&Revision| r.deltas > 0 && !r.pinned && !named.contains(&r.n);
        let gone: Vec<_> = self.revisions.iter().filter(goes).map(|r| r.n).collect();
        let mut gone = gone;
        if gone.contains(&self.current) {
            match self.clean().filter(|clean| !gone.contains(clean)) {
                Some(clean) => self.current = clean,
                None => gone.retain(|n| *n != self.current),
            }
        }
        self.drop_revisions(&gone);
    }
}

//! What each operation does to layers and points in memory. When it is done, and what stands in its way, is in `model`.
//!
//! Left out, since no guest sees it: ports, the image that a layer's spec names, times, and what is said to people.

use stratavm::ErrorKind;

use super::layer::{Head, Layer, Role};
use super::model::{Answer, Kept, Model, Op};

/// What an operation did.
pub(super) struct Done {
    /// The layers that it changed; without any it is as if nobody had asked.
    pub(super) layers: Vec<String>,
    revision: Option<u64>,
    preserved: Option<u64>,
}

impl Done {
    fn on(layer: &str, revision: Option<u64>, preserved: Option<u64>) -> Self {
        Self {
            layers: vec![layer.to_owned()],
            revision,
            preserved,
        }
    }

    fn over(layers: Vec<String>) -> Self {
        Self {
            layers,
            revision: None,
            preserved: None,
        }
    }

    pub(super) fn answer(self) -> Answer {
        Answer::Done {
            revision: self.revision,
            preserved: self.preserved,
        }
    }
}

/// A layer, and the revision that it showed; none: it was not there.
pub(super) type Showed = (String, Option<u64>);

/// The last operation, which may be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    kind: Kind,
    /// What was taken back.
    undid: Option<Kind>,
    /// Its layers, as they were before.
    pub(super) layers: Vec<Showed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It changed nothing that the guest sees.
    Nothing,
    /// What it dropped does not come back.
    Revert,
    Change,
    Undo,
}

/// A named state of several layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) layers: Vec<(String, u64)>,
}

type Result<T> = std::result::Result<T, ErrorKind>;

impl Model {
    /// Does a change of layers, whatever the machine is doing.
    pub(super) fn change(&mut self, op: &Op) -> Result<Done> {
        match op {
            Op::Rollback { layer, to, kept } => {
                let at = self.find(layer)?;
                let target = match to {
                    Some(n) => at.revision(*n).ok_or(ErrorKind::NotFound)?.n,
                    None => at.at().parent.ok_or(ErrorKind::Invalid)?,
                };
                let (before, preserved) = self.go_to(layer, target, *kept, "before-rollback")?;
                self.remember(Kind::Change, vec![before]);
                Ok(Done::on(layer, Some(target), preserved))
            }
            Op::ToPoint { point, kept } => self.go_to_point(point, *kept),
            Op::Update { layer, image, kept } => self.update(layer, *image, *kept),
            Op::Add { layer, image } => self.add(layer, *image),
            Op::TakeBack { layer } => {
                let n = self.bring_back(layer)?;
                self.remember(Kind::Change, vec![(layer.clone(), None)]);
                Ok(Done::on(layer, Some(n), None))
            }
            Op::Remove { layer, kept } => {
                let (before, preserved) = self.put_aside(layer, *kept, "before-remove")?;
                self.remember(Kind::Change, vec![before]);
                Ok(Done::on(layer, None, preserved))
            }
            Op::Rejuvenate => Ok(self.rejuvenate()),
            Op::Accept { layer } => {
                let at = self.find(layer)?;
                if at.role().keeps() || !at.started() {
                    return Err(ErrorKind::Invalid);
                }
                let before = (layer.clone(), Some(at.current));
                let n = at.freeze("accept");
                self.remember(Kind::Change, vec![before]);
                Ok(Done::on(layer, Some(n), None))
            }
            Op::Revert { layer } => self.revert(layer),
            _ => Err(ErrorKind::Unsupported),
        }
    }

    pub(super) fn find(&mut self, name: &str) -> Result<&mut Layer> {
        let layers = self.layers.iter_mut().flatten();
        let mut found = layers.filter(|layer| layer.name == name);
        found.next().ok_or(ErrorKind::NotFound)
    }

    fn remember(&mut self, kind: Kind, layers: Vec<Showed>) {
        self.last = Some(Last {
            kind,
            undid: None,
            layers,
        });
    }

    /// Brings a layer to a revision, on a new head. Answers what it showed before, and the revision that holds what the
    /// guest had written.
    fn go_to(
        &mut self,
        layer: &str,
        to: u64,
        kept: Kept,
        reason: &'static str,
    ) -> Result<(Showed, Option<u64>)> {
        let at = self.find(layer)?;
        at.revision(to).ok_or(ErrorKind::NotFound)?;
        let preserved = at.preserve(kept, reason);
        let showed = preserved.unwrap_or(at.current);
        at.current = to;
        at.head = Head::Untouched;
        Ok(((layer.to_owned(), Some(showed)), preserved))
    }

    fn update(&mut self, layer: &str, image: usize, kept: Kept) -> Result<Done> {
        let at = self.find(layer)?;
        let plain = at.at().deltas == 0;
        if at.role().keeps() && (!plain || at.started()) && kept == Kept::Preserve {
            return Err(ErrorKind::Invalid);
        }
        if at.at().image == image && plain && !at.started() {
            return Ok(Done {
                layers: Vec::new(),
                ..Done::on(layer, Some(at.current), None)
            });
        }
        let before = (layer.to_owned(), Some(at.current));
        let n = at.push_image(image);
        at.head = Head::Untouched;
        self.remember(Kind::Change, vec![before]);
        Ok(Done::on(layer, Some(n), None))
    }

    fn add(&mut self, layer: &str, image: usize) -> Result<Done> {
        if self.find(layer).is_ok() {
            return Err(ErrorKind::Exists);
        }
        // Numbers of a removed layer of that name, and of one that a point names, are not used again.
        let removed = self.removed.iter().filter(|removed| removed.name == layer);
        let named = self.points.iter().flat_map(|point| &point.layers);
        let named = named.filter(|(name, _)| name == layer);
        let used = removed
            .map(|removed| removed.next)
            .chain(named.map(|(_, n)| n + 1));
        let n = used.max().unwrap_or(1);
        let new = Layer::new(layer, n, image);
        self.layers.iter_mut().for_each(|all| all.push(new.clone()));
        self.remember(Kind::Change, vec![(layer.to_owned(), None)]);
        Ok(Done::on(layer, Some(n), None))
    }

    /// Puts a removed layer where it was, on a new head.
    fn bring_back(&mut self, layer: &str) -> Result<u64> {
        if self.find(layer).is_ok() {
            return Err(ErrorKind::Exists);
        }
        let index = self.removed.iter().rposition(|r| r.name == layer);
        let back = self.removed.remove(index.ok_or(ErrorKind::NotFound)?);
        let n = back.current;
        if let Some(layers) = &mut self.layers {
            layers.insert(back.position.min(layers.len()), back);
        }
        Ok(n)
    }

    /// Takes a layer out and keeps it aside.
    fn put_aside(
        &mut self,
        layer: &str,
        kept: Kept,
        reason: &'static str,
    ) -> Result<(Showed, Option<u64>)> {
        if self.find(layer)?.role() == Role::Os {
            return Err(ErrorKind::Invalid);
        }
        let named = self.named(layer);
        let layers = self.layers.iter_mut().flatten();
        let position = layers.take_while(|other| other.name != layer).count();
        let all = self.layers.as_mut().ok_or(ErrorKind::NotFound)?;
        let mut aside = all.remove(position);
        let preserved = aside.preserve(kept, reason);
        aside.position = position;
        aside.head = Head::Untouched;
        aside.session = false;
        aside.current = preserved.unwrap_or(aside.current);
        if kept == Kept::Discard {
            aside.drop_writes(&named);
        }
        let before = (layer.to_owned(), Some(aside.current));
        self.removed.push(aside);
        Ok((before, preserved))
    }

    fn rejuvenate(&mut self) -> Done {
        let mut before = Vec::new();
        for layer in self.layers.iter_mut().flatten() {
            // A torn head that lies there already is nobody's, and made anew at the next start.
            let there = layer.clean() == Some(layer.current) && !layer.started();
            if let Some(clean) = layer.clean().filter(|_| layer.role().resets() && !there) {
                before.push((layer.name.clone(), Some(layer.current)));
                layer.current = clean;
                layer.head = Head::Untouched;
            }
        }
        let done = Done::over(before.iter().map(|(layer, _)| layer.clone()).collect());
        if !before.is_empty() {
            self.remember(Kind::Change, before);
        }
        done
    }

    fn revert(&mut self, layer: &str) -> Result<Done> {
        let at = self.find(layer)?;
        let current = at.current;
        match (at.role().keeps(), at.started(), at.session) {
            (false, ..) => Err(ErrorKind::Invalid),
            (true, false, _) => Ok(Done {
                layers: Vec::new(),
                ..Done::on(layer, Some(current), None)
            }),
            (true, true, false) => Err(ErrorKind::Invalid),
            (true, true, true) => {
                at.head = Head::Untouched;
                self.remember(Kind::Revert, vec![(layer.to_owned(), Some(current))]);
                Ok(Done::on(layer, Some(current), None))
            }
        }
    }

    pub(super) fn snapshot(&mut self, layer: &str) -> Result<Done> {
        let n = self.find(layer)?.freeze("snapshot");
        self.remember(Kind::Nothing, Vec::new());
        Ok(Done::on(layer, Some(n), None))
    }

    pub(super) fn point(&mut self, name: &str, chosen: &[String]) -> Result<Done> {
        if self.points.iter().any(|point| point.name == name) {
            return Err(ErrorKind::Exists);
        }
        for layer in chosen {
            self.find(layer)?;
        }
        let mut layers = Vec::new();
        for layer in self.layers.iter_mut().flatten() {
            if chosen.is_empty() || chosen.contains(&layer.name) {
                if layer.holds_kept() {
                    layer.freeze("point");
                }
                layers.push((layer.name.clone(), layer.current));
            }
        }
        let name = name.to_owned();
        self.points.push(Point { name, layers });
        self.remember(Kind::Nothing, Vec::new());
        Ok(Done::over(Vec::new()))
    }

    fn go_to_point(&mut self, name: &str, kept: Kept) -> Result<Done> {
        let point = self.points.iter().find(|point| point.name == name);
        let point = point.ok_or(ErrorKind::NotFound)?.clone();
        let mut before = Vec::new();
        for (layer, n) in &point.layers {
            let at = self.find(layer)?;
            if at.current != *n || at.holds_kept() {
                before.push(self.go_to(layer, *n, kept, "before-rollback")?.0);
            }
        }
        let done = Done::over(before.iter().map(|(layer, _)| layer.clone()).collect());
        if !before.is_empty() {
            self.remember(Kind::Change, before);
        }
        Ok(done)
    }

    /// Takes the last operation back: each of its layers shows again what it showed before.
    pub(super) fn undo(&mut self) -> Result<Done> {
        let last = self.last.clone().ok_or(ErrorKind::Invalid)?;
        if let Kind::Nothing | Kind::Revert = last.kind {
            return Err(ErrorKind::Invalid);
        }
        let (kept, reason) = (Kept::Preserve, "before-undo");
        let mut done = Done::over(Vec::new());
        let mut now = Vec::new();
        for (layer, showed) in last.layers.iter().rev() {
            let (found, preserved) = match (showed, self.find(layer).is_ok()) {
                (None, false) => continue,
                (None, true) => self.put_aside(layer, kept, reason)?,
                (Some(n), true) => self.go_to(layer, *n, kept, reason)?,
                (Some(n), false) => {
                    if self.bring_back(layer)? != *n {
                        self.go_to(layer, *n, kept, reason)?;
                    }
                    ((layer.clone(), None), None)
                }
            };
            done.preserved = preserved.or(done.preserved);
            done.layers.push(layer.clone());
            now.push(found);
        }
        if let ([(_, showed)], [_]) = (last.layers.as_slice(), done.layers.as_slice()) {
            done.revision = *showed;
        }
        let undid = last.undid.unwrap_or(last.kind);
        // Taking an undo back is doing the operation again.
        let (kind, undid) = match last.kind {
            Kind::Undo => (undid, None),
            _ => (Kind::Undo, Some(undid)),
        };
        self.last = Some(Last {
            kind,
            undid,
            layers: now,
        });
        Ok(done)
    }

    /// The revisions of a layer that points name.
    fn named(&self, layer: &str) -> Vec<u64> {
        let named = self.points.iter().flat_map(|point| &point.layers);
        let named = named.filter(|(name, _)| name == layer);
        named.map(|(_, n)| *n).collect()
    }

    /// Drops what nothing needs any more: revisions, and removed layers.
    pub(super) fn tidy(&mut self) {
        self.retain();
        let points = self.points.iter().flat_map(|point| &point.layers);
        let points = points.map(|(layer, _)| layer.as_str());
        let last = self.last.iter().flat_map(|last| &last.layers);
        let last = last.map(|(layer, _)| layer.as_str());
        let staged = self.next.iter().filter_map(Op::layer);
        let needed: Vec<_> = points.chain(last).chain(staged).collect();
        self.removed
            .retain(|layer| layer.holds_writes() || needed.contains(&layer.name.as_str()));
    }

    /// Drops the revisions that retention lets go. Answers whether there were any.
    pub(super) fn retain(&mut self) -> bool {
        let points = self.points.iter().flat_map(|point| &point.layers);
        let points = points.map(|(layer, n)| (layer.clone(), *n));
        let last = self.last.iter().flat_map(|last| &last.layers);
        let last = last.filter_map(|(layer, n)| Some((layer.clone(), (*n)?)));
        let staged = self.next.iter().filter_map(|op| match op {
            Op::Rollback { layer, to, .. } => Some((layer.clone(), (*to)?)),
            _ => None,
        });
        let held: Vec<_> = points.chain(last).chain(staged).collect();
        let mut dropped = false;
        for layer in self.layers.iter_mut().flatten() {
            let Some(last) = layer.keep_last.or(self.keep_last) else {
                continue;
            };
            let held = held.iter().filter(|(name, _)| *name == layer.name);
            let held: Vec<_> = held.map(|(_, n)| *n).collect();
            let gone = layer.expired(last, &held);
            dropped |= !layer.drop_revisions(&gone).is_empty();
        }
        dropped
    }
}

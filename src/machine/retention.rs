//! Which revisions of a layer are dropped: the rule as data, and what follows from it as a pure
//! function.
//!
//! Nothing that a kept revision is made of is ever dropped. The files of what is dropped go with
//! the change that drops it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::record::Record;
use super::revision::{Delta, History};
use crate::format::Unknown;
use crate::spec::Name;
use crate::timestamp::Timestamp;

const DAY: i64 = 24 * 60 * 60;

/// Which revisions are kept. Where both rules are given, a revision that either one keeps is kept;
/// where none is, all are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Retention {
    /// The newest ones, as many as this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u64>,
    /// Those that are not older than this, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u64>,
    /// Keys of newer versions, kept as they are.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Retention {
    /// The rule that keeps the newest `keep_last` and what is younger than `keep_days`.
    #[must_use]
    pub fn new(keep_last: Option<u64>, keep_days: Option<u64>) -> Self {
        Self {
            keep_last,
            keep_days,
            unknown: Unknown::new(),
        }
    }

    /// Whether it keeps everything.
    #[must_use]
    pub const fn keeps_all(&self) -> bool {
        self.keep_last.is_none() && self.keep_days.is_none()
    }
}

impl Record {
    /// Drops the revisions that no rule keeps, and says which, by layer. Pure: their files go when
    /// the record is saved.
    pub(super) fn retain(&mut self, now: Timestamp) -> Vec<(Name, Vec<u64>)> {
        let held = self.held();
        let machine = self.retention.clone().unwrap_or_default();
        let layers = self.layers.iter_mut().map(|layer| {
            let rule = layer.retention.clone().unwrap_or_else(|| machine.clone());
            (layer.spec.name.clone(), &mut layer.history, rule)
        });
        let mut dropped = Vec::new();
        for (name, history, rule) in layers {
            let held = held.iter().filter(|(layer, _)| *layer == name);
            let held = held.map(|(_, n)| *n).collect();
            let gone = expendable(history, &rule, &held, now);
            let gone = drop_revisions(history, &gone);
            if !gone.is_empty() {
                dropped.push((name, gone));
            }
        }
        dropped
    }

    /// The revisions that something beside their layer refers to.
    fn held(&self) -> BTreeSet<(Name, u64)> {
        let points = self.points.iter().flat_map(|point| &point.layers);
        let points = points.map(|entry| (entry.layer.clone(), entry.revision));
        let last = self.last.iter().flat_map(|last| &last.layers);
        let last = last.filter_map(|before| Some((before.layer.clone(), before.revision?)));
        let staged = self.next.iter().filter_map(|staged| staged.change.target());
        points.chain(last).chain(staged).collect()
    }
}

/// The revisions that `rule` does not keep and nothing else needs, oldest first. Never the current
/// one, the newest clean one, pinned ones, and those that are `held`.
fn expendable(
    history: &History,
    rule: &Retention,
    held: &BTreeSet<u64>,
    now: Timestamp,
) -> Vec<u64> {
    if rule.keeps_all() {
        return Vec::new();
    }
    let count = history.revisions.len();
    let last = rule.keep_last.map_or(0, |last| {
        usize::try_from(last).unwrap_or(usize::MAX).min(count)
    });
    let oldest = rule.keep_days.map(|days| {
        let seconds = i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY);
        now.unix_seconds().saturating_sub(seconds)
    });
    let clean = history.clean().map(|clean| clean.n);
    let mut gone = Vec::new();
    // A clock that was set back makes a revision look older than one that came before it: it is at
    // least as young as that. What is from the future counts as made now.
    let mut made = i64::MIN;
    for (index, revision) in history.revisions.iter().enumerate() {
        made = made.max(revision.time.unix_seconds().min(now.unix_seconds()));
        let young = oldest.is_some_and(|oldest| made >= oldest);
        let kept = young
            || index >= count - last
            || revision.pinned
            || revision.n == history.current
            || Some(revision.n) == clean
            || held.contains(&revision.n);
        if !kept {
            gone.push(revision.n);
        }
    }
    gone
}

/// Takes the revisions `gone` out of a history and answers which went. A delta that one other
/// revision needs goes to that one; a revision that several others lie on stays.
pub(super) fn drop_revisions(history: &mut History, gone: &[u64]) -> Vec<u64> {
    let gone: BTreeSet<u64> = gone.iter().copied().collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let dropped = join_deltas(history, &gone);
    // The nearest revision below each one that stays.
    let mut heirs: Vec<Option<u64>> = Vec::with_capacity(dropped.len());
    for index in 0..dropped.len() {
        let parent = history.revisions[index].parent;
        let place = parent.and_then(|parent| history.position(parent));
        let heir = match place {
            Some(place) if dropped[place] => heirs[place],
            _ => parent,
        };
        heirs.push(heir);
        history.revisions[index].parent = heir;
    }
    let numbers = history.revisions.iter().zip(&dropped);
    let numbers = numbers.filter(|(_, dropped)| **dropped).map(|(r, _)| r.n);
    let numbers: Vec<_> = numbers.collect();
    let mut stays = dropped.iter().map(|dropped| !dropped);
    history.revisions.retain(|_| stays.next().unwrap_or(true));
    numbers
}

/// Decides by place which revisions of `gone` go, and puts what others need of them there. From the
/// newest down, so that whole branches go; each revision is looked at once.
fn join_deltas(history: &mut History, gone: &BTreeSet<u64>) -> Vec<bool> {
    let count = history.revisions.len();
    let below = |history: &History, index: usize| {
        let base = history.revisions[index].base;
        base.and_then(|base| history.position(base))
    };
    // Who lies on each revision: how many there are, and those that ever did.
    let mut users = vec![0_usize; count];
    let mut above: Vec<Vec<usize>> = vec![Vec::new(); count];
    for index in 0..count {
        if let Some(base) = below(history, index) {
            users[base] += 1;
            above[base].push(index);
        }
    }
    // What comes to a revision from below, highest first.
    let mut taken: Vec<Vec<Delta>> = vec![Vec::new(); count];
    let mut dropped = vec![false; count];
    for index in (0..count).rev() {
        if !gone.contains(&history.revisions[index].n) || users[index] > 1 {
            continue;
        }
        dropped[index] = true;
        let base = below(history, index);
        let user = above[index].iter().copied().find(|&user| !dropped[user]);
        match user {
            None => {
                if let Some(base) = base {
                    users[base] -= 1;
                }
            }
            Some(user) => {
                let own = std::mem::take(&mut history.revisions[index].deltas);
                taken[user].extend(own.into_iter().rev());
                history.revisions[user].base = history.revisions[index].base;
                if let Some(base) = base {
                    above[base].push(user);
                }
            }
        }
    }
    for (revision, mut deltas) in history.revisions.iter_mut().zip(taken) {
        deltas.reverse();
        deltas.append(&mut revision.deltas);
        revision.deltas = deltas;
    }
    dropped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::chain::Family;
    use crate::image::ImageDigest;
    use crate::machine::revision::{Content, DeltaId, NewRevision, Reason};

    fn image(n: u8) -> ImageDigest {
        ImageDigest::from_chunks(1 << 20, [[n; 32]])
    }

    fn at(seconds: i64) -> Timestamp {
        let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let text = time.format(&time::format_description::well_known::Rfc3339);
        text.unwrap().parse().unwrap()
    }

    /// One revision: where it is made, what it adds, why, how long after the one before, pinned.
    type Drawn = (usize, u8, bool, i64, bool);

    fn history(drawn: &[Drawn]) -> History {
        let mut history = History::new(1, image(0), at(1_000_000));
        let (mut generation, mut time) = (0, 1_000_000);
        for (parent, kind, update, later, pinned) in drawn {
            let count = history.revisions.len();
            history.current = history.revisions[parent % count].n;
            time += later;
            let current = history.find(history.current).unwrap().image;
            generation += 1;
            let delta = DeltaId {
                generation,
                family: Family::Vmdk,
                extent_sectors: None,
            };
            let (image, content, reason) = match (update, kind % 3) {
                (true, _) => (image(kind % 2), Content::Image, Reason::Update),
                (_, 0) => (current, Content::Frozen(None), Reason::Snapshot),
                _ => (
                    current,
                    Content::Frozen(Some(delta)),
                    Reason::BeforeRollback,
                ),
            };
            let n = history.push(NewRevision {
                image,
                content,
                time: at(time),
                label: None,
                reason,
            });
            history.find_mut(n).unwrap().pinned = *pinned;
        }
        history
    }

    fn contents(history: &History) -> BTreeMap<u64, (ImageDigest, Vec<DeltaId>)> {
        let chain = |n| history.chain(n).into_iter().map(|link| link.delta);
        let all = history.revisions.iter();
        all.map(|r| (r.n, (r.image, chain(r.n).collect())))
            .collect()
    }

    fn check(history: &History) {
        history.check(&"home".parse().unwrap()).unwrap();
        let mut once = HashSet::new();
        assert!(
            history
                .deltas()
                .all(|(_, delta)| once.insert(delta.generation))
        );
    }

    proptest! {
        /// What stays is made of just what it was made of, and nothing that must stay goes.
        #[test]
        fn what_stays_is_what_it_was(
            drawn in prop::collection::vec((0..40_usize, any::<u8>(), prop::bool::weighted(0.2), -5_i64..50, prop::bool::weighted(0.1)), 1..40),
            (last, days) in (prop::option::of(0..6_u64), prop::option::of(0..3_u64)),
            held in prop::collection::btree_set(1..40_u64, 0..3),
            current in 0..40_usize,
        ) {
            let drawn: Vec<_> = drawn.into_iter().map(|(a, b, c, hours, e)| (a, b, c, hours * 3600, e)).collect();
            let mut now = history(&drawn);
            now.current = now.revisions[current % now.revisions.len()].n;
            check(&now);
            let (before, whole) = (contents(&now), now.clone());
            let clock = at(1_000_000 + 20 * DAY);
            let rule = Retention::new(last, days);
            let gone = expendable(&now, &rule, &held, clock);
            let dropped = drop_revisions(&mut now, &gone);
            check(&now);
            prop_assert!(dropped.iter().all(|n| gone.contains(n)));
            let after = contents(&now);
            prop_assert_eq!(after.len() + dropped.len(), before.len());
            for (n, content) in &after {
                prop_assert_eq!(content, &before[n]);
            }
            prop_assert!(after.contains_key(&whole.current));
            prop_assert!(after.contains_key(&whole.clean().unwrap().n));
            for (index, revision) in whole.revisions.iter().enumerate() {
                let newest = last.is_some_and(|last| index + last as usize >= whole.revisions.len());
                let kept = revision.pinned || held.contains(&revision.n) || newest || rule.keeps_all();
                prop_assert!(!kept || after.contains_key(&revision.n), "revision {}", revision.n);
            }
            prop_assert_eq!(now.clean().map(|c| c.n), whole.clean().map(|c| c.n));
            // A revision stays against the rule only where two others lie on it.
            for n in gone.iter().filter(|n| after.contains_key(n)) {
                let users = now.revisions.iter().filter(|r| r.base == Some(*n)).count();
                prop_assert!(users > 1, "revision {n} stays for {users}");
            }
        }
    }

    fn days(history: &History, keep: u64, now: i64) -> Vec<u64> {
        let rule = Retention::new(None, Some(keep));
        expendable(history, &rule, &BTreeSet::new(), at(now))
    }

    #[test]
    fn a_clock_that_jumps_makes_nothing_older() {
        // Made on day 0, 1, 2; then the clock falls back to day 0; then it is right again, day 3.
        let on = |drawn: &[i64]| {
            let list: Vec<Drawn> = (0..drawn.len())
                .map(|i| (i, 1, false, drawn[i] * DAY, false))
                .collect();
            history(&list)
        };
        let history = on(&[1, 1, -2, 3]);
        let start = 1_000_000;
        assert_eq!(days(&history, 10, start + 3 * DAY), Vec::<u64>::new());
        // Revision 4 says day 0, but came after 3 of day 2.
        assert_eq!(days(&history, 1, start + 3 * DAY), [2]);
        // A clock that is behind drops nothing, one that says a far future what is old by it alone.
        assert_eq!(days(&history, 0, start - 100 * DAY), Vec::<u64>::new());
        assert_eq!(days(&history, 1, start + 100 * DAY), [2, 3, 4]);
        // One revision from the future: those after it count as made now.
        let future = on(&[1, 1000, -1000, 1]);
        assert_eq!(days(&future, 1, start + 30 * DAY), [2]);
    }

    #[test]
    fn a_long_chain_goes_to_the_one_that_needs_it() {
        let drawn: Vec<Drawn> = (0..10_000).map(|i| (i, 1, false, 1, false)).collect();
        let mut history = history(&drawn);
        let before = contents_of(&history, 10_001);
        let gone = expendable(
            &history,
            &Retention::new(Some(1), None),
            &BTreeSet::new(),
            at(2_000_000),
        );
        assert_eq!(gone.len(), 9_999);
        assert_eq!(drop_revisions(&mut history, &gone).len(), 9_999);
        check(&history);
        assert_eq!(contents_of(&history, 10_001), before);
        // And ten thousand leaves on one revision all go.
        let drawn: Vec<Drawn> = (0..10_000)
            .map(|i| (i.min(1), 1, false, 1, false))
            .collect();
        let mut history = self::history(&drawn);
        let gone: Vec<_> = (3..=10_000).collect();
        assert_eq!(drop_revisions(&mut history, &gone).len(), 9_998);
        check(&history);
    }

    fn contents_of(history: &History, n: u64) -> Vec<DeltaId> {
        let chain = history.chain(n).into_iter();
        chain.map(|link| link.delta).collect()
    }
}

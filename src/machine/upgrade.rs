//! Bringing a `machine.json` of an older version to this one, step by step, in memory: it is written
//! as the new version by the next change.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::format::Upgrade;

/// The step from each version to the next; the first is from version 1.
pub(super) const STEPS: &[Upgrade] = &[from_1];

/// Version 2 gathers what was of revisions in a layer in `history`, gives each frozen delta to one
/// revision, which says on which other one it lies, and leaves removed layers without a head.
fn from_1(record: &mut Map<String, Value>) {
    for layer in objects(record.get_mut("layers")) {
        gather(layer);
    }
    for layer in objects(record.get_mut("removed")) {
        gather(layer);
        // It was no head of anything: its file was never made.
        layer.remove("head");
        show_newest(layer);
    }
}

fn objects(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let list = list.and_then(Value::as_array_mut).into_iter().flatten();
    list.filter_map(Value::as_object_mut)
}

/// Moves what was of revisions into `history`.
fn gather(layer: &mut Map<String, Value>) {
    let mut history = Map::new();
    for key in ["revisions", "current", "next-revision"] {
        if let Some(value) = layer.remove(key) {
            history.insert(key.to_owned(), value);
        }
    }
    if let Some(Value::Array(revisions)) = history.get_mut("revisions") {
        share(revisions);
    }
    layer.insert("history".to_owned(), Value::Object(history));
}

/// A removed layer comes back at what the guest saw last, which its removal froze.
fn show_newest(layer: &mut Map<String, Value>) {
    let Some(history) = layer.get_mut("history").and_then(Value::as_object_mut) else {
        return;
    };
    let newest = history
        .get("revisions")
        .and_then(Value::as_array)
        .and_then(|revisions| revisions.last())
        .filter(|newest| newest["reason"] == "before-remove")
        .map(|newest| newest["n"].clone());
    if let Some(n) = newest {
        history.insert("current".to_owned(), n);
    }
}

/// What is needed of a revision that was looked at.
struct Seen {
    base: Option<u64>,
    image: Value,
    /// All its deltas, those of its bases included.
    all: Vec<Value>,
    adds: bool,
}

/// Gives each delta to the revision that froze it: a child had its parent's deltas and its own.
fn share(revisions: &mut [Value]) {
    let mut seen: HashMap<u64, Seen> = HashMap::new();
    for revision in revisions.iter_mut().filter_map(Value::as_object_mut) {
        let Some(n) = revision.get("n").and_then(Value::as_u64) else {
            // No revision at all: reading it says so.
            continue;
        };
        let Some(Value::Array(all)) = revision.remove("deltas") else {
            continue;
        };
        let image = revision.get("image").cloned().unwrap_or_default();
        let parent = revision.get("parent").and_then(Value::as_u64);
        let below = parent.and_then(|parent| seen.get(&parent).map(|found| (parent, found)));
        let below = below.filter(|(_, found)| found.image == image && all.starts_with(&found.all));
        let (base, shared) = match below {
            // A revision that adds nothing is no base: what it lies on is.
            Some((n, found)) if found.adds => (Some(n), found.all.len()),
            Some((_, found)) => (found.base, found.all.len()),
            None => (None, 0),
        };
        let own = all[shared..].to_vec();
        if let Some(base) = base {
            revision.insert("base".to_owned(), base.into());
        }
        let adds = !own.is_empty();
        revision.insert("deltas".to_owned(), own.into());
        seen.insert(
            n,
            Seen {
                base,
                image,
                all,
                adds,
            },
        );
    }
}

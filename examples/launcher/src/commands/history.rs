//! `layers` and `history`: what a machine's layers are, where they have been, and what waits.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stratavm::Result;
use stratavm::machine::Machine;
use stratavm::machine::layer::{LayerState, RemovedLayer};
use stratavm::machine::record::Record;
use stratavm::machine::revision::Revision;
use stratavm::machine::staged::Staged;
use stratavm::spec::Writes;

use super::revision::point_value;
use crate::cli::history::{History, Layers};
use crate::context::Context;
use crate::output::{Answer, bytes, table};

/// How far branches are indented at most.
const DEEPEST: usize = 12;

pub(crate) fn layers(context: &Context, args: &Layers) -> Result<Answer> {
    let machine = context.machine(&args.name)?;
    let record = machine.record()?;
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for layer in &record.layers {
        let current = layer.current()?;
        let used = machine.disk_usage(layer)?;
        let staged: Vec<_> = staged_for(&record, layer).collect();
        let next = next_start(layer);
        let mut shown: Vec<_> = staged
            .iter()
            .map(|s| s.change.operation().as_str())
            .collect();
        shown.push(next);
        let (history, revisions) = (&layer.history, layer.history.revisions.len());
        rows.push(vec![
            layer.name().to_string(),
            layer.spec.role.to_string(),
            format!("{} of {revisions}", history.current),
            bytes(used),
            shown.join(", then "),
            current.image.to_string(),
        ]);
        values.push(json!({
            "name": layer.name().as_str(),
            "role": layer.spec.role.as_str(),
            "title": layer.spec.title,
            "image": current.image.to_string(),
            "current": history.current,
            "revisions": revisions,
            "bytes": used,
            "writes": layer.spec.effective_writes().as_str(),
            "rejuvenate": layer.spec.effective_rejuvenate().as_str(),
            "next-start": next,
            "staged": staged.iter().map(|s| s.change.to_string()).collect::<Vec<_>>(),
        }));
    }
    let mut text = match args.removed {
        true => removed_table(&record),
        false => table(&LAYERS, &rows),
    };
    if !record.next.is_empty() {
        text.push_str("\nat the next start:");
        for staged in &record.next {
            text.push_str(&format!("\n  {}", staged.change));
        }
    }
    let staged: Vec<_> = record.next.iter().map(staged_value).collect();
    let removed: Vec<_> = record.removed.iter().map(removed_value).collect();
    let name = args.name.as_str();
    Ok(Answer::new(
        text,
        json!({"name": name, "layers": values, "staged": staged, "removed": removed}),
    ))
}

const LAYERS: [&str; 6] = [
    "LAYER",
    "ROLE",
    "REVISION",
    "SIZE",
    "AT THE NEXT START",
    "IMAGE",
];

/// The staged changes that this layer is part of.
fn staged_for<'a>(record: &'a Record, layer: &'a LayerState) -> impl Iterator<Item = &'a Staged> {
    let of_layer = |staged: &&Staged| staged.change.layer() == Some(layer.name());
    record.next.iter().filter(of_layer)
}

fn staged_value(staged: &Staged) -> Value {
    json!({
        "operation": staged.change.operation().as_str(),
        "layer": staged.change.layer().map(|layer| layer.as_str()),
        "change": staged.change.to_string(),
        "time": staged.time.to_string(),
    })
}

fn removed_table(record: &Record) -> String {
    if record.removed.is_empty() {
        return "no removed layer can be taken back".to_owned();
    }
    let row = |layer: &RemovedLayer| {
        vec![
            layer.name().to_string(),
            layer.spec.role.to_string(),
            layer.history.revisions.len().to_string(),
            layer
                .time
                .map_or_else(|| "-".to_owned(), |time| time.to_string()),
        ]
    };
    let rows: Vec<_> = record.removed.iter().map(row).collect();
    let head = ["REMOVED", "ROLE", "REVISIONS", "WHEN"];
    format!(
        "{}\n`stratavm add {} --back LAYER` takes one back",
        table(&head, &rows),
        record.name
    )
}

fn removed_value(layer: &RemovedLayer) -> Value {
    json!({
        "name": layer.name().as_str(),
        "role": layer.spec.role.as_str(),
        "revisions": layer.history.revisions.len(),
        "current": layer.history.current,
        "time": layer.time.map(|time| time.to_string()),
        "holds-writes": layer.holds_writes(),
    })
}

/// What happens to a layer when the machine is started.
fn next_start(layer: &LayerState) -> &'static str {
    match layer.spec.effective_writes() {
        Writes::Discard if layer.holds_edit() => "edit set aside, fresh head",
        Writes::Discard => "fresh head",
        _ => "kept",
    }
}

pub(crate) fn history(context: &Context, args: &History) -> Result<Answer> {
    let machine = context.machine(&args.name)?;
    let record = machine.record()?;
    let chosen: Vec<&LayerState> = match &args.layer {
        Some(layer) => vec![record.layer(layer)?],
        None => record.layers.iter().collect(),
    };
    let (mut text, mut layers) = (Vec::new(), Vec::new());
    for layer in chosen {
        let (table, value) = layer_history(&machine, &record, layer)?;
        if args.layer.is_none() {
            text.push(format!("{}:", layer.name()));
        }
        text.push(table);
        layers.push(value);
    }
    let last = record.last.as_ref().map(|last| {
        let names: Vec<_> = last.layers.iter().map(|b| b.layer.as_str()).collect();
        let undid = last.undid.map(|undid| undid.as_str());
        let of = undid
            .map(|undid| format!(" of {undid}"))
            .unwrap_or_default();
        text.push(format!(
            "last operation: {}{of}{} at {}",
            last.operation.as_str(),
            match names.is_empty() {
                true => String::new(),
                false => format!(" {}", names.join(", ")),
            },
            last.time
        ));
        json!({
            "operation": last.operation.as_str(),
            "undid": undid,
            "layers": names,
            "time": last.time.to_string(),
        })
    });
    let points: Vec<_> = record.points.iter().map(point_value).collect();
    let revisions = match &args.layer {
        Some(_) => layers[0]["revisions"].clone(),
        None => json!([]),
    };
    Ok(Answer::new(
        text.join("\n"),
        json!({
            "name": args.name.as_str(),
            "layer": args.layer.as_ref().map(|layer| layer.as_str()),
            "revisions": revisions,
            "layers": layers,
            "points": points,
            "last": last,
        }),
    ))
}

/// The revisions of one layer, for people and as a value.
fn layer_history(
    machine: &Machine,
    record: &Record,
    layer: &LayerState,
) -> Result<(String, Value)> {
    let (history, name) = (&layer.history, layer.name());
    let sizes = machine.revision_bytes(record, layer)?;
    let clean = history.clean().map(|clean| clean.n);
    let mut named: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for point in &record.points {
        for entry in point.layers.iter().filter(|entry| entry.layer == *name) {
            named
                .entry(entry.revision)
                .or_default()
                .push(point.name.as_str());
        }
    }
    // How many deltas a revision is made of: those of its base, which is older, and its own.
    let mut depth: BTreeMap<u64, usize> = BTreeMap::new();
    for revision in &history.revisions {
        let below = revision.base.and_then(|base| depth.get(&base));
        let all = below.copied().unwrap_or(0) + revision.deltas.len();
        depth.insert(revision.n, all);
    }
    let indent = branches(&history.revisions);
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (revision, size) in history.revisions.iter().zip(sizes) {
        let n = revision.n;
        let points = named.remove(&n).unwrap_or_default();
        let parent = revision.parent.map(|parent| parent.to_string());
        let marks = [
            (Some(n) == clean).then_some("clean"),
            revision.pinned.then_some("pinned"),
        ];
        let marks = marks.into_iter().flatten().map(str::to_owned);
        let of_points = points.iter().map(|point| format!("point {point}"));
        let (current, depth) = (n == history.current, depth.get(&n).copied().unwrap_or(0));
        rows.push(vec![
            format!(
                "{}{}{n}",
                if current { "* " } else { "  " },
                " ".repeat(2 * indent.get(&n).copied().unwrap_or(0).min(DEEPEST))
            ),
            parent.unwrap_or_else(|| "-".to_owned()),
            revision.time.to_string(),
            revision.reason.as_str().to_owned(),
            depth.to_string(),
            bytes(size),
            marks.chain(of_points).collect::<Vec<_>>().join(", "),
            revision.label.clone().unwrap_or_default(),
        ]);
        values.push(json!({
            "n": n,
            "parent": revision.parent,
            "current": current,
            "clean": Some(n) == clean,
            "image": revision.image.to_string(),
            "deltas": depth,
            "bytes": size,
            "time": revision.time.to_string(),
            "label": revision.label,
            "reason": revision.reason.as_str(),
            "pinned": revision.pinned,
            "points": points,
        }));
    }
    let head = [
        "  REVISION",
        "PARENT",
        "TIME",
        "REASON",
        "DELTAS",
        "SIZE",
        "MARKS",
        "LABEL",
    ];
    let value = json!({"layer": name.as_str(), "revisions": values});
    Ok((table(&head, &rows), value))
}

/// How far each revision is from the main line: the newest child goes on with its parent's line.
fn branches(revisions: &[Revision]) -> BTreeMap<u64, usize> {
    let mut newest = BTreeMap::new();
    for revision in revisions {
        newest.insert(revision.parent, revision.n);
    }
    let mut found = BTreeMap::new();
    for revision in revisions {
        let parent = revision.parent.and_then(|parent| found.get(&parent));
        let aside = newest.get(&revision.parent) != Some(&revision.n);
        let level: usize = parent.copied().unwrap_or(0) + usize::from(aside);
        found.insert(revision.n, level);
    }
    found
}

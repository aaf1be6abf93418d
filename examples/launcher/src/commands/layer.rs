//! `layers`, `history` and the layer operations.

use std::path::Path;

use serde_json::{Value, json};
use stratavm::Result;
use stratavm::machine::layer::LayerState;
use stratavm::machine::revision::Revision;
use stratavm::machine::{Kept, Machine, Operation};
use stratavm::spec::{LayerSpec, Name, Rejuvenate, Writes};

use crate::cli::{Add, OfLayer, Remove, Rollback, Snapshot, Update};
use crate::context::Context;
use crate::output::{Answer, bytes, table};

pub(crate) fn layers(context: &Context, name: &Name) -> Result<Answer> {
    let machine = context.machine(name)?;
    let record = machine.record()?;
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for layer in &record.layers {
        let current = layer.current()?;
        let used = machine.disk_usage(layer)?;
        let next = next_start(layer);
        rows.push(vec![
            layer.name().to_string(),
            layer.spec.role.to_string(),
            format!(
                "{} of {}",
                layer.history.current,
                layer.history.revisions.len()
            ),
            bytes(used),
            next.to_owned(),
            current.image.to_string(),
        ]);
        values.push(json!({
            "name": layer.name().as_str(),
            "role": layer.spec.role.as_str(),
            "title": layer.spec.title,
            "image": current.image.to_string(),
            "current": layer.history.current,
            "revisions": layer.history.revisions.len(),
            "bytes": used,
            "writes": writes(layer),
            "rejuvenate": rejuvenation(layer),
            "next-start": next,
            "staged": Value::Null,
        }));
    }
    let head = [
        "LAYER",
        "ROLE",
        "REVISION",
        "SIZE",
        "AT THE NEXT START",
        "IMAGE",
    ];
    Ok(Answer::new(
        table(&head, &rows),
        json!({"name": name.as_str(), "layers": values}),
    ))
}

/// What happens to a layer when the machine is started.
fn next_start(layer: &LayerState) -> &'static str {
    match layer.spec.effective_writes() {
        Writes::Discard => "fresh head",
        _ => "kept",
    }
}

fn writes(layer: &LayerState) -> &'static str {
    match layer.spec.effective_writes() {
        Writes::Discard => "discard",
        _ => "keep",
    }
}

fn rejuvenation(layer: &LayerState) -> &'static str {
    match layer.spec.effective_rejuvenate() {
        Rejuvenate::Reset => "reset",
        _ => "keep",
    }
}

pub(crate) fn history(context: &Context, args: &OfLayer) -> Result<Answer> {
    let record = context.machine(&args.name)?.record()?;
    let layer = record.layer(&args.layer)?;
    let row = |revision: &Revision| {
        vec![
            format!(
                "{}{}",
                if revision.n == layer.history.current {
                    "* "
                } else {
                    "  "
                },
                revision.n
            ),
            revision
                .parent
                .map_or_else(|| "-".to_owned(), |parent| parent.to_string()),
            revision.time.to_string(),
            revision.reason.as_str().to_owned(),
            layer.history.chain(revision.n).len().to_string(),
            revision.label.clone().unwrap_or_default(),
        ]
    };
    let value = |revision: &Revision| {
        json!({
            "n": revision.n,
            "parent": revision.parent,
            "current": revision.n == layer.history.current,
            "image": revision.image.to_string(),
            "deltas": layer.history.chain(revision.n).len(),
            "time": revision.time.to_string(),
            "label": revision.label,
            "reason": revision.reason.as_str(),
            "pinned": revision.pinned,
        })
    };
    let rows: Vec<_> = layer.history.revisions.iter().map(row).collect();
    let values: Vec<_> = layer.history.revisions.iter().map(value).collect();
    let head = ["  REVISION", "PARENT", "TIME", "REASON", "DELTAS", "LABEL"];
    Ok(Answer::new(
        table(&head, &rows),
        json!({"name": args.name.as_str(), "layer": args.layer.as_str(), "revisions": values}),
    ))
}

pub(crate) fn snapshot(context: &Context, args: &Snapshot) -> Result<Answer> {
    let machine = context.machine(&args.of.name)?;
    let done = machine.snapshot(&args.of.layer, args.label.clone())?;
    Ok(operation(&machine, "snapshot", &done))
}

pub(crate) fn rollback(context: &Context, args: &Rollback) -> Result<Answer> {
    let machine = context.machine(&args.of.name)?;
    let done = machine.rollback(&args.of.layer, args.to, kept(args.discard_writes))?;
    Ok(operation(&machine, "rollback", &done))
}

pub(crate) fn update(context: &Context, args: &Update) -> Result<Answer> {
    let machine = context.machine(&args.of.name)?;
    // Nobody frees the image between here and the machine's change.
    let _held = machine.store().hold_images()?;
    let record = machine.record()?;
    let mut layer = record.layer(&args.of.layer)?.spec.clone();
    layer.image = Some(args.image.clone());
    layer.size = None;
    // The image is relative to where the command is given, not to the spec's old folder.
    let image =
        machine
            .store()
            .layer_image(&record.spec, &layer, Path::new(""), context.cancellable())?;
    let done = machine.update(
        &args.of.layer,
        &image.meta.digest,
        kept(args.discard_writes),
    )?;
    Ok(operation(&machine, "update", &done))
}

pub(crate) fn add(context: &Context, args: &Add) -> Result<Answer> {
    let machine = context.machine(&args.name)?;
    let _held = machine.store().hold_images()?;
    let record = machine.record()?;
    let mut layer = LayerSpec::from_path(&args.layer_spec)?;
    let folder = args.layer_spec.parent().unwrap_or(Path::new(""));
    let image = machine
        .store()
        .layer_image(&record.spec, &layer, folder, context.cancellable())?;
    if layer.image.is_some() {
        layer.image = Some(image.meta.digest.to_string());
    }
    let done = machine.add_layer(&layer, &image.meta.digest)?;
    Ok(operation(&machine, "add", &done))
}

pub(crate) fn remove(context: &Context, args: &Remove) -> Result<Answer> {
    let machine = context.machine(&args.of.name)?;
    let done = machine.remove_layer(&args.of.layer, kept(args.discard_writes))?;
    Ok(operation(&machine, "remove", &done))
}

pub(crate) fn rejuvenate(context: &Context, name: &Name) -> Result<Answer> {
    let machine = context.machine(name)?;
    let done = machine.rejuvenate()?;
    Ok(operation(&machine, "rejuvenate", &done))
}

fn kept(discard_writes: bool) -> Kept {
    if discard_writes {
        Kept::Discard
    } else {
        Kept::Preserve
    }
}

fn operation(machine: &Machine, what: &str, done: &Operation) -> Answer {
    let layers: Vec<_> = done.layers.iter().map(Name::as_str).collect();
    let mut text = match layers.as_slice() {
        [] => format!("{what}: nothing to do"),
        layers => format!("{what}: {}", layers.join(", ")),
    };
    if let Some(n) = done.revision {
        text.push_str(&format!(", now at revision {n}"));
    }
    if let Some(n) = done.preserved {
        text.push_str(&format!(
            "\n  what the guest had written is kept as revision {n}"
        ));
    }
    for note in &done.notes {
        text.push_str(&format!("\n  {note}"));
    }
    let json = json!({
        "name": machine.name().as_str(),
        "operation": what,
        "layers": layers,
        "revision": done.revision,
        "preserved": done.preserved,
        "notes": done.notes,
    });
    Answer::new(text, json)
}

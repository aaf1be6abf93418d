//! The layer operations, and taking them back.

use std::path::Path;

use serde_json::json;
use stratavm::machine::{Kept, Machine, Operation, When};
use stratavm::spec::{LayerSpec, Name};
use stratavm::{Error, Result};

use crate::cli::{Add, Remove, Rollback, Snapshot, Update};
use crate::context::Context;
use crate::output::Answer;

pub(crate) fn snapshot(context: &Context, args: &Snapshot) -> Result<Answer> {
    let machine = context.machine(&args.of.name)?;
    let done = machine.snapshot(&args.of.layer, args.label.clone())?;
    Ok(operation(&machine, "snapshot", &done))
}

pub(crate) fn rollback(context: &Context, args: &Rollback) -> Result<Answer> {
    let machine = context.machine(&args.name)?;
    let kept = kept(args.discard_writes);
    let done = match (&args.to_point, &args.layer) {
        (Some(point), _) => machine.rollback_to_point(point, kept)?,
        (None, Some(layer)) => machine.rollback(layer, args.to, kept)?,
        (None, None) => return Err(Error::invalid("no layer and no point is named")),
    };
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
    let path = match (&args.back, &args.layer_spec) {
        (Some(layer), _) => {
            let done = machine.take_back_layer(layer)?;
            return Ok(operation(&machine, "add", &done));
        }
        (None, Some(path)) => path,
        (None, None) => return Err(Error::invalid("no layer is named")),
    };
    let record = machine.record()?;
    let mut layer = LayerSpec::from_path(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
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

pub(crate) fn undo(context: &Context, name: &Name) -> Result<Answer> {
    let machine = context.machine(name)?;
    let done = machine.undo()?;
    Ok(operation(&machine, "undo", &done))
}

fn kept(discard_writes: bool) -> Kept {
    if discard_writes {
        Kept::Discard
    } else {
        Kept::Preserve
    }
}

pub(super) fn operation(machine: &Machine, what: &str, done: &Operation) -> Answer {
    let layers: Vec<_> = done.layers.iter().map(Name::as_str).collect();
    let mut text = match layers.as_slice() {
        [] if done.notes.is_empty() => format!("{what}: nothing to do"),
        [] => format!("{what}:"),
        layers => format!("{what}: {}", layers.join(", ")),
    };
    if done.when == When::NextStart && !layers.is_empty() {
        text.push_str(&format!(
            ", at the next start; `stratavm undo {}` takes it back",
            machine.name()
        ));
    }
    if let Some(n) = done.revision {
        text.push_str(&format!(", now at revision {n}"));
    }
    if let Some(n) = done.preserved {
        text.push_str(&format!(
            "\n  what the guest had written is kept as revision {n}"
        ));
    }
    for note in &done.notes {
        text.push_str(&format!("\n  {}", crate::output::line(note)));
    }
    let json = json!({
        "name": machine.name().as_str(),
        "operation": what,
        "when": when(done.when),
        "layers": layers,
        "revision": done.revision,
        "preserved": done.preserved,
        "notes": done.notes,
    });
    Answer::new(text, json)
}

fn when(when: When) -> &'static str {
    match when {
        When::NextStart => "next-start",
        _ => "now",
    }
}

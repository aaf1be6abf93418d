//! `label`, `pin`, `unpin`, `point` and `retention`: what people say of revisions.

use serde_json::{Value, json};
use stratavm::Result;
use stratavm::machine::points;
use stratavm::machine::retention::Retention as Rule;
use stratavm::machine::{Pin, Scope};
use stratavm::spec::Name;

use super::layer::operation;
use crate::cli::history::{Label, OfRevision, Point, Retention};
use crate::context::Context;
use crate::output::{Answer, table};

pub(crate) fn label(context: &Context, args: &Label) -> Result<Answer> {
    let label = Some(args.text.clone()).filter(|text| !text.is_empty());
    let OfRevision { of, revision } = &args.of;
    context
        .machine(&of.name)?
        .set_label(&of.layer, *revision, label.clone())?;
    let text = match &label {
        Some(label) => format!("revision {revision} of {} is called: {label}", of.layer),
        None => format!("revision {revision} of {} has no label", of.layer),
    };
    let json = json!({
        "name": of.name.as_str(), "layer": of.layer.as_str(), "revision": revision, "label": label,
    });
    Ok(Answer::new(text, json))
}

pub(crate) fn pin(context: &Context, args: &OfRevision, pin: Pin) -> Result<Answer> {
    let OfRevision { of, revision } = args;
    context
        .machine(&of.name)?
        .set_pin(&of.layer, *revision, pin)?;
    let pinned = pin == Pin::Pinned;
    let text = match pinned {
        true => format!("revision {revision} of {} stays", of.layer),
        false => format!("revision {revision} of {} is left to retention", of.layer),
    };
    let json = json!({
        "name": of.name.as_str(), "layer": of.layer.as_str(), "revision": revision,
        "pinned": pinned,
    });
    Ok(Answer::new(text, json))
}

pub(crate) fn point(context: &Context, command: &Point) -> Result<Answer> {
    match command {
        Point::Create(args) => {
            let machine = context.machine(&args.name)?;
            let done = machine.create_point(&args.point, args.label.clone(), &args.layers)?;
            let mut answer = operation(&machine, "point create", &done);
            answer.json["point"] = json!(args.point.as_str());
            Ok(answer)
        }
        Point::List(args) => list(context, &args.name),
        Point::Remove(args) => {
            context.machine(&args.name)?.remove_point(&args.point)?;
            Ok(Answer::new(
                format!("point {} is forgotten; its revisions stay", args.point),
                json!({"name": args.name.as_str(), "removed": args.point.as_str()}),
            ))
        }
    }
}

fn list(context: &Context, name: &Name) -> Result<Answer> {
    let record = context.machine(name)?.record()?;
    let row = |point: &points::Point| {
        let layers: Vec<_> = point
            .layers
            .iter()
            .map(|entry| format!("{} {}", entry.layer, entry.revision))
            .collect();
        vec![
            point.name.to_string(),
            point.time.to_string(),
            layers.join(", "),
            point.label.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = record.points.iter().map(row).collect();
    let text = match rows.is_empty() {
        true => format!("no points yet: `stratavm point create {name} POINT` makes one"),
        false => table(&["POINT", "TIME", "LAYERS", "LABEL"], &rows),
    };
    let points: Vec<_> = record.points.iter().map(point_value).collect();
    Ok(Answer::new(
        text,
        json!({"name": name.as_str(), "points": points}),
    ))
}

pub(super) fn point_value(point: &points::Point) -> Value {
    let layers: Vec<_> = point
        .layers
        .iter()
        .map(|entry| json!({"layer": entry.layer.as_str(), "revision": entry.revision}))
        .collect();
    json!({
        "name": point.name.as_str(),
        "time": point.time.to_string(),
        "label": point.label,
        "layers": layers,
    })
}

pub(crate) fn retention(context: &Context, args: &Retention) -> Result<Answer> {
    let machine = context.machine(&args.name)?;
    let scope = match &args.layer {
        Some(layer) => Scope::Layer(layer.clone()),
        None => Scope::Machine,
    };
    if args.inherit {
        machine.set_retention(&scope, None)?;
    } else if args.off || args.keep_last.is_some() || args.keep_days.is_some() {
        let rule = Rule::new(args.keep_last, args.keep_days);
        machine.set_retention(&scope, Some(rule))?;
    }
    let record = machine.record()?;
    let usual = record.retention.clone().unwrap_or_default();
    let (mut rows, mut layers) = (Vec::new(), Vec::new());
    for layer in &record.layers {
        let rule = layer.retention.as_ref().unwrap_or(&usual);
        let from = match layer.retention {
            Some(_) => "layer",
            None => "machine",
        };
        rows.push(vec![layer.name().to_string(), said(rule), from.to_owned()]);
        layers.push(json!({
            "layer": layer.name().as_str(), "keep-last": rule.keep_last,
            "keep-days": rule.keep_days, "from": from,
        }));
    }
    Ok(Answer::new(
        table(&["LAYER", "KEEPS", "BY THE RULE OF"], &rows),
        json!({
            "name": args.name.as_str(),
            "keep-last": usual.keep_last,
            "keep-days": usual.keep_days,
            "layers": layers,
        }),
    ))
}

fn said(rule: &Rule) -> String {
    let last = rule.keep_last.map(|n| format!("the last {n}"));
    let days = rule.keep_days.map(|days| format!("{days} days"));
    match (last, days) {
        (Some(last), Some(days)) => format!("{last} and {days}"),
        (Some(rule), None) | (None, Some(rule)) => rule,
        (None, None) => "everything".to_owned(),
    }
}

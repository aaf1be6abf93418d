//! `golden edit` and `publish`: new golden images out of what a machine holds.

use serde_json::json;
use stratavm::Result;
use stratavm::image::Outcome;
use stratavm::machine::PublishOptions;

use super::image::as_json;
use super::run;
use crate::cli::golden::{Golden, Publish};
use crate::context::Context;
use crate::output::Answer;

pub(crate) fn golden(context: &Context, command: &Golden) -> Result<Answer> {
    let Golden::Edit(args) = command;
    let layer = &args.of.layer;
    // Known before a supervisor in the background finds it out.
    context.machine(&args.of.name)?.record()?.layer(layer)?;
    run::start(context, &args.start(), Some(layer))
}

pub(crate) fn publish(context: &Context, args: &Publish) -> Result<Answer> {
    let machine = context.machine(&args.of.name)?;
    let options = PublishOptions::default()
        .revision(args.rev)
        .label(args.label.clone());
    let done = machine.publish(&args.of.layer, &options, context.cancellable())?;
    let (digest, layer) = (done.image.meta.digest, &args.of.layer);
    let known = done.outcome == Outcome::Existing;
    let what = match known {
        true => "\n  was there already",
        false => "",
    };
    let text = format!(
        "{digest}{what}\n  revision {} of {layer}: `stratavm update NAME {layer} {digest}` gives it \
         to a machine",
        done.revision
    );
    let provenance = &done.image.meta.provenance;
    let mut json = as_json(&done.image)?;
    json["name"] = json!(args.of.name.as_str());
    json["layer"] = json!(layer.as_str());
    json["revision"] = json!(done.revision);
    json["parent"] = json!(done.parent.to_string());
    json["label"] = json!(provenance.label);
    json["existing"] = json!(known);
    Ok(Answer::new(text, json))
}

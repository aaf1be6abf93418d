//! `disk check`: what is wrong with an image and with what it lies on, and mending it.

use serde_json::{Value, json};
use stratavm::Result;
use stratavm_disk::{CheckOptions, Finding, Remedy, Repair};

use super::image;
use crate::cli::disk::DiskCheck;
use crate::context::Context;
use crate::output::{Answer, bytes, line};

pub(super) fn check(context: &Context, args: &DiskCheck) -> Result<Answer> {
    let path = &args.image.image;
    let format = image::format(path, args.image.format)?;
    let gate = image::gate(path, &args.image.names)?;
    let repair = match (args.repair, args.drop_lost) {
        (false, _) => Repair::No,
        (true, false) => Repair::Safe,
        (true, true) => Repair::DropLost,
    };
    let options = CheckOptions::default()
        .repair(repair)
        .below(image::below(&args.image.on)?);
    let checked = stratavm_disk::check(path, format, &gate, &options, context.cancellable())?;
    let mut text = String::new();
    for finding in &checked.repaired {
        text.push_str(&format!("mended: {}\n", told(finding)));
    }
    for finding in &checked.findings {
        text.push_str(&format!("{}\n", told(finding)));
        if let Some(next) = next(finding) {
            text.push_str(&format!("  next: {next}\n"));
        }
    }
    if checked.more > 0 {
        text.push_str(&format!("and {} more\n", checked.more));
    }
    let verdict = match (checked.findings.is_empty(), checked.is_sound()) {
        (true, _) => "nothing is wrong",
        (false, true) => "sound: what is left costs room or time only",
        (false, false) => "damaged",
    };
    text.push_str(&format!(
        "{} images, {} units, {} leaked: {verdict}",
        checked.images,
        checked.units,
        bytes(checked.leaked)
    ));
    let json = json!({
        "path": path.display().to_string(),
        "sound": checked.is_sound(),
        "images": checked.images,
        "units": checked.units,
        "leaked": checked.leaked,
        "findings": checked.findings.iter().map(shown).collect::<Vec<_>>(),
        "more": checked.more,
        "repaired": checked.repaired.iter().map(shown).collect::<Vec<_>>(),
    });
    Ok(Answer::new(text, json).done_if(checked.is_sound()))
}

fn told(finding: &Finding) -> String {
    let at = finding.offset;
    let at = at.map_or(String::new(), |at| format!(" at byte {at}"));
    format!(
        "{}: {}{at}: {}",
        finding.fault.as_str(),
        line(finding.file.display()),
        line(&finding.detail)
    )
}

fn next(finding: &Finding) -> Option<&'static str> {
    match finding.remedy {
        Remedy::Safe => Some("stratavm disk check --repair"),
        Remedy::DropLost => Some(
            "look for a whole copy; after a crash give up what never reached the file: --repair --drop-lost",
        ),
        _ if finding.fault.is_harmless() => {
            Some("none is needed; a copy by `disk convert` is without it")
        }
        _ => Some("put the file back from a copy, or save what can be read with `disk convert`"),
    }
}

fn shown(finding: &Finding) -> Value {
    json!({
        "file": finding.file.display().to_string(),
        "offset": finding.offset,
        "fault": finding.fault.as_str(),
        "harmless": finding.fault.is_harmless(),
        "detail": finding.detail,
        "remedy": finding.remedy.as_str(),
    })
}

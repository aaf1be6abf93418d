//! `prune`, `fsck`: the store as a whole.

use serde_json::json;
use stratavm::Result;
use stratavm::store::{Digests, FsckMode, FsckOptions, PruneMode, PruneOptions, SetAside};

use crate::cli::{Fsck, Prune};
use crate::context::Context;
use crate::output::{Answer, bytes, causes, line, table};

pub(crate) fn prune(context: &Context, args: &Prune) -> Result<Answer> {
    let mut options = PruneOptions::default();
    if !args.dry_run {
        options = options.mode(PruneMode::Remove);
    }
    if args.removed {
        options = options.set_aside(SetAside::Remove);
    }
    let pruned = context.store()?.prune(&options, context.cancellable())?;
    let verb = if args.dry_run { "would free" } else { "freed" };
    let mut text = if pruned.freed.is_empty() {
        "nothing to free".to_owned()
    } else {
        let rows: Vec<_> = pruned
            .freed
            .iter()
            .map(|leftover| {
                vec![
                    leftover.kind.as_str().to_owned(),
                    bytes(leftover.bytes),
                    leftover.path.display().to_string(),
                    leftover.reason.clone(),
                ]
            })
            .collect();
        format!(
            "{}\n{verb} {}",
            table(&["WHAT", "TAKES", "WHERE", "WHY"], &rows),
            bytes(pruned.bytes())
        )
    };
    for spared in &pruned.spared {
        text.push_str(&format!(
            "\nkept: {}: {}",
            line(spared.path.display()),
            line(&spared.reason)
        ));
        if spared.bytes > 0 {
            text.push_str(&format!(", {}", bytes(spared.bytes)));
        }
        text.push_str(&format!("\n  next: {}", line(&spared.next)));
    }
    let mut failed = Vec::new();
    for error in &pruned.failed {
        let mut message = error.to_string();
        for cause in causes(error) {
            message.push_str(&format!(": {cause}"));
        }
        text.push_str(&format!("\nfailed: {}", line(&message)));
        failed.push(message);
    }
    let freed = pruned.freed.iter().map(|leftover| {
        json!({
            "kind": leftover.kind.as_str(),
            "path": leftover.path.display().to_string(),
            "why": leftover.reason,
            "bytes": leftover.bytes,
        })
    });
    let kept = pruned.spared.iter().map(|spared| {
        json!({
            "path": spared.path.display().to_string(),
            "why": spared.reason,
            "bytes": spared.bytes,
            "next": spared.next,
        })
    });
    let json = json!({
        "dry-run": args.dry_run,
        "bytes": pruned.bytes(),
        "freed": freed.collect::<Vec<_>>(),
        "kept": kept.collect::<Vec<_>>(),
        "failed": failed,
    });
    Ok(Answer::new(text, json).done_if(pruned.failed.is_empty()))
}

pub(crate) fn fsck(context: &Context, args: &Fsck) -> Result<Answer> {
    let mut options = FsckOptions::default();
    if let Some(name) = &args.name {
        options = options.machine(name.clone());
    }
    if args.repair {
        options = options.mode(FsckMode::Repair);
    }
    if args.digests {
        options = options.digests(Digests::Read);
    }
    let checked = context.store()?.fsck(&options, context.cancellable())?;
    let mut text = String::new();
    for finding in &checked.findings {
        let of = finding
            .machine
            .as_ref()
            .map_or_else(String::new, |name| format!(" of {name}"));
        text.push_str(&format!(
            "{}{of} ({}): {}: {}\n  next: {}\n",
            finding.kind.as_str(),
            finding.remedy.as_str(),
            line(finding.path.display()),
            line(&finding.message),
            line(&finding.next),
        ));
    }
    if checked.more > 0 {
        text.push_str(&format!("and {} more\n", checked.more));
    }
    let sound = checked.is_sound();
    let verdict = match (checked.findings.is_empty(), sound) {
        (true, _) => "nothing is wrong",
        (false, true) => "nothing is left to be put right",
        (false, false) => "there is something to be put right",
    };
    text.push_str(&format!(
        "{} machines, {} images: {verdict}",
        checked.machines, checked.images
    ));
    let findings = checked.findings.iter().map(|finding| {
        json!({
            "kind": finding.kind.as_str(),
            "path": finding.path.display().to_string(),
            "machine": finding.machine.as_ref().map(stratavm::spec::Name::as_str),
            "message": finding.message,
            "remedy": finding.remedy.as_str(),
            "next": finding.next,
        })
    });
    let json = json!({
        "sound": sound,
        "machines": checked.machines,
        "images": checked.images,
        "findings": findings.collect::<Vec<_>>(),
        "more": checked.more,
    });
    Ok(Answer::new(text, json).done_if(sound))
}

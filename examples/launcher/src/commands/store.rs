//! `prune`: the store as a whole.

use serde_json::json;
use stratavm::Result;
use stratavm::store::{PruneMode, PruneOptions, SetAside};

use crate::cli::Prune;
use crate::context::Context;
use crate::output::{Answer, Outcome, bytes, causes, table};

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
            spared.path.display(),
            spared.reason
        ));
        if spared.bytes > 0 {
            text.push_str(&format!(", {}", bytes(spared.bytes)));
        }
        text.push_str(&format!("\n  next: {}", spared.next));
    }
    let mut failed = Vec::new();
    for error in &pruned.failed {
        let mut message = error.to_string();
        for cause in causes(error) {
            message.push_str(&format!(": {cause}"));
        }
        text.push_str(&format!("\nfailed: {message}"));
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
    let outcome = if pruned.failed.is_empty() {
        Outcome::Done
    } else {
        Outcome::Failed
    };
    Ok(Answer {
        text,
        json,
        outcome,
    })
}

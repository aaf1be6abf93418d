//! `translate`: a spec becomes each product's configuration and chains.

use std::path::Path;

use serde_json::{Value, json};
use stratavm::machine::escape;
use stratavm::preview::Preview;
use stratavm::{ErrorKind, Hypervisor, Plan, Result, VmSpec};

use crate::cli::Translate;
use crate::context::Context;
use crate::output::{Answer, causes};

pub(crate) fn translate(context: &Context, args: &Translate) -> Result<Answer> {
    let spec = VmSpec::from_path(&args.spec)?;
    let store = context.named_store()?;
    let folder = args.spec.parent().unwrap_or(Path::new(""));
    let preview = Preview::new(&spec, folder, store.as_ref(), context.cancellable())?;
    let preview = preview.on_volume(stratavm::volume::probe_for(&args.out)?);
    if args.product != "all" {
        let backend = context.backend(&args.product)?;
        let plan = write(context, &preview, backend.as_ref(), &args.out)?;
        let json = json!({"plans": [as_json(&plan)], "refused": []});
        return Ok(Answer::new(plan.to_string(), json));
    }
    // One product that cannot do what the spec says does not keep the others from their plans.
    let (mut text, mut plans, mut refused) = (String::new(), Vec::new(), Vec::new());
    for backend in &context.registry {
        let product = backend.product().as_str();
        match write(context, &preview, backend.as_ref(), &args.out) {
            Ok(plan) => {
                text.push_str(&format!("==== {product}\n{plan}\n"));
                plans.push(as_json(&plan));
            }
            // Invalid: a name that this product's formats cannot hold; another's may.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid) => {
                let causes = causes(&error);
                text.push_str(&format!("==== {product}\nrefused: {error}\n"));
                for cause in &causes {
                    text.push_str(&format!("  caused by: {}\n", escape(cause)));
                }
                text.push('\n');
                refused.push(json!({
                    "product": product, "message": error.to_string(), "causes": causes,
                    "next": error.next_step(),
                }));
            }
            Err(error) => return Err(error),
        }
    }
    let some = !plans.is_empty();
    let json = json!({"plans": plans, "refused": refused});
    Ok(Answer::new(text, json).done_if(some))
}

fn write(
    context: &Context,
    preview: &Preview,
    backend: &dyn Hypervisor,
    out: &Path,
) -> Result<Plan> {
    let resolved = preview.resolve(backend, &out.join(backend.product().as_str()))?;
    let plan = backend.translate(&resolved)?;
    plan.apply(&resolved.volume, &context.ctx)?;
    Ok(plan)
}

/// A plan for programs.
fn as_json(plan: &Plan) -> Value {
    let files: Vec<_> = plan
        .files
        .iter()
        .map(|file| file.path.display().to_string())
        .collect();
    let disks = plan.disks.iter().map(|disk| {
        let chain: Vec<_> = disk
            .chain
            .files()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        json!({
            "name": disk.name.as_str(),
            "controller": disk.controller.as_str(),
            "slot": disk.slot,
            "place": disk.place,
            "family": disk.chain.family.as_str(),
            "bytes": disk.chain.sectors * 512,
            "chain": chain,
        })
    });
    let gaps = plan.gaps.iter().map(|gap| {
        json!({
            "key": gap.key, "wanted": gap.wanted,
            "grade": gap.grade.as_str(), "reason": gap.reason,
        })
    });
    json!({
        "product": plan.product.as_str(),
        "needs": plan.needs,
        "entry": plan.entry.as_ref().map(|path| path.display().to_string()),
        "argv": plan.argv,
        "files": files,
        "disks": disks.collect::<Vec<_>>(),
        "gaps": gaps.collect::<Vec<_>>(),
        "notes": plan.notes,
        "digest": plan.digest(),
    })
}

//! `create`, `list`, `status`, `delete`: machines as a whole.

use std::path::Path;

use serde_json::json;
use stratavm::capability::Lifetime;
use stratavm::machine::ended::{EndRecord, HowEnded};
use stratavm::machine::record::{Record, RunRecord};
use stratavm::machine::{AdoptOptions, Adoption, CreateOptions, Kept, escape};
use stratavm::spec::Name;
use stratavm::{Error, ErrorKind, Result, State, VmSpec, block_on, host};

use crate::cli::{Adopt, Create, Delete};
use crate::context::Context;
use crate::output::{Answer, line, table};

pub(crate) fn create(context: &Context, args: &Create) -> Result<Answer> {
    let spec = VmSpec::from_path(&args.spec)?;
    let mut options = CreateOptions::default();
    if let Some(product) = &args.product {
        let backend = context.backend(product)?;
        let family = backend
            .capabilities()
            .families
            .first()
            .copied()
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("{product} reads no family of chains"),
                )
            })?;
        options = options.family(family);
    }
    let folder = args.spec.parent().unwrap_or(Path::new(""));
    let machine = context
        .store()?
        .create(&spec, folder, &options, context.cancellable())?;
    let record = machine.record()?;
    Ok(Answer::new(
        format!(
            "created {}: `stratavm start {} --wait` starts it",
            record.name, record.name
        ),
        json!({
            "name": record.name.as_str(),
            "id": record.id.to_string(),
            "folder": machine.folder().display().to_string(),
            "family": record.family.as_str(),
            "layers": record.layers.iter().map(|l| l.name().as_str()).collect::<Vec<_>>(),
        }),
    ))
}

pub(crate) fn list(context: &Context) -> Result<Answer> {
    let store = context.store()?;
    let (mut rows, mut machines) = (Vec::new(), Vec::new());
    for name in store.machines()? {
        // A damaged machine is listed with what is wrong; it does not hide the others.
        let (state, title, problem) = match look(context, &name) {
            Ok((state, title)) => (state.as_str(), title, None),
            Err(error) => (
                State::Unknown.as_str(),
                String::new(),
                Some(error.to_string()),
            ),
        };
        rows.push(vec![
            name.to_string(),
            state.to_owned(),
            problem.clone().unwrap_or_else(|| title.clone()),
        ]);
        machines.push(json!({
            "name": name.as_str(), "state": state, "title": title, "problem": problem,
        }));
    }
    let text = if rows.is_empty() {
        "no machines yet: `stratavm create SPEC` makes one".to_owned()
    } else {
        table(&["NAME", "STATE", "TITLE"], &rows)
    };
    Ok(Answer::new(text, json!({"machines": machines})))
}

fn look(context: &Context, name: &Name) -> Result<(State, String)> {
    let vm = context.vm(name)?;
    let title = vm.machine().record()?.spec.display_name().to_owned();
    Ok((block_on(vm.state(&context.ctx))?, title))
}

pub(crate) fn status(context: &Context, name: &Name) -> Result<Answer> {
    let vm = context.vm(name)?;
    let unwatched = |run: &RunRecord| run.lifetime == Lifetime::Independent;
    if vm.machine().record()?.run.as_ref().is_some_and(unwatched) {
        block_on(vm.recover(&context.ctx))?;
    }
    let state = block_on(vm.state(&context.ctx))?;
    let record = vm.machine().record()?;
    // The record of a run whose supervisor is gone says nothing about now.
    let run = record.run.as_ref().filter(|_| state != State::Off);
    let supervisor = run.filter(|run| host::is_alive(run.supervisor) != Some(false));
    let supervisor = supervisor.map(|run| run.supervisor.pid);
    let mut text = format!("{} is {state}\n", record.name);
    text.push_str(&format!(
        "  title: {}\n  id: {}\n",
        line(record.spec.display_name()),
        record.id
    ));
    if let Some(run) = run {
        text.push_str(&format!(
            "  on: {}, since {}, boot {}\n",
            run.product, run.since, run.boots
        ));
        text.push_str(&match supervisor {
            Some(pid) => format!("  supervisor: process {pid}\n"),
            None => format!("  supervisor: none; `stratavm start {name}` goes on with it\n"),
        });
    }
    let ended = match (&record.run, run) {
        (Some(over), None) => Some(EndRecord::lost(over)),
        _ => record.ended.clone(),
    };
    if let Some(ended) = ended.as_ref().filter(|_| run.is_none()) {
        text.push_str(&last_run(ended, name));
    }
    let edited = run.and_then(|run| run.edit.clone());
    let edit = match edited {
        Some(layer) => Some((layer, "running")),
        None => unfinished_edit(&record).map(|layer| (layer, "unfinished")),
    };
    match &edit {
        Some((layer, "running")) => text.push_str(&format!(
            "  edits: layer {layer}, which keeps what is written to it\n"
        )),
        Some((layer, _)) => text.push_str(&format!(
            "  edit of layer {layer}: cut short; what the guest had written is there\n    next: \
             stratavm golden edit {name} {layer} goes on with it, stratavm start {name} sets it \
             aside as a revision\n"
        )),
        None => {}
    }
    text.push_str(&format!(
        "  folder: {}",
        line(vm.machine().folder().display())
    ));
    Ok(Answer::new(
        text,
        json!({
            "name": record.name.as_str(),
            "title": record.spec.display_name(),
            "id": record.id.to_string(),
            "state": state.as_str(),
            "product": run.map(|run| run.product.as_str()),
            "since": run.map(|run| run.since.to_string()),
            "boots": run.map(|run| run.boots),
            "supervisor": supervisor,
            "endpoint": run.and_then(|run| Some(run.endpoint.as_ref()?.address.clone())),
            "last-run": ended.map(|ended| json!({
                "product": ended.product.as_str(),
                "since": ended.since.to_string(),
                "noticed": ended.noticed.to_string(),
                "boots": ended.boots,
                "ended": ended.how.as_str(),
                "detail": ended.detail,
            })),
            "edit": edit.map(|(layer, state)| json!({"layer": layer.as_str(), "state": state})),
            "folder": vm.machine().folder().display().to_string(),
            "family": record.family.as_str(),
        }),
    ))
}

/// The layer whose edit was cut short.
fn unfinished_edit(record: &Record) -> Option<Name> {
    let mut layers = record.layers.iter();
    let found = layers.find(|layer| layer.holds_edit())?;
    Some(found.name().clone())
}

/// The last run in words: what happened, what it means for the user's data, and what to do.
fn last_run(ended: &EndRecord, name: &Name) -> String {
    let mut text = format!(
        "  last run: on {}, from {}, ended: {}\n",
        ended.product,
        ended.since,
        ended.how.as_str()
    );
    if let Some(detail) = &ended.detail {
        text.push_str(&format!("    {}\n", escape(detail)));
    }
    let meaning = match ended.how {
        HowEnded::Lost => {
            "it was killed, or the host went down; layers that are kept hold what the guest had \
             written to its disks, the others are clean at the next start"
        }
        HowEnded::Crash | HowEnded::Failed => {
            "layers that are kept hold what the guest had written to its disks"
        }
        _ => return text,
    };
    text.push_str(&format!("    {meaning}\n    next: stratavm start {name}\n"));
    text
}

pub(crate) fn delete(context: &Context, args: &Delete) -> Result<Answer> {
    let name = &args.name;
    match args.force {
        true => context.store()?.delete_damaged(name)?,
        false => context.machine(name)?.delete()?,
    }
    Ok(Answer::new(
        format!("deleted {name}"),
        json!({"deleted": name.as_str()}),
    ))
}

pub(crate) fn adopt(context: &Context, args: &Adopt) -> Result<Answer> {
    let adoption = match args.new_id {
        true => Adoption::NewId,
        false => Adoption::Moved,
    };
    let mut options = AdoptOptions::new(adoption);
    if let Some(name) = &args.name {
        options = options.name(name.clone());
    }
    if args.discard_writes {
        options = options.kept(Kept::Discard);
    }
    let adopted = context
        .store()?
        .adopt(&args.folder, &options, context.cancellable())?;
    let record = adopted.machine.record()?;
    let mut text = format!("adopted {}, id {}", record.name, record.id);
    for note in &adopted.notes {
        text.push_str(&format!("\n  {}", line(note)));
    }
    Ok(Answer::new(
        text,
        json!({
            "name": record.name.as_str(),
            "id": record.id.to_string(),
            "folder": adopted.machine.folder().display().to_string(),
            "notes": adopted.notes,
        }),
    ))
}

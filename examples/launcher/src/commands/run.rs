//! `start --wait`, `stop`, `pause`, `resume`, `suspend`, `console`: a machine's runs.

use std::time::Duration;

use serde_json::{Value, json};
use stratavm::capability::Feature;
use stratavm::hypervisor::Stop as How;
use stratavm::machine::{
    EditEnd, OnReboot, Recovered, RunEnd, RunEvent, RunOptions, RunReport, escape,
};
use stratavm::plan::Grade;
use stratavm::spec::Name;
use stratavm::{Error, ErrorKind, Result, State, Vm, block_on};

use super::detach;
use crate::cli::{Start, Stop};
use crate::context::Context;
use crate::output::{Answer, Form};

/// How much of a console is printed, in bytes: its end.
const CONSOLE_LIMIT: u64 = 16 << 20;

/// The machine and the product that it is to run on, if this library starts machines there.
pub(crate) fn startable(context: &Context, args: &Start) -> Result<Vm> {
    let backend = context.backend(&args.product)?;
    let machine = context.machine(&args.name)?;
    if backend.capabilities().feature(Feature::Control) == Grade::None {
        return Err(Error::new(
            ErrorKind::NotDriven,
            "this product is not driven yet: its configuration and chains can be written",
        )
        .of(backend.product())
        .next(format!(
            "stratavm translate SPEC --product {} --out DIR",
            args.product
        )));
    }
    Ok(Vm::new(machine, backend))
}

/// Starts a machine, to edit a layer where one is named.
pub(crate) fn start(context: &Context, args: &Start, edit: Option<&Name>) -> Result<Answer> {
    match args.wait {
        true => supervise(context, args, edit, RunOptions::default()),
        false => detach::start(context, args, edit),
    }
}

/// Runs the machine to its end in this process.
pub(crate) fn supervise(
    context: &Context,
    args: &Start,
    edit: Option<&Name>,
    mut options: RunOptions,
) -> Result<Answer> {
    let vm = startable(context, args)?;
    if args.once {
        options = options.on_reboot(OnReboot::End);
    }
    options = options.revertible(args.revertible.iter().cloned());
    if let Some(layer) = edit {
        options = options.edit(layer.clone());
    }
    if let Some(seconds) = args.timeout {
        options = options.timeout(Duration::from_secs(seconds));
    }
    if context.form == Form::Text {
        let heads = match edit {
            Some(layer) => format!("a head of {layer} that is kept"),
            None => "fresh heads".to_owned(),
        };
        options = options.on_event(move |event| tell(event, &heads));
    }
    let ran = block_on(vm.run(options, context.cancellable()));
    if context.ctx.cancel_token().is_cancelled() && (ran.is_ok() || is_cancelled(&ran)) {
        // A terminal sends its signal to the product as well: whoever was first, the user ended it.
        return Err(Error::new(
            ErrorKind::Cancelled,
            format!("interrupted: machine {} was switched off", args.name),
        )
        .next(format!("stratavm start {} --wait", args.name)));
    }
    let report = ran?;
    let (detail, hint) = match &report.end {
        RunEnd::Crash(seen) => (Some(seen.clone()), None),
        RunEnd::Refused(said) => (None, Some(said.clone())),
        _ => (None, None),
    };
    let as_asked = match &report.end {
        RunEnd::PowerOff | RunEnd::Suspended => true,
        RunEnd::Reboot => args.once,
        _ => false,
    };
    let mut text = format!(
        "{} ended: {} after {} boot{}",
        args.name,
        report.end.as_str(),
        report.boots,
        if report.boots == 1 { "" } else { "s" }
    );
    for line in detail.iter().chain(&hint) {
        text.push_str(&format!("\n  {}", escape(line)));
    }
    if let (Some(layer), Some(end)) = (edit, &report.edit) {
        text.push_str(&format!("\n  {}", edit_said(&args.name, layer, end)));
    }
    let console = report
        .console
        .as_ref()
        .map(|path| path.display().to_string());
    let mut json = json!({
        "name": args.name.as_str(),
        "product": args.product,
        "ended": report.end.as_str(),
        "boots": report.boots,
        "console": console,
        "detail": detail,
        "guest-said": hint,
    });
    if let Some(layer) = edit {
        let (state, revision, why) = match &report.edit {
            Some(EditEnd::Frozen(n)) => (Some("frozen"), Some(*n), None),
            Some(EditEnd::Unfinished(why)) => (Some("unfinished"), None, Some(why)),
            Some(EditEnd::Dropped) => (Some("dropped"), None, None),
            _ => (None, None, None),
        };
        json["layer"] = json!(layer.as_str());
        json["edit"] = json!(state);
        json["revision"] = json!(revision);
        json["why"] = json!(why);
    }
    let is_open = matches!(report.edit, Some(EditEnd::Unfinished(_)));
    let is_off = report.end == RunEnd::PowerOff;
    Ok(Answer::new(text, json).done_if(as_asked && !(is_open && is_off)))
}

/// What became of an edit, in words.
fn edit_said(name: &Name, layer: &Name, end: &EditEnd) -> String {
    match end {
        EditEnd::Frozen(n) => {
            format!(
                "what it wrote is revision {n} now: `stratavm publish {name} {layer}` makes an image of it"
            )
        }
        EditEnd::Unfinished(why) => format!(
            "the edit is not over, and nothing of it is lost: {}; `stratavm golden edit {name} {layer}` goes on with it",
            escape(why)
        ),
        _ => "what it wrote was dropped, as asked for".to_owned(),
    }
}

fn is_cancelled(ran: &Result<RunReport>) -> bool {
    ran.as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Cancelled)
}

/// What happens, for people: on stderr, so that stdout holds the answer alone.
#[allow(clippy::print_stderr)]
fn tell(event: &RunEvent, heads: &str) {
    match event {
        RunEvent::Preparing(1) => eprintln!("preparing {heads}"),
        RunEvent::Preparing(boot) => eprintln!("the guest rebooted: boot {boot} on {heads}"),
        RunEvent::Running(_) => eprintln!("running; Ctrl-C switches it off"),
        RunEvent::Attached(_) => eprintln!("it ran already: taken over; Ctrl-C switches it off"),
        RunEvent::Resumed(_) => eprintln!("goes on from its saved state; Ctrl-C switches it off"),
        _ => {}
    }
}

pub(crate) fn stop(context: &Context, args: &Stop) -> Result<Answer> {
    let vm = context.vm(&args.name)?;
    if args.discard_state {
        block_on(vm.discard_state(&context.ctx))?;
        return Ok(Answer::new(
            format!("the saved state of {} is dropped: it is off", args.name),
            json!({"name": args.name.as_str(), "asked": "discard-state", "decided": []}),
        ));
    }
    let was_running = block_on(vm.recover(&context.ctx))? != Recovered::Off;
    // Recorded before the machine is stopped: if this program is killed, it is still done.
    let mut decided = Vec::new();
    if !args.keep.is_empty() || !args.discard.is_empty() {
        decided = vm.machine().decide(&args.keep, &args.discard)?.layers;
    }
    let how = if args.force {
        How::PowerOff
    } else {
        How::Shutdown
    };
    block_on(vm.stop(how, &context.ctx))?;
    let mut text = match (was_running, how) {
        (false, _) => format!("{} is off already", args.name),
        (true, How::Shutdown) => format!("{} was asked to shut down", args.name),
        (true, _) => format!("{} was switched off", args.name),
    };
    if !decided.is_empty() {
        let names: Vec<_> = decided.iter().map(Name::as_str).collect();
        let when = if was_running { "once it is off" } else { "now" };
        text.push_str(&format!("\n  decided, {when}: {}", names.join(", ")));
    }
    let asked: Value = if was_running {
        json!(if args.force { "power-off" } else { "shutdown" })
    } else {
        Value::Null
    };
    Ok(Answer::new(
        text,
        json!({"name": args.name.as_str(), "asked": asked, "decided": decided}),
    ))
}

pub(crate) fn pause(context: &Context, name: &Name) -> Result<Answer> {
    block_on(context.vm(name)?.pause(&context.ctx))?;
    Ok(now(name, State::Paused, "is paused"))
}

pub(crate) fn resume(context: &Context, name: &Name) -> Result<Answer> {
    block_on(context.vm(name)?.resume(&context.ctx))?;
    Ok(now(name, State::Running, "runs"))
}

pub(crate) fn suspend(context: &Context, name: &Name) -> Result<Answer> {
    block_on(context.vm(name)?.suspend(&context.ctx))?;
    let what = format!("is suspended: `stratavm start {name}` goes on with it");
    Ok(now(name, State::Suspended, &what))
}

fn now(name: &Name, state: State, what: &str) -> Answer {
    Answer::new(
        format!("{name} {what}"),
        json!({"name": name.as_str(), "state": state.as_str()}),
    )
}

pub(crate) fn console(context: &Context, name: &Name) -> Result<Answer> {
    let vm = context.vm(name)?;
    let console = vm
        .machine()
        .console_tail(vm.backend().product(), CONSOLE_LIMIT)?;
    // What a guest prints must not drive the reader's terminal.
    let text: Vec<_> = console.text.lines().map(escape).collect();
    Ok(Answer::new(
        text.join("\n"),
        json!({
            "name": name.as_str(),
            "path": console.path.display().to_string(),
            "bytes": console.len,
            "text": console.text,
        }),
    ))
}

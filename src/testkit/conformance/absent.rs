//! A machine that was started on a product which is then not there: nothing is believed about it, and
//! nothing of it touched, that the kernel does not prove.

use std::sync::Arc;

use async_trait::async_trait;
use futures_lite::future::block_on;

use super::Entry;
use super::bench::{Bench, Miss, Outcome, drives, ensure, refused, refused_as, told};
use super::killed::{guest, reads};
use super::supervisor::{Desk, name};
use crate::capability::{Capabilities, Lifetime};
use crate::hypervisor::{Endpoint, Stop};
use crate::machine::{Kept, Machine, Recovered, RunEvent, RunOptions, RunReport};
use crate::spec::LayerSpec;
use crate::store::{PruneMode, PruneOptions};
use crate::{Error, ErrorKind, Hypervisor, Plan, Product, Resolved, Result};

pub(super) const TRIALS: &[Entry] = &[Entry::new(
    "a-product-that-is-gone-costs-nothing",
    drives,
    costs_nothing,
)];

fn costs_nothing(bench: &Bench) -> Outcome {
    bench.needs_product()?;
    let Some(absent) = &bench.options.absent else {
        let why = "no backend without its product was given: Options::absent";
        return Err(Miss::Skipped(why.to_owned()));
    };
    let desk = Desk::new(bench, &guest())?;
    let endpoint = desk.lose_supervisor()?;
    match bench.can().lifetime {
        Lifetime::Independent => is_left_alone(&desk, absent, &endpoint)?,
        _ => is_off_all_the_same(&desk, absent)?,
    }
    desk.runs("the run after the product came back")?;
    reads(&desk, "the run after the product came back", "written")
}

/// Only the product knows whether the machine runs: until it is back everything is refused.
fn is_left_alone(desk: &Desk<'_>, absent: &Arc<dyn Hypervisor>, endpoint: &Endpoint) -> Outcome {
    let (bench, machine) = (desk.bench, desk.machine()?);
    let (ctx, before) = (desk.ctx(), desk.kept()?);
    refused(
        block_on(absent.state(endpoint, &ctx)),
        "asking a product that is gone for a state",
    )?;
    let asked = [
        (
            "recovering",
            block_on(machine.recover(&**absent, &ctx)).map(drop),
        ),
        ("starting", run_on(desk, absent).map(drop)),
        (
            "stopping",
            block_on(machine.stop(&**absent, Stop::PowerOff, &ctx)),
        ),
        ("pausing", block_on(machine.pause(&**absent, &ctx))),
        (
            "dropping a state of",
            block_on(machine.discard_state(&**absent, &ctx)),
        ),
    ];
    for (what, result) in asked {
        let what = format!("{what} a machine whose product is gone");
        let error = helpful(refused(result, &what)?, &what, desk)?;
        let kinds = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Product,
        ];
        ensure!(
            kinds.contains(&error.kind()),
            "{what}: it is not the product that is missing, but: {}",
            told(&error)
        );
    }
    for (what, result) in changes(desk, &machine)? {
        let what = format!("{what} while its product is gone");
        helpful(refused_as(result, ErrorKind::Busy, &what)?, &what, desk)?;
    }
    let elsewhere: Arc<dyn Hypervisor> = Arc::new(Elsewhere {
        product: Product::new("elsewhere"),
        like: Arc::clone(&bench.backend),
    });
    let what = "starting it on another product";
    let error = refused_as(run_on(desk, &elsewhere), ErrorKind::Busy, what)?;
    helpful(error, what, desk)?;
    let pruned = desk
        .store
        .prune(&PruneOptions::default().mode(PruneMode::Remove), &ctx)?;
    ensure!(
        pruned.failed.is_empty(),
        "prune failed: {:?}",
        pruned.failed
    );
    let after = desk.kept()?;
    ensure!(
        after == before,
        "what was refused has changed files: before {before:?}, after {after:?}"
    );

    let found = block_on(machine.recover(bench.other.as_ref(), &ctx))?;
    ensure!(
        found == Recovered::Unattended(endpoint.clone()),
        "the product is back, and the machine is {found:?}"
    );
    block_on(machine.stop(bench.other.as_ref(), Stop::PowerOff, &ctx))?;
    desk.is_over(bench.other.as_ref())?;
    machine.snapshot(&name("home")?, None)?;
    Ok(())
}

/// Its machines end with their supervisor, and the kernel says that this one is gone: nobody needs the
/// product but to start it again.
fn is_off_all_the_same(desk: &Desk<'_>, absent: &Arc<dyn Hypervisor>) -> Outcome {
    let machine = desk.machine()?;
    desk.is_over(absent.as_ref())?;
    machine.snapshot(&name("home")?, None)?;
    let layer = machine.folder().join("layers/home");
    let home = |desk: &Desk<'_>| {
        let mut files = desk.kept()?;
        files.retain(|path, _| path.starts_with(&layer));
        Ok::<_, Miss>(files)
    };
    let before = home(desk)?;
    let what = "starting a machine whose product is gone";
    let error = refused(run_on(desk, absent), what)?;
    ensure!(
        error.kind() == ErrorKind::Unavailable,
        "{what}: it is not the product that is missing, but: {}",
        told(&error)
    );
    desk.is_over(absent.as_ref())?;
    ensure!(home(desk)? == before, "{what} has changed what it keeps");
    Ok(())
}

/// Every change of a machine's layers, tried, with what it is.
fn changes(
    desk: &Desk<'_>,
    machine: &Machine,
) -> std::result::Result<Vec<(&'static str, Result<()>)>, Miss> {
    let (os, office, home) = (name("os")?, name("office")?, name("home")?);
    let record = desk.record()?;
    let digest = record.layer(&home)?.current()?.image;
    let mut more: LayerSpec = record.layer(&office)?.spec.clone();
    more.name = name("more")?;
    Ok(vec![
        ("freezing a head", machine.snapshot(&home, None).map(drop)),
        (
            "freezing a head that is made anew",
            machine.snapshot(&os, None).map(drop),
        ),
        (
            "rolling back",
            machine.rollback(&home, Some(1), Kept::Preserve).map(drop),
        ),
        (
            "dropping writes",
            machine.rollback(&home, Some(1), Kept::Discard).map(drop),
        ),
        (
            "updating",
            machine.update(&office, &digest, Kept::Preserve).map(drop),
        ),
        (
            "adding a layer",
            machine.add_layer(&more, &digest).map(drop),
        ),
        (
            "removing a layer",
            machine.remove_layer(&office, Kept::Preserve).map(drop),
        ),
        ("rejuvenating", machine.rejuvenate().map(drop)),
        (
            "making a point",
            machine.create_point(&name("good")?, None, &[]).map(drop),
        ),
        ("deleting it", desk.machine()?.delete()),
    ])
}

/// A start that must be refused; one that is not is ended at once.
fn run_on(desk: &Desk<'_>, backend: &Arc<dyn Hypervisor>) -> Result<RunReport> {
    let ctx = desk.ctx();
    let token = ctx.cancel_token().clone();
    let options = RunOptions::default().on_event(move |event| {
        if matches!(event, RunEvent::Running(_)) {
            token.cancel();
        }
    });
    let machine = desk.store.machine(&desk.name)?;
    block_on(machine.run(Arc::clone(backend), options, &ctx))
}

/// Fails unless the error names the machine and says what to do next.
fn helpful(error: Error, what: &str, desk: &Desk<'_>) -> std::result::Result<Error, Miss> {
    let text = told(&error);
    ensure!(
        text.contains(desk.name.as_str()) && error.next_step().is_some(),
        "{what} does not say which machine or what to do: {text}"
    );
    Ok(error)
}

/// Another product, which starts nothing.
#[derive(Debug)]
struct Elsewhere {
    product: Product,
    like: Arc<dyn Hypervisor>,
}

#[async_trait]
impl Hypervisor for Elsewhere {
    fn product(&self) -> &Product {
        &self.product
    }

    fn capabilities(&self) -> &Capabilities {
        self.like.capabilities()
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        self.like.translate(machine)
    }
}

//! One machine runs once, one head belongs to one machine, and nothing is started that is not
//! there.

use std::fs;

use futures_lite::future::block_on;
use uuid::Uuid;

use super::Entry;
use super::bench::{Bench, Outcome, drives, ensure, refused, refused_as, told};
use crate::hypervisor::Launch;
use crate::testkit::guest::{BootSector, End};
use crate::{Ctx, ErrorKind};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("a-second-start-is-busy", drives, second_start),
    Entry::new("a-head-in-use-is-busy", drives, head_in_use),
    Entry::new("it-starts-again-after-its-end", drives, starts_again),
    Entry::new("a-missing-head-is-not-started", drives, missing_head),
    Entry::new("starting-leaves-no-image-changed", drives, images_stay),
];

fn second_start(bench: &Bench) -> Outcome {
    let machine = bench.machine(&BootSector::new().end(End::Hang))?;
    let mut started = machine.start(1)?;
    let (_, plan) = machine.plan(1)?;
    let launch = Launch::new(plan, machine.path().join("runtime"));
    for (handle, whose) in [(&bench.backend, "the same"), (&bench.other, "another")] {
        let again = block_on(handle.start(&launch, &bench.ctx()));
        refused_as(
            again,
            ErrorKind::Busy,
            &format!("a second start through {whose} handle"),
        )?;
    }
    started.stays("the first run, after a second start was refused")
}

fn head_in_use(bench: &Bench) -> Outcome {
    let machine = bench.machine(&BootSector::new().end(End::Hang))?;
    let mut started = machine.start(1)?;
    // Another machine, with other ids and a configuration of its own, but these very disks.
    let mut thief = machine
        .sample
        .clone()
        .id(Uuid::from_u128(77))
        .resolve(machine.path());
    thief.disks = machine.resolve(1).disks;
    thief.paths.config = machine.path().join("thief");
    thief.paths.console = thief.paths.config.join("console.log");
    let plan = bench.backend.translate(&thief)?;
    for file in &plan.files {
        if let Some(folder) = file.path.parent() {
            fs::create_dir_all(folder)?;
        }
        if let crate::plan::Content::Text(text) = &file.content {
            fs::write(&file.path, text)?;
        }
    }
    let launch = Launch::new(plan, thief.paths.config.join("runtime"));
    let stolen = block_on(bench.other.start(&launch, &bench.ctx()));
    refused_as(
        stolen,
        ErrorKind::Busy,
        "a start on disks that another machine has",
    )?;
    started.stays("the machine whose disks somebody else wanted")
}

fn starts_again(bench: &Bench) -> Outcome {
    let machine = bench.machine(&BootSector::new())?;
    for start in 1..=3 {
        machine.start(start)?.wait()?;
    }
    Ok(())
}

fn missing_head(bench: &Bench) -> Outcome {
    let machine = bench.machine(&BootSector::new())?;
    bench.needs_product()?;
    let launch = machine.applied(1)?;
    let heads: Vec<_> = launch
        .plan
        .disks
        .iter()
        .filter_map(|disk| disk.chain.head()?.path())
        .collect();
    let Some(head) = heads.last() else {
        return Ok(());
    };
    fs::remove_file(head)?;
    let started = block_on(bench.backend.start(&launch, &bench.ctx()));
    let error = refused(started, "a start without a head")?;
    let kind = error.kind();
    let known = matches!(kind, ErrorKind::NotFound | ErrorKind::Product);
    let name = head
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    ensure!(
        known && told(&error).contains(&name),
        "{name} is missing, but: {}",
        told(&error)
    );
    ensure!(!head.exists(), "starting made the head anew");
    launch
        .plan
        .apply(&machine.resolve(1).volume, &Ctx::none())?;
    machine.launch(&launch)?.wait()?;
    Ok(())
}

fn images_stay(bench: &Bench) -> Outcome {
    let guest = BootSector::new()
        .write(0, 5, "to os")
        .write(1, 5, "to office");
    let machine = bench.machine(&guest)?;
    let before = machine.image_digests()?;
    for start in 1..=2 {
        machine.start(start)?.wait()?;
        ensure!(
            machine.image_digests()? == before,
            "run {start} changed an image"
        );
    }
    Ok(())
}

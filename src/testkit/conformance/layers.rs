//! Layers in the guest: which disk is which, what a start makes anew, and what it keeps.

use super::bench::{Bench, Miss, Outcome, drives, ensure};
use super::translate::{bios_boots, with_controller};
use super::{Entry, Options};
use crate::capability::{Capabilities, Feature};
use crate::hypervisor::Ended;
use crate::plan::Grade;
use crate::spec::Console;
use crate::testkit::Sample;
use crate::testkit::guest::{Boot, BootSector, Outcome as Seen};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("the-console-is-a-file", tells, console),
    Entry::new("disks-come-in-attachment-order", tells, order),
    Entry::new("a-write-is-read-back", tells, reads_back),
    Entry::new("discarded-layers-are-clean-at-every-start", tells, discards),
    Entry::new("kept-layers-keep-what-was-written", tells, keeps),
    Entry::new("every-controller-boots-its-disks", tells, controllers),
];

/// A sector that nothing else uses.
pub(super) const LBA: u32 = 5;
/// Disk of the layer `home`, which is kept.
pub(super) const HOME: u8 = 2;

fn tells(can: &Capabilities, options: &Options) -> bool {
    drives(can, options) && can.feature(Feature::ConsoleLog) == Grade::Hard
}

fn console(bench: &Bench) -> Outcome {
    let (ended, boot) = bench.machine(&BootSector::new())?.run(1)?;
    ensure!(ended == Ended::PowerOff, "the guest ended with {ended:?}");
    ensure!(boot.ended, "the console stops before the guest's end");
    Ok(())
}

/// Puts a text into sector [`LBA`] of each image that says which layer it is.
fn mark(mut sample: Sample, guest: &BootSector) -> Result<Sample, Miss> {
    for index in 0..sample.spec.layers.len() {
        let mut content = vec![0; LBA as usize * 512];
        if index == 0 {
            content[..512].copy_from_slice(&guest.image_bytes()?);
        }
        content.extend(sample.spec.layers[index].name.as_str().bytes());
        sample = sample.content(index, content);
    }
    sample.spec.hardware.console = Console::Log;
    Ok(sample)
}

fn order(bench: &Bench) -> Outcome {
    let machine = bench.machine_of(mark(bench.sample()?, &BootSector::new().print(LBA))?)?;
    let (_, boot) = machine.run(1)?;
    let seen = boot.texts(LBA);
    ensure!(
        seen == ["os", "office", "home"],
        "the guest sees the disks {seen:?}"
    );
    Ok(())
}

fn reads_back(bench: &Bench) -> Outcome {
    let guest = BootSector::new()
        .write(0, LBA, "one")
        .write(HOME, LBA, "two")
        .print(LBA);
    let (_, boot) = bench.machine(&guest)?.run(1)?;
    let seen = boot.texts(LBA);
    ensure!(
        seen == ["one", "", "two"],
        "written were one, nothing and two; read was {seen:?}"
    );
    Ok(())
}

/// What three starts of a guest read on a disk before each of them writes to it.
fn first_reads(bench: &Bench, disk: u8) -> Result<Vec<String>, Miss> {
    let guest = BootSector::new().print(LBA).write(disk, LBA, "written");
    let machine = bench.machine(&guest)?;
    let mut reads = Vec::new();
    for start in 1..=3 {
        let (_, boot) = machine.run(start)?;
        reads.push(read_of(&boot, disk)?);
    }
    Ok(reads)
}

/// What the guest read on a disk in a boot.
pub(super) fn read_of(boot: &Boot, disk: u8) -> Result<String, Miss> {
    let event = boot
        .events
        .iter()
        .find(|event| event.disk == disk && event.lba == LBA);
    match event.map(|event| &event.outcome) {
        Some(Seen::Read(text)) => Ok(text.clone()),
        other => Err(Miss::Failed(format!(
            "disk {disk} was not read, but: {other:?}"
        ))),
    }
}

fn discards(bench: &Bench) -> Outcome {
    let reads = first_reads(bench, 0)?;
    ensure!(reads == ["", "", ""], "os holds at its starts: {reads:?}");
    Ok(())
}

fn keeps(bench: &Bench) -> Outcome {
    let reads = first_reads(bench, HOME)?;
    ensure!(
        reads == ["", "written", "written"],
        "home holds at its starts: {reads:?}"
    );
    Ok(())
}

fn controllers(bench: &Bench) -> Outcome {
    let kinds: Vec<_> = bench
        .can()
        .controllers
        .iter()
        .map(|known| known.kind)
        .collect();
    for kind in kinds
        .into_iter()
        .filter(|kind| bios_boots(bench.can(), *kind))
    {
        let sample = with_controller(bench, kind, 2)?;
        let sample = mark(sample, &BootSector::new().print(LBA))?;
        let (ended, boot) = bench.machine_of(sample)?.run(1)?;
        ensure!(
            ended == Ended::PowerOff,
            "{kind}: the guest ended with {ended:?}"
        );
        let seen = boot.texts(LBA);
        ensure!(
            seen == ["os", "data0"],
            "{kind}: the guest sees the disks {seen:?}"
        );
    }
    Ok(())
}

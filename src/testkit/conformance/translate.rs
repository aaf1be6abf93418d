//! Translating: pure, complete, and with every disk at a place of its own that it keeps.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::bench::{Bench, Miss, Outcome, always, ensure, files_below, nowhere, text_of};
use super::{Entry, Options};
use crate::capability::Capabilities;
use crate::spec::{Controller, Firmware, Role};
use crate::testkit::Sample;

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("equal-machines-have-equal-plans", always, equal_plans),
    Entry::new("translating-touches-nothing", always, touches_nothing),
    Entry::new("plans-follow-from-values-alone", always, values_alone),
    Entry::new("plans-hold-every-disk-as-given", always, disks_as_given),
    Entry::new("plans-name-product-and-version", always, named),
    Entry::new("files-stay-in-the-config-folder", always, in_config_folder),
    Entry::new(
        "every-head-is-in-the-configuration",
        always,
        heads_are_named,
    ),
    Entry::new("places-are-distinct", has_controllers, places_distinct),
    Entry::new("places-stay-when-a-layer-goes", always, places_stay),
];

fn has_controllers(can: &Capabilities, _: &Options) -> bool {
    !can.controllers.is_empty()
}

fn equal_plans(bench: &Bench) -> Outcome {
    let machine = nowhere(&bench.sample()?);
    let first = bench.backend.translate(&machine)?;
    let mut between = bench.sample()?;
    between.spec.hardware.cpus = 2;
    bench.plan(&between)?;
    for (again, who) in [
        (&bench.backend, "the same backend"),
        (&bench.other, "another one"),
    ] {
        let second = again.translate(&machine.clone())?;
        ensure!(
            first == second,
            "{who} makes another plan:\n{first}\nthen:\n{second}"
        );
        ensure!(
            first.digest() == second.digest(),
            "{who} makes a plan with another digest"
        );
    }
    Ok(())
}

fn touches_nothing(bench: &Bench) -> Outcome {
    let machine = bench.machine_of(bench.sample()?)?;
    let before = files_below(machine.path())?;
    machine.plan(1)?;
    ensure!(
        files_below(machine.path())? == before,
        "translating changed files"
    );
    let folder = TempDir::new()?;
    bench
        .backend
        .translate(&bench.sample()?.resolve(&folder.path().join("not-there")))?;
    ensure!(
        std::fs::read_dir(folder.path())?.next().is_none(),
        "translating made a folder"
    );
    Ok(())
}

fn values_alone(bench: &Bench) -> Outcome {
    let folder = TempDir::new()?;
    let sample = bench.sample()?;
    let machine = sample.resolve(folder.path());
    let without_files = bench.backend.translate(&machine)?;
    sample.write_images(folder.path())?;
    without_files.apply(&machine.volume, &crate::Ctx::none())?;
    let with_files = bench.backend.translate(&machine)?;
    ensure!(
        without_files == with_files,
        "the plan depends on the files that are there"
    );
    Ok(())
}

fn disks_as_given(bench: &Bench) -> Outcome {
    let machine = nowhere(&bench.sample()?.frozen(2));
    let plan = bench.backend.translate(&machine)?;
    let (given, planned) = (machine.disks.len(), plan.disks.len());
    ensure!(
        given == planned,
        "{given} disks were given, {planned} are planned"
    );
    for (given, planned) in machine.disks.iter().zip(&plan.disks) {
        let name = &given.name;
        ensure!(
            given.name == planned.name,
            "{name} is not where it was, but {}",
            planned.name
        );
        ensure!(given.chain == planned.chain, "the chain of {name} changed");
        ensure!(
            given.slot == planned.slot,
            "{name} moved to port {}",
            planned.slot
        );
        ensure!(
            planned.controller != Controller::Auto,
            "{name} is on an unknown controller"
        );
        ensure!(!planned.place.is_empty(), "the place of {name} has no name");
    }
    Ok(())
}

fn named(bench: &Bench) -> Outcome {
    let plan = bench.plan(&bench.sample()?)?;
    ensure!(
        plan.product == *bench.backend.product(),
        "the plan is for {}",
        plan.product
    );
    ensure!(
        !plan.needs.trim().is_empty(),
        "the plan does not say which version it needs"
    );
    Ok(())
}

fn in_config_folder(bench: &Bench) -> Outcome {
    let machine = nowhere(&bench.sample()?);
    let plan = bench.backend.translate(&machine)?;
    let mut seen = BTreeSet::new();
    for file in &plan.files {
        let path = &file.path;
        ensure!(
            path.starts_with(&machine.paths.config),
            "{path:?} is not in the config folder"
        );
        ensure!(seen.insert(path), "{path:?} is planned twice");
    }
    match &plan.entry {
        Some(entry) => ensure!(
            seen.contains(entry),
            "the entry {entry:?} is no file of the plan"
        ),
        None => ensure!(
            seen.is_empty() || !plan.argv.is_empty(),
            "the product opens no file of the plan and takes no arguments"
        ),
    }
    Ok(())
}

fn heads_are_named(bench: &Bench) -> Outcome {
    let plan = bench.plan(&bench.sample()?)?;
    let text = text_of(&plan);
    for disk in &plan.disks {
        for file in disk.chain.head().into_iter().flat_map(|head| &head.files) {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            let end = format!("{}/{name}", disk.name);
            ensure!(
                text.contains(&end),
                "no file or argument names {end}:\n{text}"
            );
        }
    }
    Ok(())
}

fn places_distinct(bench: &Bench) -> Outcome {
    for known in &bench.can().controllers {
        let sample = with_controller(bench, known.kind, known.disks.min(3))?;
        let plan = bench.plan(&sample)?;
        let places: BTreeSet<_> = plan.disks.iter().map(|disk| &disk.place).collect();
        let (disks, kind) = (plan.disks.len(), known.kind);
        ensure!(
            places.len() == disks,
            "{disks} disks on {kind} have the places {places:?}"
        );
        let on_kind = plan
            .disks
            .iter()
            .filter(|disk| disk.controller == kind)
            .count();
        ensure!(
            on_kind + 1 >= disks,
            "only {on_kind} of {disks} disks are on {kind}"
        );
    }
    Ok(())
}

/// A machine with `count` disks on `kind`, the first of which boots if a firmware boots from it.
pub(super) fn with_controller(bench: &Bench, kind: Controller, count: u32) -> Result<Sample, Miss> {
    let can = bench.can();
    let mut sample = bench.sample()?.without_last_layer().without_last_layer();
    let boots = can
        .controller(kind)
        .map(|known| known.boots.clone())
        .unwrap_or_default();
    let firmware = can
        .firmware
        .iter()
        .find(|firmware| boots.contains(firmware));
    if let Some(firmware) = firmware {
        sample.spec.hardware.firmware = *firmware;
        sample.spec.layers[0].controller = Some(kind);
    }
    let more = count.saturating_sub(u32::from(firmware.is_some()));
    for index in 0..more {
        sample = sample.layer(&format!("data{index}"), Role::UserData, 1)?;
        let layer = sample.spec.layers.last_mut();
        if let Some(layer) = layer {
            layer.controller = Some(kind);
        }
    }
    Ok(sample)
}

/// Whether machines with a BIOS boot from this kind.
pub(super) fn bios_boots(can: &Capabilities, kind: Controller) -> bool {
    can.controller(kind)
        .is_some_and(|known| known.boots.contains(&Firmware::Bios))
}

fn places_stay(bench: &Bench) -> Outcome {
    let machine = nowhere(&bench.sample()?);
    let mut before = bench.backend.translate(&machine)?.disks;
    let mut fewer = machine;
    fewer.disks.remove(1);
    fewer.spec.layers.remove(1);
    let after = bench.backend.translate(&fewer)?.disks;
    before.remove(1);
    let places = |disks: &[crate::plan::PlanDisk]| -> Vec<_> {
        disks
            .iter()
            .map(|disk| format!("{} at {}", disk.name, disk.place))
            .collect()
    };
    let (before, after) = (places(&before), places(&after));
    ensure!(before == after, "disks moved: {before:?} became {after:?}");
    Ok(())
}

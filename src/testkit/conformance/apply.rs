//! Applying plans: everything that is planned, twice the same, resumed after any file, and no
//! golden image ever touched.

use std::fs;

use super::Entry;
use super::bench::{Bench, Machine, Miss, Outcome, always, ensure, files_below, refused_as};
use crate::chain::{Member, Source};
use crate::plan::Content;
use crate::{Ctx, ErrorKind, Plan, Resolved};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("applying-makes-all-that-is-planned", always, makes_all),
    Entry::new("applying-twice-changes-nothing", always, twice),
    Entry::new("applying-resumes-after-any-file", always, resumes),
    Entry::new("stale-configuration-is-replaced", always, replaces_stale),
    Entry::new("applying-leaves-images-alone", always, leaves_images),
    Entry::new("a-missing-image-is-not-found", always, missing_image),
];

fn machine(bench: &Bench) -> Result<(Machine<'_>, Resolved, Plan), Miss> {
    let machine = bench.machine_of(bench.sample()?.frozen(1).extents(2))?;
    let (resolved, plan) = machine.plan(1)?;
    Ok((machine, resolved, plan))
}

fn makes_all(bench: &Bench) -> Outcome {
    let (_machine, resolved, plan) = machine(bench)?;
    plan.apply(&resolved.volume, &Ctx::none())?;
    for file in &plan.files {
        let expected = match &file.content {
            Content::Text(text) => text.as_bytes(),
            Content::Binary(bytes) => bytes.as_slice(),
            Content::CopyOf(_) => continue,
        };
        let found = fs::read(&file.path)?;
        ensure!(
            found == expected,
            "{:?} is not what the plan says",
            file.path
        );
    }
    // The chains as given, not as planned: none may have been left out.
    let members = resolved.disks.iter().flat_map(|disk| &disk.chain.members);
    for file in members.flat_map(Member::all_files) {
        ensure!(file.path.is_file(), "{:?} was not made", file.path);
    }
    Ok(())
}

fn twice(bench: &Bench) -> Outcome {
    let (machine, resolved, plan) = machine(bench)?;
    plan.apply(&resolved.volume, &Ctx::none())?;
    let first = files_below(machine.path())?;
    let again = bench
        .other
        .translate(&resolved)?
        .apply(&resolved.volume, &Ctx::none())?;
    ensure!(
        again.written.is_empty(),
        "the second time, these were written: {:?}",
        again.written
    );
    ensure!(
        files_below(machine.path())? == first,
        "the second time, files changed"
    );
    Ok(())
}

/// As if the power had failed after each file in turn.
fn resumes(bench: &Bench) -> Outcome {
    let (machine, resolved, plan) = machine(bench)?;
    let order = plan.apply(&resolved.volume, &Ctx::none())?.written;
    let whole = files_below(machine.path())?;
    let contents = order
        .iter()
        .map(|path| Ok((path, fs::read(path)?)))
        .collect::<Result<Vec<_>, Miss>>()?;
    if let Some(entry) = &plan.entry {
        let last = order.last() == Some(entry);
        ensure!(
            last,
            "the file that the product opens is written before {:?}",
            order.last()
        );
    }
    for done in 0..contents.len() {
        for path in &order {
            fs::remove_file(path)?;
        }
        for (path, bytes) in &contents[..done] {
            fs::write(path, bytes)?;
        }
        plan.apply(&resolved.volume, &Ctx::none())?;
        let resumed = files_below(machine.path())?;
        ensure!(
            resumed == whole,
            "resumed after {done} files, the result is another"
        );
    }
    Ok(())
}

fn replaces_stale(bench: &Bench) -> Outcome {
    let (_machine, resolved, plan) = machine(bench)?;
    let Some(entry) = &plan.entry else {
        return Ok(());
    };
    plan.apply(&resolved.volume, &Ctx::none())?;
    let fresh = fs::read(entry)?;
    fs::write(entry, "of another plan")?;
    plan.apply(&resolved.volume, &Ctx::none())?;
    ensure!(
        fs::read(entry)? == fresh,
        "{entry:?} keeps what another plan wrote"
    );
    Ok(())
}

fn leaves_images(bench: &Bench) -> Outcome {
    let (machine, resolved, plan) = machine(bench)?;
    let before = machine.image_digests()?;
    plan.apply(&resolved.volume, &Ctx::none())?;
    ensure!(
        machine.image_digests()? == before,
        "applying changed an image"
    );
    Ok(())
}

fn missing_image(bench: &Bench) -> Outcome {
    let (machine, resolved, plan) = machine(bench)?;
    for image in &machine.images {
        fs::rename(image, image.with_extension("gone"))?;
        let applied = plan.apply(&resolved.volume, &Ctx::none());
        let error = refused_as(applied, ErrorKind::NotFound, "applying without an image")?;
        ensure!(
            error.path() == Some(image),
            "the error names {:?}, not {image:?}",
            error.path()
        );
        fs::rename(image.with_extension("gone"), image)?;
    }
    let planned = plan.disks.iter().flat_map(|disk| &disk.chain.members);
    let existing = planned
        .flat_map(Member::all_files)
        .filter(|f| f.source == Source::Existing)
        .count();
    ensure!(
        existing == machine.images.len(),
        "the plan looks for {existing} images only"
    );
    Ok(())
}

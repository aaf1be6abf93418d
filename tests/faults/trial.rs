//! One task through all of its points.

use std::fs;

use stratavm::ErrorKind;
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};

use crate::judge::{self, Again, Files, May};
use crate::report;
use crate::scene::{Scene, Task};
use crate::sim::draw::Draw;
use crate::sim::world::World;

/// What happens at a point.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Error(Failure, Then),
    Cut(Lost),
}

/// Every blow, with draws of what is lost from `seed`.
fn blows(draw: &mut Draw) -> Vec<Blow> {
    let mut blows = Vec::new();
    for failure in Failure::ALL {
        for then in [Then::Recovers, Then::StaysBroken] {
            blows.push(Blow::Error(failure, then));
        }
    }
    blows.extend([Lost::Nothing, Lost::Unflushed].map(Blow::Cut));
    for _ in 0..3 {
        blows.push(Blow::Cut(Lost::Later(draw.number())));
        blows.push(Blow::Cut(Lost::Any(draw.number())));
    }
    blows
}

/// Some of them: one failure and three power cuts, so that a few points see each.
fn some(blows: Vec<Blow>, draw: &mut Draw) -> Vec<Blow> {
    let (mut errors, mut cuts): (Vec<_>, Vec<_>) = blows
        .into_iter()
        .partition(|blow| matches!(blow, Blow::Error(..)));
    let mut take = |from: &mut Vec<Blow>| from.swap_remove(draw.below(from.len() as u64) as usize);
    vec![take(&mut errors), take(&mut cuts), take(&mut cuts)]
}

/// Puts `task` through every point that it has in `scene`.
pub(crate) fn every_point(scene: &Scene, task: &Task) {
    let (points, clean) = without_fault(scene, task);
    assert!(!points.is_empty(), "{task:?} changes nothing");
    let seed = report::seed(4);
    let mut draw = Draw::new(seed);
    let mut trials = 0;
    // One more: what was done counts if the power is cut right behind it.
    for at in 0..=points.len() {
        let all = blows(&mut draw);
        let chosen = match report::slow() {
            true => all,
            false => some(all, &mut draw),
        };
        for blow in chosen {
            let point = points.get(at).map_or("the end", String::as_str);
            if let Err(why) = trial(scene, task, at, blow, &clean) {
                panic!("{task:?}, {blow:?} at point {at}, {point}: {why}\nseed {seed}");
            }
            trials += 1;
        }
    }
    println!("{task:?}: {} points, {trials} trials", points.len());
    report::counted("faults", "points of operations", points.len() as u64, None);
    report::counted("faults", "faults at points", trials, Some(seed));
}

/// The points of the task, and the store after it, a start and a prune.
fn without_fault(scene: &Scene, task: &Task) -> (Vec<String>, Files) {
    let copy = scene.copy();
    let folder = copy.path();
    let world = World::at(folder);
    let mut model = scene.model.clone();
    let faults = Faults::below(&task.watched(folder), Fault::None).unwrap();
    let answer = task.perform(folder, &world).unwrap();
    let points = faults.points();
    drop(faults);
    assert_eq!(answer, task.apply(&mut model));
    judge::which(&world, std::slice::from_ref(&model)).unwrap();
    judge::goes_on(folder, &world, task, model, Again::Never).unwrap();
    (points, judge::files(folder))
}

fn trial(scene: &Scene, task: &Task, at: usize, blow: Blow, clean: &Files) -> Result<(), String> {
    let copy = scene.copy();
    let folder = copy.path();
    let before = judge::files(folder);
    let fault = match blow {
        Blow::Error(failure, then) => Fault::Error { at, failure, then },
        Blow::Cut(_) => Fault::PowerCut { at },
    };
    let world = World::at(folder);
    let heads = judge::heads(folder, &world);
    let watched = task.watched(folder);
    fs::create_dir_all(&watched).unwrap();
    let faults = Faults::below(&watched, fault).unwrap();
    let answer = task.perform(folder, &world);
    match blow {
        Blow::Error(..) => drop(faults),
        Blow::Cut(lost) => faults.crash(lost).unwrap(),
    }
    drop(world);
    // What a check could not repair is a finding of it, not an error.
    let is_told = !matches!(task, Task::Repair);
    if let (true, Err(error), Blow::Error(failure, Then::StaysBroken)) = (is_told, &answer, blow) {
        let expected = match failure {
            Failure::NoSpace | Failure::Quota => ErrorKind::NoSpace,
            Failure::ReadOnly => ErrorKind::PermissionDenied,
            _ => ErrorKind::Io,
        };
        if error.kind() != expected {
            return Err(format!("not told for what it is: {}", judge::chain(error)));
        }
    }

    let mut after = scene.model.clone();
    let expected = task.apply(&mut after);
    let mut candidates = vec![after.clone()];
    match &answer {
        Ok(answer) if *answer != expected => return Err(format!("answered {answer:?}")),
        // How a run ended is its answer, also where that could not be noted any more.
        Ok(_) => candidates.extend(task.cut_short(&scene.model).split_off(1)),
        Err(_) => candidates.extend(task.cut_short(&scene.model)),
    }
    if let Blow::Cut(_) = blow {
        let made = candidates.iter_mut().filter(|model| **model != scene.model);
        made.for_each(|model| *model = model.clone().unsure());
    }
    let world = World::at(folder);
    let context = |why: String| match &answer {
        Ok(_) => format!("though it was done: {why}"),
        Err(error) => format!("after \"{}\": {why}", judge::chain(error)),
    };
    let which = judge::which(&world, &candidates).map_err(context)?;
    let now = judge::files(folder);
    let may = May {
        touch: &|layer| task.touches(&scene.model, layer),
        freeze: task.freezes(),
        free: matches!(task, Task::Prune),
    };
    judge::others_are_unchanged(&before, &heads, &now, &may).map_err(context)?;
    if task.adds_image() {
        judge::images_are_intact(&world).map_err(context)?;
    }
    let again = match (which, &answer) {
        (_, Ok(_)) => Again::Never,
        // The end state can be that of the beginning: nothing is lost by doing it twice, if it can be.
        (_, Err(_)) if candidates[which] != scene.model => Again::Never,
        _ => Again::Once,
    };
    let model = candidates.swap_remove(which);
    judge::goes_on(folder, &world, task, model, again).map_err(context)?;
    world.assert_unviolated();
    judge::same_names(&judge::files(folder), clean).map_err(|why| context(format!("left: {why}")))
}

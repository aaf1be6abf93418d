//! One case through every change that it makes to a file: what was done under the fault, what came of it, and what must
//! hold afterwards. What a machine is then is compared with what it was and with what it becomes without a fault.
//!
//! The cases are in the tests; how a machine is put into words is in `view`.

mod view;

use std::fs;
use std::path::{Path, PathBuf};

use stratavm::machine::Machine;
use stratavm::spec::Name;
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm::{ErrorKind, Result};
use tempfile::TempDir;

use crate::judge::{self, Files, May, chain};
use crate::report;
use crate::scene::{DESK, Scene, rich};
use crate::sim::draw::Draw;
use crate::sim::model::Op;
use crate::sim::world::World;

type Checked<T> = std::result::Result<T, String>;

/// Something that is done under faults, after what is done before.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) prepare: fn(&World),
    pub(crate) act: fn(&World) -> Result<()>,
    /// Layers whose files it may make anew, freeze or remove.
    pub(crate) layers: &'static [&'static str],
    /// Whether it is done at once, or may be found half done.
    pub(crate) steps: Steps,
    /// What else must hold at any time.
    pub(crate) check: fn(&World) -> Checked<()>,
    /// What the machine is on.
    pub(crate) product: &'static Product,
}

/// How many changes of a record a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    One,
    /// The first may stand alone.
    Two,
}

/// What the cases of a test have in common, to be completed.
pub(crate) const CASE: Case = Case {
    name: "",
    prepare: |_| {},
    act: |_| Ok(()),
    layers: &[],
    steps: Steps::One,
    check: |_| Ok(()),
    product: &FAKE,
};

/// What a test has to know of a product.
pub(crate) struct Product {
    /// What it writes into the store by itself, which is flushed when it says so: no fault here reaches that.
    pub(crate) files: fn(&World) -> Vec<PathBuf>,
    /// Ends what it has in memory.
    pub(crate) power_cut: fn(&World),
    /// What has become of the machine, in a word.
    pub(crate) state: fn(&World) -> Checked<String>,
    /// Goes on with the machine, whatever it is doing, until it is off.
    pub(crate) run: fn(&World) -> Result<()>,
}

/// The tests' own, whose machines end with the call that started them.
pub(crate) const FAKE: Product = Product {
    files: |_| Vec::new(),
    power_cut: |_| {},
    state: |_| Ok("off".to_owned()),
    run,
};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn desk(world: &World) -> Machine {
    world.store.machine(&name(DESK)).unwrap()
}

/// A start whose guest writes nothing.
pub(crate) fn run(world: &World) -> Result<()> {
    let op = Op::run(vec![Vec::new()]);
    world.try_perform(DESK, &op).map(drop)
}

/// One fault: an error, or a power cut with what is lost by it.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Error(Failure, Then),
    Cut(Lost),
}

fn blows(draw: &mut Draw) -> Vec<Blow> {
    let mut all: Vec<_> = Failure::ALL
        .into_iter()
        .flat_map(|failure| {
            [Then::Recovers, Then::StaysBroken].map(|then| Blow::Error(failure, then))
        })
        .collect();
    let one = all.swap_remove(draw.below(all.len() as u64) as usize);
    let cuts = [
        Lost::Nothing,
        Lost::Unflushed,
        Lost::Later(draw.number()),
        Lost::Any(draw.number()),
    ];
    match report::slow() {
        true => all
            .into_iter()
            .chain([one])
            .chain(cuts.map(Blow::Cut))
            .collect(),
        false => vec![one, Blow::Cut(cuts[draw.below(4) as usize])],
    }
}

/// What a case comes to without a fault.
struct Clean {
    before: String,
    after: String,
    /// What it is before, and after, if the power is cut then: a machine that runs is off.
    cut: [String; 2],
    points: Vec<String>,
    /// The store after it, a run and a prune.
    files: Files,
}

impl Clean {
    fn of(case: &Case, prepared: &dyn Fn() -> TempDir) -> Self {
        let cut = |act: fn(&World) -> Result<()>| {
            let folder = prepared();
            let world = World::at(folder.path());
            act(&world).unwrap();
            (case.product.power_cut)(&world);
            view::of(&world, case).unwrap()
        };
        let cut = [cut(|_| Ok(())), cut(case.act)];
        let folder = prepared();
        let folder = folder.path();
        let world = World::at(folder);
        let before = view::of(&world, case).unwrap();
        let faults = Faults::below(&folder.join("home"), Fault::None).unwrap();
        (case.act)(&world).unwrap();
        let points = faults.points();
        drop(faults);
        let after = view::of(&world, case).unwrap();
        (case.product.run)(&world).unwrap();
        judge::prune(folder, &world).unwrap();
        Self {
            before,
            after,
            cut,
            points,
            files: judge::files(folder),
        }
    }
}

/// Puts `case` through every point that it has; `what` is what is counted.
pub(crate) fn every_point(case: &Case, what: &str) {
    let scene = Scene::new(&rich());
    let prepared = || {
        let copy = scene.copy();
        (case.prepare)(&World::at(copy.path()));
        copy
    };
    let clean = Clean::of(case, &prepared);
    let points = &clean.points;
    assert!(!points.is_empty(), "{} changes nothing", case.name);
    let seed = report::seed(11);
    let mut draw = Draw::new(seed);
    let mut trials = 0;
    for at in 0..=points.len() {
        for blow in blows(&mut draw) {
            let folder = prepared();
            if let Err(why) = trial(case, folder.path(), at, blow, &clean) {
                let point = points.get(at).map_or("the end", String::as_str);
                panic!(
                    "{}: {blow:?} at point {at}, {point}: {why}\nseed {seed}",
                    case.name
                );
            }
            trials += 1;
        }
    }
    println!("{}: {} points, {trials} trials", case.name, points.len());
    let faults = format!("faults at {what}");
    report::counted("faults", what, points.len() as u64, None);
    report::counted("faults", &faults, trials, Some(seed));
}

fn trial(case: &Case, folder: &Path, at: usize, blow: Blow, clean: &Clean) -> Checked<()> {
    let fault = match blow {
        Blow::Error(failure, then) => Fault::Error { at, failure, then },
        Blow::Cut(_) => Fault::PowerCut { at },
    };
    let world = World::at(folder);
    let (before, heads) = (judge::files(folder), judge::heads(folder, &world));
    let faults = Faults::below(&folder.join("home"), fault).unwrap();
    let done = (case.act)(&world);
    match blow {
        Blow::Error(..) => drop(faults),
        Blow::Cut(lost) => crash(case, &world, faults, lost),
    }
    drop(world);
    told(&done, blow)?;
    let said = done.as_ref().err().map(|error| chain(error));
    let after = |why: String| format!("after {said:?}: {why}");

    let world = World::at(folder);
    (case.check)(&world).map_err(after)?;
    let now = view::of(&world, case).map_err(after)?;
    let may = May {
        touch: &|layer| case.layers.contains(&layer),
        freeze: true,
        free: false,
    };
    judge::others_are_unchanged(&before, &heads, &judge::files(folder), &may).map_err(after)?;
    let [is_before, is_after] = [&clean.before, &clean.after].map(|view| now == *view);
    let is_cut = matches!(blow, Blow::Cut(_)) && clean.cut.contains(&now);
    match &done {
        Ok(()) if is_after || is_cut && now == clean.cut[1] => {}
        Err(_) if is_before || is_after || is_cut || case.steps == Steps::Two => {}
        _ => {
            return Err(after(format!(
                "it is\n{now}\nbefore\n{}\nafter\n{}",
                clean.before, clean.after
            )));
        }
    }
    // What ran and has lost its power is another machine now.
    if !is_after && (is_before || !is_cut) {
        (case.act)(&world).map_err(|error| after(format!("not again: {}", chain(&error))))?;
        let now = view::of(&world, case)?;
        if now != clean.after {
            return Err(format!("done again it is\n{now}\nnot\n{}", clean.after));
        }
    }
    (case.product.run)(&world).map_err(|error| format!("the next run: {}", chain(&error)))?;
    if desk(&world)
        .record()
        .map_err(|error| chain(&error))?
        .run
        .is_some()
    {
        return Err("the next run has ended and is still recorded".to_owned());
    }
    (case.check)(&world)?;
    let started = Op::run(vec![Vec::new()]);
    let answer = world.perform(DESK, &started);
    if answer.is_refused() {
        return Err(format!("the next start: {answer:?}"));
    }
    world.assert_unviolated();
    judge::prune(folder, &world)?;
    judge::same_names(&judge::files(folder), &clean.files)
        .map_err(|why| after(format!("left: {why}")))?;
    world.sound()
}

/// A fault that stays is told for what it is.
fn told(done: &Result<()>, blow: Blow) -> Checked<()> {
    let (Err(error), Blow::Error(failure, Then::StaysBroken)) = (done, blow) else {
        return Ok(());
    };
    let expected = match failure {
        Failure::NoSpace | Failure::Quota => ErrorKind::NoSpace,
        Failure::ReadOnly => ErrorKind::PermissionDenied,
        _ => ErrorKind::Io,
    };
    match error.kind() == expected {
        true => Ok(()),
        false => Err(format!("not told for what it is: {}", chain(error))),
    }
}

/// The power is cut: what was not flushed may be lost, and no machine runs any more.
fn crash(case: &Case, world: &World, faults: Faults, lost: Lost) {
    let own = (case.product.files)(world);
    let kept: Vec<_> = own.iter().map(|path| fs::read(path).ok()).collect();
    for (path, _) in own.iter().zip(&kept).filter(|(_, kept)| kept.is_none()) {
        // The watch knew it and does not know that it is gone.
        let _ = fs::write(path, "");
    }
    faults.crash(lost).unwrap();
    for (path, kept) in own.iter().zip(kept) {
        match kept {
            Some(bytes) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            None => drop(fs::remove_file(path)),
        }
    }
    (case.product.power_cut)(world);
}

/// A test for each case, and one that none was forgotten.
macro_rules! cases {
    ($what:literal, $cases:ident: $($test:ident = $index:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            crate::faulted::every_point(&$cases[$index], $what);
        })*

        #[test]
        fn every_case_has_a_test() {
            assert_eq!($cases.len(), [$($index),*].len());
        }
    };
}
pub(crate) use cases;

//! What must hold after a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use stratavm::Ctx;
use uuid::Uuid;

use crate::scene::{DESK, Task};
use crate::sim::check;
use crate::sim::model::{Model, Op};
use crate::sim::world::World;

type Result<T> = std::result::Result<T, String>;

/// Files with what they hold, by their paths below the world's folder.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Every file of the store, and of the one that is begun.
pub(crate) fn files(folder: &Path) -> Files {
    let stores = ["home", "begun"].map(|store| check::files(&folder.join(store)));
    stores
        .into_iter()
        .flatten()
        .map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes))
        .collect()
}

/// Which of `candidates` the machine is; the reasons if it is none.
pub(crate) fn which(world: &World, candidates: &[Model]) -> Result<usize> {
    let mut reasons = Vec::new();
    for (n, model) in candidates.iter().enumerate() {
        match check::machine(world, DESK, model) {
            Ok(()) => return Ok(n),
            Err(why) => reasons.push(why),
        }
    }
    Err(reasons.join("; "))
}

/// The machine's heads, by their paths below the world's folder.
pub(crate) fn heads(folder: &Path, world: &World) -> BTreeSet<PathBuf> {
    let heads = check::heads(world, DESK).into_iter();
    heads
        .map(|path| path.strip_prefix(folder).unwrap().to_owned())
        .collect()
}

/// What an operation may do to files that are there.
pub(crate) struct May<'a> {
    /// It may remove files of these layers, and edit those of their heads that it freezes.
    pub(crate) touch: &'a dyn Fn(&str) -> bool,
    pub(crate) freeze: bool,
    /// It may remove images that nobody needs, and what was left behind.
    pub(crate) free: bool,
}

/// Files that an operation has no business with are byte for byte what they were; those of the layers it is about may be
/// gone, and differ only if they are a head that it freezes.
pub(crate) fn others_are_unchanged(
    before: &Files,
    heads: &BTreeSet<PathBuf>,
    after: &Files,
    may: &May<'_>,
) -> Result<()> {
    for (path, bytes) in before {
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let may_go = match names.as_slice() {
            // Notes and records of the machine itself; locks are empty.
            [
                "home",
                "machines",
                DESK,
                "machine.json" | "lock" | "run.lock",
            ]
            | ["home", "machines", DESK, "products" | "run", ..]
            | ["home", "machines", ".ids", _]
            | ["home", "images", _, "leases", _] => continue,
            ["home", "machines", DESK, "layers", "home", "head-99.vmdk"] => true,
            ["home", "machines", DESK, "layers", layer, _] => (may.touch)(layer),
            ["home", "images", ..] => may.free,
            // What the scene was littered with.
            ["home", "machines", ".gone-1", ..]
            | ["home", "machines", DESK, ".stratavm-tmp-1-0"] => may.free,
            _ => false,
        };
        match after.get(path) {
            Some(found) if found == bytes => {}
            Some(_) if may_go && may.freeze && heads.contains(path) => {}
            Some(_) => return Err(format!("{} differs", path.display())),
            None if may_go => {}
            None => return Err(format!("{} is gone", path.display())),
        }
    }
    Ok(())
}

/// Every image of the store is what its digest says.
pub(crate) fn images_are_intact(world: &World) -> Result<()> {
    let images = world.store.images();
    for image in images.list().map_err(|error| chain(&error))? {
        let digest = image.map_err(|error| chain(&error))?.meta.digest;
        let found = images.verify(&digest, &Ctx::none());
        if !found.map_err(|error| chain(&error))?.is_intact() {
            return Err(format!("{digest} is damaged"));
        }
    }
    Ok(())
}

/// The names of all files, without the numbers and ids that were drawn.
pub(crate) fn names(files: &Files) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for path in files.keys() {
        let parts = path.iter().map(|part| {
            let part = part.to_string_lossy();
            match Uuid::try_parse(&part) {
                Ok(_) => "ID".to_owned(),
                Err(_) if part.starts_with("head-") => "head-N".to_owned(),
                Err(_) => part.into_owned(),
            }
        });
        *names
            .entry(parts.collect::<Vec<_>>().join("/"))
            .or_default() += 1;
    }
    names
}

/// What one has that the other has not.
pub(crate) fn same_names(found: &Files, expected: &Files) -> Result<()> {
    let (found, expected) = (names(found), names(expected));
    let all: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = all
        .into_iter()
        .filter(|name| match name.as_str() {
            // Which machine has which id is noted without a flush, and can be lost.
            "home/machines/.ids/ID" => found.get(*name) > expected.get(*name),
            _ => found.get(*name) != expected.get(*name),
        })
        .map(|name| {
            format!(
                "{name}: {:?}, not {:?}",
                found.get(name),
                expected.get(name)
            )
        })
        .collect();
    match differ.is_empty() {
        true => Ok(()),
        false => Err(differ.join("; ")),
    }
}

/// The store is in order and can be gone on with: what was not done is done again, the machine is started, or made where
/// there is none, and what is left over goes.
pub(crate) fn goes_on(
    folder: &Path,
    world: &World,
    task: &Task,
    mut model: Model,
    again: Again,
) -> Result<()> {
    if again == Again::Once {
        let expected = task.apply(&mut model);
        let answer = task
            .perform(folder, world)
            .map_err(|error| format!("done again: {}", chain(&error)))?;
        if answer != expected {
            return Err(format!("done again: {answer:?}, not {expected:?}"));
        }
        check::machine(world, DESK, &model).map_err(|why| format!("done again: {why}"))?;
    }
    let next = match model.layers {
        Some(_) => Op::run(vec![Vec::new()]),
        None => Op::Create,
    };
    let expected = model.apply(&next);
    let answer = world
        .try_perform(DESK, &next)
        .map_err(|error| format!("{next:?} then: {}", chain(&error)))?;
    if answer != expected {
        return Err(format!("{next:?} then: {answer:?}"));
    }
    check::machine(world, DESK, &model).map_err(|why| format!("{next:?} then: {why}"))?;
    prune(folder, world)?;
    if let Task::Begin = task {
        world.elsewhere(folder.join("begun")).prune()?;
    }
    check::machine(world, DESK, &model).map_err(|why| format!("prune then: {why}"))
}

/// Removes what nobody needs, as if all who could be at work had ended long ago.
pub(crate) fn prune(folder: &Path, world: &World) -> Result<()> {
    for store in ["home", "begun"].map(|store| folder.join(store)) {
        age(&store);
        age(&store.join("machines/.ids"));
    }
    let freed = world.prune();
    freed.map(drop).map_err(|why| format!("prune then: {why}"))
}

/// Makes temporary things in `folder` those of a process that ended long ago: prune leaves alone what may be somebody's.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        for kind in [".stratavm-tmp-", ".stratavm-probe-"] {
            let rest = name
                .strip_prefix(kind)
                .and_then(|rest| rest.split_once('-'));
            if let Some((_, n)) = rest {
                // Above the largest number that Linux gives to a process.
                let aged = folder.join(format!("{kind}4194305-{n}"));
                fs::rename(&path, &aged).unwrap();
                let long_ago = SystemTime::now() - Duration::from_secs(24 * 3600);
                fs::File::open(&aged)
                    .unwrap()
                    .set_modified(long_ago)
                    .unwrap();
            }
        }
    }
}

/// Whether the task is to be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Once,
    Never,
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

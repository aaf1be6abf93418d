//! A machine in the store against its model: its record, what every revision and head holds when read through the
//! links in the files, and that no file is there that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use stratavm::capability::Lifetime;
use stratavm::machine::layer::{LayerState, Use};
use stratavm::machine::record::{Record, RunPhase};
use stratavm::machine::revision::History;

use super::layer::{Head, Layer};
use super::model::{Model, image};
use super::product;
use super::run::{Phase, Recorded, Witness};
use super::vmdk;
use super::world::World;

type Result<T> = std::result::Result<T, String>;

/// Whether the machine called `name` is what `model` says.
pub(crate) fn machine(world: &World, name: &str, model: &Model) -> Result<()> {
    let folder = world.machine_folder(name);
    let Some(layers) = &model.layers else {
        // The rest of a creation that was cut short is no machine.
        return match folder.join("machine.json").exists() {
            true => Err("there is a machine".to_owned()),
            false => Ok(()),
        };
    };
    let machine = world
        .store
        .machine(&name.parse().map_err(|e| format!("{e}"))?);
    let record = machine
        .and_then(|machine| machine.record())
        .map_err(|e| format!("{e}"))?;
    leased(world, &record)?;
    same_run(model.run, &record)?;
    let saved = product::is_saved(&folder);
    if saved != model.run.is_some_and(|run| run.saved) {
        return Err(format!("a saved state: {saved}"));
    }
    same_intentions(world, model, &record)?;
    let names = record.layers.iter().map(|layer| layer.name().as_str());
    same_names("layers", layers, &names.collect::<Vec<_>>())?;
    for (layer, state) in layers.iter().zip(&record.layers) {
        let torn = record.run.is_some() && model.run.is_none_or(Recorded::is_lost);
        same_layer(world, &folder, layer, state, torn)
            .map_err(|why| format!("{}: {why}", layer.name))?;
    }
    let names = record.removed.iter().map(|layer| layer.name().as_str());
    same_names("removed", &model.removed, &names.collect::<Vec<_>>())?;
    for (layer, state) in model.removed.iter().zip(&record.removed) {
        let files = folder.join("layers").join(&layer.name);
        same_history(world, &files, layer, &state.history)
            .map_err(|why| format!("removed: {}: {why}", layer.name))?;
    }
    Ok(())
}

/// The run that is recorded. Whether one that is over is cleared already is the same to everybody.
fn same_run(expected: Option<Recorded>, record: &Record) -> Result<()> {
    let found = record.run.as_ref().map(|run| (run.phase, run.lifetime));
    let over = (RunPhase::Running, Lifetime::Supervised);
    let wanted = expected.map(|run| {
        let phase = match run.phase {
            Phase::Running => RunPhase::Running,
            Phase::Suspended => RunPhase::Suspended,
        };
        let lifetime = match run.witness {
            Witness::Kernel => Lifetime::Supervised,
            Witness::Product => Lifetime::Independent,
        };
        (phase, lifetime)
    });
    match found.filter(|run| *run != over) == wanted.filter(|run| *run != over) {
        true => Ok(()),
        false => Err(format!("run {found:?}, not {wanted:?}")),
    }
}

/// What people want of the machine: points, what waits for the next start, rules of retention.
fn same_intentions(world: &World, model: &Model, record: &Record) -> Result<()> {
    let points = record.points.iter().map(|point| {
        let layers = point.layers.iter();
        let layers = layers.map(|entry| (entry.layer.to_string(), entry.revision));
        (point.name.to_string(), layers.collect())
    });
    let points: Vec<(_, Vec<_>)> = points.collect();
    let wanted = model.points.iter();
    let wanted: Vec<_> = wanted.map(|p| (p.name.clone(), p.layers.clone())).collect();
    if points != wanted {
        return Err(format!("points {points:?}, not {wanted:?}"));
    }
    let next: Vec<_> = record.next.iter().map(|s| s.change.clone()).collect();
    let wanted: Vec<_> = model
        .next
        .iter()
        .filter_map(|op| world.staged(op))
        .collect();
    if next != wanted {
        return Err(format!("staged {next:?}, not {wanted:?}"));
    }
    let mut rules = vec![(model.keep_last, &record.retention)];
    let layers = model.layers.iter().flatten().zip(&record.layers);
    rules.extend(layers.map(|(layer, state)| (layer.keep_last, &state.retention)));
    let removed = model.removed.iter().zip(&record.removed);
    rules.extend(removed.map(|(layer, state)| (layer.keep_last, &state.retention)));
    for (wanted, found) in rules {
        if found.as_ref().and_then(|rule| rule.keep_last) != wanted {
            return Err(format!("retention {found:?}, not {wanted:?}"));
        }
    }
    Ok(())
}

/// Every image that the machine refers to knows so: prune would free it otherwise.
fn leased(world: &World, record: &Record) -> Result<()> {
    for digest in record.images() {
        let image = world.store.image(&digest).map_err(|e| format!("{e}"))?;
        if !image
            .leases()
            .map_err(|e| format!("{e}"))?
            .contains(&record.id)
        {
            return Err(format!("image {digest} does not know that it is used"));
        }
    }
    Ok(())
}

fn same_names(what: &str, expected: &[Layer], found: &[&str]) -> Result<()> {
    let wanted: Vec<_> = expected.iter().map(|layer| layer.name.as_str()).collect();
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, not {wanted:?}")),
    }
}

fn same_layer(
    world: &World,
    folder: &Path,
    layer: &Layer,
    state: &LayerState,
    torn: bool,
) -> Result<()> {
    let files = folder.join("layers").join(&layer.name);
    // A run that was cut short is cleared by the next operation; until then its heads count as used.
    let torn = torn && !layer.role().keeps();
    let started = state.head.usage == Use::Started && !torn;
    let unknown = (torn && layer.head == Head::Torn) || layer.head == Head::Unsure;
    if started != matches!(layer.head, Head::Started(_)) && !unknown {
        return Err(format!(
            "the head is {:?}, not {:?}",
            state.head.usage, layer.head
        ));
    }
    same_history(world, &files, layer, &state.history)?;
    let head = files.join(format!("head-{}.vmdk", state.head.generation));
    let wanted = match layer.head {
        Head::Started(content) => content,
        Head::Untouched => layer.at().content,
        Head::Torn | Head::Unsure => return Ok(()),
    };
    same_content(&head, wanted).map_err(|why| format!("head: {why}"))
}

fn same_history(world: &World, files: &Path, layer: &Layer, state: &History) -> Result<()> {
    let numbers = (state.current, state.next_revision);
    if numbers != (layer.current, layer.next) {
        return Err(format!(
            "{numbers:?}, not {:?}",
            (layer.current, layer.next)
        ));
    }
    if state.revisions.len() != layer.revisions.len() {
        let found: Vec<_> = state.revisions.iter().map(|r| (r.n, r.reason)).collect();
        return Err(format!("revisions {found:?}"));
    }
    for (expected, found) in layer.revisions.iter().zip(&state.revisions) {
        let is = (
            found.n,
            found.parent,
            state.chain(found.n).len(),
            found.reason.as_str(),
        );
        let should = (
            expected.n,
            expected.parent,
            expected.deltas,
            expected.reason,
        );
        if is != should {
            return Err(format!("revision {is:?}, not {should:?}"));
        }
        let notes = (&found.label, found.pinned);
        if notes != (&expected.label, expected.pinned) {
            return Err(format!("revision {}: {notes:?}", found.n));
        }
        // A blank layer's image is made by the store: known by what it holds.
        let blank = expected.image == 0;
        if !blank && found.image != world.images[expected.image] {
            return Err(format!("revision {}: image {}", found.n, found.image));
        }
        match state.top(found.n) {
            None if expected.content != image(expected.image) => {
                return Err(format!("revision {}: no deltas, but content", found.n));
            }
            None => {}
            Some(delta) => {
                let path = files.join(format!("head-{}.vmdk", delta.generation));
                same_content(&path, expected.content)
                    .map_err(|why| format!("revision {}: {why}", found.n))?;
            }
        }
    }
    Ok(())
}

fn same_content(path: &Path, wanted: super::model::Content) -> Result<()> {
    let found = vmdk::content(path)?;
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{}: {found:x?}, not {wanted:x?}", path.display())),
    }
}

/// What lies in the store without anybody to need it, besides the files of layers: the rest of removals and of changes
/// that were cut short, and notes that machines use images of which they know nothing. Told by looking, not by prune.
pub(crate) fn litter(world: &World) -> Vec<PathBuf> {
    let mut machines = BTreeSet::new();
    for name in fs::read_dir(world.store.home().join("machines"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let record = fs::read(name.path().join("machine.json")).ok();
        if let Some(Ok(record)) = record.map(|bytes| Record::parse(&bytes)) {
            machines.insert(record.id.to_string());
        }
    }
    let mut found = Vec::new();
    for path in files(world.store.home()).into_keys() {
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        let lease = names
            .iter()
            .rev()
            .nth(1)
            .is_some_and(|folder| folder == "leases");
        let stale = lease
            && names
                .last()
                .is_some_and(|id| !machines.contains(id.as_ref()));
        let cut = names
            .iter()
            .any(|name| name.starts_with(".gone-") || name.starts_with(".stratavm-tmp-"));
        if stale || cut {
            found.push(path);
        }
    }
    found
}

/// Files of the machine's layers that its record does not name; a folder of another layer counts.
pub(crate) fn leftovers(world: &World, name: &str) -> Vec<PathBuf> {
    let folder = world.machine_folder(name);
    let record = fs::read(folder.join("machine.json")).ok();
    let named: BTreeSet<(String, u64)> = match record.map(|bytes| Record::parse(&bytes)) {
        Some(Ok(record)) => {
            let heads = record.layers.iter();
            let heads = heads.map(|layer| (layer.name(), layer.head.generation));
            let frozen = record.histories();
            let frozen = frozen.flat_map(|(name, history)| {
                let deltas = history.deltas();
                deltas.map(move |(_, delta)| (name, delta.generation))
            });
            let all = heads.chain(frozen);
            all.map(|(name, n)| (name.to_string(), n)).collect()
        }
        _ => BTreeSet::new(),
    };
    let mut found = Vec::new();
    for path in files(&folder.join("layers")).into_keys() {
        let layer = path.parent().and_then(Path::file_name).unwrap_or_default();
        let layer = layer.to_string_lossy().into_owned();
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let known = named.iter().any(|(other, _)| *other == layer);
        let generation = file
            .strip_prefix("head-")
            .and_then(|name| name.strip_suffix(".vmdk"));
        let generation = generation.and_then(|number| number.parse().ok());
        let needed = match generation {
            Some(generation) => named.contains(&(layer, generation)),
            None => known && file.starts_with("base-"),
        };
        if !needed {
            found.push(path);
        }
    }
    found
}

/// The heads of the machine's layers: the only files that are ever written to.
pub(crate) fn heads(world: &World, name: &str) -> BTreeSet<PathBuf> {
    let folder = world.machine_folder(name);
    let record = fs::read(folder.join("machine.json")).ok();
    let record = record.and_then(|bytes| Record::parse(&bytes).ok());
    let layers = record.into_iter().flat_map(|record| record.layers);
    let head = |layer: LayerState| {
        let files = folder.join("layers").join(layer.name().as_str());
        files.join(format!("head-{}.vmdk", layer.head.generation))
    };
    layers.map(head).collect()
}

/// Every file below `folder` with what it holds.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(files(&path)),
            false => {
                // Gone since the folder was read: somebody else is at work.
                found.extend(fs::read(&path).ok().map(|bytes| (path, bytes)));
            }
        }
    }
    found
}

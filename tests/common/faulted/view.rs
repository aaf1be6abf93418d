//! A machine in words: what people have of it, and what every revision and kept head holds, read by code that is not the
//! library's.

use std::fmt::Write as _;
use std::path::Path;

use stratavm::machine::layer::LayerState;
use stratavm::machine::revision::History;

use super::{Case, Checked, name};
use crate::scene::DESK;
use crate::sim::layer::Role;
use crate::sim::vmdk;
use crate::sim::world::World;

/// What people have of the machine, in words.
pub(super) fn of(world: &World, case: &Case) -> Checked<String> {
    let machine = world
        .store
        .machine(&name(DESK))
        .map_err(|e| e.to_string())?;
    let state = (case.product.state)(world)?;
    let record = machine.record().map_err(|e| e.to_string())?;
    let folder = machine.folder().join("layers");
    let mut text = format!("{state}\n");
    for layer in &record.layers {
        let files = folder.join(layer.name().as_str());
        let _ = writeln!(text, "layer {} at {}", layer.name(), layer.history.current);
        history(&files, &layer.history, &mut text)?;
        if Role::of(layer.name().as_str()).keeps() {
            let _ = writeln!(text, " head {}", head(&files, layer)?);
        }
    }
    for layer in &record.removed {
        let _ = writeln!(text, "removed {}", layer.name());
        history(
            &folder.join(layer.name().as_str()),
            &layer.history,
            &mut text,
        )?;
    }
    for point in &record.points {
        let layers: Vec<_> = point
            .layers
            .iter()
            .map(|l| (l.layer.as_str(), l.revision))
            .collect();
        let _ = writeln!(text, "point {} {layers:?}", point.name);
    }
    let _ = writeln!(text, "{} staged, {:?}", record.next.len(), record.retention);
    Ok(text)
}

fn history(files: &Path, history: &History, text: &mut String) -> Checked<()> {
    for found in &history.revisions {
        let content = match history.top(found.n) {
            Some(delta) => content(files, delta.generation)?,
            None => "its image".to_owned(),
        };
        let about = (
            found.parent,
            found.reason.as_str(),
            &found.label,
            found.pinned,
        );
        let _ = writeln!(text, " {} {about:?} on {}: {content}", found.n, found.image);
    }
    Ok(())
}

fn head(files: &Path, layer: &LayerState) -> Checked<String> {
    content(files, layer.head.generation)
}

fn content(files: &Path, generation: u64) -> Checked<String> {
    let content = vmdk::content(&files.join(format!("head-{generation}.vmdk")))?;
    Ok(format!("{content:x?}"))
}

//! Rules of the layers: what each role's row of the table in [`crate::layer`] allows, and what
//! they owe each other.

use super::{LARGEST_DISK, SMALLEST_DISK, SMALLEST_FORMATTED, size, text};
use crate::layer::Start;
use crate::spec::collect::Collector;
use crate::spec::fault::KeyPath;
use crate::spec::{Composition, LayerSpec, Presence, Role, VmSpec};

/// The name that the session disk has.
const SESSION: &str = "session";
/// Most layers of a machine: one for each port that the controllers have together.
const MOST_LAYERS: usize = 64;
/// Most layers under `linux`: the guest's mount options name each of them within one page.
const MOST_COMPOSED: usize = 60;

pub(super) fn check(out: &mut Collector, spec: &VmSpec) {
    let path = KeyPath::default().key("layer");
    if !out.trusts(&path) {
        return;
    }
    for (index, layer) in spec.layers.iter().enumerate() {
        let path = path.index(index);
        if out.trusts(&path) {
            one(out, spec, layer, &path);
        }
    }
    names(out, spec, &path);
    counts(out, spec, &path);
}

/// What a layer by itself has to follow.
fn one(out: &mut Collector, spec: &VmSpec, layer: &LayerSpec, path: &KeyPath) {
    if let Some(title) = &layer.title {
        text::title(out, &path.key("title"), title);
    }
    let composed = composed(out, spec);
    if let Some(image) = &layer.image {
        text::image(out, &path.key("image"), image);
    }
    if let Some(bytes) = layer.size {
        let low = if composed == Some(true) {
            SMALLEST_FORMATTED
        } else {
            SMALLEST_DISK
        };
        size(out, &path.key("size"), bytes, low, LARGEST_DISK);
    }
    if layer.name.as_str() == SESSION && out.trusts(&path.key("name")) {
        out.fault(
            &path.key("name"),
            "\"session\" is the name of the session disk",
        );
    }
    if out.trusts(&path.key("role")) {
        start(out, layer, path);
        fate(out, layer, path);
        if layer.optional == Presence::Optional && !layer.role.may_be_optional() {
            let message = format!("{} layers are always required", layer.role);
            out.fault(&path.key("optional"), message);
        }
    }
}

/// Whether the guest composes the layers, as far as that was said.
pub(super) fn composed(out: &Collector, spec: &VmSpec) -> Option<bool> {
    let said = out.trusts(&KeyPath::default().key("guest").key("composition"));
    said.then_some(spec.guest.composition == Composition::Linux)
}

/// Exactly one of `image` and `size`, and the one that the role starts from.
fn start(out: &mut Collector, layer: &LayerSpec, path: &KeyPath) {
    let (image, size) = (path.key("image"), path.key("size"));
    let role = layer.role;
    match (&layer.image, layer.size, role.start()) {
        (Some(_), Some(_), _) => {
            out.fault(
                &size,
                "`image` and `size` exclude each other: an image brings its size",
            );
        }
        (None, None, start) if out.trusts(&image) && out.trusts(&size) => {
            out.fault(
                &image,
                format!("missing; {role} layers start from {}", start.keys()),
            );
        }
        (Some(_), None, Start::Blank) => {
            out.fault(
                &image,
                format!("{role} layers start blank: give a `size` instead"),
            );
        }
        (None, Some(_), Start::Image) => {
            out.fault(
                &size,
                format!("{role} layers start from an `image`, not blank"),
            );
        }
        _ => {}
    }
}

/// `writes` and `rejuvenate`: only, and always, for `custom`.
fn fate(out: &mut Collector, layer: &LayerSpec, path: &KeyPath) {
    let role = layer.role;
    let rows = [
        (
            "writes",
            layer.writes.map(|w| w.as_str()),
            role.writes().map(|w| w.as_str()),
        ),
        (
            "rejuvenate",
            layer.rejuvenate.map(|r| r.as_str()),
            role.rejuvenate().map(|r| r.as_str()),
        ),
    ];
    for (key, said, rule) in rows {
        let key_path = path.key(key);
        match (said, rule) {
            (Some(_), Some(rule)) => {
                let message =
                    format!("{role} layers always have {key} = \"{rule}\"; leave the key out");
                out.bad_key(key_path, message, None);
            }
            (None, None) if out.trusts(&key_path) => {
                out.fault(&key_path, format!("missing; {role} layers must say it"));
            }
            _ => {}
        }
    }
}

fn names(out: &mut Collector, spec: &VmSpec, path: &KeyPath) {
    for (index, layer) in spec.layers.iter().enumerate() {
        let key = path.index(index).key("name");
        if !out.trusts(&key) {
            continue;
        }
        let earlier = spec.layers[..index]
            .iter()
            .position(|other| other.name == layer.name);
        if let Some(earlier) = earlier
            && out.trusts(&path.index(earlier).key("name"))
        {
            let message = format!(
                "{} is called {:?} already",
                path.index(earlier),
                layer.name.as_str()
            );
            out.fault(&key, message);
        }
    }
}

fn counts(out: &mut Collector, spec: &VmSpec, path: &KeyPath) {
    let (most, why) = match composed(out, spec) {
        Some(true) => (MOST_COMPOSED, " with composition = \"linux\""),
        _ => (MOST_LAYERS, ""),
    };
    let count = spec.layers.len();
    if count > most {
        out.fault(
            &path.index(most),
            format!("{count} layers are more than {most}{why}"),
        );
    }
    let all_roles = (0..count).all(|index| out.trusts(&path.index(index).key("role")));
    only_one(out, spec, path, Role::Os);
    if composed(out, spec) == Some(true) {
        only_one(out, spec, path, Role::Identity);
    }
    if all_roles && !spec.layers.iter().any(|layer| layer.role == Role::Os) {
        out.bad_key(path.clone(), "one layer must have role = \"os\"", None);
    }
}

fn only_one(out: &mut Collector, spec: &VmSpec, path: &KeyPath, role: Role) {
    let layers = spec
        .layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| layer.role == role);
    let mut indices = layers
        .map(|(index, _)| index)
        .collect::<Vec<_>>()
        .into_iter();
    let Some(first) = indices.next() else { return };
    for index in indices {
        let message = format!(
            "{} is the {role} layer already; there is only one",
            path.index(first)
        );
        out.remark(&path.index(index).key("role"), message);
    }
}

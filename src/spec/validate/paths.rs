//! Where layers appear in the guest.

use std::collections::BTreeMap;

use super::layers::composed;
use crate::spec::collect::Collector;
use crate::spec::fault::{KeyPath, quoted};
use crate::spec::{LayerSpec, Role, VmSpec};

/// Longest path, in bytes: a manifest's line holds several.
const LONGEST_PATH: usize = 255;
/// Most paths of one layer.
const MOST_PATHS: usize = 32;

pub(super) fn check(out: &mut Collector, spec: &VmSpec) {
    let layers = KeyPath::default().key("layer");
    let mut taken: BTreeMap<String, KeyPath> = BTreeMap::new();
    for (index, layer) in spec.layers.iter().enumerate() {
        let path = layers.index(index);
        if out.trusts(&path.key("role")) && out.trusts(&path.key("paths")) {
            one(out, spec, layer, &path, &mut taken);
        }
    }
}

fn one(
    out: &mut Collector,
    spec: &VmSpec,
    layer: &LayerSpec,
    path: &KeyPath,
    taken: &mut BTreeMap<String, KeyPath>,
) {
    let (key, role) = (path.key("paths"), layer.role);
    let composed = composed(out, spec);
    match &layer.paths {
        Some(_) if !role.takes_paths() => {
            let message =
                format!("{role} layers have their own place in the guest; leave the key out");
            out.bad_key(key, message, None);
            return;
        }
        Some(_) if composed == Some(false) => {
            let message = "paths mean something only with composition = \"linux\"";
            out.bad_key(key, message, None);
            return;
        }
        Some(paths) if paths.is_empty() => out.fault(&key, "this names no path"),
        Some(paths) if paths.len() > MOST_PATHS => {
            out.fault(
                &key,
                format!("{} paths are more than {MOST_PATHS}", paths.len()),
            );
        }
        None if composed == Some(true) && role == Role::Custom => {
            out.fault(
                &key,
                "missing; custom layers must say it with composition = \"linux\"",
            );
        }
        _ => {}
    }
    if composed != Some(true) {
        return;
    }
    for (index, text) in layer.effective_paths().into_iter().enumerate() {
        // A role's own paths stand nowhere in the spec.
        let (at, own) = match &layer.paths {
            Some(_) => (key.index(index), ""),
            None => (key.clone(), "the role's own path "),
        };
        if !out.trusts(&key.index(index)) {
            continue;
        }
        if let Some(message) = fault_of(&text).or_else(|| overlay_fault(role, &text)) {
            out.fault(&at, format!("{} {message}", quoted(&text)));
        } else if let Some(other) = taken.get(&text) {
            out.fault(
                &at,
                format!("{own}{} belongs to {other} already", quoted(&text)),
            );
        } else {
            taken.insert(text, at);
        }
    }
}

/// What is wrong with a path of the guest.
fn fault_of(path: &str) -> Option<String> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control();
    if !path.starts_with('/') {
        return Some("is not absolute".to_owned());
    }
    if path == "/" {
        return Some("is the os layer's".to_owned());
    }
    if path.len() > LONGEST_PATH {
        return Some(format!("is longer than {LONGEST_PATH} bytes"));
    }
    if let Some(c) = path.chars().find(|&c| is_bad(c)) {
        return Some(format!(
            "holds {c:?}: white space and control characters cannot be passed on"
        ));
    }
    if path.ends_with('/') {
        return Some("ends with a slash".to_owned());
    }
    let mut parts = path.split('/').skip(1);
    parts.find_map(|part| match part {
        "" => Some("has two slashes in a row".to_owned()),
        "." | ".." => Some(format!("holds {part:?}")),
        _ => None,
    })
}

/// What keeps a path from being an overlay of its own, as those of `user-apps` are: its mount
/// options separate by `,` and `:`, escape by `\`, and the layer keeps `/a/b` in `%a%b`.
fn overlay_fault(role: Role, path: &str) -> Option<String> {
    let option = |c: &char| matches!(c, ',' | ':' | '\\' | '%');
    let c = path
        .chars()
        .find(option)
        .filter(|_| role == Role::UserApps)?;
    Some(format!(
        "holds {c:?}, which the mount options of user-apps cannot pass on"
    ))
}

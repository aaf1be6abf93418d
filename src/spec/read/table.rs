//! Taking values out of a tree's tables, with a fault for each that is not what it should be.
//!
//! Which keys there are and what they become is in the parent module.

use crate::spec::choice::Choice;
use crate::spec::collect::Collector;
use crate::spec::fault::{KeyPath, quoted};
use crate::spec::near::nearest;
use crate::spec::tree::{Entry, Node, Value};
use crate::spec::{Size, SizeError};

/// Longest text that a spec may hold for any key, in bytes.
const LONGEST_TEXT: usize = 4096;

/// The keys of every table, for slips and for keys that stand in the wrong one.
pub(super) const TOP: &[&str] = &[
    "stratavm", "name", "title", "guest", "hardware", "layer", "policy", "labels",
];
pub(super) const GUEST: &[&str] = &["os", "id", "arch", "composition", "session"];
pub(super) const HARDWARE: &[&str] = &[
    "cpus",
    "memory",
    "firmware",
    "secure-boot",
    "tpm",
    "clock",
    "controller",
    "console",
    "display",
    "video-memory",
    "audio",
    "boot",
    "network",
    "cdrom",
];
pub(super) const NETWORK: &[&str] = &["mode", "mac"];
pub(super) const CDROM: &[&str] = &["image"];
pub(super) const LAYER: &[&str] = &[
    "name",
    "role",
    "image",
    "size",
    "title",
    "paths",
    "writes",
    "rejuvenate",
    "optional",
    "controller",
    "slot",
    "labels",
];
pub(super) const POLICY: &[&str] = &[
    "clipboard",
    "drag-and-drop",
    "shared-folders",
    "usb",
    "snapshots",
    "suspend",
];

/// The tables by the header that a spec writes for them.
const TABLES: [(&str, &[&str]); 7] = [
    ("the top, above the first table", TOP),
    ("[guest]", GUEST),
    ("[hardware]", HARDWARE),
    ("[policy]", POLICY),
    ("[[layer]]", LAYER),
    ("[[hardware.network]]", NETWORK),
    ("[[hardware.cdrom]]", CDROM),
];

/// A table and the way to it.
pub(super) struct Table<'n> {
    entries: &'n [Entry],
    path: KeyPath,
}

impl<'n> Table<'n> {
    /// The table at `node`, with a fault for every key that is not `known`; an empty one, with a
    /// fault, if the node is no table. At the top, keys that start with `x-` are left to the caller.
    pub(super) fn open(
        out: &mut Collector,
        node: &'n Node,
        path: KeyPath,
        known: &[&'static str],
    ) -> Self {
        let Value::Table(entries) = &node.value else {
            out.fault(&path, expected("a table", &node.value));
            return Self { entries: &[], path };
        };
        let top = known == TOP;
        let ours = |key: &str| known.contains(&key) || (top && key.starts_with("x-"));
        for entry in entries.iter().filter(|entry| !ours(&entry.key)) {
            let missing = |key: &&&str| !entries.iter().any(|entry| entry.key == **key);
            let near = nearest(&entry.key, known.iter().filter(missing).copied());
            if let Some(key) = near {
                out.doubt(path.key(key));
            }
            let home = TABLES
                .iter()
                .find(|(_, keys)| keys.contains(&entry.key.as_str()));
            let message = match (near, home) {
                (None, Some((header, _))) => format!("unknown key here; it belongs to {header}"),
                _ => "unknown key".to_owned(),
            };
            out.bad_key(
                path.key(&entry.key),
                message,
                near.map(|key| format!("`{key}`")),
            );
        }
        Self { entries, path }
    }

    /// The entries in the order of the text.
    pub(super) fn entries(&self) -> &'n [Entry] {
        self.entries
    }

    /// The value of `key` as `read` takes it. Missing, it is a fault that ends with `hint`.
    pub(super) fn required<T>(
        &self,
        out: &mut Collector,
        key: &str,
        hint: &str,
        read: impl FnOnce(&mut Collector, &'n Node, &KeyPath) -> Option<T>,
    ) -> Option<T> {
        let path = self.path.key(key);
        let found = self.entries.iter().find(|entry| entry.key == key);
        if found.is_none() && out.trusts(&path) {
            out.fault(&path, format!("missing; {hint}"));
        }
        found.and_then(|entry| read(out, &entry.node, &path))
    }

    /// The value of `key` as `read` takes it, if the key is there.
    pub(super) fn optional<T>(
        &self,
        out: &mut Collector,
        key: &str,
        read: impl FnOnce(&mut Collector, &'n Node, &KeyPath) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        read(out, &entry.node, &self.path.key(key))
    }
}

/// Every item of a list as `read` takes it; items with a fault are left out, so `read` must give
/// a stand-in where indices matter.
pub(super) fn list<T>(
    out: &mut Collector,
    node: &Node,
    path: &KeyPath,
    what: &str,
    mut read: impl FnMut(&mut Collector, &Node, &KeyPath) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::List(items) = &node.value else {
        out.fault(path, expected(what, &node.value));
        return None;
    };
    let read = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| read(out, item, &path.index(i)));
    Some(read.collect())
}

/// Text of bounded length.
pub(super) fn text(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<String> {
    match &node.value {
        Value::Text(text) if text.len() <= LONGEST_TEXT => Some(text.clone()),
        Value::Text(text) => {
            out.fault(
                path,
                format!("{} bytes are more than {LONGEST_TEXT}", text.len()),
            );
            None
        }
        other => {
            out.fault(path, expected("text", other));
            None
        }
    }
}

/// Text that `T` checks while it is read.
pub(super) fn checked<T>(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = text(out, node, path)?;
    // The checks repeat the text in their messages; what is far too long is not repeated.
    if text.len() > 256 {
        out.fault(path, format!("{} is too long", quoted(&text)));
        return None;
    }
    text.parse()
        .map_err(|error: T::Err| out.fault(path, error.to_string()))
        .ok()
}

/// A size, with the likely unit where it is missing or wrong.
pub(super) fn size(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Size> {
    if let Value::Integer(number) = node.value {
        let likely = (number > 0).then(|| format!("\"{number} MiB\""));
        out.suggest(
            path,
            "a size is text with a unit, not a bare number",
            likely,
        );
        return None;
    }
    let text = text(out, node, path)?;
    let error = match text.parse::<Size>() {
        Ok(size) => return Some(size),
        Err(error) => error,
    };
    let message = match &error {
        SizeError::Form(text) => SizeError::Form(text.chars().take(60).collect()).to_string(),
        _ => error.to_string(),
    };
    out.suggest(
        path,
        message,
        likely_size(&text).map(|size| format!("\"{size}\"")),
    );
    None
}

/// `4gb`, `4 GB` and `4G` are all meant as `4 GiB`.
fn likely_size(text: &str) -> Option<Size> {
    let compact: String = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .take(40)
        .collect();
    let digits = compact.len()
        - compact
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .len();
    let (number, unit) = compact.split_at(digits);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "" | "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return None,
    };
    format!("{number} {unit}").parse().ok()
}

/// One value of an enumeration.
pub(super) fn choice<T: Choice>(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<T> {
    let known = || T::ALL.iter().map(|value| value.text());
    let written = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Bool(value) => if *value { "on" } else { "off" }.to_owned(),
        Value::Float(number) => format!("{number:?}"),
        Value::Integer(number) => number.to_string(),
        _ => String::new(),
    };
    if let Value::Text(text) = &node.value
        && let Some(value) = T::ALL.iter().find(|value| value.text() == text)
    {
        return Some(*value);
    }
    let message = match &node.value {
        Value::Text(text) => format!("{} is none of {}", quoted(text), one_of(known())),
        other => expected(&format!("text ({})", one_of(known())), other),
    };
    out.suggest(
        path,
        message,
        nearest(&written, known()).map(|text| format!("\"{text}\"")),
    );
    None
}

/// The texts of an enumeration, for a message.
pub(super) fn one_of<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

/// `true` or `false`.
pub(super) fn truth<T: From<bool>>(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<T> {
    let likely = match &node.value {
        Value::Bool(value) => return Some(T::from(*value)),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" => Some("true".to_owned()),
            "false" | "off" | "no" => Some("false".to_owned()),
            _ => None,
        },
        _ => None,
    };
    out.suggest(path, expected("true or false", &node.value), likely);
    None
}

/// A whole number of `range`.
pub(super) fn whole(
    out: &mut Collector,
    node: &Node,
    path: &KeyPath,
    range: std::ops::RangeInclusive<u32>,
) -> Option<u32> {
    let (low, high) = (range.start(), range.end());
    match &node.value {
        Value::Integer(number) => {
            let fits = u32::try_from(*number)
                .ok()
                .filter(|number| range.contains(number));
            if fits.is_none() {
                out.fault(path, format!("{number} is not between {low} and {high}"));
            }
            fits
        }
        Value::Text(text) => {
            let likely = text
                .trim()
                .parse::<u32>()
                .ok()
                .filter(|number| range.contains(number));
            let message = expected("a whole number", &node.value);
            out.suggest(path, message, likely.map(|number| number.to_string()));
            None
        }
        other => {
            out.fault(path, expected("a whole number", other));
            None
        }
    }
}

/// The message for a value of the wrong kind.
pub(super) fn expected(what: &str, found: &Value) -> String {
    format!("{what} is expected, not {}", found.kind())
}

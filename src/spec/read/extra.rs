//! What a spec carries for others: `labels` and `x-NAME` tables.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{expected, text};
use crate::spec::collect::Collector;
use crate::spec::fault::KeyPath;
use crate::spec::tree::{Entry, Node, Value};

/// A table of texts.
pub(super) fn labels(
    out: &mut Collector,
    node: &Node,
    path: &KeyPath,
) -> Option<BTreeMap<String, String>> {
    let Value::Table(entries) = &node.value else {
        out.fault(path, expected("a table of texts", &node.value));
        return None;
    };
    let label = |entry: &Entry| {
        let text = text(out, &entry.node, &path.key(&entry.key))?;
        Some((entry.key.clone(), text))
    };
    Some(entries.iter().filter_map(label).collect())
}

/// The `x-NAME` tables among the top's entries.
pub(super) fn extensions(out: &mut Collector, entries: &[Entry]) -> BTreeMap<String, Json> {
    let mut extensions = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.key.starts_with("x-")) {
        let path = KeyPath::default().key(&entry.key);
        if let Some(value) = carried(out, &entry.node, &path) {
            extensions.insert(entry.key.clone(), value);
        }
    }
    extensions
}

/// A value that both formats can say, so that a spec reads the same from either.
fn carried(out: &mut Collector, node: &Node, path: &KeyPath) -> Option<Json> {
    Some(match &node.value {
        Value::Text(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Bool(value) => Json::from(*value),
        Value::List(items) => {
            let items = items.iter().enumerate();
            Json::Array(
                items
                    .filter_map(|(i, item)| carried(out, item, &path.index(i)))
                    .collect(),
            )
        }
        Value::Table(entries) => Json::Object(
            entries
                .iter()
                .filter_map(|entry| {
                    let value = carried(out, &entry.node, &path.key(&entry.key))?;
                    Some((entry.key.clone(), value))
                })
                .collect(),
        ),
        Value::Other(_) => {
            out.fault(
                path,
                expected(
                    "text, a number, true, false, a list or a table",
                    &node.value,
                ),
            );
            return None;
        }
    })
}

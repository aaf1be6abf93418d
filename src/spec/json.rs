//! JSON text to a [`Node`] tree.
//!
//! Values are taken as slices of the text, level by level, since `serde_json` gives no positions:
//! a slice's address is its offset. Depth is bounded, so the work is too.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tree::{Entry, Node, SyntaxFault, Value};

/// Deepest nesting that is read; a spec itself has five levels.
const DEEPEST: usize = 64;

/// Reads a JSON document, and says what makes `text` none: the first place, or every key that is
/// there twice. The tree is complete only if there is nothing to say.
pub(super) fn parse(text: &str) -> (Node, Vec<SyntaxFault>) {
    let mut faults = Vec::new();
    let tree = serde_json::from_str::<&RawValue>(text)
        .map_err(|error| syntax(text, 0, &error))
        .and_then(|raw| {
            Reader {
                text,
                twice: &mut faults,
            }
            .node(raw, DEEPEST)
        });
    match tree {
        Ok(tree) => (tree, faults),
        Err(fault) => (
            Node {
                at: 0,
                value: Value::Table(Vec::new()),
            },
            vec![fault],
        ),
    }
}

struct Reader<'a> {
    text: &'a str,
    twice: &'a mut Vec<SyntaxFault>,
}

impl Reader<'_> {
    /// The value of `raw`, which is a slice of the text and may hold `depth` more levels.
    fn node(&mut self, raw: &RawValue, depth: usize) -> Result<Node, SyntaxFault> {
        let at = self.offset(raw);
        let Some(deeper) = depth.checked_sub(1) else {
            let message = format!("this nests deeper than {DEEPEST} levels");
            return Err(SyntaxFault { at, message });
        };
        let broken = |error| syntax(self.text, at, &error);
        let value = match raw.get().as_bytes().first() {
            Some(b'{') => {
                let Pairs(pairs) = serde_json::from_str(raw.get()).map_err(broken)?;
                Value::Table(self.entries(&pairs, deeper)?)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(broken)?;
                let nodes = items.into_iter().map(|item| self.node(item, deeper));
                Value::List(nodes.collect::<Result<_, _>>()?)
            }
            _ => scalar(raw.get()).map_err(broken)?,
        };
        Ok(Node { at, value })
    }

    fn entries(
        &mut self,
        pairs: &[(&RawValue, &RawValue)],
        depth: usize,
    ) -> Result<Vec<Entry>, SyntaxFault> {
        let mut seen = std::collections::BTreeSet::new();
        let mut entries = Vec::with_capacity(pairs.len());
        for (raw_key, raw) in pairs {
            let at = self.offset(raw_key);
            let key: String =
                serde_json::from_str(raw_key.get()).map_err(|e| syntax(self.text, at, &e))?;
            if !seen.insert(key.clone()) {
                let message = format!("the key {} is there twice", super::fault::quoted(&key));
                self.twice.push(SyntaxFault { at, message });
            }
            entries.push(Entry {
                key,
                at,
                node: self.node(raw, depth)?,
            });
        }
        Ok(entries)
    }

    fn offset(&self, raw: &RawValue) -> usize {
        raw.get()
            .as_ptr()
            .addr()
            .saturating_sub(self.text.as_ptr().addr())
    }
}

/// A value that is neither object nor list. Numbers are read by the standard library, which is
/// exact and takes all of JSON's.
fn scalar(text: &str) -> Result<Value, serde_json::Error> {
    if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        let whole = !text.contains(['.', 'e', 'E']);
        return Ok(match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::Integer(number),
            (Err(_), Ok(number)) if !whole && number.is_finite() => Value::Float(number),
            _ => Value::Other("a number out of range"),
        });
    }
    Ok(match serde_json::from_str(text)? {
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Bool(value) => Value::Bool(value),
        _ => Value::Other("null"),
    })
}

/// An error of the parser in the part of `text` that starts at `start`.
fn syntax(text: &str, start: usize, error: &serde_json::Error) -> SyntaxFault {
    let part = &text[start..];
    let line_start = part
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let at = (start + line_start + error.column().saturating_sub(1)).min(text.len());
    // The parser's own text ends with its position, which is relative to the part.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    SyntaxFault {
        at,
        message: format!("this is no JSON: {message}"),
    }
}

/// A JSON object in the order of the text, duplicates included.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

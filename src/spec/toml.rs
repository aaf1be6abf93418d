//! TOML text to a [`Node`] tree.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::tree::{Entry, Node, SyntaxFault, Value};

/// Reads a TOML document, and says everything that makes `text` none. The tree is complete only
/// if there is nothing to say. The parser itself bounds how deep it nests.
pub(super) fn parse(text: &str) -> (Node, Vec<SyntaxFault>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let fault = |error: ::toml::de::Error| SyntaxFault {
        at: error.span().map_or(0, |span| span.start),
        message: format!("this is no TOML: {}", error.message()),
    };
    let tree = Node {
        at: 0,
        value: table(document.into_inner()),
    };
    (tree, errors.into_iter().map(fault).collect())
}

fn table(table: DeTable<'_>) -> Value {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| Entry {
        at: key.span().start,
        key: key.into_inner().into_owned(),
        node: node(value),
    };
    Value::Table(table.into_iter().map(entry).collect())
}

fn node(spanned: Spanned<DeValue<'_>>) -> Node {
    let at = spanned.span().start;
    let value = match spanned.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number out of range"),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => Value::Other("a number out of range"),
        },
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(nodes) => Value::List(nodes.into_iter().map(node).collect()),
        DeValue::Table(entries) => table(entries),
    };
    Node { at, value }
}

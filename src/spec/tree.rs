//! A spec's text as a tree of values that know where they stand, whatever the format.
//!
//! Making it from TOML and JSON is in [`super::toml`] and [`super::json`]; what the keys mean is
//! in [`super::read`].

use super::fault::{KeyPath, Step};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// Offset of its first byte.
    pub(super) at: usize,
    /// The value.
    pub(super) value: Value,
}

/// A value as both formats know it.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// What a spec has no use for, named for a message: a date, a null, a number out of range.
    Other(&'static str),
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Offset of the key's first byte.
    pub(super) at: usize,
    /// Its value.
    pub(super) node: Node,
}

/// Text that is no document of its format: what is wrong and at which byte.
#[derive(Debug)]
pub(super) struct SyntaxFault {
    pub(super) at: usize,
    pub(super) message: String,
}

impl Value {
    /// What kind of value it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(what) => what,
        }
    }
}

impl Node {
    /// The entry called `key`, if this is a table that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Where the value at `path` stands, or what encloses it if it is missing.
    pub(super) fn locate(&self, path: &KeyPath) -> usize {
        self.descend(path.steps()).at
    }

    /// Where the last key of `path` stands, or its table if the key is missing.
    pub(super) fn locate_key(&self, path: &KeyPath) -> usize {
        match path.steps().split_last() {
            Some((Step::Key(key), above)) => {
                let table = self.descend(above);
                table.entry(key).map_or(table.at, |entry| entry.at)
            }
            _ => self.locate(path),
        }
    }

    /// The node at the end of `steps`, or the last one before a step that leads nowhere.
    fn descend(&self, steps: &[Step]) -> &Self {
        let mut node = self;
        for step in steps {
            let next = match (step, &node.value) {
                (Step::Key(key), _) => node.entry(key).map(|entry| &entry.node),
                (Step::Index(index), Value::List(nodes)) => nodes.get(*index),
                (Step::Index(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

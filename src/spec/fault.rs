//! What is wrong with a spec: every fault with its key, its place and what was probably meant.
//!
//! Finding them is in the readers ([`super::read`]) and in [`super::validate`].

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// A spec with more faults than this is not worth listing in full.
const MOST: usize = 100;

/// Longest piece of a spec's own text that a message repeats, in characters.
const SHOWN: usize = 60;

/// One fault of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// The key's path, such as `layer[2].paths[0]`; lists are counted from 0. Empty where the
    /// fault belongs to no key, as in text that is no TOML.
    pub key: String,
    /// The name of the layer that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// What was probably meant, as a spec would write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Where it stands, if the spec was read from text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The place of the byte at `offset` of `text`.
    pub(super) fn in_text(text: &str, offset: usize) -> Self {
        let offset = (0..=offset.min(text.len()))
            .rev()
            .find(|&at| text.is_char_boundary(at));
        let before = &text[..offset.unwrap_or(0)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..]
                .trim_start_matches('\u{feff}')
                .chars()
                .count()
                + 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(layer) = &self.layer {
                write!(f, " (layer {layer})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean {suggestion}?"),
            None => Ok(()),
        }
    }
}

/// All faults of one spec; at least one.
///
/// Printed, it is one line a fault: `finance.toml:12:8: layer[1].size (layer home): ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    origin: String,
    kind: ErrorKind,
    faults: Vec<Fault>,
    unlisted: usize,
}

impl Faults {
    /// The faults found in the text called `origin`, or `None` if there are none.
    pub(super) fn of(origin: &str, mut faults: Vec<Fault>) -> Option<Self> {
        let unlisted = faults.len().saturating_sub(MOST);
        faults.truncate(MOST);
        let kind = ErrorKind::Invalid;
        (!faults.is_empty()).then(|| Self {
            origin: origin.to_owned(),
            kind,
            faults,
            unlisted,
        })
    }

    /// The one fault that kept the text called `origin` from being looked at any further.
    pub(super) fn one(origin: &str, kind: ErrorKind, fault: Fault) -> Self {
        Self {
            origin: origin.to_owned(),
            kind,
            faults: vec![fault],
            unlisted: 0,
        }
    }

    /// What the text was called when it was read; empty for a spec built in code.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// [`ErrorKind::Invalid`], or [`ErrorKind::FromTheFuture`] for a newer format.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The faults in the order of the text; the first hundred of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }

    /// How many faults there are, those beyond the first hundred included. Never 0.
    #[must_use]
    pub fn count(&self) -> usize {
        self.faults.len() + self.unlisted
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match (self.origin.as_str(), fault.position) {
                ("", None) => {}
                ("", Some(at)) => write!(f, "{}:{}: ", at.line, at.column)?,
                (origin, None) => write!(f, "{origin}: ")?,
                (origin, Some(at)) => write!(f, "{origin}:{}:{}: ", at.line, at.column)?,
            }
            write!(f, "{fault}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Faults {}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        let spec = match faults.origin() {
            "" => "the spec".to_owned(),
            origin => format!("the spec {origin}"),
        };
        let error = match (faults.kind(), faults.count()) {
            (ErrorKind::FromTheFuture, _) => {
                Self::new(faults.kind(), format!("{spec} is of a newer format"))
                    .next("use a newer version of stratavm")
            }
            (kind, 1) => Self::new(kind, format!("{spec} has a fault")),
            (kind, count) => Self::new(kind, format!("{spec} has {count} faults")),
        };
        error.caused_by(faults)
    }
}

/// Where a key is: the way from the top of the spec to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path of `key` in the table that this path leads to.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(key.to_owned()));
        path
    }

    /// The path of entry `index` of the list that this path leads to.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `other` is this path or lies below it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The layer that the path leads into, counted from 0.
    pub(super) fn layer_index(&self) -> Option<usize> {
        match self.0.as_slice() {
            [Step::Key(key), Step::Index(index), ..] if key == "layer" => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                    if !key.is_empty() && key.len() <= SHOWN && key.chars().all(bare) {
                        f.write_str(key)?;
                    } else {
                        f.write_str(&quoted(key))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `text` in quotes for a message: escaped, so that it stays on its line, and cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "a\nß = 1\r\nx";
        let at = |offset| {
            let position = Position::in_text(text, offset);
            (position.line, position.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(3), (2, 1), "inside a character counts as its start");
        assert_eq!(at(5), (2, 3));
        assert_eq!(at(text.len()), (3, 2));
        assert_eq!(at(999), (3, 2));
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let path = KeyPath::default()
            .key("labels")
            .key("a\n\u{1b}[31m")
            .index(3);
        assert_eq!(path.to_string(), "labels.\"a\\n\\u{1b}[31m\"[3]");
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), SHOWN + 5);
    }
}

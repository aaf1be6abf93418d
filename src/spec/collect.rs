//! Collecting the faults of one spec while it is read and checked.
//!
//! A value that could not be read gets a stand-in so that the rest can still be checked; what
//! rests on such a value is *doubted*, and nothing more is said about it.

use super::fault::{Fault, KeyPath, Position};
use super::tree::Node;

/// What a fault's position points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    Value,
}

#[derive(Debug)]
struct Issue {
    path: KeyPath,
    place: Place,
    message: String,
    suggestion: Option<String>,
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Collector {
    issues: Vec<Issue>,
    doubts: Vec<KeyPath>,
}

impl Collector {
    /// Notes a fault of the value at `path`, or of its absence. From now on it is doubted.
    pub(super) fn fault(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.suggest(path, message, None);
    }

    /// Notes a fault of the value at `path` that says nothing against other uses of the value.
    pub(super) fn remark(&mut self, path: &KeyPath, message: impl Into<String>) {
        let (path, message) = (path.clone(), message.into());
        self.issues.push(Issue {
            path,
            place: Place::Value,
            message,
            suggestion: None,
        });
    }

    /// Notes a fault of the value at `path`, with what was probably meant.
    pub(super) fn suggest(
        &mut self,
        path: &KeyPath,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        self.doubt(path.clone());
        let (path, message) = (path.clone(), message.into());
        self.issues.push(Issue {
            path,
            place: Place::Value,
            message,
            suggestion,
        });
    }

    /// Notes a fault of the key at the end of `path`.
    pub(super) fn bad_key(
        &mut self,
        path: KeyPath,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let message = message.into();
        self.issues.push(Issue {
            path,
            place: Place::Key,
            message,
            suggestion,
        });
    }

    /// Keeps what is at `path` out of further checks.
    pub(super) fn doubt(&mut self, path: KeyPath) {
        self.doubts.push(path);
    }

    /// Whether what is at `path` was read as it stands.
    pub(super) fn trusts(&self, path: &KeyPath) -> bool {
        !self.doubts.iter().any(|doubt| doubt.covers(path))
    }

    /// Whether what is at `path`, and everything in it, was read as it stands.
    pub(super) fn is_clean(&self, path: &KeyPath) -> bool {
        !self
            .doubts
            .iter()
            .any(|doubt| doubt.covers(path) || path.covers(doubt))
    }

    /// The faults in the order of the text that `tree` was read from, or as they were found.
    ///
    /// `layer_name` gives the name of a layer by its index.
    pub(super) fn finish(
        self,
        source: Option<(&str, &Node)>,
        layer_name: impl Fn(usize) -> Option<String>,
    ) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::with_capacity(self.issues.len());
        for issue in self.issues {
            let position = source.map(|(text, tree)| {
                let at = match issue.place {
                    Place::Key => tree.locate_key(&issue.path),
                    Place::Value => tree.locate(&issue.path),
                };
                Position::in_text(text, at)
            });
            faults.push(Fault {
                key: issue.path.to_string(),
                layer: issue.path.layer_index().and_then(&layer_name),
                message: issue.message,
                suggestion: issue.suggestion,
                position,
            });
        }
        faults.sort_by_key(|fault| fault.position);
        faults
    }
}

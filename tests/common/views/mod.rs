//! From what a reader says of a configuration to the spec's keys and values. Each product's words are translated here
//! a second time, from the product's documentation: a backend's own tables are not used.

pub(crate) mod parallels;
pub(crate) mod qemu;
pub(crate) mod virtualbox;
pub(crate) mod vmware;

use std::path::Path;

use serde_json::Value;

use super::values::clean;

/// An XML element as `tests/readers/common.py` gives it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a>(pub(crate) &'a Value);

impl<'a> Node<'a> {
    pub(crate) fn children(self) -> impl Iterator<Item = Node<'a>> {
        self.0["children"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Node)
    }

    pub(crate) fn tag(self) -> &'a str {
        self.0["tag"].as_str().unwrap_or_default()
    }

    pub(crate) fn all(self, tag: &str) -> Vec<Node<'a>> {
        self.children().filter(|child| child.tag() == tag).collect()
    }

    /// The first element below it at a path of tags.
    pub(crate) fn find(self, path: &str) -> Option<Node<'a>> {
        path.split('/').try_fold(self, |node, tag| {
            node.children().find(|child| child.tag() == tag)
        })
    }

    pub(crate) fn attribute(self, name: &str) -> Option<&'a str> {
        self.0["attributes"].get(name)?.as_str()
    }

    /// An attribute of an element below, such as `Memory@RAMSize`.
    pub(crate) fn value(self, place: &str) -> Option<&'a str> {
        let (path, name) = place.split_once('@')?;
        self.find(path)?.attribute(name)
    }

    pub(crate) fn text(self) -> &'a str {
        self.0["text"].as_str().unwrap_or_default()
    }
}

/// The kind of system that a product's identifier names.
pub(crate) fn system(identifier: &str) -> &'static str {
    let identifier = identifier.to_lowercase();
    let other = ["bsd", "solaris", "other-64", "other_64", "other64"];
    match identifier.trim_start_matches("arm-") {
        name if name.starts_with("win") => "windows",
        name if other.iter().any(|part| name.contains(part)) => "other",
        _ => "linux",
    }
}

/// A path of a configuration as an absolute one.
pub(crate) fn absolute(config: &Path, path: &str) -> String {
    clean(&config.join(path))
}

/// The layer whose disk a file is: files lie at `layers/NAME/FILE`.
pub(crate) fn layer_of(path: &str) -> String {
    let folder = Path::new(path).parent().and_then(Path::file_name);
    folder
        .and_then(|name| name.to_str())
        .unwrap_or("?")
        .to_owned()
}

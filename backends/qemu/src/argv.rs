//! Building QEMU's argument vector: the one place where values are escaped.
//!
//! There is never a shell. QEMU itself reads two syntaxes: JSON (`-blockdev`), which
//! `serde_json` writes, and comma-separated `key=value` lists, where a comma in a value is doubled
//! (qemu-options, "QemuOpts"). What an argument means is decided in [`crate::config`] and
//! [`crate::disks`].

use std::path::Path;

use serde_json::Value;
use stratavm::{Error, Result};

/// An argument vector under construction; the program comes first.
#[derive(Debug)]
pub(crate) struct Argv(Vec<String>);

impl Argv {
    pub(crate) fn new(program: &str) -> Self {
        Self(vec![program.to_owned()])
    }

    /// An option without a value.
    pub(crate) fn flag(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }

    /// An option and its value, which is written as it is: only for text of ours.
    pub(crate) fn option(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    /// A `-device` of `driver` with these properties.
    pub(crate) fn device(&mut self, driver: &str, properties: &[(&str, &str)]) {
        self.option("-device", list(driver, properties));
    }

    /// A `-blockdev` node.
    pub(crate) fn blockdev(&mut self, node: &Value) {
        self.option("-blockdev", node.to_string());
    }

    pub(crate) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// `head,key=value,...` with every comma in a value doubled.
pub(crate) fn list(head: &str, properties: &[(&str, &str)]) -> String {
    let mut text = head.to_owned();
    for (key, value) in properties {
        text.push_str(if text.is_empty() { "" } else { "," });
        text.push_str(key);
        text.push('=');
        text.push_str(&value.replace(',', ",,"));
    }
    text
}

/// A path as an argument holds it.
///
/// # Errors
/// A path that no argument can hold: not Unicode, or with a NUL character.
pub(crate) fn path_text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(text),
        _ => Err(Error::invalid("QEMU cannot be given this path: it is not Unicode").at(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_values_are_doubled() {
        assert_eq!(
            list("file", &[("path", "a,b=c,,d")]),
            "file,path=a,,b=c,,,,d"
        );
        assert_eq!(
            list("", &[("guest", "x"), ("debug-threads", "on")]),
            "guest=x,debug-threads=on"
        );
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(path_text(Path::new("a\0b")).is_err());
        assert_eq!(path_text(Path::new("a b\n\"")).ok(), Some("a b\n\""));
    }
}

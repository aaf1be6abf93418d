//! Checked names: what a machine, layer or preset may be called.
//!
//! Names reach file paths, disk labels and config files of every product, so the alphabet is the
//! intersection of what all of them take. Free text for people is a `title`, not a name.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, in characters (all of them ASCII, so bytes too).
pub const MAX_LEN: usize = 64;

/// Names that Windows keeps for devices, whatever their extension
/// (Microsoft, "Naming Files, Paths, and Namespaces").
const WINDOWS_DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The name of a machine or a layer: 1 to 64 of `a-z`, `0-9` and `-`, starting with a letter, and
/// no device name of Windows.
///
/// ```
/// use stratavm::spec::Name;
/// assert!("finance-2".parse::<Name>().is_ok());
/// assert!("../etc".parse::<Name>().is_err());
/// assert!("con".parse::<Name>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// [`NameError`] says which rule `text` breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        check(&text).map(|()| Self(text))
    }

    /// The name of what has none that could be read, while its faults are collected.
    pub(super) fn stand_in() -> Self {
        Self("unnamed".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing at all.
    #[error("a name may not be empty")]
    Empty,
    /// More than [`MAX_LEN`] characters.
    #[error("a name has at most {MAX_LEN} characters; this one has {0}")]
    TooLong(usize),
    /// The first character is no letter.
    #[error("a name starts with a letter a-z, not with {0:?}")]
    Start(char),
    /// A character outside the alphabet.
    #[error("a name is made of a-z, 0-9 and '-'; {character:?} at position {position} is none")]
    Character {
        /// The character.
        character: char,
        /// Where it stands, counted in characters from 1.
        position: usize,
    },
    /// A name that Windows keeps for a device.
    #[error("{0:?} is the name of a device on Windows")]
    Device(String),
}

fn check(text: &str) -> Result<(), NameError> {
    let length = text.chars().count();
    if length > MAX_LEN {
        return Err(NameError::TooLong(length));
    }
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty);
    };
    let bad = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if let Some((index, character)) = text.chars().enumerate().find(|&(_, c)| bad(c)) {
        return Err(NameError::Character {
            character,
            position: index + 1,
        });
    }
    if !first.is_ascii_lowercase() {
        return Err(NameError::Start(first));
    }
    if WINDOWS_DEVICES.contains(&text) {
        return Err(NameError::Device(text.to_owned()));
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl schemars::JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[a-z][a-z0-9-]{0,63}$",
            "description": "1 to 64 of a-z, 0-9 and '-', starting with a letter; no device name of Windows"
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn takes_the_alphabet_and_nothing_else() {
        for good in ["a", "os", "user-data", "x9-", &"a".repeat(64)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "", "A", "9a", "-a", "a b", "a\n", "a\0", "../a", "a|0A", "é", "con", "lpt9", "a\"",
            "a/b",
        ] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Name::new("a".repeat(300)), Err(NameError::TooLong(300)));
    }

    #[test]
    fn is_checked_when_it_comes_from_serde() {
        assert!(serde_json::from_str::<Name>("\"../x\"").is_err());
        assert_eq!(
            serde_json::from_str::<Name>("\"ok\"").unwrap().as_str(),
            "ok"
        );
    }
}

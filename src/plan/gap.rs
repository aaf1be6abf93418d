//! What a product does not enforce by itself, and how far it goes.

use std::fmt;

/// How far a policy or feature holds on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Grade {
    /// It holds whatever guest and user do. Not a gap; used where a grade is asked for.
    Hard,
    /// It holds against accidents, not against somebody who means to get around it.
    AccidentOnly,
    /// The product's own windows do not offer it; its files and command line still do.
    UiOnly,
    /// The player that starts the machine must see to it.
    Player,
    /// It does not hold at all.
    None,
}

impl Grade {
    /// The grade as plans and tables write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::AccidentOnly => "accident-only",
            Self::UiOnly => "ui-only",
            Self::Player => "player",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key of the spec that a product does not do, or not by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The key, such as `policy.usb` or `layer.os.writes`.
    pub key: String,
    /// What the spec asks for there.
    pub wanted: String,
    /// How far it holds.
    pub grade: Grade,
    /// Why, and what can be done, in one sentence.
    pub reason: String,
}

impl Gap {
    /// A gap from its parts.
    #[must_use]
    pub fn new(
        key: impl Into<String>,
        wanted: impl Into<String>,
        grade: Grade,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            wanted: wanted.into(),
            grade,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = {}: {}: {}",
            self.key, self.wanted, self.grade, self.reason
        )
    }
}

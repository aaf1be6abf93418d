//! Sizes with a unit, as people write them in a spec.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One MiB in bytes: every disk is a multiple of it.
pub const MIB: u64 = 1 << 20;

/// The units that a size may carry, smallest first.
const UNITS: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A size in bytes that is written with a binary unit, such as `"4 GiB"`.
///
/// A plain number is refused: whether it means bytes, sectors or MiB is not for us to guess.
///
/// ```
/// use stratavm::spec::Size;
/// let size: Size = "4 GiB".parse()?;
/// assert_eq!(size.bytes(), 4 << 30);
/// assert_eq!(size.to_string(), "4 GiB");
/// # Ok::<(), stratavm::spec::SizeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `mib` MiB; saturates far beyond any disk.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(MIB))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size in MiB, rounded down.
    #[must_use]
    pub const fn mib(self) -> u64 {
        self.0 / MIB
    }
}

/// Why a text is no [`Size`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// Not `NUMBER UNIT`.
    #[error("{0:?} is no size: write a whole number and KiB, MiB, GiB or TiB, such as \"512 MiB\"")]
    Form(String),
    /// More bytes than 64 bits hold.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let form = || SizeError::Form(text.to_owned());
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(form)?
            .1;
        if number.is_empty() {
            return Err(form());
        }
        let number: u64 = number
            .parse()
            .map_err(|_| SizeError::TooLarge(text.to_owned()))?;
        number
            .checked_mul(factor)
            .map(Self)
            .ok_or_else(|| SizeError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .rev()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) => write!(f, "{} {name}", self.0 / factor),
            None if self.0 == 0 => f.write_str("0 KiB"),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl schemars::JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ ?(KiB|MiB|GiB|TiB)$",
            "description": "a whole number and a binary unit, such as \"512 MiB\""
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["1 KiB", "512 MiB", "3 GiB", "1 TiB", "0 KiB", "1536 MiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("4GiB".parse::<Size>().unwrap(), Size::from_mib(4096));
    }

    #[test]
    fn refuses_what_could_mean_something_else() {
        for bad in [
            "", "4", "4 GB", "4 gib", "-1 GiB", "1.5 GiB", " 4 GiB", "4  GiB", "GiB", "+4 GiB",
        ] {
            assert!(
                matches!(bad.parse::<Size>(), Err(SizeError::Form(_))),
                "{bad:?}"
            );
        }
        assert!(matches!(
            "99999999999999999999 KiB".parse::<Size>(),
            Err(SizeError::TooLarge(_))
        ));
        assert!(matches!(
            "99999999999 TiB".parse::<Size>(),
            Err(SizeError::TooLarge(_))
        ));
    }
}

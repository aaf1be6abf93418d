//! The one place where text becomes part of a `.vmx` file.
//!
//! Grammar and escapes: open-vm-tools, `lib/dict/dictll.c` and `lib/misc/escape.c`. What the keys
//! mean is not known here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use stratavm::{Error, Result};

/// The value of a switch that is on.
pub(crate) const TRUE: &str = "TRUE";
/// The value of a switch that is off.
pub(crate) const FALSE: &str = "FALSE";

/// A `.vmx` file in the making: every key at most once, every value quoted and escaped.
///
/// The first fault is kept and returned by [`Vmx::finish`], so that callers can state keys one
/// after the other.
#[derive(Debug)]
pub(crate) struct Vmx {
    text: String,
    /// Keys in lower case: VMware does not tell cases apart, and readers differ on which of two
    /// equal keys counts.
    seen: BTreeSet<String>,
    fault: Option<Error>,
}

impl Vmx {
    /// A file that says first in which encoding it is.
    pub(crate) fn new() -> Self {
        let mut vmx = Self {
            text: String::new(),
            seen: BTreeSet::new(),
            fault: None,
        };
        vmx.set(".encoding", "UTF-8");
        vmx
    }

    /// Adds `key = "value"`.
    pub(crate) fn set(&mut self, key: &str, value: impl AsRef<str>) {
        if let Err(error) = self.try_set(key, value.as_ref()) {
            self.fault.get_or_insert(error);
        }
    }

    /// Adds a number; numbers are quoted like everything else.
    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.set(key, value.to_string());
    }

    /// The text, each line ended by a line feed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](stratavm::ErrorKind::Invalid) naming the key that was given twice,
    /// is no key, or has a value that holds a NUL.
    pub(crate) fn finish(self) -> Result<String> {
        match self.fault {
            Some(error) => Err(error),
            None => Ok(self.text),
        }
    }

    fn try_set(&mut self, key: &str, value: &str) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_');
        if key.is_empty() || !key.chars().all(allowed) {
            return Err(Error::invalid(format!("{key:?} is no key of a .vmx file")));
        }
        if value.contains('\0') {
            return Err(Error::invalid(format!(
                "the value of {key} in the .vmx file holds a NUL"
            )));
        }
        if !self.seen.insert(key.to_ascii_lowercase()) {
            return Err(Error::invalid(format!(
                "{key} stands twice in the .vmx file"
            )));
        }
        self.text.push_str(key);
        self.text.push_str(" = \"");
        for c in value.chars() {
            match c {
                // A raw quote ends the value, a raw line feed the whole line: the rest would be
                // read as another key.
                '\x01'..='\x08' | '\x0a'..='\x1f' | '"' | '|' | '\x7f' => {
                    let _ = write!(self.text, "|{:02X}", u32::from(c)); // a String takes everything
                }
                _ => self.text.push(c),
            }
        }
        self.text.push_str("\"\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;
    use stratavm::ErrorKind;

    use super::*;
    use crate::testing::parse_vmx;

    fn line(value: &str) -> String {
        let mut vmx = Vmx::new();
        vmx.set("displayName", value);
        vmx.finish().unwrap().lines().nth(1).unwrap().to_owned()
    }

    #[test]
    fn what_would_end_a_value_is_escaped() {
        assert_eq!(
            line("a\nserial0.present = \"TRUE\""),
            r#"displayName = "a|0Aserial0.present = |22TRUE|22""#
        );
        assert_eq!(
            line("a|0Ab\r\x7f\x01"),
            r#"displayName = "a|7C0Ab|0D|7F|01""#
        );
        assert_eq!(line("C:\\Ä\t# x"), "displayName = \"C:\\Ä\t# x\"");
        assert_eq!(line(""), r#"displayName = """#);
    }

    #[test]
    fn a_key_stands_once_whatever_its_case() {
        let mut vmx = Vmx::new();
        vmx.set("sata0:0.present", TRUE);
        vmx.set("SATA0:0.Present", FALSE);
        vmx.set("bad key", "");
        let error = vmx.finish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("SATA0:0.Present"), "{error}");
    }

    #[test]
    fn nul_and_broken_keys_are_refused() {
        for (key, value) in [
            ("displayName", "a\0b"),
            ("a b", ""),
            ("a=b", ""),
            ("", ""),
            ("a\n", ""),
        ] {
            let mut vmx = Vmx::new();
            vmx.set(key, value);
            assert_eq!(
                vmx.finish().unwrap_err().kind(),
                ErrorKind::Invalid,
                "{key:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_value_is_read_back(values in prop::collection::vec(any::<String>(), 1..8)) {
            let mut vmx = Vmx::new();
            let nul = values.iter().any(|value| value.contains('\0'));
            for (index, value) in values.iter().enumerate() {
                vmx.set(&format!("key{index}.value"), value);
            }
            let text = vmx.finish();
            prop_assert_eq!(text.is_err(), nul);
            if let Ok(text) = text {
                let read = parse_vmx(&text);
                prop_assert_eq!(read.len(), values.len() + 1);
                for (index, value) in values.iter().enumerate() {
                    prop_assert_eq!(&read[&format!("key{index}.value")], value);
                }
            }
        }
    }
}

//! The header that every JSON file of the store carries, and the rules of reading such files.
//!
//! A file says by which version it was written and which version a reader must have at least
//! (`min-reader`). A reader that is older refuses it; any other keeps the keys it does not know and
//! writes them back. What else stands in a file is the affair of its own module.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Largest file of this kind that is read, in bytes. A machine with a thousand revisions in each of
/// a dozen layers stays far below.
pub const MAX_LEN: usize = 16 << 20;

/// Keys that this version does not know: kept and written back. Flatten it into each struct.
pub type Unknown = serde_json::Map<String, serde_json::Value>;

/// One step from a version of a file to the next, on its JSON. What it does not understand it leaves
/// alone: reading the result says what is wrong.
pub type Upgrade = fn(&mut Unknown);

/// A kind of file and what this version of the library makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The value of `format.name`, such as `stratavm-image`.
    pub name: &'static str,
    /// The version that is written, and the newest that is understood in full.
    pub version: u32,
    /// The oldest version of a reader that may use what is written.
    pub min_reader: u32,
}

/// The `format` key: what kind of file it is and who may read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Format {
    /// The kind of file.
    pub name: String,
    /// The version of the writer's format.
    pub version: u32,
    /// The oldest reader that may use the file.
    pub min_reader: u32,
    /// The program that wrote it, for people.
    pub writer: String,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Format {
    /// The header of a new file of this kind.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            name: kind.name.to_owned(),
            version: kind.version,
            min_reader: kind.min_reader,
            writer: writer(),
            unknown: Unknown::new(),
        }
    }

    fn check(&self, kind: Kind) -> Result<()> {
        if self.name != kind.name {
            let name: String = self.name.chars().take(80).collect();
            return Err(malformed(format!(
                "key format.name: {name:?} is not {:?}",
                kind.name
            )));
        }
        if self.version == 0 || self.min_reader == 0 || self.min_reader > self.version {
            return Err(malformed(format!(
                "key format: version {} with min-reader {} cannot be",
                self.version, self.min_reader
            )));
        }
        if self.min_reader > kind.version {
            let message = format!(
                "needs a reader of {} version {} or newer; this one reads version {}",
                kind.name, self.min_reader, kind.version
            );
            return Err(Error::new(ErrorKind::FromTheFuture, message)
                .next("use the version of stratavm that wrote it, or a newer one"));
        }
        Ok(())
    }
}

/// Reads a file of this kind from its bytes.
///
/// The header is judged before anything else, so that a file from the future is called just that
/// and not malformed.
///
/// # Errors
/// [`ErrorKind::FromTheFuture`] for a file that asks for a newer reader, [`ErrorKind::Malformed`]
/// with line, column and the key at fault for anything else. The caller adds the path.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], kind: Kind) -> Result<T> {
    parse_any(bytes, kind, &[])
}

/// As [`parse`], for a kind that had other versions: `steps[0]` brings version 1 to 2, and so on. A
/// file of an older version is as if this one had written it.
///
/// # Errors
/// As there.
pub fn parse_any<T: DeserializeOwned>(bytes: &[u8], kind: Kind, steps: &[Upgrade]) -> Result<T> {
    #[derive(Deserialize)]
    struct Header {
        format: Format,
    }
    if bytes.len() > MAX_LEN {
        return Err(malformed(format!(
            "{} bytes are more than {MAX_LEN}",
            bytes.len()
        )));
    }
    let no_json = |error: serde_json::Error| malformed(format!("no {} file: {error}", kind.name));
    let header: Header = serde_json::from_slice(bytes).map_err(no_json)?;
    header.format.check(kind)?;
    let done = header.format.version as usize - 1;
    let Some(steps) = steps.get(done..).filter(|steps| !steps.is_empty()) else {
        return serde_json::from_slice(bytes).map_err(no_json);
    };
    let mut file: Unknown = serde_json::from_slice(bytes).map_err(no_json)?;
    for step in steps {
        step(&mut file);
    }
    let format = Format {
        unknown: header.format.unknown,
        ..Format::new(kind)
    };
    let format = serde_json::to_value(format).map_err(no_json)?;
    file.insert("format".to_owned(), format);
    serde_json::from_value(file.into()).map_err(no_json)
}

/// The bytes of a file: JSON with a line for each key, and a newline at the end.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a value that JSON cannot hold, such as a map whose keys are no
/// strings; [`ErrorKind::NoSpace`] for more than [`MAX_LEN`], which nobody would read again.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::invalid("a value does not fit into JSON").caused_by(error))?;
    bytes.push(b'\n');
    if bytes.len() > MAX_LEN {
        return Err(Error::new(
            ErrorKind::NoSpace,
            format!("the file would be over {MAX_LEN} bytes long"),
        ));
    }
    Ok(bytes)
}

/// What stands in `format.writer`.
fn writer() -> String {
    concat!("stratavm ", env!("CARGO_PKG_VERSION")).to_owned()
}

fn malformed(message: String) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KIND: Kind = Kind {
        name: "stratavm-test",
        version: 2,
        min_reader: 1,
    };

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct File {
        format: Format,
        known: u32,
        #[serde(flatten)]
        unknown: Unknown,
    }

    fn with_header(header: &str) -> Vec<u8> {
        format!("{{\"format\": {header}, \"known\": 1, \"later\": [1, {{\"a\": null}}]}}").into()
    }

    #[test]
    fn unknown_keys_are_written_back() {
        let bytes = with_header(
            r#"{"name":"stratavm-test","version":9,"min-reader":2,"writer":"w","mood":"fine"}"#,
        );
        let file: File = parse(&bytes, KIND).unwrap();
        let again: serde_json::Value = serde_json::from_slice(&to_bytes(&file).unwrap()).unwrap();
        let before: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(again, before);
    }

    #[test]
    fn a_newer_min_reader_is_refused_even_if_the_rest_is_not_understood() {
        let header = r#"{"name":"stratavm-test","version":3,"min-reader":3,"writer":"w"}"#;
        let bytes = format!("{{\"format\": {header}, \"known\": \"no number any more\"}}");
        let error = parse::<File>(bytes.as_bytes(), KIND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FromTheFuture);
        assert!(error.next_step().is_some());
    }

    #[test]
    fn what_is_no_such_file_is_malformed() {
        let new = |name: &str, version: u32, min: u32| {
            with_header(&format!(
                r#"{{"name":"{name}","version":{version},"min-reader":{min},"writer":""}}"#
            ))
        };
        let cut = new("stratavm-test", 2, 1);
        let cases = [
            new("stratavm-other", 1, 1),
            new("stratavm-test", 0, 0),
            new("stratavm-test", 1, 2),
            cut[..cut.len() / 2].to_vec(),
            b"".to_vec(),
            b"[]".to_vec(),
            vec![b'['; 100_000],
        ];
        for bytes in cases {
            let error = parse::<File>(&bytes, KIND).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        }
    }

    #[test]
    fn a_new_header_passes_its_own_check() {
        let file = File {
            format: Format::new(KIND),
            known: 7,
            unknown: Unknown::new(),
        };
        assert_eq!(
            parse::<File>(&to_bytes(&file).unwrap(), KIND).unwrap(),
            file
        );
    }
}

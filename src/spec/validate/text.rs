//! Free text: titles, image references, guest identifiers.
//!
//! Whatever passes here can be written by every backend's escaping writer and read back: XML 1.0
//! has no way to say a control character or U+FFFE, and a line break ends a line of a `.vmx`.

use crate::image::ImageDigest;
use crate::spec::collect::Collector;
use crate::spec::fault::{KeyPath, quoted};

/// Longest title, in characters.
const LONGEST_TITLE: usize = 128;
/// Longest reference to an image, in bytes.
const LONGEST_IMAGE: usize = 1024;

/// What some format that the text ends up in cannot hold.
fn unwritable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

fn writable(out: &mut Collector, path: &KeyPath, what: &str, text: &str) -> bool {
    let bad = text.chars().enumerate().find(|&(_, c)| unwritable(c));
    if let Some((index, c)) = bad {
        let place = index + 1;
        out.fault(
            path,
            format!("{what} may not hold {c:?} (character {place})"),
        );
    }
    bad.is_none()
}

/// A title: one line of text that is not empty.
pub(super) fn title(out: &mut Collector, path: &KeyPath, title: &str) {
    if !out.trusts(path) || !writable(out, path, "a title", title) {
        return;
    }
    let length = title.chars().count();
    if title.trim().is_empty() {
        out.fault(path, "a title may not be empty; leave the key out");
    } else if title.trim() != title {
        let likely = Some(format!("{:?}", title.trim()));
        out.suggest(
            path,
            "a title may not begin or end with white space",
            likely,
        );
    } else if length > LONGEST_TITLE {
        out.fault(
            path,
            format!("a title has at most {LONGEST_TITLE} characters, not {length}"),
        );
    }
}

/// The identifier of a guest system, which is looked up in tables.
pub(super) fn guest_id(out: &mut Collector, path: &KeyPath, id: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if out.trusts(path) && (id.is_empty() || id.len() > 64 || !id.chars().all(plain)) {
        let message = format!(
            "{} is not 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'",
            quoted(id)
        );
        out.fault(path, message);
    }
}

/// A file's path or the digest of an image in the store.
pub(super) fn image(out: &mut Collector, path: &KeyPath, image: &str) {
    if !out.trusts(path) || !file(out, path, image) {
        return;
    }
    if image.starts_with(ImageDigest::PREFIX)
        && let Err(error) = image.parse::<ImageDigest>()
    {
        out.fault(path, error.to_string());
    }
}

/// A medium's path; it is no image of the store.
pub(super) fn medium(out: &mut Collector, path: &KeyPath, image: &str) {
    if out.trusts(path) && file(out, path, image) && image.starts_with(ImageDigest::PREFIX) {
        out.fault(path, "a medium is a file; the store has none");
    }
}

fn file(out: &mut Collector, path: &KeyPath, file: &str) -> bool {
    if file.is_empty() {
        out.fault(path, "the name of a file may not be empty");
        false
    } else if file.len() > LONGEST_IMAGE {
        let length = file.len();
        out.fault(
            path,
            format!("the name of a file has at most {LONGEST_IMAGE} bytes, not {length}"),
        );
        false
    } else {
        writable(out, path, "the name of a file", file)
    }
}

/// Why a carried value cannot be written as TOML and JSON alike.
pub(super) fn not_carried(value: &serde_json::Value) -> Option<&'static str> {
    use serde_json::Value;
    match value {
        Value::Null => Some("null cannot be carried: TOML has none"),
        Value::Number(number) if !number.is_i64() && !number.is_f64() => {
            Some("a number beyond 64 bits with a sign cannot be carried")
        }
        Value::Array(items) => items.iter().find_map(not_carried),
        Value::Object(entries) => entries.values().find_map(not_carried),
        Value::Number(_) | Value::Bool(_) | Value::String(_) => None,
    }
}

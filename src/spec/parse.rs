//! A spec from TOML or JSON and back: sizes are bounded, and all faults are found at once.
//!
//! The way is text -> tree ([`super::toml`], [`super::json`]) -> [`VmSpec`] ([`super::read`]) ->
//! rules ([`super::validate`]).

use std::io::Read;
use std::path::Path;

use super::collect::Collector;
use super::fault::{Fault, Faults, KeyPath, Position};
use super::tree::{Node, SyntaxFault};
use super::{LayerSpec, SPEC_VERSION, VmSpec, json, read, toml, validate};
use crate::error::{Error, ErrorKind, Result};

/// Longest text of a spec, in bytes: 1 MiB.
pub const MAX_TEXT: usize = 1 << 20;

/// What a spec starts with whose text is a file's: some editors write it.
const BYTE_ORDER_MARK: char = '\u{feff}';

impl VmSpec {
    /// Reads a spec from TOML. `origin` is what messages call the text: its file's name.
    ///
    /// # Errors
    /// All faults at once, each with its key, line and column.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, Faults> {
        from_text(text, origin, toml::parse)
    }

    /// Reads a spec from JSON. `origin` is what messages call the text: its file's name.
    ///
    /// # Errors
    /// All faults at once, each with its key, line and column.
    pub fn from_json(text: &str, origin: &str) -> Result<Self, Faults> {
        from_text(text, origin, json::parse)
    }

    /// Reads a spec from a file: JSON if its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// The file cannot be read or is longer than [`MAX_TEXT`];
    /// [`Invalid`](crate::ErrorKind::Invalid) and
    /// [`FromTheFuture`](crate::ErrorKind::FromTheFuture) have the [`Faults`] as their source.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let origin = path.display().to_string();
        Ok(from_text(&text, &origin, parser(path))?)
    }

    /// The spec as TOML that [`from_toml`](Self::from_toml) reads as this same spec.
    ///
    /// # Errors
    /// A spec that was built in code breaks a rule, so that it could not be read back.
    pub fn to_toml(&self) -> Result<String> {
        self.validate()?;
        ::toml::to_string(self)
            .map_err(|error| Error::invalid("the spec cannot be written as TOML").caused_by(error))
    }
}

impl LayerSpec {
    /// Reads one layer from a file that holds the keys of a `[[layer]]` table: JSON if its name
    /// ends in `.json`, else TOML. Rules that need the rest of a spec are checked when the layer
    /// is added to one.
    ///
    /// # Errors
    /// As for [`VmSpec::from_path`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let origin = path.display().to_string();
        let (text, tree) = tree_of(&text, &origin, parser(path))?;
        let mut out = Collector::default();
        let layer = read::layer(&mut out, &tree, &KeyPath::default());
        let faults = out.finish(Some((text, &tree)), |_| None);
        Ok(Faults::of(&origin, faults).map_or(Ok(layer), Err)?)
    }
}

/// The text of a spec's file, which is read no further than specs may go.
fn read_text(path: &Path) -> Result<String> {
    let broken = |error| Error::io("the spec cannot be read", path, error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(broken)?;
    file.take(MAX_TEXT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    let origin = path.display().to_string();
    String::from_utf8(bytes).map_err(|error| not_utf8(&error, &origin).into())
}

/// Turns a text into a tree.
type Parser = fn(&str) -> (Node, Vec<SyntaxFault>);

fn parser(path: &Path) -> Parser {
    let is_json = path
        .extension()
        .is_some_and(|ext| ext.eq_ignore_ascii_case("json"));
    if is_json { json::parse } else { toml::parse }
}

/// The text without its byte order mark, and its tree.
fn tree_of<'t>(text: &'t str, origin: &str, parse: Parser) -> Result<(&'t str, Node), Faults> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.len() > MAX_TEXT {
        let message = format!("a spec has at most {MAX_TEXT} bytes");
        return Err(Faults::one(
            origin,
            ErrorKind::Invalid,
            fault(message, None),
        ));
    }
    let (tree, syntax) = parse(text);
    match Faults::of(origin, placed(text, syntax)) {
        Some(faults) => Err(faults),
        None => Ok((text, tree)),
    }
}

fn from_text(text: &str, origin: &str, parse: Parser) -> Result<VmSpec, Faults> {
    let (text, tree) = tree_of(text, origin, parse)?;
    if let Some(version) = read::stated_version(&tree).filter(|v| *v > i64::from(SPEC_VERSION)) {
        return Err(newer(origin, text, &tree, version));
    }
    let mut out = Collector::default();
    let spec = read::spec(&mut out, &tree);
    validate::check(&mut out, &spec);
    let faults = out.finish(Some((text, &tree)), |index| read::layer_name(&tree, index));
    Faults::of(origin, faults).map_or(Ok(spec), Err)
}

fn placed(text: &str, syntax: Vec<SyntaxFault>) -> Vec<Fault> {
    let placed = |SyntaxFault { at, message }| fault(message, Some(Position::in_text(text, at)));
    let mut faults: Vec<_> = syntax.into_iter().map(placed).collect();
    faults.sort_by_key(|fault| fault.position);
    faults
}

/// A spec of a newer version is not looked at any further: its keys may mean anything.
fn newer(origin: &str, text: &str, tree: &Node, version: i64) -> Faults {
    let at = tree.entry("stratavm").map_or(0, |entry| entry.node.at);
    let message = format!(
        "version {version} of the format is newer than {SPEC_VERSION}, which this library reads"
    );
    let fault = Fault {
        key: "stratavm".to_owned(),
        ..fault(message, Some(Position::in_text(text, at)))
    };
    Faults::one(origin, ErrorKind::FromTheFuture, fault)
}

fn not_utf8(error: &std::string::FromUtf8Error, origin: &str) -> Faults {
    let valid = error.utf8_error().valid_up_to();
    let text = std::str::from_utf8(&error.as_bytes()[..valid]).unwrap_or_default();
    let position = Position::in_text(text, valid);
    let fault = fault("this is no UTF-8 text".to_owned(), Some(position));
    Faults::one(origin, ErrorKind::Invalid, fault)
}

/// A fault that belongs to no key.
fn fault(message: String, position: Option<Position>) -> Fault {
    Fault {
        key: String::new(),
        layer: None,
        message,
        suggestion: None,
        position,
    }
}

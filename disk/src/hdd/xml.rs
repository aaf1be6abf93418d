//! A small, bounded tree of XML elements for descriptors: elements and text only. A document type, a processing
//! instruction or an entity other than the five predefined ones is refused, so nothing can expand or be fetched.

use crate::{Error, Result};
use quick_xml::Reader;
use quick_xml::events::Event;

const MAX_DEPTH: usize = 16;
const MAX_ELEMENTS: usize = 100_000;

/// An element: its name, child elements in order, and its own text.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
}

impl Element {
    /// The children of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The only child of this name; two are an error.
    pub(crate) fn optional(&self, name: &str) -> Result<Option<&Element>> {
        let mut found = self.children.iter().filter(|c| c.name == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(Error::malformed(format!(
                "<{}> has <{name}> twice",
                self.name
            )));
        }
        Ok(first)
    }

    /// The only child of this name; none is an error too.
    pub(crate) fn one(&self, name: &str) -> Result<&Element> {
        self.optional(name)?
            .ok_or_else(|| Error::malformed(format!("<{}> has no <{name}>", self.name)))
    }

    /// The element's text without blanks around it; child elements are an error.
    pub(crate) fn value(&self) -> Result<&str> {
        self.raw()
            .map(|text| text.trim_matches([' ', '\t', '\r', '\n']))
    }

    /// The element's text as it stands, for names that may begin or end with a blank.
    pub(crate) fn raw(&self) -> Result<&str> {
        if !self.children.is_empty() {
            return Err(Error::malformed(format!(
                "<{}> has elements where text belongs",
                self.name
            )));
        }
        Ok(&self.text)
    }
}

/// Reads a document into its root element.
pub(crate) fn read(text: &str) -> Result<Element> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|e| {
            Error::malformed("not well-formed XML")
                .caused_by(e)
                .at_offset(at)
        })?;
        let refuse = |what: &str| Err(Error::malformed(format!("XML {what}")).at_offset(at));
        let closed = match event {
            Event::Start(ref start) | Event::Empty(ref start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() == MAX_DEPTH {
                    return Err(Error::limit("XML has too many elements or levels").at_offset(at));
                }
                if root.is_some() {
                    return refuse("has two root elements");
                }
                let name = start.name().as_ref().to_owned();
                let element = Element {
                    name,
                    ..Element::default()
                };
                if matches!(event, Event::Start(_)) {
                    open.push(element);
                    None
                } else {
                    Some(element)
                }
            }
            // The reader has compared the names.
            Event::End(_) => open.pop(),
            Event::Text(t) => {
                add_text(&mut open, &t.xml10_content()).map_err(|e| e.at_offset(at))?;
                None
            }
            Event::CData(t) => {
                add_text(&mut open, &t.xml10_content()).map_err(|e| e.at_offset(at))?;
                None
            }
            Event::GeneralRef(r) => {
                let c = r
                    .resolve_char_ref()
                    .map_err(|e| Error::malformed("XML character").caused_by(e).at_offset(at))?;
                let c = c.or(match &*r.xml10_content() {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => None,
                });
                let Some(c) = c else {
                    return refuse("entity that is not predefined");
                };
                add_text(&mut open, c.encode_utf8(&mut [0; 4])).map_err(|e| e.at_offset(at))?;
                None
            }
            Event::DocType(_) => return refuse("document type declaration"),
            Event::PI(_) => return refuse("processing instruction"),
            Event::Decl(_) | Event::Comment(_) => None,
            Event::Eof => break,
        };
        if let Some(element) = closed {
            match open.last_mut() {
                Some(parent) => parent.children.push(element),
                None => root = Some(element),
            }
        }
    }
    if !open.is_empty() {
        return Err(Error::malformed("XML ends inside an element"));
    }
    root.ok_or_else(|| Error::malformed("XML without an element"))
}

fn add_text(open: &mut [Element], text: &str) -> Result<()> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(Error::malformed("text outside the root element")),
    }
    Ok(())
}

/// Text as it may stand between tags. By numbers, because libphdi refuses a descriptor with `&amp;` or `&lt;`.
pub(crate) fn escape_text(text: &str) -> String {
    text.replace('&', "&#38;")
        .replace('<', "&#60;")
        .replace('>', "&#62;")
}

//! A tree of XML elements and its one writer: every value of a settings file goes through here, so
//! no value can become syntax.

use quick_xml::Writer;
use quick_xml::escape::escape;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use stratavm::{Error, Result};

/// An element with its attributes in writing order.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Element>,
    text: Option<String>,
}

impl Element {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
            text: None,
        }
    }

    #[must_use]
    pub(crate) fn attribute(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    #[must_use]
    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    #[must_use]
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    #[must_use]
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// The document with this element as its root, ending with a newline.
    ///
    /// # Errors
    /// `Invalid` for a value with a character that XML 1.0 cannot hold, even as a reference.
    pub(crate) fn document(&self) -> Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        let failed = |error| Error::invalid("the settings cannot be written").caused_by(error);
        writer
            .write_event(Event::Decl(BytesDecl::new("1.0", None, None)))
            .map_err(failed)?;
        self.write(&mut writer)?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        String::from_utf8(bytes)
            .map_err(|error| Error::invalid("the settings are not UTF-8").caused_by(error))
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> Result<()> {
        let mut start = BytesStart::new(self.name);
        for (name, value) in &self.attributes {
            check(self.name, value)?;
            start.push_attribute((*name, value.as_str()));
        }
        let put = |writer: &mut Writer<Vec<u8>>, event: Event<'_>| {
            writer
                .write_event(event)
                .map_err(|error| Error::invalid("the settings cannot be written").caused_by(error))
        };
        if self.children.is_empty() && self.text.is_none() {
            return put(writer, Event::Empty(start));
        }
        put(writer, Event::Start(start))?;
        if let Some(text) = &self.text {
            check(self.name, text)?;
            // Line ends by number: each line of the file is one of ours.
            let escaped = escape(text.as_str()).replace('\n', "&#10;");
            put(writer, Event::Text(BytesText::from_escaped(escaped)))?;
        }
        for child in &self.children {
            child.write(writer)?;
        }
        put(writer, Event::End(BytesEnd::new(self.name)))
    }
}

/// Refuses what is no `Char` of XML 1.0 (production 2).
fn check(element: &str, value: &str) -> Result<()> {
    let bad = |c: &char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    match value.chars().find(bad) {
        Some(c) => Err(Error::invalid(format!(
            "{value:?} (for {element}) holds U+{:04X}, which XML cannot hold",
            u32::from(c)
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn values_are_escaped_and_never_normalised_away() {
        let value = "<a b=\"c\" d='e'>&amp;\t\n\r]]>";
        let text = Element::new("R")
            .attribute("v", value)
            .child(Element::new("T").text(value))
            .document()
            .unwrap();
        assert_eq!(text.matches('<').count(), 5, "{text}");
        for reference in ["&lt;", "&quot;", "&amp;amp;", "&#9;", "&#10;", "&#13;"] {
            assert!(text.contains(reference), "{reference} in {text}");
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_refused() {
        for bad in ["\0", "\u{1}", "\u{1f}", "\u{fffe}"] {
            assert!(
                Element::new("R").attribute("v", bad).document().is_err(),
                "{bad:?}"
            );
            assert!(Element::new("R").text(bad).document().is_err(), "{bad:?}");
        }
    }
}

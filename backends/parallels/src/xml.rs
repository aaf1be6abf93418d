//! The one place where text becomes part of a `config.pvs`: elements as values, and their writer.
//!
//! Which elements there are is not known here.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use stratavm::{Error, ErrorKind, Result};

/// An element with its attributes and either text or children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    Children(Vec<Element>),
}

/// An element that holds a value.
pub(crate) fn value(name: &'static str, value: impl ToString) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        content: Content::Text(value.to_string()),
    }
}

impl Element {
    /// An element that holds others. `lists` is its `dyn_lists`: each kind of child that repeats,
    /// with the next free id.
    pub(crate) fn group(name: &'static str, lists: &str, children: Vec<Self>) -> Self {
        let attributes = vec![("dyn_lists", lists.to_owned())];
        Self {
            name,
            attributes,
            content: Content::Children(children),
        }
    }

    /// The same with one more attribute.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// The same with marks which say that Parallels' own migration of a setting has been done, so
    /// that it does not put a default in its place.
    pub(crate) fn migrated(mut self, marks: &[(&'static str, &'static str)]) -> Self {
        self.attributes.extend(
            marks
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        self
    }

    /// The whole document, each line ended by a line feed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the element whose text XML 1.0 cannot hold.
    pub(crate) fn document(&self) -> Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 3);
        let declaration = Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None));
        writer.write_event(declaration).map_err(unwritten)?;
        self.write(&mut writer)?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        String::from_utf8(bytes).map_err(unwritten)
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> Result<()> {
        let mut start = BytesStart::new(self.name);
        for (name, value) in &self.attributes {
            start.push_attribute((*name, value.as_str()));
        }
        writer.write_event(Event::Start(start)).map_err(unwritten)?;
        match &self.content {
            Content::Text(text) => {
                let text = self.escaped(text)?;
                writer
                    .write_event(Event::Text(BytesText::from_escaped(text)))
                    .map_err(unwritten)?;
            }
            Content::Children(children) => {
                children.iter().try_for_each(|child| child.write(writer))?;
            }
        }
        writer
            .write_event(Event::End(BytesEnd::new(self.name)))
            .map_err(unwritten)
    }

    fn escaped(&self, text: &str) -> Result<String> {
        if let Some(c) = text.chars().find(|&c| !is_xml(c)) {
            let what = format!(
                "{} in config.pvs cannot hold the character {c:?}",
                self.name
            );
            return Err(
                Error::invalid(what).next("leave control characters out of titles and paths")
            );
        }
        // A reader turns a raw carriage return into a line feed, and by number no line of the file
        // is a value's.
        let escaped = quick_xml::escape::escape(text);
        Ok(escaped.replace('\r', "&#13;").replace('\n', "&#10;"))
    }
}

/// The characters of XML 1.0 (section 2.2, production 2).
const fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Invalid, "config.pvs could not be written").caused_by(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::testing::parse_xml;

    #[test]
    fn metacharacters_are_escaped_and_nul_is_refused() {
        let text = value("VmName", "a<b>&\"'\r\n]]>").document().unwrap();
        assert!(
            text.contains("&lt;b&gt;&amp;") && text.contains("&#13;&#10;"),
            "{text}"
        );
        for bad in ["a\0b", "\u{1}", "\u{fffe}", "\u{b}"] {
            let error = value("VmName", bad).document().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("VmName"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_value_is_read_back(values in prop::collection::vec(any::<String>(), 1..6)) {
            let children = values.iter().map(|text| value("V", text)).collect();
            let document = Element::group("Root", "V 1", children).document();
            let holdable = values.iter().flat_map(|value| value.chars()).all(is_xml);
            prop_assert_eq!(document.is_ok(), holdable);
            if let Ok(text) = document {
                let read = parse_xml(&text);
                let seen: Vec<_> = read.all("V").iter().map(|v| v.text.clone()).collect();
                prop_assert_eq!(seen, values);
                prop_assert_eq!(read.attribute("dyn_lists"), "V 1");
            }
        }
    }
}

//! Hostile titles, paths and media names: either they are refused, or a foreign parser finds
//! exactly them in the settings, and nothing else changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use roxmltree::Document;
use stratavm::plan::Content;
use stratavm::spec::{Cdrom, Console, Role};
use stratavm::testkit::Sample;
use stratavm::{ErrorKind, Hypervisor};
use stratavm_virtualbox::VirtualBox;

/// Text that tends to be syntax somewhere.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<".to_owned()),
        Just("\"/><Evil a=\"".to_owned()),
        Just("]]>".to_owned()),
        Just("-->".to_owned()),
        Just("&#0;".to_owned()),
        Just("\r\n".to_owned()),
        Just("\t".to_owned()),
        Just("'".to_owned()),
        Just("\u{1}".to_owned()),
        Just("\u{fffe}".to_owned()),
        any::<char>().prop_map(String::from),
        "[a-z ]{1,8}".prop_map(String::from),
    ];
    proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn settings(sample: &Sample, folder: &Path) -> Result<String, ErrorKind> {
    let plan = VirtualBox::new()
        .translate(&sample.resolve(folder))
        .map_err(|e| e.kind())?;
    match &plan.files[0].content {
        Content::Text(text) => Ok(text.clone()),
        other => panic!("{other:?}"),
    }
}

/// Names of all elements with the names of their attributes, in order: the document's shape.
fn shape(text: &str) -> Vec<(String, Vec<String>)> {
    let document = Document::parse(text).unwrap();
    let named = |node: roxmltree::Node<'_, '_>| {
        let attributes = node.attributes().map(|a| a.name().to_owned()).collect();
        (node.tag_name().name().to_owned(), attributes)
    };
    document
        .descendants()
        .filter(roxmltree::Node::is_element)
        .map(named)
        .collect()
}

fn sample(title: &str, medium: &str) -> Sample {
    let mut sample = Sample::new("m")
        .unwrap()
        .layer("home", Role::UserData, 1)
        .unwrap();
    sample.spec.title = Some(title.to_owned());
    sample.spec.hardware.console = Console::Log;
    sample.spec.hardware.cdrom = vec![Cdrom {
        image: medium.to_owned(),
    }];
    sample
}

/// Whether XML 1.0 can hold all of it.
fn is_xml(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..))
}

proptest! {
    #[test]
    fn hostile_text_is_refused_or_is_only_text(
        title in hostile(),
        folder in hostile(),
        medium in hostile(),
    ) {
        // A path's separators and dots are not its text.
        let part = |text: &str| format!("x{}", text.replace(['/', '\\', '\0', ':'], "_"));
        let (folder, medium) = (PathBuf::from("/m").join(part(&folder)), part(&medium));
        let benign = settings(&sample("title", "medium"), Path::new("/m/x")).unwrap();
        match settings(&sample(&title, &medium), &folder) {
            Ok(text) => {
                prop_assert!(is_xml(&title) && is_xml(&medium));
                prop_assert_eq!(shape(&text), shape(&benign));
                let document = Document::parse(&text).unwrap();
                let node = |name: &str| {
                    document.descendants().find(|n| n.tag_name().name() == name).unwrap()
                };
                prop_assert_eq!(node("Description").text(), Some(title.as_str()));
                let console = folder.join("config/console.log");
                prop_assert_eq!(node("Port").attribute("path"), console.to_str());
                let media = node("DVDImages").first_element_child().unwrap();
                let location = format!("../{medium}");
                prop_assert_eq!(media.attribute("location"), Some(location.as_str()));
            }
            Err(kind) => {
                prop_assert_eq!(kind, ErrorKind::Invalid);
                let path = folder.to_str().unwrap();
                prop_assert!(!is_xml(&title) || !is_xml(&medium) || !is_xml(path));
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_unicode_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Path::new(OsStr::from_bytes(b"/m/\xff"));
    assert_eq!(settings(&sample("t", "m"), folder), Err(ErrorKind::Invalid));
}

//! Heads that a product made anew with links of its own style alone, as VirtualBox does when it resets one: frozen, they
//! get the links of their place in the chain; those that say that they lie elsewhere are left alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;

use std::fs;
use std::path::Path;

use harness::{Content, Harness, name};
use stratavm::Ctx;
use stratavm::store::FsckOptions;

/// Bytes of the file before its descriptor, and of the room that this has.
const DESCRIPTOR: std::ops::Range<usize> = 512..21 * 512;

fn edit(head: &Path, change: impl Fn(&str) -> String) {
    let mut bytes = fs::read(head).unwrap();
    let text = String::from_utf8(bytes[DESCRIPTOR].to_vec()).unwrap();
    let mut new = change(text.trim_end_matches('\0')).into_bytes();
    new.resize(DESCRIPTOR.len(), 0);
    bytes[DESCRIPTOR].copy_from_slice(&new);
    fs::write(head, bytes).unwrap();
}

/// The links of VirtualBox alone: an id of its own, the parent's, no CID of the parent and no hint.
fn as_virtualbox(text: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("parentFileNameHint" | "encoding", _)) => None,
        Some(("parentCID", _)) => Some("parentCID=ffffffff".to_owned()),
        Some(("ddb.uuid.image ", _)) => {
            Some("ddb.uuid.image=\"6a1fbb7c-9a2e-4a8c-8d5e-2f0f6f2b7c11\"".to_owned())
        }
        _ => Some(line.to_owned()),
    };
    let lines: Vec<_> = text.lines().filter_map(line).collect();
    lines.join("\n") + "\n"
}

#[test]
fn a_head_that_a_product_made_anew_is_frozen_with_our_links() {
    let harness = Harness::plain();
    harness.run(&[("home", 1, 0x11)]);
    harness.machine().snapshot(&name("home"), None).unwrap();
    for (mib, byte) in [(2, 0x22), (3, 0x33)] {
        harness.run(&[("home", mib, byte)]);
        edit(&harness.head("home"), as_virtualbox);
        harness.machine().snapshot(&name("home"), None).unwrap();
        assert_eq!(harness.read("home", 1), Content::Byte(0x11));
        assert_eq!(harness.read("home", mib), Content::Byte(byte));
        let checked = harness.store().fsck(&FsckOptions::default(), &Ctx::none());
        assert!(checked.unwrap().findings.is_empty());
    }
}

#[test]
fn a_head_that_lies_elsewhere_is_not_frozen() {
    let harness = Harness::plain();
    harness.run(&[("home", 1, 0x11)]);
    let head = harness.head("home");
    let parent = |text: &str| {
        let start = text.find("ddb.uuid.parent").unwrap();
        text[start..].lines().next().unwrap().to_owned()
    };
    edit(&head, |text| {
        let other = "ddb.uuid.parent=\"00000000-1111-4222-8333-444444444444\"";
        as_virtualbox(text).replace(&parent(text), other)
    });
    let before = fs::read(&head).unwrap();
    let error = harness.machine().snapshot(&name("home"), None).unwrap_err();
    let said = format!("{:?}", causes(&error));
    assert!(said.contains("another image"), "{said}");
    assert!(fs::read(&head).unwrap() == before);
}

/// An error and its causes, as text.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect()
}

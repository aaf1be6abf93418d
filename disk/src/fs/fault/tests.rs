//! The model is checked by itself: what was flushed survives every power cut, what was not is lost in each way that it
//! can be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::{Durability, fs, fsync_dir, write_atomic};
use std::collections::BTreeSet;

/// A folder with the file `old`, whose content is `old`, and a folder `inner`.
fn world() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("inner")).unwrap();
    std::fs::write(root.join("old"), "old").unwrap();
    (dir, root)
}

/// Every file with its content, by its path below the root.
fn contents(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let bytes = std::fs::read(&path).unwrap();
            found.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found.sort();
    found
}

fn is(root: &Path, expected: &[(&str, &str)]) -> bool {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
        .collect();
    contents(root) == expected
}

const LOSSES: [Lost; 4] = [Lost::Nothing, Lost::Unflushed, Lost::Later(7), Lost::Any(7)];

#[test]
fn a_file_that_is_replaced_is_the_old_or_the_new_one_after_every_cut() {
    let mut seen = BTreeSet::new();
    for at in 0.. {
        let mut done = false;
        for seed in 0..20 {
            for lost in [
                Lost::Nothing,
                Lost::Unflushed,
                Lost::Later(seed),
                Lost::Any(seed),
            ] {
                let (_dir, root) = world();
                let faults = Faults::below(&root, Fault::PowerCut { at }).unwrap();
                let written = write_atomic(&root.join("old"), b"new", Durability::Synced);
                done = !faults.struck();
                assert_eq!(written.is_ok(), done);
                faults.crash(lost).unwrap();
                let found = contents(&root);
                let (_, content) = found.iter().find(|(name, _)| name == "old").unwrap();
                assert!(content == "new" || (content == "old" && !done), "{found:?}");
                seen.insert((content.clone(), found.len()));
            }
        }
        if done {
            break;
        }
    }
    // With and without a temporary file left behind.
    let seen: Vec<_> = seen.into_iter().collect();
    let expected = [("new", 1), ("old", 1), ("old", 2)];
    assert_eq!(seen, expected.map(|(c, n)| (c.to_owned(), n)));
}

#[test]
fn a_replacement_without_flushes_can_lose_both() {
    let mut lost_both = false;
    for seed in 0..50 {
        let (_dir, root) = world();
        let faults = Faults::below(&root, Fault::PowerCut { at: usize::MAX }).unwrap();
        write_atomic(&root.join("old"), b"new", Durability::Unsynced).unwrap();
        faults.crash(Lost::Later(seed)).unwrap();
        lost_both |= is(&root, &[("old", "")]);
    }
    assert!(lost_both, "the classical loss was never drawn");
}

#[test]
fn content_without_a_name_and_a_name_without_content_are_lost() {
    let (_dir, root) = world();
    let faults = Faults::below(&root, Fault::PowerCut { at: usize::MAX }).unwrap();
    let flushed = fs::File::create_new(&root.join("inner/flushed")).unwrap();
    flushed.write_all_at(b"x", 0).unwrap();
    flushed.sync().unwrap();
    let named = fs::File::create_new(&root.join("named")).unwrap();
    named.write_all_at(b"x", 0).unwrap();
    fsync_dir(&root).unwrap();
    faults.crash(Lost::Unflushed).unwrap();
    assert!(
        is(&root, &[("named", ""), ("old", "old")]),
        "{:?}",
        contents(&root)
    );
}

#[test]
fn what_is_removed_comes_back_unless_its_folder_was_flushed() {
    for flush in [true, false] {
        let (_dir, root) = world();
        let faults = Faults::below(&root, Fault::PowerCut { at: usize::MAX }).unwrap();
        fs::remove_file(&root.join("old")).unwrap();
        fs::remove_dir(&root.join("inner")).unwrap();
        if flush {
            fsync_dir(&root).unwrap();
        }
        faults.crash(Lost::Unflushed).unwrap();
        assert_eq!(root.join("inner").exists(), !flush);
        assert_eq!(is(&root, &[("old", "old")]), !flush);
    }
}

#[test]
fn everything_flushed_survives() {
    for lost in LOSSES {
        let (_dir, root) = world();
        let faults = Faults::below(&root, Fault::PowerCut { at: usize::MAX }).unwrap();
        let (folder, gone) = (root.join("inner/new"), root.join("gone"));
        fs::create_dir(&folder).unwrap();
        let file = fs::File::create_new(&folder.join("file")).unwrap();
        file.set_len(3).unwrap();
        file.write_all_at(b"ab", 1).unwrap();
        file.sync().unwrap();
        fs::rename(&root.join("old"), &gone).unwrap();
        for folder in [&folder, &root.join("inner"), &root] {
            fsync_dir(folder).unwrap();
        }
        faults.crash(lost).unwrap();
        let expected = [("gone", "old"), ("inner/new/file", "\0ab")];
        assert!(is(&root, &expected), "{lost:?}: {:?}", contents(&root));
    }
}

#[test]
fn a_change_fails_as_told_and_is_counted() {
    for failure in Failure::ALL {
        for then in [Then::Recovers, Then::StaysBroken] {
            let (_dir, root) = world();
            let fault = Fault::Error {
                at: 1,
                failure,
                then,
            };
            let faults = Faults::below(&root, fault).unwrap();
            let file = fs::File::create_new(&root.join("file")).unwrap();
            let error = file.write_all_at(b"0123456789abcdefghij", 0).unwrap_err();
            assert_eq!(error.kind(), failure.error().kind());
            assert!(faults.struck());
            assert_eq!(file.sync().is_ok(), then == Then::Recovers);
            assert_eq!(faults.points(), ["create file", "write file", "sync file"]);
            assert_eq!(std::fs::read(root.join("file")).unwrap(), b"01234567");
        }
    }
}

#[test]
fn only_the_watched_folder_is_concerned() {
    let (_dir, root) = world();
    let (_other_dir, other) = world();
    let faults = Faults::below(&root, Fault::PowerCut { at: 0 }).unwrap();
    fs::remove_file(&other.join("old")).unwrap();
    fs::remove_file(&root.join("old")).unwrap_err();
    assert!(root.join("old").exists() && !other.join("old").exists());
    drop(faults);
    fs::remove_file(&root.join("old")).unwrap();
}

//! Every change that the library makes to a file system goes through `stratavm_disk::fs`: the
//! sources of both crates are searched for calls of the standard library that change something.
//!
//! Left out are the layer itself, the test kit, and tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

const LEFT_OUT: [&str; 2] = ["disk/src/fs/", "src/testkit/"];

/// Functions of `std::fs` that change something.
const FUNCTIONS: [&str; 11] = [
    "copy",
    "create_dir",
    "create_dir_all",
    "hard_link",
    "remove_dir",
    "remove_dir_all",
    "remove_file",
    "rename",
    "set_permissions",
    "soft_link",
    "write",
];

/// Ways of `std::fs::File` to get at a file that can be changed.
const CONSTRUCTORS: [&str; 4] = ["create", "create_new", "create_buffered", "options"];

/// Names that nobody needs who changes nothing.
const NAMES: [&str; 7] = [
    "OpenOptions",
    "DirBuilder",
    "sync_all",
    "sync_data",
    "set_times",
    "fs::symlink(",
    "fs::symlink_file(",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// What of a source is no test: tests stand at the end.
fn without_tests(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
    let end = lines.windows(2).position(begins).unwrap_or(lines.len());
    lines[..end].join("\n")
}

/// The calls in `text` that change something behind the layer's back.
fn offences(text: &str) -> Vec<String> {
    // What the file means by a bare `fs` and `File`: the standard library's only if it says so.
    let imports = |name: &str| {
        text.lines().any(|line| {
            let used = line.strip_prefix("use std::fs");
            used.is_some_and(|used| match name {
                "fs" => used == ";" || used.contains("self"),
                other => used.contains(other),
            })
        })
    };
    let (std_fs, std_file) = (imports("fs"), imports("File"));
    let mut found = Vec::new();
    let mut look = |needle: String, allowed: &dyn Fn(&str) -> bool| {
        for (at, _) in text.match_indices(&needle) {
            let before = &text[..at];
            let word = before.chars().next_back();
            let part_of_a_word = word.is_some_and(|c| c.is_alphanumeric() || c == '_');
            if !part_of_a_word && !allowed(before) {
                let line = before.lines().count();
                found.push(format!("line {line}: {needle}"));
            }
        }
    };
    for function in FUNCTIONS {
        look(format!("fs::{function}("), &|before| {
            !before.ends_with("std::") && (!std_fs || before.ends_with("stratavm_disk::"))
        });
    }
    for constructor in CONSTRUCTORS {
        look(
            format!("File::{constructor}("),
            &|before| match before.ends_with("fs::") {
                true if before.ends_with("stratavm_disk::fs::") => true,
                true => !before.ends_with("std::fs::") && !std_fs,
                false => !std_file,
            },
        );
    }
    for name in NAMES {
        look(name.to_owned(), &|_| false);
    }
    found
}

#[test]
fn no_change_goes_around_the_file_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "disk/src"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 80, "{} sources", files.len());
    let mut bad = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        let name = name.replace('\\', "/");
        if LEFT_OUT.iter().any(|left_out| name.starts_with(left_out)) {
            continue;
        }
        let text = without_tests(&fs::read_to_string(&path).unwrap());
        let offences = offences(&text).into_iter();
        bad.extend(offences.map(|offence| format!("{name}, {offence}")));
    }
    assert!(bad.is_empty(), "use stratavm_disk::fs:\n{}", bad.join("\n"));
}

#[test]
fn the_search_finds_what_it_is_for() {
    for bad in [
        "use std::fs;\nfn f() { fs::write(a, b); }",
        "fn f() { std::fs::rename(a, b); }",
        "use std::fs::File;\nfn f() { File::create(a); }",
        "use std::fs::OpenOptions;",
        "fn f() { file.sync_all(); }",
        "use stratavm_disk::fs;\nfn f() { std::fs::remove_file(a); }",
        "fn f() { std::os::unix::fs::symlink(a, b); }",
        "use std::fs::{self, File};\nfn f() { fs::File::create_new(a); }",
    ] {
        assert!(!offences(bad).is_empty(), "{bad}");
    }
    for good in [
        "use stratavm_disk::fs;\nfn f() { fs::rename(a, b); }",
        "fn f() { stratavm_disk::fs::rename(a, b); std::fs::read(a); }",
        "use stratavm_disk::fs::{self, File};\nfn f() { File::create_new(a); }",
        "use std::fs;\nfn f() { fs::read_dir(a); }",
    ] {
        assert_eq!(offences(good), Vec::<String>::new(), "{good}");
    }
}

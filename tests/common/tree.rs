//! Whole folders: copied as a person does it by hand, and held against what they were. Holds no test.
#![allow(dead_code, reason = "not every test uses every part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Copies a folder with all that is in it; files keep their modes, folders get the usual one.
pub(crate) fn copy(from: &Path, to: &Path) {
    copy_and(from, to, &|_, _| {});
}

/// The same; `made` hears of each file and folder where it was and where it is now, folders before what is in them.
pub(crate) fn copy_and(from: &Path, to: &Path, made: &dyn Fn(&Path, &Path)) {
    fs::create_dir_all(to).unwrap();
    made(from, to);
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_and(&path, &target, made);
        } else {
            fs::copy(&path, &target).unwrap();
            made(&path, &target);
        }
    }
}

/// Every file and folder below a folder.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = walk(folder);
    found.retain(|path| !path.is_dir());
    found
}

/// The same without locks, which come and go and are empty.
pub(crate) fn files_but_locks(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| !is_lock(path));
    found
}

/// Every file below a folder, by its path and content.
pub(crate) fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder).into_iter().map(with_content).collect()
}

/// The same without locks.
pub(crate) fn snapshot_but_locks(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_but_locks(folder)
        .into_iter()
        .map(with_content)
        .collect()
}

/// Whether a file is a lock, by its name.
pub(crate) fn is_lock(path: &Path) -> bool {
    path.to_str().unwrap().ends_with("lock")
}

fn with_content(path: PathBuf) -> (PathBuf, Vec<u8>) {
    let content = fs::read(&path).unwrap();
    (path, content)
}

//! Everything that can be wrong with an image, with what it names, and with the place where a new one is to stand: each is
//! refused with its kind, the file and where there is one the byte at fault, and nothing stands under the target's name.
//!
//! `contents` has images that are damaged or not to be read, `references` what they name, `links` what they lie on,
//! `targets` the other side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unused_crate_dependencies
)]

#[path = "../common/mod.rs"]
mod common;
mod contents;
mod links;
mod references;
#[path = "../../../tests/common/report.rs"]
mod report;
mod targets;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use stratavm_disk::{
    Access, Below, Chain, ConvertOptions, Ctx, Error, ErrorKind, Format, Gate, Result, Target,
    flatten,
};
use uuid::Uuid;

/// Opens an image with a gate that allows what lies beside it, and copies all of it into a new one.
fn copied(path: &Path, format: Format) -> Result<()> {
    copied_by(path, format, &Below::beside(path)?)
}

/// The same with another gate. Where it fails, nothing is left of the new image.
fn copied_by(path: &Path, format: Format, gate: &dyn Gate) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new.vmdk");
    let copy = || {
        let chain = Chain::open(path, format, Access::Read, gate)?;
        flatten(&chain, &target, Target::Vmdk, &options(), &Ctx::none())
    };
    let copied = copy();
    if copied.is_err() {
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{copied:?}"
        );
    }
    copied.map(drop)
}

fn options() -> ConvertOptions {
    ConvertOptions::new(Uuid::from_u128(77))
}

/// An error of this kind that names this file, and says these words.
fn is_refused(
    what: &str,
    found: Result<()>,
    kind: ErrorKind,
    file: &Path,
    words: &[&str],
) -> Error {
    let error = found.expect_err(what);
    assert_eq!(error.kind(), kind, "{what}: {error}");
    let same = |path: &Path| path == file || fs::canonicalize(file).is_ok_and(|f| f == path);
    assert!(error.path().is_some_and(same), "{what}: {error}");
    for word in words {
        assert!(
            error.to_string().contains(word),
            "{what}: no {word:?} in {error}"
        );
    }
    error
}

/// What never ends fails here, instead of keeping the test.
fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    let ended = receive.recv_timeout(Duration::from_secs(60));
    ended.unwrap_or_else(|_| panic!("{what} hangs, or has panicked"))
}

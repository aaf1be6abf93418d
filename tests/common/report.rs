//! How a test reports what a program that is not ours read or ran, and what could not run: one line each, appended to
//! the file that `STRATAVM_REPORT` names, which `cargo xtask test` makes its closing table of. Without that variable
//! nothing is written. Other packages' tests use it by `#[path = "../../../tests/common/report.rs"] mod report;`.
//!
//! A line is `phase TAB reader TAB what TAB ok|skip|blind|count TAB reason`; keep `what` to a kind ("vmx", "vmdk chain"), so that
//! the table counts instead of listing.
#![allow(dead_code, reason = "not every test uses every part")]

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// `reader` read or ran `what`, and agreed.
pub(crate) fn ran(reader: &str, what: &str) {
    append(reader, what, "ok", "");
}

/// `reader` is not there to read `what`. Where skips are failures (`cargo xtask test --strict`), this fails the test.
pub(crate) fn skip(reader: &str, what: &str, reason: &str) {
    append(reader, what, "skip", reason);
    println!("SKIP {reader} of {what}: {reason}");
    assert!(
        env::var_os("STRATAVM_STRICT").is_none(),
        "{reader} of {what} skipped: {reason}"
    );
}

/// What `reader` cannot see, and why.
pub(crate) fn blind(reader: &str, what: &str, why: &str) {
    append(reader, what, "blind", why);
}

/// `test` went through `count` cases of `what`, drawn from `seed` where they were drawn.
pub(crate) fn counted(test: &str, what: &str, count: u64, seed: Option<u64>) {
    let seed = seed.map_or(String::new(), |seed| format!(" seed {seed}"));
    append(test, what, "count", &format!("{count}{seed}"));
    println!("{test}: {count} {what}{seed}");
}

/// Whether everything is to be run in full: `cargo xtask test --slow`.
pub(crate) fn slow() -> bool {
    env::var_os("STRATAVM_SLOW").is_some()
}

/// The seed of drawn values: what `STRATAVM_SEED` says, so that a failure can be repeated, or `usual`.
pub(crate) fn seed(usual: u64) -> u64 {
    let Ok(text) = env::var("STRATAVM_SEED") else {
        return usual;
    };
    let number = text.parse();
    assert!(number.is_ok(), "STRATAVM_SEED is no number: {text:?}");
    number.unwrap_or(usual)
}

fn append(reader: &str, what: &str, how: &str, reason: &str) {
    let Some(path) = env::var_os("STRATAVM_REPORT") else {
        return;
    };
    let phase = env::var("STRATAVM_PHASE").unwrap_or_else(|_| "unit".into());
    let fields = [&phase, reader, what, how, reason].map(|field| field.replace(['\t', '\n'], " "));
    let line = format!("{}\n", fields.join("\t"));
    // One write of a short line in append mode: tests run in parallel.
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    assert!(
        written.is_ok(),
        "cannot append to {}: {written:?}",
        path.display()
    );
}

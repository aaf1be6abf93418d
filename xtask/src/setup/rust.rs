//! Tools that come from crates.io, under the build folder.

use std::path::PathBuf;
use std::process::Command;

use super::find_program;
use crate::exec::{self, Error};
use crate::workspace;

const CARGO_FUZZ: &str = "0.13.2";

/// The `cargo-fuzz` program: the user's own, else one under the build folder, built when it is not there.
pub(crate) fn cargo_fuzz() -> Result<PathBuf, Error> {
    if let Some(program) = find_program("cargo-fuzz") {
        return Ok(program);
    }
    let tools = workspace::target().join("tools");
    let program = tools.join(if cfg!(windows) {
        "bin/cargo-fuzz.exe"
    } else {
        "bin/cargo-fuzz"
    });
    if !program.exists() {
        println!("setup: building cargo-fuzz {CARGO_FUZZ}: drives the fuzz targets");
        let mut install = workspace::cargo();
        install.args([
            "install",
            "--quiet",
            "--locked",
            "--version",
            CARGO_FUZZ,
            "--root",
        ]);
        // A build folder of its own keeps the workspace's free of another package's profile.
        install
            .arg(&tools)
            .args(["--target-dir".as_ref(), tools.join("build").as_os_str()]);
        exec::output(install.arg("cargo-fuzz"))?;
    }
    Ok(program)
}

/// Whether rustup has a nightly toolchain; without one, stable is told to take nightly's flags.
pub(crate) fn has_nightly() -> bool {
    exec::output(Command::new("rustup").args(["toolchain", "list"]))
        .is_ok_and(|listed| listed.lines().any(|line| line.starts_with("nightly")))
}

/// Whether that toolchain can run Miri.
pub(crate) fn has_miri() -> bool {
    let mut list = Command::new("rustup");
    list.args(["component", "list", "--toolchain", "nightly", "--installed"]);
    exec::output(&mut list).is_ok_and(|listed| listed.lines().any(|line| line.starts_with("miri")))
}

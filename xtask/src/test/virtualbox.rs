//! Where the tests of the real VirtualBox run: here if it is installed, else in its rig.

use std::env;
use std::path::PathBuf;

use crate::exec::Error;
use crate::rig::Rig;
use crate::setup;

/// What cargo must be told so that it runs test programs where VirtualBox is: nothing if that is here.
pub(super) fn runner() -> Result<Vec<String>, Error> {
    if let Some(place) = installed() {
        println!("VirtualBox is installed: {place}");
        return Ok(Vec::new());
    }
    let rig = Rig::ready()?;
    println!("in the rig {}:\n{}", rig.root().display(), rig.versions()?);
    let program = env::current_exe().map_err(|error| Error::new(format!("xtask: {error}")))?;
    let runner = [
        &program.to_string_lossy(),
        "rig",
        "virtualbox",
        "--tidy",
        "--",
    ];
    // A list of JSON strings is one of TOML's.
    let runner = serde_json::to_string(&runner).map_err(|error| Error::new(error.to_string()))?;
    let setting = format!("target.'cfg(unix)'.runner={runner}");
    Ok(vec!["--config".into(), setting])
}

/// Where `tests/common/rig.rs` finds it, too.
fn installed() -> Option<String> {
    let told = env::var_os("VBOX_INSTALL_PATH").map(PathBuf::from);
    let folders = [
        "/opt/VirtualBox",
        "/Applications/VirtualBox.app/Contents/MacOS",
    ];
    let mut programs = told
        .into_iter()
        .chain(folders.map(PathBuf::from))
        .map(|folder| folder.join("VBoxManage"));
    let program = programs.find(|program| program.is_file());
    let program = program.or_else(|| setup::find_program("VBoxManage"));
    program.map(|program| program.display().to_string())
}

//! Where the tests of the real VirtualBox run: here if it is installed, else in its rig.

use std::env;
use std::path::Path;

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
    let folders = [
        "/opt/VirtualBox",
        "/Applications/VirtualBox.app/Contents/MacOS",
    ];
    let program = setup::find_program("VBoxManage").or_else(|| {
        let mut programs = folders
            .iter()
            .map(|folder| Path::new(folder).join("VBoxManage"));
        programs.find(|program| program.is_file())
    });
    program.map(|program| program.display().to_string())
}

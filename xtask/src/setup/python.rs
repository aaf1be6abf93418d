//! The virtual environment with the validators that come from PyPI, under the build folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Package, Probe, apt, find_program};
use crate::exec::{self, Error};
use crate::workspace;

/// The folder of the virtual environment.
pub(crate) fn venv() -> PathBuf {
    workspace::target().join("venv")
}

/// The interpreter with all of `tests/readers/requirements.txt`. Made anew when that file has changed.
pub(crate) fn ensure() -> Result<PathBuf, Error> {
    let list = workspace::root().join("tests/readers/requirements.txt");
    let wanted = fs::read_to_string(&list)
        .map_err(|error| Error::new(format!("{}: {error}", list.display())))?;
    let venv = venv();
    let python = interpreter(&venv);
    let stamp = venv.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.exists() {
        return Ok(python);
    }
    println!(
        "setup: making {}: parsers of others that read back what is written",
        venv.display()
    );
    let host = host_python()?;
    exec::output(
        Command::new(&host)
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    exec::output(pip.args(["--prefer-binary", "--requirement"]).arg(&list))?;
    fs::write(&stamp, wanted)
        .map_err(|error| Error::new(format!("{}: {error}", stamp.display())))?;
    Ok(python)
}

fn interpreter(venv: &Path) -> PathBuf {
    if cfg!(windows) {
        venv.join("Scripts/python.exe")
    } else {
        venv.join("bin/python")
    }
}

/// A Python that can make virtual environments: Debian ships the module apart from the interpreter.
fn host_python() -> Result<PathBuf, Error> {
    let usable = || {
        let python = find_program(if cfg!(windows) { "python" } else { "python3" })?;
        exec::output(Command::new(&python).args(["-c", "import venv, ensurepip"])).ok()?;
        Some(python)
    };
    if let Some(python) = usable() {
        return Ok(python);
    }
    let why = "reads back what is written with parsers from PyPI";
    let probe = Probe::Program("python3");
    let refused = apt::install(&[Package {
        name: "python3-venv",
        probe,
        why,
    }])
    .err();
    usable().ok_or_else(|| {
        let reason = refused.map_or_else(String::new, |error| format!(": {error}"));
        Error::new(format!("no Python 3 with the venv module{reason}"))
    })
}

//! What the host adds to a plan's arguments before QEMU is started: accelerator, QMP sockets,
//! window, sound, and the UEFI firmware's files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stratavm::spec::Arch;
use stratavm::{Error, ErrorKind, Plan, Result};

use crate::accel::Finding;
use crate::argv::{list, path_text};
use crate::backend::{PRODUCT, Settings};
use crate::config::{APPEND, CONSOLE, FIRMWARE_CODE, FIRMWARE_VARS, SOUND};
use crate::endpoint::Sockets;
use crate::{control, detect, process};

/// How long QEMU may take to list what it has.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// Makes `plan` ready to be started on this host.
///
/// # Errors
/// `Invalid` for a plan that is not this backend's; `Unavailable` for what the host lacks.
pub(crate) fn ready(settings: &Settings, plan: &Plan, sockets: &Sockets) -> Result<Ready> {
    let arch = match plan.argv.first().map(String::as_str) {
        Some("qemu-system-x86_64") if plan.product == PRODUCT => Arch::X86_64,
        Some("qemu-system-aarch64") if plan.product == PRODUCT => Arch::Aarch64,
        _ => return Err(Error::invalid("this plan is not one of QEMU's")),
    };
    let found = detect::detect(&plan.argv[0], settings.folder.as_deref())?;
    let mut arguments = plan.argv[1..].to_vec();
    console_folder(&arguments)?;
    firmware(&mut arguments, &found.program, arch)?;
    if !arguments.iter().any(|argument| argument == "-display") {
        arguments.extend(["-display".to_owned(), window(&found.program)?]);
    }
    if arguments
        .iter()
        .any(|argument| argument.ends_with(&format!("audiodev={SOUND}")))
    {
        let driver = sound(&found.program)?;
        arguments.extend(["-audiodev".to_owned(), list(&driver, &[("id", SOUND)])]);
    }
    let choice = control::accelerator(settings, &found, arch, Finding::Known);
    arguments.extend(["-accel".to_owned(), choice.accelerator.to_owned()]);
    arguments.extend(sockets.arguments()?);
    // The processors wait for us: see `control::start`.
    arguments.push("-S".to_owned());
    let arguments = arguments.into_iter().map(OsString::from).collect();
    Ok(Ready {
        program: found.program,
        arguments,
    })
}

/// Makes the folder of the console's file, which QEMU itself does not.
fn console_folder(arguments: &[String]) -> Result<()> {
    let head = list("file", &[("id", CONSOLE), ("path", "")]);
    let Some(rest) = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix(&head))
    else {
        return Ok(());
    };
    let path = rest.strip_suffix(APPEND).unwrap_or(rest).replace(",,", ",");
    let Some(folder) = Path::new(&path).parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::io("the console's folder could not be made", folder, error))
}

/// Puts the installed firmware in, and a clean copy of its variables where the plan wants them: the
/// variables belong to the operating system's layer, which starts clean every time.
fn firmware(arguments: &mut [String], program: &Path, arch: Arch) -> Result<()> {
    let mut installed = None;
    for argument in arguments
        .iter_mut()
        .filter(|argument| argument.starts_with('{'))
    {
        let Ok(mut node) = serde_json::from_str::<Value>(argument) else {
            continue;
        };
        let name = node
            .get("node-name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if name != FIRMWARE_CODE && name != FIRMWARE_VARS {
            continue;
        }
        let (code, vars) = match &installed {
            Some(files) => files,
            None => installed.insert(detect::firmware(program, arch)?),
        };
        let Some(filename) = node.pointer_mut("/file/filename") else {
            continue;
        };
        if name == FIRMWARE_CODE {
            *filename = Value::from(path_text(code)?);
            *argument = node.to_string();
        } else if let Some(to) = filename.as_str() {
            copy(vars, Path::new(to))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let io = |what: &str, path: &Path, error| Error::io(what, path, error);
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| io("the folder could not be made", folder, error))?;
    }
    let bytes = std::fs::read(from)
        .map_err(|error| io("the firmware's variables could not be read", from, error))?;
    // Not a plain copy: the template is read-only, and so would be the copy. Of a file that is there
    // the name is taken first, so that a link in its place is not followed.
    let removed = std::fs::remove_file(to);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    removed
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| options.open(to))
        .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
        .map_err(|error| io("the firmware's variables could not be written", to, error))
}

/// The window system, the host's own first.
fn window(program: &Path) -> Result<String> {
    let known = if cfg!(target_os = "macos") {
        ["cocoa", "sdl"]
    } else {
        ["gtk", "sdl"]
    };
    pick(program, "-display", &known)?.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "this QEMU can show no window")
            .at(program)
            .next("set hardware.display = \"none\", or install the package qemu-system-gui")
    })
}

/// The sound system; silence where QEMU has none for this host.
fn sound(program: &Path) -> Result<String> {
    let known: &[&str] = if cfg!(target_os = "macos") {
        &["coreaudio"]
    } else if cfg!(windows) {
        &["dsound"]
    } else {
        &["pipewire", "pa", "alsa"]
    };
    Ok(pick(program, "-audiodev", known)?.unwrap_or_else(|| {
        tracing::warn!("this QEMU cannot play sound on this host");
        "none".to_owned()
    }))
}

/// The first of `known` that QEMU lists for `option`.
fn pick(program: &Path, option: &str, known: &[&str]) -> Result<Option<String>> {
    let listed = process::output(program, &[option.into(), "help".into()], LIST_LIMIT)?;
    let has = |name: &str| listed.lines().any(|line| line.trim() == name);
    Ok(known
        .iter()
        .find(|name| has(name))
        .map(|name| (*name).to_owned()))
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A QEMU that lists what it is told to.
    fn listing(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        std::fs::write(&program, format!("#!/bin/sh\ncat <<'END'\n{text}END\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, program)
    }

    #[test]
    fn the_hosts_window_and_sound_are_picked_from_what_qemu_lists() {
        let (_dir, qemu) = listing("Available display backend types:\nnone\nsdl\ncocoa\ngtk\n");
        let expected = if cfg!(target_os = "macos") {
            "cocoa"
        } else {
            "gtk"
        };
        assert_eq!(window(&qemu).unwrap(), expected);
        let (_dir, qemu) = listing("Available audio drivers:\nnone\nwav\n");
        assert_eq!(sound(&qemu).unwrap(), "none");
        let (_dir, qemu) = listing("Available display backend types:\nnone\ngtk-like\n");
        assert_eq!(window(&qemu).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

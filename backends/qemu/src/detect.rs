//! Finding QEMU on this host: the program, its version, its firmware files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use semver::Version;
use stratavm::spec::Arch;
use stratavm::{Error, ErrorKind, Result};

use crate::{known, process};

/// The oldest version that is driven: the machine types that plans name came with it, and it is
/// the oldest that our CI runs (Debian 12).
pub(crate) const MINIMUM: Version = Version::new(7, 2, 0);
/// How long `--version` may take; a cold disk or a virus scanner is slow.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// A QEMU that may be driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) program: PathBuf,
    pub(crate) version: Version,
}

/// Looks for the program `name`: where `folder` says, else on the `PATH`, else in the usual folders.
pub(crate) fn find(name: &str, folder: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = folder {
        return which::which_in(name, Some(folder), folder).ok();
    }
    which::which(name).ok().or_else(|| {
        let folders = usual_folders();
        let list = std::env::join_paths(&folders).ok()?;
        which::which_in(name, Some(list), folders.first()?).ok()
    })
}

/// Where installers and package managers put QEMU without adding it to the `PATH` of a program
/// started from a desktop.
fn usual_folders() -> Vec<PathBuf> {
    if cfg!(target_os = "macos") {
        // Homebrew on Apple silicon, Homebrew on Intel, MacPorts.
        ["/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin"]
            .map(PathBuf::from)
            .to_vec()
    } else if cfg!(windows) {
        let programs = ["ProgramW6432", "ProgramFiles"];
        programs
            .iter()
            .filter_map(std::env::var_os)
            .map(|p| PathBuf::from(p).join("qemu"))
            .collect()
    } else {
        ["/usr/bin", "/usr/local/bin", "/usr/libexec"]
            .map(PathBuf::from)
            .to_vec()
    }
}

/// The QEMU for guests of `arch`, with its version; asked once for each program and process.
///
/// # Errors
/// `Unavailable` if there is none, it does not run, or it is too old.
pub(crate) fn detect(name: &str, folder: Option<&Path>) -> Result<Found> {
    static KNOWN: Mutex<BTreeMap<PathBuf, Version>> = Mutex::new(BTreeMap::new());
    let program = find(name, folder).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("{name} was not found")).next("install QEMU")
    })?;
    let asked = process::lock(&KNOWN).get(&program).cloned();
    let version = match asked {
        Some(version) => version,
        None => {
            let version = match known::version(&program) {
                Some(version) => version,
                None => {
                    let version = ask_version(&program)?;
                    known::remember_version(&program, &version);
                    version
                }
            };
            process::lock(&KNOWN).insert(program.clone(), version.clone());
            version
        }
    };
    if version < MINIMUM {
        let message = format!("version {version} is too old: {MINIMUM} is needed");
        return Err(Error::new(ErrorKind::Unavailable, message)
            .at(program)
            .next("update QEMU"));
    }
    Ok(Found { program, version })
}

fn ask_version(program: &Path) -> Result<Version> {
    let text = process::output(program, &[OsString::from("--version")], VERSION_LIMIT)?;
    parse_version(&text).ok_or_else(|| {
        let said: String = process::last_lines(&text).chars().take(200).collect();
        let message = format!("this does not look like QEMU: {said}");
        Error::new(ErrorKind::Unavailable, message).at(program)
    })
}

/// The version in the answer to `--version`. What packagers append is left out.
fn parse_version(text: &str) -> Option<Version> {
    let (_, rest) = text.split_once("QEMU emulator version ")?;
    let number = rest
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    Version::parse(number).ok()
}

/// Firmware files as QEMU itself and the packages of distributions name them: code, variables.
const FIRMWARE: [(Arch, &str, &str); 6] = [
    (Arch::X86_64, "edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
    (Arch::X86_64, "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    (Arch::X86_64, "OVMF_CODE.fd", "OVMF_VARS.fd"),
    (Arch::Aarch64, "edk2-aarch64-code.fd", "edk2-arm-vars.fd"),
    (Arch::Aarch64, "AAVMF_CODE.fd", "AAVMF_VARS.fd"),
    (
        Arch::Aarch64,
        "QEMU_EFI-pflash.raw",
        "vars-template-pflash.raw",
    ),
];

/// The UEFI firmware for guests of `arch`: its code, and a clean copy of its variables.
///
/// # Errors
/// `Unavailable`, naming the package, if there is none.
pub(crate) fn firmware(program: &Path, arch: Arch) -> Result<(PathBuf, PathBuf)> {
    let folders = firmware_folders(program);
    let names = FIRMWARE.iter().filter(|(known, ..)| *known == arch);
    names
        .flat_map(|(_, code, vars)| folders.iter().map(move |f| (f.join(code), f.join(vars))))
        .find(|(code, vars)| code.is_file() && vars.is_file())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "no UEFI firmware for QEMU was found",
            )
            .at(program)
            .next("install the package ovmf (x86_64), qemu-efi-aarch64, or edk2")
        })
}

fn firmware_folders(program: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    // As installed by QEMU itself: PREFIX/share/qemu beside PREFIX/bin; on Windows `share`.
    let resolved = program.canonicalize();
    for program in [Some(program), resolved.as_deref().ok()]
        .into_iter()
        .flatten()
    {
        if let Some(folder) = program.parent() {
            folders.push(folder.join("../share/qemu"));
            folders.push(folder.join("share"));
        }
    }
    if cfg!(unix) {
        folders.extend(
            [
                "/usr/share/qemu",
                "/usr/share/OVMF",
                "/usr/share/edk2/x64",
                "/usr/share/edk2/ovmf",
                "/usr/share/AAVMF",
                "/usr/share/edk2/aarch64",
            ]
            .map(PathBuf::from),
        );
    }
    folders
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// First lines of real answers.
    const ANSWERS: [(&str, Option<Version>); 9] = [
        (
            "QEMU emulator version 2.11.1(Debian 1:2.11+dfsg-1ubuntu7.42)\n",
            Some(Version::new(2, 11, 1)),
        ),
        (
            "QEMU emulator version 4.2.1 (Debian 1:4.2-3ubuntu6.30)\n",
            Some(Version::new(4, 2, 1)),
        ),
        (
            "QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.24)\n",
            Some(Version::new(6, 2, 0)),
        ),
        (
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n\
             Copyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers\n",
            Some(Version::new(7, 2, 22)),
        ),
        (
            "QEMU emulator version 7.2.0 (v7.2.0-11948-ge6523b71fc-dirty)\r\n",
            Some(Version::new(7, 2, 0)),
        ),
        (
            "warning: x\nQEMU emulator version 10.0.2\n",
            Some(Version::new(10, 0, 2)),
        ),
        ("qemu-img version 7.2.22\n", None),
        ("QEMU emulator version seven\n", None),
        ("", None),
    ];

    #[test]
    fn versions_are_read_out_of_real_answers() {
        for (answer, version) in ANSWERS {
            assert_eq!(parse_version(answer), version, "{answer:?}");
        }
    }

    #[cfg(unix)]
    mod programs {
        use super::*;
        use std::os::unix::fs::PermissionsExt as _;

        fn fake(script: &str) -> tempfile::TempDir {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("qemu-fake");
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            dir
        }

        #[test]
        fn what_is_not_a_usable_qemu_is_told() {
            for (script, said) in [
                ("echo hello", "does not look like QEMU: hello"),
                ("echo 'QEMU emulator version 6.2.0'", "too old"),
                ("echo 'no display' >&2; exit 1", "no display"),
            ] {
                let dir = fake(script);
                let error = detect("qemu-fake", Some(dir.path())).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().contains(said), "{error}");
            }
            let dir = fake("echo 'QEMU emulator version 9.1.0'");
            let found = detect("qemu-fake", Some(dir.path())).unwrap();
            assert_eq!(found.version, Version::new(9, 1, 0));
            assert!(detect("qemu-none", Some(dir.path())).is_err());
        }
    }
}

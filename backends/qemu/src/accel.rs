//! Choosing an accelerator by trying it.
//!
//! That `/dev/kvm` can be opened says little: inside other virtual machines it may hang or abort
//! guests, or interpret them a hundred times slower than QEMU's own emulation does. So a guest of a
//! few instructions, which counts for a while and powers off, is run with a time limit. What does
//! not end well and in time is not used; emulation (TCG) always works.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use stratavm::spec::Arch;

use crate::argv::{list, path_text};
use crate::process::{Process, last_lines, lock};

/// How long the guest may take. A processor that runs it itself needs about 0.2 s with QEMU's start,
/// emulation 0.4 s; a KVM that interprets was seen to need about 40 s.
const LIMIT: Duration = Duration::from_secs(3);

/// An accelerator, by QEMU's name for it.
pub(crate) type Accelerator = &'static str;
/// Emulation.
pub(crate) const TCG: Accelerator = "tcg";

/// What was chosen and why others were not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) accelerator: Accelerator,
    /// One sentence for each accelerator that was tried in vain.
    pub(crate) refused: Vec<String>,
}

/// The accelerator for guests of `arch`; tried once for each program and process.
pub(crate) fn choose(program: &Path, arch: Arch) -> Choice {
    static KNOWN: Mutex<BTreeMap<PathBuf, Choice>> = Mutex::new(BTreeMap::new());
    // Held while trying: a second caller waits instead of trying as well.
    let mut known = lock(&KNOWN);
    known
        .entry(program.to_owned())
        .or_insert_with(|| try_all(program, arch, host()))
        .clone()
}

/// What the host's system offers, if guests of its own architecture are meant.
fn host() -> Option<(Arch, Accelerator)> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => Arch::X86_64,
        "aarch64" => Arch::Aarch64,
        _ => return None,
    };
    let accelerator = match std::env::consts::OS {
        "linux" => "kvm",
        "macos" => "hvf",
        "windows" => "whpx",
        _ => return None,
    };
    Some((arch, accelerator))
}

fn try_all(program: &Path, arch: Arch, host: Option<(Arch, Accelerator)>) -> Choice {
    let mut choice = Choice {
        accelerator: TCG,
        refused: Vec::new(),
    };
    if let Some((_, accelerator)) = host.filter(|(native, _)| *native == arch) {
        match probe(program, arch, accelerator, LIMIT) {
            Ok(()) => choice.accelerator = accelerator,
            Err(reason) => {
                tracing::warn!(accelerator, reason, "the accelerator is not used");
                choice
                    .refused
                    .push(format!("{accelerator} is not used: {reason}"));
            }
        }
    }
    choice
}

/// Runs the guest; what kept it from ending well is returned as a sentence.
fn probe(program: &Path, arch: Arch, accelerator: &str, limit: Duration) -> Result<(), String> {
    let mut guest = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    guest
        .write_all(&guest_bytes(arch))
        .map_err(|error| error.to_string())?;
    let path = path_text(guest.path()).map_err(|error| error.to_string())?;
    let mut arguments: Vec<String> = ["-nodefaults", "-no-user-config", "-display", "none"]
        .map(str::to_owned)
        .to_vec();
    arguments.extend(["-accel", accelerator, "-cpu", "max", "-m", "64"].map(str::to_owned));
    arguments.push("-no-reboot".to_owned());
    match arch {
        Arch::Aarch64 => {
            arguments
                .extend(["-machine", "virt,gic-version=max", "-kernel", path].map(str::to_owned));
        }
        _ => {
            arguments.extend(["-machine", "pc", "-drive"].map(str::to_owned));
            arguments.push(list(
                "",
                &[("file", path), ("format", "raw"), ("if", "ide")],
            ));
        }
    }
    let arguments: Vec<_> = arguments.into_iter().map(OsString::from).collect();
    let process = Process::spawn(program, &arguments).map_err(|error| error.to_string())?;
    match process.wait(limit) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!(
            "a test guest failed ({status}): {}",
            last_lines(&process.stderr())
        )),
        None => Err(format!(
            "a test guest did not end within {} s",
            limit.as_secs_f32()
        )),
    }
}

/// A guest that counts down from 2^26 and powers off.
fn guest_bytes(arch: Arch) -> Vec<u8> {
    match arch {
        Arch::Aarch64 => [
            0x52a0_8001_u32, // mov w1, #0x4000000
            0x7100_0421,     // subs w1, w1, #1
            0x54ff_ffe1,     // b.ne to the subs
            0x5280_0100,     // mov w0, #0x0008
            0x72b0_8000,     // movk w0, #0x8400, lsl #16: PSCI SYSTEM_OFF
            0xd400_0002,     // hvc #0
            0x1400_0000,     // b to itself
        ]
        .iter()
        .flat_map(|instruction| instruction.to_le_bytes())
        .collect(),
        _ => {
            let code = [
                0x66, 0xb9, 0x00, 0x00, 0x00, 0x04, // mov ecx, 0x4000000
                0x66, 0x49, // dec ecx
                0x75, 0xfc, // jnz to the dec
                0xba, 0x04, 0x06, // mov dx, 0x604: PM1 control
                0xb8, 0x00, 0x20, // mov ax, 0x2000: sleep enable, type 0 = soft off
                0xef, // out dx, ax
                0xfa, 0xf4, // cli; hlt
            ];
            let mut sector = vec![0; 512];
            sector[..code.len()].copy_from_slice(&code);
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            sector
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_hang_and_a_crash_fall_back_to_emulation() {
        let native = Some((Arch::X86_64, "kvm"));
        let choice = try_all(Path::new("false"), Arch::X86_64, native);
        assert_eq!(choice.accelerator, TCG);
        assert!(choice.refused[0].contains("failed"), "{choice:?}");
        let arguments_ignored = try_all(Path::new("true"), Arch::X86_64, native);
        assert_eq!(
            (
                arguments_ignored.accelerator,
                arguments_ignored.refused.len()
            ),
            ("kvm", 0)
        );
        let foreign = try_all(Path::new("true"), Arch::Aarch64, native);
        assert_eq!((foreign.accelerator, foreign.refused.len()), (TCG, 0));
    }

    /// The guests themselves are right: emulation runs them to their end.
    #[test]
    fn emulation_runs_the_guests() {
        for (arch, name) in [
            (Arch::X86_64, "qemu-system-x86_64"),
            (Arch::Aarch64, "qemu-system-aarch64"),
        ] {
            let Some(program) = crate::detect::find(name, None) else {
                let strict = std::env::var_os("STRATAVM_STRICT").is_some_and(|v| v == "1");
                assert!(!strict || arch == Arch::Aarch64, "{name} is not installed");
                let _ = writeln!(std::io::stderr(), "skipped: {name} is not installed");
                continue;
            };
            assert_eq!(
                probe(&program, arch, TCG, Duration::from_secs(120)),
                Ok(()),
                "{name}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_hanging_guest_is_ended() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let reason = probe(&program, Arch::X86_64, "kvm", Duration::from_millis(100));
        assert!(
            reason
                .as_ref()
                .is_err_and(|reason| reason.contains("did not end")),
            "{reason:?}"
        );
    }
}

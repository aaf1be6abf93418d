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
use std::time::{Duration, Instant};

use stratavm::spec::Arch;

use crate::argv::{list, path_text};
use crate::known;
use crate::process::{Process, last_lines, lock};

/// How long the guest may take. A processor that runs it itself needs about 0.2 s with QEMU's start,
/// emulation 0.4 s; a KVM that interprets was seen to need about 40 s.
const LIMIT: Duration = Duration::from_secs(3);

/// How often it is looked at while it runs.
const LOOK: Duration = Duration::from_millis(50);

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

/// Whether what was found out before is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// By this process or another one, not long ago.
    Known,
    /// Not for whoever asks what is wrong.
    Fresh,
}

/// The accelerator for guests of `arch`; tried once for each program and process, and not even that
/// where another process has tried it lately.
pub(crate) fn choose(program: &Path, arch: Arch, finding: Finding) -> Choice {
    static KNOWN: Mutex<BTreeMap<PathBuf, Choice>> = Mutex::new(BTreeMap::new());
    // Held while trying: a second caller waits instead of trying as well.
    let mut known = lock(&KNOWN);
    if let Some(choice) = known.get(program) {
        return choice.clone();
    }
    let remembered = match finding {
        Finding::Known => known::choice(program, arch),
        Finding::Fresh => None,
    };
    let choice = remembered.unwrap_or_else(|| {
        let choice = try_all(program, arch, host());
        known::remember_choice(program, arch, &choice);
        choice
    });
    known.insert(program.to_owned(), choice.clone());
    choice
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
            arguments.extend(["-machine", "pc", "-bios", path, "-device"].map(str::to_owned));
            arguments.push(list(
                "isa-debug-exit",
                &[("iobase", "0xf4"), ("iosize", "1")],
            ));
        }
    }
    let arguments: Vec<_> = arguments.into_iter().map(OsString::from).collect();
    let process = Process::spawn(program, &arguments).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match process.wait(left.min(LOOK)) {
            Some(status) if status.code() == Some(good_status(arch)) => return Ok(()),
            Some(status) => {
                let said = last_lines(&process.stderr());
                return Err(format!("a test guest failed ({status}): {said}"));
            }
            // QEMU stays, with the guest stopped for ever.
            None if process.stderr().contains("internal error") => {
                return Err("it cannot run a test guest (internal error)".to_owned());
            }
            None if left.is_zero() => {
                let seconds = limit.as_secs_f32();
                return Err(format!("a test guest did not end within {seconds} s"));
            }
            None => {}
        }
    }
}

/// QEMU's exit status when the guest comes to its end: isa-debug-exit makes `2 n + 1` of `n`.
const fn good_status(arch: Arch) -> i32 {
    match arch {
        Arch::Aarch64 => 0,
        _ => 0x21,
    }
}

/// A guest that counts down from 2^26 and ends. On x86 it takes an interrupt in protected mode
/// first, which a KVM that interprets was seen to fail at when a boot loader did it; and it is the
/// firmware itself, since SeaBIOS alone takes seconds on such a KVM.
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
                0xfa, // cli
                0xb8, 0x00, 0xf0, 0x8e, 0xd8, // mov ds, 0xf000
                0x66, 0x0f, 0x01, 0x16, 0x68, 0x00, // lgdt [0x68]
                0x66, 0x0f, 0x01, 0x1e, 0x6e, 0x00, // lidt [0x6e]
                0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, // cr0 |= protection
                0x66, 0xea, 0x22, 0x00, 0x0f, 0x00, 0x08, 0x00, // jmp 8:0xf0022
                0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xd0, // ds = ss = 0x10
                0xbc, 0x00, 0x70, 0x00, 0x00, // mov esp, 0x7000
                0xcd, 0x00, // int 0
                0xb9, 0x00, 0x00, 0x00, 0x04, // mov ecx, 0x4000000
                0x49, 0x75, 0xfd, // dec ecx; jnz to the dec
                0xb0, 0x10, 0xe6, 0xf4, // out 0xf4, 0x10
                0xf4, 0xeb, 0xfd, // hlt; jmp to the hlt
                0xcf, // 0x40: iret
                0, 0, 0, 0, 0, 0, 0, // up to 0x48
                0, 0, 0, 0, 0, 0, 0, 0, // 0x48: GDT; flat code and data
                0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0, //
                0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0, //
                0x40, 0x00, 0x08, 0x00, 0x00, 0x8e, 0x0f,
                0x00, // 0x60: IDT; gate to 8:0xf0040
                0x17, 0x00, 0x48, 0x00, 0x0f, 0x00, // 0x68: GDT register
                0x07, 0x00, 0x60, 0x00, 0x0f, 0x00, // 0x6e: IDT register
            ];
            let mut rom = vec![0; 64 << 10];
            rom[..code.len()].copy_from_slice(&code);
            rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0x00, 0x00, 0x00, 0xf0]); // jmp f000:0
            rom
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
        let unasked = try_all(Path::new("true"), Arch::X86_64, native);
        assert_eq!(unasked.accelerator, TCG, "a success that no guest reported");
        let dir = tempfile::tempdir().unwrap();
        let good = script(dir.path(), "exit 33");
        let arguments_ignored = try_all(&good, Arch::X86_64, native);
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
        let dir = tempfile::tempdir().unwrap();
        let hang = script(dir.path(), "exec sleep 600");
        let reason = probe(&hang, Arch::X86_64, "kvm", Duration::from_millis(100));
        assert!(
            reason
                .as_ref()
                .is_err_and(|reason| reason.contains("did not end")),
            "{reason:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_guest_that_was_stopped_for_ever_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let stopped = script(
            dir.path(),
            "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 600",
        );
        let reason = probe(&stopped, Arch::X86_64, "kvm", Duration::from_secs(600));
        assert!(reason.unwrap_err().contains("internal error"));
    }

    #[cfg(unix)]
    fn script(dir: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let program = dir.join("qemu");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }
}

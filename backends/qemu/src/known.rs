//! What was found out about a QEMU before, kept for other processes of this user: asking for its
//! version and trying accelerators takes longer than all the rest of a start.
//!
//! It is a cache: whatever is missing, damaged, older than a day, or of another program file, boot
//! of the host or access to the accelerator counts for nothing, and is found out again. Only on
//! Linux, which says which boot this is; and only for programs, since a script may start another
//! QEMU tomorrow.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use semver::Version;
use serde_json::{Map, Value, json};
use stratavm::spec::Arch;

use crate::accel::{Accelerator, Choice, TCG};

/// How long a finding counts.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// How many programs are remembered.
const MOST: usize = 16;
/// Longest file that is read, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// The version that was found, if the program is still the same.
pub(crate) fn version(program: &Path) -> Option<Version> {
    let entry = Place::of(program)?.entry()?;
    Version::parse(entry.get("version")?.as_str()?).ok()
}

/// The accelerator that was chosen for guests of `arch`.
pub(crate) fn choice(program: &Path, arch: Arch) -> Option<Choice> {
    let entry = Place::of(program)?.entry()?;
    let found = entry.get(accelerator_key(arch))?;
    let name = found.get("accelerator")?.as_str()?;
    let refused = found.get("refused")?.as_array()?;
    let refused = refused.iter().filter_map(Value::as_str).map(str::to_owned);
    Some(Choice {
        accelerator: named(name)?,
        refused: refused.collect(),
    })
}

/// Remembers a version.
pub(crate) fn remember_version(program: &Path, version: &Version) {
    remember(program, "version", json!(version.to_string()));
}

/// Remembers a choice.
pub(crate) fn remember_choice(program: &Path, arch: Arch, choice: &Choice) {
    let value = json!({"accelerator": choice.accelerator, "refused": choice.refused});
    remember(program, accelerator_key(arch), value);
}

fn remember(program: &Path, key: &str, value: Value) {
    if let Some(place) = Place::of(program)
        && let Err(error) = place.set(key, value)
    {
        tracing::debug!(%error, "what was found out about QEMU is not remembered");
    }
}

const fn accelerator_key(arch: Arch) -> &'static str {
    match arch {
        Arch::Aarch64 => "aarch64",
        _ => "x86_64",
    }
}

fn named(name: &str) -> Option<Accelerator> {
    [TCG, "kvm"].into_iter().find(|known| *known == name)
}

/// The entry of one program, as it is now, in the file of all.
struct Place {
    file: PathBuf,
    key: String,
}

impl Place {
    fn of(program: &Path) -> Option<Self> {
        Some(Self {
            file: cache_folder()?.join("stratavm").join("qemu.json"),
            key: key_of(program)?,
        })
    }

    fn all(&self) -> Option<Map<String, Value>> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&self.file).ok()?;
        file.take(MAX_LEN).read_to_end(&mut bytes).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(all)) => Some(all),
            _ => None,
        }
    }

    fn entry(&self) -> Option<Map<String, Value>> {
        let mut all = self.all()?;
        let Some(Value::Object(entry)) = all.remove(&self.key) else {
            return None;
        };
        is_young(&entry).then_some(entry)
    }

    /// Adds to the entry by replacing the whole file. Of two processes at once one may win: the
    /// other's finding is found out again.
    fn set(&self, key: &str, value: Value) -> std::io::Result<()> {
        let mut entry = self.entry().unwrap_or_default();
        entry.entry("found").or_insert_with(|| json!(now()));
        entry.insert(key.to_owned(), value);
        let mut all = self.all().unwrap_or_default();
        all.retain(|_, old| old.as_object().is_some_and(is_young));
        while all.len() >= MOST {
            let first = all.keys().next().cloned().unwrap_or_default();
            all.remove(&first);
        }
        all.insert(self.key.clone(), Value::Object(entry));
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let new = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&new, &Value::Object(all))?;
        new.persist(&self.file)?;
        Ok(())
    }
}

/// Whether an entry was made in the last day, by a clock that has not jumped back since.
fn is_young(entry: &Map<String, Value>) -> bool {
    let found = entry.get("found").and_then(Value::as_u64);
    let age = found.and_then(|found| now().checked_sub(found));
    age.is_some_and(|age| age < AGE.as_secs())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The user's folder for what can be found out again (XDG Base Directory Specification).
#[cfg(target_os = "linux")]
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

#[cfg(not(target_os = "linux"))]
fn cache_folder() -> Option<PathBuf> {
    None
}

/// Everything that a finding depends on.
#[cfg(target_os = "linux")]
fn key_of(program: &Path) -> Option<String> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let path = program.canonicalize().ok()?;
    let mut file = std::fs::File::open(&path).ok()?;
    let found = file.metadata().ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    if magic != *b"\x7fELF" {
        return None;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let kvm = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    let kvm = kvm.map_or_else(|error| error.kind().to_string(), |_| "open".to_owned());
    Some(format!(
        "{} {} {} {}.{} {} kvm {kvm} by {}",
        path.to_str()?,
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
        boot.trim(),
        env!("CARGO_PKG_VERSION"),
    ))
}

#[cfg(not(target_os = "linux"))]
fn key_of(_: &Path) -> Option<String> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(folder: &Path, program: &Path) -> Place {
        Place {
            file: folder.join("stratavm/qemu.json"),
            key: key_of(program).unwrap(),
        }
    }

    #[test]
    fn a_finding_is_remembered_for_the_very_program() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        std::fs::write(&program, b"\x7fELF of the first").unwrap();
        let first = place(dir.path(), &program);
        assert!(first.entry().is_none());
        first.set("version", json!("7.2.0")).unwrap();
        first.set("x86_64", json!({"accelerator": "tcg"})).unwrap();
        assert_eq!(first.entry().unwrap()["version"], "7.2.0");
        assert_eq!(first.entry().unwrap()["x86_64"]["accelerator"], "tcg");
        std::fs::write(&program, b"\x7fELF of another one").unwrap();
        assert!(place(dir.path(), &program).entry().is_none());
    }

    #[test]
    fn a_script_is_never_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("qemu");
        std::fs::write(&script, "#!/bin/sh\nexec qemu-7 \"$@\"\n").unwrap();
        assert_eq!(key_of(&script), None);
    }

    #[test]
    fn what_is_damaged_old_or_of_the_future_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        std::fs::write(&program, b"\x7fELF").unwrap();
        let place = place(dir.path(), &program);
        place.set("version", json!("7.2.0")).unwrap();
        for found in [
            json!(0),
            json!(now() - AGE.as_secs()),
            json!(now() + 60),
            json!("x"),
        ] {
            let all = json!({ place.key.clone(): {"found": found, "version": "7.2.0"} });
            std::fs::write(&place.file, all.to_string()).unwrap();
            assert!(place.entry().is_none(), "{found}");
        }
        for text in ["", "[]", "{\"", "null"] {
            std::fs::write(&place.file, text).unwrap();
            assert!(place.entry().is_none(), "{text}");
            place.set("version", json!("8.0.0")).unwrap();
            assert_eq!(place.entry().unwrap()["version"], "8.0.0");
        }
    }

    #[test]
    fn only_so_many_programs_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..MOST + 4 {
            let program = dir.path().join(format!("qemu-{number}"));
            std::fs::write(&program, b"\x7fELF").unwrap();
            let place = place(dir.path(), &program);
            place.set("version", json!("7.2.0")).unwrap();
            assert!(place.all().unwrap().len() <= MOST);
            assert!(place.entry().is_some());
        }
    }
}

//! A folder that behaves as FAT32 and exFAT do, whatever the host's volume is: no links, no modes, no holes, no shared
//! blocks, small files, folded case, forbidden names.
//!
//! It holds for what goes through the file layer of this process. Reading a folder or a file's length needs no layer and
//! is the host's; what other programs write is not held to the rules. Room is accounted for, not taken: a file that the
//! host keeps with holes takes all of its length here.

use super::super::change::Change;
use super::super::{Identity, sys};
use super::registry::Registry;
use crate::volume::RenameOverOpen;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a file's room is a multiple of, in bytes: the usual cluster of large FAT32 volumes.
const CLUSTER: u64 = 32 << 10;

/// Longest name, in UTF-16 units.
const LONGEST_NAME: usize = 255;

/// What becomes of a mode that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Modes {
    /// `EPERM`.
    Refused,
    /// Success, and nothing has changed.
    Ignored,
}

/// In what volumes of this kind differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FatRules {
    /// Largest file in bytes; `None` if there is no limit that matters.
    pub max_file: Option<u64>,
    /// What becomes of modes.
    pub modes: Modes,
    /// The permission bits that every file and folder has.
    pub mode: u32,
    /// Whether a file takes the name of one that this process has open; known on Linux, else taken for allowed.
    pub rename_over_open: RenameOverOpen,
}

impl FatRules {
    /// FAT32: files up to 4 GiB less 1 byte; nobody is let change a mode, or replace an open file.
    #[must_use]
    pub fn fat32() -> FatRules {
        FatRules {
            max_file: Some(u64::from(u32::MAX)),
            modes: Modes::Refused,
            mode: 0o755,
            rename_over_open: RenameOverOpen::Refused,
        }
    }

    /// exFAT as `exfat-fuse` mounts it: modes are set without effect, everybody may do everything.
    #[must_use]
    pub fn exfat() -> FatRules {
        FatRules {
            max_file: None,
            modes: Modes::Ignored,
            mode: 0o777,
            rename_over_open: RenameOverOpen::Allowed,
        }
    }
}

/// Has a folder behave so for as long as it lives.
#[derive(Debug)]
pub struct FatVolume(Arc<Emulated>);

#[derive(Debug)]
struct Emulated {
    root: PathBuf,
    rules: FatRules,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The files that were made on it, by what an open file tells of itself, and where they are now.
    files: HashMap<Identity, PathBuf>,
    refused: Vec<String>,
}

static VOLUMES: Registry<Emulated> = Registry::new();

impl FatVolume {
    /// Has `root`, an absolute path as callers of the layer write it, be the top of such a volume. What is in it already
    /// stays as it is.
    #[must_use]
    pub fn at(root: &Path, rules: FatRules) -> FatVolume {
        let emulated = Arc::new(Emulated {
            root: root.to_owned(),
            rules,
            state: Mutex::default(),
        });
        VOLUMES.add(&emulated);
        FatVolume(emulated)
    }

    /// What was refused so far: the change, the place below the folder, and why.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.0.state().refused.clone()
    }
}

impl Drop for FatVolume {
    fn drop(&mut self) {
        VOLUMES.remove(&self.0);
    }
}

impl Emulated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, change: &Change<'_>) -> io::Result<()> {
        let refusal = match change {
            Change::CreateFile(path) | Change::CreateDir(path) | Change::OpenLock(path) => {
                self.refuses_name(path)
            }
            Change::Rename { to, .. } => self.refuses_name(to).or_else(|| self.refuses_over(to)),
            Change::Write { at, bytes, .. } => self.refuses_length(*at + bytes.len() as u64),
            Change::Copy { at, len, .. } => self.refuses_length(*at + *len),
            Change::SetLen { len, .. } => self.refuses_length(*len),
            Change::SetAccess(_) if self.rules.modes == Modes::Refused => {
                Some((io::ErrorKind::PermissionDenied, "the volume has no modes"))
            }
            Change::Link(_) => Some((io::ErrorKind::PermissionDenied, "the volume has no links")),
            _ => None,
        };
        if let Some((kind, why)) = refusal {
            let line = format!("{}: {why}", change.describe(&self.root));
            self.state().refused.push(line);
            return Err(io::Error::new(kind, why));
        }
        Ok(())
    }

    fn done(&self, change: &Change<'_>) -> io::Result<()> {
        match change {
            Change::CreateFile(path) | Change::OpenLock(path) => {
                let path = found_as(path);
                let file = sys::open_no_link(&path, File::options().read(true))?;
                let identity = sys::identity(&file)?;
                self.give_mode(&path)?;
                self.state().files.insert(identity, path.into_owned());
                Ok(())
            }
            Change::CreateDir(path) | Change::SetAccess(path) => self.give_mode(&found_as(path)),
            Change::Rename { from, to } => {
                let to = found_as(to);
                for path in self.state().files.values_mut() {
                    if let Ok(below) = path.strip_prefix(from) {
                        *path = match below.as_os_str().is_empty() {
                            true => to.to_path_buf(),
                            false => to.join(below),
                        };
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[cfg(unix)]
    fn give_mode(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(self.rules.mode))
    }

    #[cfg(not(unix))]
    fn give_mode(&self, path: &Path) -> io::Result<()> {
        let mut permissions = path.metadata()?.permissions();
        sys::set_access(&mut permissions, super::super::Access::Private);
        std::fs::set_permissions(path, permissions)
    }

    fn refuses_length(&self, len: u64) -> Option<Refusal> {
        let most = self.rules.max_file?;
        (len > most).then_some((
            io::ErrorKind::FileTooLarge,
            "the volume has no files as large",
        ))
    }

    fn refuses_name(&self, path: &Path) -> Option<Refusal> {
        let mut parts = path.strip_prefix(&self.root).ok()?.components();
        let good = parts.all(|part| match part {
            Component::Normal(name) => name.to_str().is_some_and(is_name),
            _ => true,
        });
        (!good).then_some((io::ErrorKind::InvalidInput, "the volume has no such names"))
    }

    fn refuses_over(&self, path: &Path) -> Option<Refusal> {
        let refused = self.rules.rename_over_open == RenameOverOpen::Refused && is_open(path);
        refused.then_some((
            io::ErrorKind::PermissionDenied,
            "the file that would be replaced is open",
        ))
    }

    /// Whether it is a file of this volume, and still there: the number of one that is gone may be another's elsewhere.
    fn has(&self, identity: Identity) -> bool {
        let state = self.state();
        let path = state.files.get(&identity);
        path.is_some_and(|path| is_at(path, identity))
    }
}

#[cfg(unix)]
fn is_at(path: &Path, identity: Identity) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| sys::identity_in(&found) == identity)
}

#[cfg(not(unix))]
fn is_at(path: &Path, _: Identity) -> bool {
    path.exists()
}

type Refusal = (io::ErrorKind, &'static str);

/// Whether FAT can write the name down: Microsoft's "Naming Files, Paths, and Namespaces", and the long names of the FAT
/// specification.
fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c < ' ' || r#""*/:<>?\|"#.contains(c);
    !name.contains(forbidden)
        && !name.ends_with(['.', ' '])
        && name.encode_utf16().count() <= LONGEST_NAME
}

/// Whether this process has the file open.
#[cfg(target_os = "linux")]
fn is_open(path: &Path) -> bool {
    let Ok(path) = found_as(path).canonicalize() else {
        return false;
    };
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    open.flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
}

#[cfg(not(target_os = "linux"))]
fn is_open(_: &Path) -> bool {
    false
}

fn volume_of(path: &Path) -> Option<Arc<Emulated>> {
    VOLUMES.find(|volume| path.starts_with(&volume.root))
}

/// Makes a change, unless the volume that it is on refuses it.
pub(super) fn on_volume<T>(
    change: Change<'_>,
    act: impl FnOnce(Change<'_>) -> io::Result<T>,
) -> io::Result<T> {
    let Some(volume) = volume_of(change.path()) else {
        return act(change);
    };
    volume.judge(&change)?;
    let done = act(change)?;
    volume.done(&change)?;
    Ok(done)
}

/// The path with each part spelled as it is there in another case, where it is not there as it stands.
pub(in super::super) fn found_as(path: &Path) -> Cow<'_, Path> {
    let Some(volume) = volume_of(path) else {
        return Cow::Borrowed(path);
    };
    let Ok(below) = path.strip_prefix(&volume.root) else {
        return Cow::Borrowed(path);
    };
    let mut found = volume.root.clone();
    for part in below.components() {
        let exact = found.join(part);
        found = match exact.symlink_metadata() {
            Ok(_) => exact,
            Err(_) => folded(&found, part).unwrap_or(exact),
        };
    }
    Cow::Owned(found)
}

/// What is in `folder` and differs from `name` in case only.
fn folded(folder: &Path, name: Component<'_>) -> Option<PathBuf> {
    let name = name.as_os_str().to_str()?.to_lowercase();
    let mut entries = std::fs::read_dir(folder).ok()?.flatten();
    let same = |entry: &std::fs::DirEntry| {
        let other = entry.file_name();
        other
            .to_str()
            .is_some_and(|other| other.to_lowercase() == name)
    };
    entries.find(same).map(|entry| entry.path())
}

/// Whether files may be made to share blocks with this one.
pub(in super::super) fn may_share_blocks(file: &super::super::File) -> bool {
    volume_of(file.path()).is_none()
}

/// Whether the file is on a volume where no file has holes.
pub(in super::super) fn is_without_holes(file: &File) -> io::Result<bool> {
    if VOLUMES.find(|_| true).is_none() {
        return Ok(false);
    }
    let identity = sys::identity(file)?;
    Ok(VOLUMES.find(|volume| volume.has(identity)).is_some())
}

/// The bytes that a file takes on such a volume; `None` for one that is elsewhere.
pub(in super::super) fn allocated_in_full(found: &Metadata) -> Option<u64> {
    #[cfg(unix)]
    {
        let identity = sys::identity_in(found);
        VOLUMES.find(|volume| volume.has(identity))?;
        Some(found.len().next_multiple_of(CLUSTER))
    }
    #[cfg(not(unix))]
    {
        let _ = (found, CLUSTER);
        None
    }
}

// The host's own volume has to allow what is refused here.
#[cfg(all(test, unix))]
mod tests;

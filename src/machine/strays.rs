//! What lies in a machine's folder and is nobody's: files that its record does not name.
//!
//! Only finding them; removing is in [`crate::store`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::Files;
use super::folder::Machine;
use super::layer::RemovedLayer;
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Name;
use crate::store::{FileLock, allocated};

/// What the names of files start with that are to replace others.
const TEMPORARY: &str = ".stratavm-tmp-";

/// How long a machine may be busy with a change before it is left alone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How deep below a machine's folder products' files lie that we write.
const DEPTH: usize = 5;

/// What a machine's folder holds that nobody needs. As long as the lock is held nobody makes more.
pub(crate) enum Strays {
    /// The rest of a creation that was cut short: the whole folder.
    Unfinished { lock: FileLock },
    /// These files.
    Files { files: Vec<Stray>, lock: FileLock },
    /// Nothing that is ours to judge.
    Nothing,
}

/// A file that nobody needs.
pub(crate) struct Stray {
    pub(crate) path: PathBuf,
    /// It was to replace another file; else it is a file of a layer.
    pub(crate) temporary: bool,
}

impl Machine {
    /// Looks for files that nobody needs. While the machine runs only those count whose names are
    /// ours and that its record and its run do not name: products make files of their own there.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if the machine is being changed; what is wrong with its record.
    pub(crate) fn strays(&self) -> Result<Strays> {
        if !is_real_dir(&self.folder()) {
            return Ok(Strays::Nothing);
        }
        // A folder of somebody else gets no lock from us.
        let named = fs::symlink_metadata(self.folder().join("machine.json")).is_ok();
        if !named && !is_unfinished(&self.folder())? {
            return Ok(Strays::Nothing);
        }
        let lock = self.lock_patiently()?;
        match self.record() {
            Ok(record) => {
                let mut files = self.unnamed(&record)?;
                temporaries(&self.folder(), DEPTH, &mut files)?;
                files.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(Strays::Files { files, lock })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match is_unfinished(&self.folder())? {
                    true => Ok(Strays::Unfinished { lock }),
                    false => Ok(Strays::Nothing),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The short lock; [`ErrorKind::Busy`] if somebody holds it for long. The caller may hold the
    /// store's lock, which the holder may wait for.
    pub(crate) fn lock_patiently(&self) -> Result<FileLock> {
        patiently(&self.folder().join("lock"))
    }

    fn unnamed(&self, record: &Record) -> Result<Vec<Stray>> {
        let files = Files::new(self);
        let mut unnamed = files.unnamed(&files.live(record)?)?;
        if let Some(run) = &record.run {
            // By layer: a killed operation may have left a file of the same number in another's folder.
            let used = |path: &Path, generation: u64| {
                let folder = path.parent().and_then(Path::file_name);
                let mut heads = run.heads.iter();
                heads.any(|head| {
                    head.generation == generation && folder == Some(head.disk.as_str().as_ref())
                })
            };
            unnamed.retain(|path| match our_file(path) {
                Some(Ours::Head(generation)) => !used(path, generation),
                Some(Ours::Base) => true,
                None => false,
            });
        }
        let stray = |path| Stray {
            path,
            temporary: false,
        };
        Ok(unnamed.into_iter().map(stray).collect())
    }

    /// The bytes that each layer takes which was removed and set aside.
    pub(crate) fn set_aside_bytes(&self, record: &Record) -> Result<Vec<(Name, u64)>> {
        let files = Files::new(self);
        let without = |skip: Option<usize>| {
            let mut less = record.clone();
            if let Some(index) = skip {
                less.removed.remove(index);
            }
            files.live(&less)
        };
        let all = without(None)?;
        let mut bytes = Vec::new();
        for (index, layer) in record.removed.iter().enumerate() {
            let rest = without(Some(index))?;
            let taken = all
                .difference(&rest)
                .filter_map(|path| fs::symlink_metadata(path).ok());
            bytes.push((
                layer.name().clone(),
                taken.map(|found| allocated(&found)).sum(),
            ));
        }
        Ok(bytes)
    }

    /// Drops every layer that was removed and set aside, with what a guest wrote to it, but for those
    /// that are needed. Taking the removal back is then no longer possible.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while the machine runs.
    pub(crate) fn drop_set_aside(&self) -> Result<()> {
        let mut off = self.lock_off()?;
        let needed = off.record.needed_aside();
        let (stay, gone) = std::mem::take(&mut off.record.removed)
            .into_iter()
            .partition(|layer| needed.contains(layer.name()));
        off.record.removed = stay;
        let gone: Vec<RemovedLayer> = gone;
        let is_gone = |name: &Name| gone.iter().any(|layer| layer.name() == name);
        let last = off.record.last.iter().flat_map(|last| &last.layers);
        if last.into_iter().any(|before| is_gone(&before.layer)) {
            off.record.last = None;
        }
        // Leases that are too many now go with the rest of the pruning.
        self.conclude(&Files::new(self), &off.record, Ok(()))
    }
}

/// Whether a folder without a record holds only what a creation makes before it.
///
/// # Errors
/// What the file system says.
pub(crate) fn is_unfinished(folder: &Path) -> Result<bool> {
    let failed = |error| Error::io("the machine's folder cannot be read", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name != "lock" && name != "layers" && !name.starts_with(TEMPORARY) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A lock that others hold for moments; [`ErrorKind::Busy`] if somebody holds it for long.
pub(super) fn patiently(path: &Path) -> Result<FileLock> {
    let begun = Instant::now();
    loop {
        match FileLock::try_exclusive(path) {
            Err(error) if error.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            taken => return taken,
        }
    }
}

/// A file that this library makes below a layer's folder.
#[derive(Debug, PartialEq, Eq)]
enum Ours {
    /// A head or frozen delta of this generation.
    Head(u64),
    /// A descriptor over an image.
    Base,
}

fn our_file(path: &Path) -> Option<Ours> {
    let name = path.file_name()?.to_str()?;
    let (stem, extension) = name.rsplit_once('.')?;
    if !matches!(extension, "vmdk" | "hds") {
        return None;
    }
    if stem.starts_with("base-") {
        return Some(Ours::Base);
    }
    let numbers = stem.strip_prefix("head-")?;
    let generation = numbers.split('-').next()?;
    generation.parse().ok().map(Ours::Head)
}

/// Whether `path` is a folder itself: a link would lead somewhere else.
fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn temporaries(folder: &Path, depth: usize, into: &mut Vec<Stray>) -> Result<()> {
    let failed = |error| Error::io("the folder cannot be listed", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let name = entry.file_name();
        if kind.is_file() && name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
            into.push(Stray {
                path: entry.path(),
                temporary: true,
            });
        } else if kind.is_dir() && depth > 1 {
            temporaries(&entry.path(), depth - 1, into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn our_files_are_told_by_their_names() {
        let ours = |name: &str| our_file(Path::new(name));
        assert_eq!(ours("head-12.vmdk"), Some(Ours::Head(12)));
        assert_eq!(ours("head-7-2.hds"), Some(Ours::Head(7)));
        assert_eq!(ours("base-0123-ide.vmdk"), Some(Ours::Base));
        for other in [
            "head-12.vmdk.lck",
            "vmware.log",
            "head-x.vmdk",
            "head-1-flat.raw",
        ] {
            assert_eq!(ours(other), None, "{other}");
        }
    }
}

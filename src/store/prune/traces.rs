//! What killed processes leave in the store's own folder: temporary files, and folders in which a
//! volume was tried out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{LeftoverKind, Pruning};
use crate::error::{Error, Result};
use crate::store::remove::remove_tree;

/// What the names of temporary files start with; the number of the process follows.
pub(crate) const TEMPORARY: &str = ".stratavm-tmp-";

/// What the names of folders for trials of the volume start with, likewise.
const TRIAL: &str = ".stratavm-probe-";

/// Nobody keeps such a thing for so long; on systems that do not tell which processes there are,
/// and for processes that another host or container runs.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

impl Pruning<'_> {
    pub(super) fn traces(&mut self) -> Result<()> {
        let ids = self.store.ids_folder();
        let ids = if ids.is_dir() { Some(ids) } else { None };
        for folder in [Some(self.store.home().to_owned()), ids]
            .into_iter()
            .flatten()
        {
            let failed = |error| Error::io("the store's folder cannot be read", &folder, error);
            let mut left = Vec::new();
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if owner(&path).is_some_and(|pid| is_forgotten(&path, pid)) {
                    left.push(path);
                }
            }
            left.sort();
            for path in left {
                let reason = "its process was killed";
                self.free(LeftoverKind::TemporaryFile, &path, reason, remove_tree)?;
            }
        }
        Ok(())
    }
}

/// The process that made a temporary thing, by its name.
fn owner(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let rest = [TEMPORARY, TRIAL]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    rest.split_once('-')?.0.parse().ok()
}

/// Whether nobody uses it any more: its process is gone, and it has not been touched for long, as
/// the number may be that of a process which cannot be seen from here.
fn is_forgotten(path: &Path, pid: u32) -> bool {
    if pid == std::process::id() || crate::host::is_used(pid) == Some(true) {
        return false;
    }
    let touched = fs::symlink_metadata(path).and_then(|found| found.modified());
    // A time in the future is one that a clock which jumped back has left.
    touched.is_ok_and(|time| time.elapsed().map_or(true, |age| age > FORGOTTEN))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_what_a_gone_process_left_long_ago_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".stratavm-tmp-4194305-0");
        let file = fs::File::create(&path).unwrap();
        assert_eq!(owner(&path), Some(4_194_305));
        assert_eq!(owner(Path::new(".stratavm-probe-12-3")), Some(12));
        assert_eq!(owner(Path::new("notes-12-3")), None);
        // Above the largest number that Linux gives to a process.
        assert!(
            !is_forgotten(&path, 4_194_305),
            "it may be somebody's whom we cannot see"
        );
        let before = std::time::SystemTime::now() - 2 * FORGOTTEN;
        file.set_modified(before).unwrap();
        assert!(is_forgotten(&path, 4_194_305));
        assert!(!is_forgotten(&path, std::process::id()));
    }
}

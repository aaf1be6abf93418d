//! The file layer: every change that this crate and the store make to a file system goes through here, one small call
//! each. What is above decides on the order of the calls; nothing here knows a format, a layer or a store.
//!
//! Files are made for their user alone (mode 0600, folders 0700, whatever the umask), and no call follows a symbolic
//! link that stands at the path itself ([`IsLink`]). The folders on the way there are the caller's to look at.
//!
//! With the cargo feature `fault-injection` each call is a point at which `fault` can make it fail, or cut the power:
//! for tests, and without any effect as long as no test asks for it.

mod change;
#[cfg(feature = "fault-injection")]
pub mod fault;
mod file;
mod sys;
mod trial;

pub use file::{File, Identity};
pub use sys::{identity, read_exact_at};
pub use trial::Trial;

use change::Change;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::Path;

/// The error inside an [`io::Error`] about a path that is a symbolic link (on Windows a junction, too), which a file or
/// folder of ours never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsLink;

impl IsLink {
    /// Whether this is what `error` is about.
    #[must_use]
    pub fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<IsLink>())
    }
}

impl fmt::Display for IsLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is a symbolic link, which is not followed")
    }
}

impl std::error::Error for IsLink {}

impl From<IsLink> for io::Error {
    fn from(link: IsLink) -> io::Error {
        io::Error::other(link)
    }
}

/// Bytes that a file or folder takes on its volume, where the system says so.
#[must_use]
pub fn allocated(found: &Metadata) -> Option<u64> {
    #[cfg(feature = "fault-injection")]
    if let Some(bytes) = fault::allocated_in_full(found) {
        return Some(bytes);
    }
    sys::allocated(found)
}

/// Bytes that an open file takes on its volume, where the system says so: on Windows too, unlike [`allocated`].
#[must_use]
pub fn allocated_of(file: &std::fs::File) -> Option<u64> {
    #[cfg(feature = "fault-injection")]
    if let Some(bytes) = fault::allocated_in_full(&file.metadata().ok()?) {
        return Some(bytes);
    }
    sys::allocated_of(file)
}

/// The first byte at or behind `offset` that is in no hole; `None` if there is none. Where the system cannot be asked,
/// everything may be data.
///
/// # Errors
/// What the operating system reports.
pub fn next_data(file: &std::fs::File, offset: u64) -> io::Result<Option<u64>> {
    #[cfg(feature = "fault-injection")]
    if fault::is_without_holes(file)? {
        return Ok((offset < file.metadata()?.len()).then_some(offset));
    }
    sys::next_data(file, offset)
}

/// The first byte at or behind `offset` that is in a hole; the end of the file if there is none.
///
/// # Errors
/// What the operating system reports.
pub fn next_hole(file: &std::fs::File, offset: u64) -> io::Result<u64> {
    #[cfg(feature = "fault-injection")]
    if fault::is_without_holes(file)? {
        return Ok(file.metadata()?.len());
    }
    sys::next_hole(file, offset)
}

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Its user reads and writes it, nobody else: 0600; on Windows, what the folder says.
    Private,
    /// Everybody who gets at it reads it, nobody writes: 0444, or the read-only mark.
    ReadOnly,
}

/// Makes a folder that only its user can enter.
///
/// # Errors
/// What the operating system reports; `AlreadyExists` whatever is there.
pub fn create_dir(path: &Path) -> io::Result<()> {
    let found = change::found_as(path);
    change::make(Change::CreateDir(path), || sys::create_dir(&found))
}

/// As [`create_dir`], the folders above it included; one that is there already stays as it is.
///
/// # Errors
/// What the operating system reports; `NotADirectory` if something else is there; [`IsLink`] for a link at `path`.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let path = &*change::found_as(path);
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(found) if found.is_symlink() => return Err(IsLink.into()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty())
        && !above.is_dir()
    {
        create_dir_all(above)?;
    }
    match create_dir(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Flushes a folder, so that names made, renamed or removed in it outlive a crash.
///
/// # Errors
/// What the operating system reports.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    change::flush(Change::SyncDir(path), || sys::fsync_dir(path))
}

/// Whether [`sync_volume`] does more than refuse.
pub const SYNCS_VOLUMES: bool = cfg!(target_os = "linux");

/// Flushes all changes of the volume that `path` is on, whoever made them: one call in place of one for each of many new
/// files and folders.
///
/// # Errors
/// What the operating system reports; `Unsupported` but on Linux.
pub fn sync_volume(path: &Path) -> io::Result<()> {
    change::flush(Change::SyncVolume(path), || sys::sync_volume(path))
}

/// Gives a file or folder another name on the same volume; a file that has the name is replaced.
///
/// # Errors
/// What the operating system reports.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (old, new) = (change::found_as(from), change::found_as(to));
    change::make(Change::Rename { from, to }, || std::fs::rename(&old, &new))
}

/// Removes a file's name, also that of a read-only file. A link is removed, not what it points to.
///
/// # Errors
/// What the operating system reports.
pub fn remove_file(path: &Path) -> io::Result<()> {
    let path = &*change::found_as(path);
    change::make(Change::RemoveFile(path), || {
        // Windows refuses to delete a read-only file.
        #[cfg(windows)]
        if let Ok(found) = std::fs::symlink_metadata(path) {
            let mut permissions = found.permissions();
            #[allow(clippy::permissions_set_readonly_false)]
            permissions.set_readonly(false);
            let _ = std::fs::set_permissions(path, permissions);
        }
        std::fs::remove_file(path)
    })
}

/// Removes an empty folder.
///
/// # Errors
/// What the operating system reports.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    let path = &*change::found_as(path);
    change::make(Change::RemoveDir(path), || std::fs::remove_dir(path))
}

/// Removes a folder with all that is in it, one name after the other, in the order of the names. Links in it are
/// removed, never followed; a link at `path` itself is refused. One that is interrupted can be called again.
///
/// # Errors
/// What the operating system reports; [`IsLink`].
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    let path = &*change::found_as(path);
    if std::fs::symlink_metadata(path)?.is_symlink() {
        return Err(IsLink.into());
    }
    let mut entries = std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        // Of the entry itself, so a link is no folder.
        let removed = match entry.file_type()?.is_dir() {
            true => remove_dir_all(&entry.path()),
            false => remove_file(&entry.path()),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    remove_dir(path)
}

/// Says who may do what with a file.
///
/// # Errors
/// What the operating system reports; [`IsLink`].
pub fn set_access(path: &Path, access: Access) -> io::Result<()> {
    let path = &*change::found_as(path);
    let found = std::fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Err(IsLink.into());
    }
    let mut permissions = found.permissions();
    sys::set_access(&mut permissions, access);
    change::make(Change::SetAccess(path), || {
        std::fs::set_permissions(path, permissions)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_tree_is_removed_with_read_only_files() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("a");
        create_dir_all(&tree.join("b/c")).unwrap();
        let sealed = tree.join("b/sealed");
        File::create_new(&sealed).unwrap();
        set_access(&sealed, Access::ReadOnly).unwrap();
        assert!(std::fs::metadata(&sealed).unwrap().permissions().readonly());
        remove_dir_all(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(
            remove_dir_all(&tree).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn folders_that_are_there_stay_and_files_are_told() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path()).unwrap();
        let file = dir.path().join("file");
        File::create_new(&file).unwrap();
        assert_eq!(
            create_dir_all(&file).unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
        assert_eq!(
            create_dir(dir.path()).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[cfg(unix)]
    mod links {
        use super::*;
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        #[test]
        fn no_call_follows_a_link() {
            let dir = tempfile::tempdir().unwrap();
            let victim = dir.path().join("victim");
            create_dir(&victim).unwrap();
            std::fs::write(victim.join("file"), "precious").unwrap();
            let (file, folder, dangling) = (
                dir.path().join("to-file"),
                dir.path().join("to-folder"),
                dir.path().join("dangling"),
            );
            symlink(victim.join("file"), &file).unwrap();
            symlink(&victim, &folder).unwrap();
            symlink(dir.path().join("nothing"), &dangling).unwrap();
            for link in [&file, &dangling] {
                assert!(IsLink::is_in(&File::open(link).unwrap_err()), "{link:?}");
                assert!(IsLink::is_in(&File::open_rw(link).unwrap_err()), "{link:?}");
                assert!(
                    IsLink::is_in(&File::open_lock(link).unwrap_err()),
                    "{link:?}"
                );
                assert!(File::create_new(link).is_err(), "{link:?}");
                assert!(IsLink::is_in(
                    &set_access(link, Access::ReadOnly).unwrap_err()
                ));
            }
            assert!(IsLink::is_in(&create_dir_all(&folder).unwrap_err()));
            assert!(IsLink::is_in(&create_dir_all(&dangling).unwrap_err()));
            assert!(IsLink::is_in(&remove_dir_all(&folder).unwrap_err()));
            // A tree with links in it goes without what they point to.
            let tree = dir.path().join("tree");
            create_dir(&tree).unwrap();
            symlink(&victim, tree.join("link")).unwrap();
            remove_dir_all(&tree).unwrap();
            assert_eq!(
                std::fs::read(victim.join("file")).unwrap(),
                b"precious".as_slice()
            );
            assert!(!dir.path().join("nothing").exists());
        }

        #[test]
        fn what_is_made_is_the_users_alone() {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("a/b");
            create_dir_all(&folder).unwrap();
            let file = folder.join("file");
            File::create_new(&file).unwrap();
            let lock = folder.join("lock");
            File::open_lock(&lock).unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&dir.path().join("a")), 0o700);
            assert_eq!(mode(&folder), 0o700);
            assert_eq!((mode(&file), mode(&lock)), (0o600, 0o600));
            set_access(&file, Access::ReadOnly).unwrap();
            assert_eq!(mode(&file), 0o444);
            set_access(&file, Access::Private).unwrap();
            assert_eq!(mode(&file), 0o600);
        }

        #[test]
        fn a_pipe_is_no_file_and_keeps_nobody_waiting() {
            let dir = tempfile::tempdir().unwrap();
            let pipe = dir.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
            assert!(File::open(&pipe).is_err());
            assert!(File::open_lock(&pipe).is_err());
        }
    }
}

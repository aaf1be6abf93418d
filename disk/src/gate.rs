//! The caller's say in what else is opened: an image names extents and parents, and nothing that a file names is opened
//! before a [`Gate`] has turned the name into a path.

use crate::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// What a file names another file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// It holds part of the image's own data.
    Extent,
    /// It is the image below.
    Parent,
}

/// A name that stands in an image file.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Named<'a> {
    /// The file that it stands in.
    pub by: &'a Path,
    /// As written: relative to that file's folder, or absolute. Hostile until checked.
    pub name: &'a str,
    /// What it is named for.
    pub role: Role,
}

/// Decides which files may be opened because an image names them.
pub trait Gate: Send + Sync {
    /// The path to open for this name.
    ///
    /// # Errors
    /// The caller's reason why it is not to be opened.
    fn allow(&self, named: &Named<'_>) -> Result<PathBuf>;
}

/// Opens nothing that an image names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed;

impl Gate for Closed {
    fn allow(&self, named: &Named<'_>) -> Result<PathBuf> {
        Err(Error::invalid(format!(
            "it names {:?}, and nothing else may be opened",
            named.name
        ))
        .at_path(named.by))
    }
}

/// Opens what lies below one folder, links resolved. The gate that callers want who know nothing of the image but where
/// it came from.
#[derive(Clone, Debug)]
pub struct Below(PathBuf);

impl Below {
    /// # Errors
    /// What the operating system reports of the folder.
    pub fn new(folder: &Path) -> Result<Below> {
        let folder = std::fs::canonicalize(folder);
        Ok(Below(folder.map_err(Error::from)?))
    }

    /// The folder that this image lies in.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn beside(image: &Path) -> Result<Below> {
        Below::new(&folder_of(image)).map_err(|e| e.at_path(image))
    }
}

impl Gate for Below {
    fn allow(&self, named: &Named<'_>) -> Result<PathBuf> {
        let wanted = resolve(named)?;
        let found = std::fs::canonicalize(&wanted);
        let found = found.map_err(|e| {
            Error::from(e).at_path(&wanted).during(match named.role {
                Role::Extent => "open extent",
                Role::Parent => "open parent",
            })
        })?;
        if !found.starts_with(&self.0) {
            return Err(Error::invalid(format!(
                "it names {:?}, which lies outside {:?}",
                named.name, self.0
            ))
            .at_path(named.by));
        }
        Ok(found)
    }
}

/// Where a name points to, taken literally.
///
/// # Errors
/// `Invalid` for a name that no file of this system can have: empty, with control characters, or a Windows path elsewhere.
pub(crate) fn resolve(named: &Named<'_>) -> Result<PathBuf> {
    let name = named.name;
    let foreign =
        !cfg!(windows) && (name.starts_with("\\\\") || name.as_bytes().get(1) == Some(&b':'));
    if name.is_empty() || name.chars().any(char::is_control) || foreign {
        let why = match foreign {
            true => "it names a Windows path",
            false => "it names no file",
        };
        return Err(Error::invalid(format!("{why}: {name:?}")).at_path(named.by));
    }
    let path = Path::new(name);
    match path.components().next() {
        Some(Component::Prefix(_) | Component::RootDir) => Ok(path.to_owned()),
        _ => Ok(folder_of(named.by).join(path)),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

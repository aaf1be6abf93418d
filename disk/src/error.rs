//! The crate's one error type: an opaque [`Error`] with a small [`ErrorKind`], and operation, path and offset added on
//! the way up. Nothing here knows a format.

use crate::fs;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder is not there.
    NotFound,
    /// A file that was to be created is there already.
    Exists,
    /// The operating system reported another error.
    Io,
    /// The volume is full, or a quota is used up.
    NoSpace,
    /// Access was refused; a read-only file system counts too.
    PermissionDenied,
    /// A file breaks the rules of its format.
    Malformed,
    /// A file is of a valid form that this crate does not handle.
    Unsupported,
    /// A value is beyond what a format or a volume can hold.
    Limit,
    /// Two things that must agree do not.
    Mismatch,
    /// The caller's argument is not acceptable.
    Invalid,
    /// The caller asked to stop.
    Cancelled,
    /// The deadline of the [`Ctx`](crate::Ctx) has passed.
    TimedOut,
}

/// An error with its kind and, where known, the operation, the file and the byte offset in it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    detail: Cow<'static, str>,
    op: Option<Cow<'static, str>>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind; `detail` is one clause without a final full stop, naming the value at fault.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner {
            kind,
            detail: detail.into(),
            op: None,
            path: None,
            offset: None,
            source: None,
        }))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, without operation, path and offset.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The file concerned, if known.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte offset in that file, if known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Names the file; one that is named already is kept, being nearer to the fault.
    #[must_use]
    pub fn at_path(mut self, path: impl AsRef<Path>) -> Error {
        self.0.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Names the byte offset in the file; one that is named already is kept.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Error {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Names the operation, such as `create vmdk`; one that is named already is kept.
    #[must_use]
    pub fn during(mut self, op: impl Into<Cow<'static, str>>) -> Error {
        self.0.op.get_or_insert_with(|| op.into());
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// Names the file the caller knows instead of a temporary one.
    pub(crate) fn renamed_to(mut self, path: &Path) -> Error {
        self.0.path = Some(path.to_owned());
        self
    }

    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Malformed, detail)
    }

    pub(crate) fn unsupported(detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Unsupported, detail)
    }

    pub(crate) fn limit(detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Limit, detail)
    }

    pub(crate) fn mismatch(detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Mismatch, detail)
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Invalid, detail)
    }
}

impl From<io::Error> for Error {
    /// Sorts an I/O error into a kind and keeps it as the source.
    fn from(e: io::Error) -> Error {
        let (kind, detail) = match e.kind() {
            _ if fs::IsLink::is_in(&e) => (ErrorKind::Malformed, "a symbolic link stands there"),
            io::ErrorKind::NotFound => (ErrorKind::NotFound, "not found"),
            io::ErrorKind::AlreadyExists => (ErrorKind::Exists, "exists already"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::PermissionDenied, "access refused")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::NoSpace, "no space left")
            }
            io::ErrorKind::FileTooLarge => (ErrorKind::Limit, "file too large for the volume"),
            io::ErrorKind::UnexpectedEof => (ErrorKind::Malformed, "file ends too early"),
            _ => (ErrorKind::Io, "I/O error"),
        };
        Error::new(kind, detail).caused_by(e)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.0;
        if let Some(op) = &e.op {
            write!(f, "{op}: ")?;
        }
        if let Some(path) = &e.path {
            // Debug form: a hostile name must not put control characters on a terminal.
            write!(f, "{path:?}: ")?;
        }
        if let Some(offset) = e.offset {
            write!(f, "at offset {offset}: ")?;
        }
        f.write_str(&e.detail)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|s| s as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::error::Error as _;

    #[test]
    fn display_names_operation_path_and_offset_but_not_the_source() {
        let e = Error::from(io::Error::new(
            io::ErrorKind::StorageFull,
            "disk quota text",
        ))
        .at_path("head.vmdk")
        .at_offset(512)
        .during("create vmdk");
        assert_eq!(
            e.to_string(),
            "create vmdk: \"head.vmdk\": at offset 512: no space left"
        );
        assert_eq!(e.kind(), ErrorKind::NoSpace);
        assert!(e.source().unwrap().to_string().contains("disk quota text"));
    }

    #[test]
    fn what_is_nearer_to_the_fault_is_kept() {
        let e = Error::malformed("x")
            .at_path("inner")
            .at_offset(1)
            .during("read header");
        let e = e.at_path("outer").at_offset(2).during("create");
        assert_eq!(e.to_string(), "read header: \"inner\": at offset 1: x");
    }
}

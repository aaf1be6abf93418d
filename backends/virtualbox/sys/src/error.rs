//! The crate's one error type. Nothing here knows what was called.

use std::fmt;
use std::path::{Path, PathBuf};

/// Result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file cannot be read; a missing one counts too.
    Io,
    /// A file is no type library, or breaks the rules of its format.
    Malformed,
    /// The installed product has not what this crate calls, in the form that it is called in: nothing was called.
    Incompatible,
    /// The product refuses what it was asked for, or cannot do it.
    Failed,
    /// It was not done in time; it may be under way.
    TimedOut,
    /// The caller's argument is not acceptable.
    Invalid,
}

/// An error with its kind and, where known, the file and the byte offset in it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    detail: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    code: Option<u32>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
            path: None,
            offset: None,
            code: None,
            source: None,
        }))
    }

    pub(crate) fn malformed(offset: usize, detail: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Malformed, detail);
        error.0.offset = u64::try_from(offset).ok();
        error
    }

    pub(crate) fn incompatible(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Incompatible, detail)
    }

    /// Names the file, unless it is named already.
    #[must_use]
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Adds the product's result code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: u32) -> Self {
        self.0.code = Some(code);
        self
    }

    /// The product's result code (`VBOX_E_...`, `NS_ERROR_...`), if it gave one.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        self.0.code
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file concerned, if one is.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Bytes from the start of the file to what is wrong in it.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        if let Some(path) = &inner.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&inner.detail)?;
        if let Some(offset) = inner.offset {
            write!(f, " (at byte {offset})")?;
        }
        match inner.code {
            Some(code) => write!(f, " (code {code:#010x})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

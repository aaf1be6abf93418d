//! The one error type of this crate.
//!
//! An [`Error`] has a small [`ErrorKind`] to act on, a message that says what and where, an
//! optional next step for a person, and its cause as `source`. Its `Display` never repeats the
//! source: print the chain to see everything.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::hypervisor::Product;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a program may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A spec, name or argument is not valid.
    Invalid,
    /// A machine, layer, image, revision or file does not exist.
    NotFound,
    /// Something of that name exists already.
    Exists,
    /// The machine, or a file of it, is in use.
    Busy,
    /// The machine is suspended: resume it or drop the saved state first.
    Suspended,
    /// Kept data is in another product's family: `switch` converts it.
    NeedsSwitch,
    /// A machine's folder was copied, renamed or brought here by hand: `adopt` takes it in.
    NeedsAdopt,
    /// The product cannot do this; the message names what it lacks.
    Unsupported,
    /// The library does not drive this product (yet).
    NotDriven,
    /// The product is not installed, too old or broken.
    Unavailable,
    /// The product failed; the message says what was seen.
    Product,
    /// A file of the store, an image or a product's output is not what it should be.
    Malformed,
    /// A file was written by a newer version of this library.
    FromTheFuture,
    /// Content differs from its digest, or an existing file from what was to be written.
    Mismatch,
    /// No space, or over a limit.
    NoSpace,
    /// Not permitted, or a read-only place.
    PermissionDenied,
    /// Any other failure of the operating system.
    Io,
    /// Cancelled by the caller.
    Cancelled,
    /// The deadline passed.
    Timeout,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Invalid,
        Self::NotFound,
        Self::Exists,
        Self::Busy,
        Self::Suspended,
        Self::NeedsSwitch,
        Self::NeedsAdopt,
        Self::Unsupported,
        Self::NotDriven,
        Self::Unavailable,
        Self::Product,
        Self::Malformed,
        Self::FromTheFuture,
        Self::Mismatch,
        Self::NoSpace,
        Self::PermissionDenied,
        Self::Io,
        Self::Cancelled,
        Self::Timeout,
    ];

    /// The kind of this [name](Self::as_str), as another process of this program printed it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// A stable name for machines, such as `not-found`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Busy => "busy",
            Self::Suspended => "suspended",
            Self::NeedsSwitch => "needs-switch",
            Self::NeedsAdopt => "needs-adopt",
            Self::Unsupported => "unsupported",
            Self::NotDriven => "not-driven",
            Self::Unavailable => "unavailable",
            Self::Product => "product",
            Self::Malformed => "malformed",
            Self::FromTheFuture => "from-the-future",
            Self::Mismatch => "mismatch",
            Self::NoSpace => "no-space",
            Self::PermissionDenied => "permission-denied",
            Self::Io => "io",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of this crate. Made with [`Error::new`] and what may be added to it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    product: Option<Product>,
    path: Option<PathBuf>,
    next: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what failed, in a sentence without a full stop.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            product: None,
            path: None,
            next: None,
            source: None,
        }))
    }

    /// Short for [`ErrorKind::Invalid`].
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// An error of the operating system while doing `what` with `path`.
    #[must_use]
    pub fn io(what: impl Into<String>, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::new(kind_of_io(&source), what)
            .at(path)
            .caused_by(source)
    }

    /// Names the file it is about.
    #[must_use]
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Names the product it is about.
    #[must_use]
    pub fn of(mut self, product: &Product) -> Self {
        self.0.product = Some(product.clone());
        self
    }

    /// Says what a person can do next, as a sentence without a full stop or a command.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.0.next = Some(step.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same failure seen from further up: `message` says what was being done. Kind, product
    /// and next step are kept; this error becomes the cause.
    #[must_use]
    pub fn during(self, message: impl Into<String>) -> Self {
        let outer = Self::new(self.kind(), message);
        let mut outer = match &self.0.product {
            Some(product) => outer.of(product),
            None => outer,
        };
        outer.0.next.clone_from(&self.0.next);
        outer.caused_by(self)
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file it is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The product it is about.
    #[must_use]
    pub fn product(&self) -> Option<&Product> {
        self.0.product.as_ref()
    }

    /// What a person can do next.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.0.next.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(product) = &self.0.product {
            write!(f, "{product}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(path) = &self.0.path {
            // Anybody may have named a file in a folder that came from elsewhere.
            write!(
                f,
                ": {}",
                crate::machine::escape(&path.display().to_string())
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("next", &self.0.next)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<stratavm_disk::Error> for Error {
    fn from(error: stratavm_disk::Error) -> Self {
        let kind = kind_of_disk(error.kind());
        Self::new(kind, "the disk image could not be handled").caused_by(error)
    }
}

/// What an error of the operating system means to a caller.
fn kind_of_io(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        _ if stratavm_disk::fs::IsLink::is_in(error) => ErrorKind::Malformed,
        Io::NotFound => ErrorKind::NotFound,
        Io::AlreadyExists => ErrorKind::Exists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::NoSpace,
        Io::ResourceBusy => ErrorKind::Busy,
        Io::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Io,
    }
}

fn kind_of_disk(kind: stratavm_disk::ErrorKind) -> ErrorKind {
    use stratavm_disk::ErrorKind as Disk;
    match kind {
        Disk::NotFound => ErrorKind::NotFound,
        Disk::Exists => ErrorKind::Exists,
        Disk::NoSpace | Disk::Limit => ErrorKind::NoSpace,
        Disk::PermissionDenied => ErrorKind::PermissionDenied,
        Disk::Malformed => ErrorKind::Malformed,
        Disk::Unsupported => ErrorKind::Unsupported,
        Disk::Mismatch => ErrorKind::Mismatch,
        Disk::Invalid => ErrorKind::Invalid,
        Disk::Cancelled => ErrorKind::Cancelled,
        Disk::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Io,
    }
}

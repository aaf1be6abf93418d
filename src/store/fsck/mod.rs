//! `fsck`: looking through the store for what is not as its records say, and putting right what
//! follows from them alone.
//!
//! Here live what is asked for, what is answered, and the order of the work; images are looked
//! through in `images`, machines in `machines`. Nothing is guessed: what a record does not say, or
//! only a guest knows, is reported with what a person can do.

mod images;
mod machines;

use std::path::{Path, PathBuf};

use stratavm_disk::{Ctx, Permissions};

use super::references::References;
use super::{FileLock, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Name;

/// Most findings that are kept; of more only the number is.
const MOST: usize = 10_000;

/// How the store is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsckOptions {
    /// Only this machine, and the images that it refers to; none: everything.
    pub machine: Option<Name>,
    /// Whether images are read.
    pub digests: Digests,
    /// Whether anything is changed.
    pub mode: FsckMode,
}

impl FsckOptions {
    /// The same options for one machine.
    #[must_use]
    pub fn machine(mut self, machine: Name) -> Self {
        self.machine = Some(machine);
        self
    }

    /// The same options with images read, or not.
    #[must_use]
    pub fn digests(mut self, digests: Digests) -> Self {
        self.digests = digests;
        self
    }

    /// The same options in this mode.
    #[must_use]
    pub fn mode(mut self, mode: FsckMode) -> Self {
        self.mode = mode;
        self
    }
}

/// Whether images are read in full and compared with their digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Digests {
    /// Only their descriptions, files and lengths are looked at.
    #[default]
    Skip,
    /// Everything in them is read, holes apart.
    Read,
}

/// Whether checking changes anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FsckMode {
    /// It only looks.
    #[default]
    Check,
    /// What follows from the records alone is put right. Of a machine that runs only what no run
    /// depends on is.
    Repair,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// How many further findings there were.
    pub more: u64,
    /// How many machines were looked through.
    pub machines: u64,
    /// How many images were looked at.
    pub images: u64,
}

impl Checked {
    /// Whether nothing is left to be put right. What `prune` frees does no harm.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let harmless = |f: &Finding| matches!(f.remedy, Remedy::Prune | Remedy::Repaired);
        self.more == 0 && self.findings.iter().all(harmless)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Where it is.
    pub path: PathBuf,
    /// The machine that it is of.
    pub machine: Option<Name>,
    /// What was seen, and what it means.
    pub message: String,
    /// What puts it right.
    pub remedy: Remedy,
    /// What a person can do.
    pub next: String,
}

/// What puts a [`Finding`] right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// A person: it cannot be derived from what is there.
    Person,
    /// A check that repairs.
    Repair,
    /// [`Store::prune`]: it does no harm.
    Prune,
    /// It was put right.
    Repaired,
}

impl Remedy {
    /// A stable name, such as `repair`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Repair => "repair",
            Self::Prune => "prune",
            Self::Repaired => "repaired",
        }
    }
}

/// Kinds of [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// An image's description cannot be used, or a file of it is missing or of the wrong length.
    Image,
    /// An image's content is not what its digest says.
    Content,
    /// A file that nobody may change can be written to.
    Writable,
    /// Others may change a folder of the store.
    Mode,
    /// A machine is not noted at an image that it refers to.
    LeaseMissing,
    /// A machine is noted at an image that it does not refer to.
    LeaseStale,
    /// A machine's id is not noted.
    IdMissing,
    /// Something lies in the store that is not ours.
    Unexpected,
    /// What was cut short left it.
    Leftover,
    /// A machine's record cannot be used.
    Record,
    /// A machine's folder has no record.
    RecordMissing,
    /// A machine's folder was copied, renamed or brought here by hand.
    NeedsAdopt,
    /// A machine refers to an image that is not there or cannot be used.
    ImageMissing,
    /// A file of a chain is missing.
    Missing,
    /// A file of a chain is no regular file.
    NoFile,
    /// A file of a chain cannot be read as what it should be.
    Damaged,
    /// A file of a chain, or its disk, has the wrong size.
    Size,
    /// A file of a chain has other ids or another parent than it should.
    Links,
    /// A machine's own descriptor over an image is not what it was made as.
    Base,
    /// The machine is being changed, so it was not looked through.
    Busy,
}

impl FindingKind {
    /// A stable name, such as `lease-missing`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Content => "content",
            Self::Writable => "writable",
            Self::Mode => "mode",
            Self::LeaseMissing => "lease-missing",
            Self::LeaseStale => "lease-stale",
            Self::IdMissing => "id-missing",
            Self::Unexpected => "unexpected",
            Self::Leftover => "leftover",
            Self::Record => "record",
            Self::RecordMissing => "record-missing",
            Self::NeedsAdopt => "needs-adopt",
            Self::ImageMissing => "image-missing",
            Self::Missing => "missing",
            Self::NoFile => "no-file",
            Self::Damaged => "damaged",
            Self::Size => "size",
            Self::Links => "links",
            Self::Base => "base",
            Self::Busy => "busy",
        }
    }
}

impl Store {
    /// Checks the store: every image's description, files and lengths (and content, if `options` say
    /// so), every machine's record, the files of every revision and head with their headers, sizes,
    /// ids and links, and who refers to what. Guest data of machines is not read.
    ///
    /// Machines may run; their heads are only looked for then. Work follows the number of files.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a machine that is not there; [`ErrorKind::PermissionDenied`] for
    /// a repair where nothing can be written; [`ErrorKind::Cancelled`]. What is wrong in the store
    /// is no error.
    pub fn fsck(&self, options: &FsckOptions, ctx: &Ctx) -> Result<Checked> {
        if let Some(name) = &options.machine
            && !self.machines_folder().join(name.as_str()).is_dir()
        {
            return Err(
                Error::new(ErrorKind::NotFound, format!("there is no machine {name}"))
                    .next("`stratavm list` shows those there are"),
            );
        }
        let mut checking = Checking {
            store: self,
            options,
            ctx,
            found: Checked::default(),
        };
        checking.folders();
        {
            // Nobody adds a reference meanwhile: none is taken for one too many.
            let _alone = match FileLock::exclusive(&self.lock_path()) {
                Ok(lock) => Some(lock),
                Err(error)
                    if options.mode == FsckMode::Check
                        && error.kind() == ErrorKind::PermissionDenied =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
            let references = References::read(self)?;
            checking.images(&references)?;
            if options.mode == FsckMode::Repair {
                checking.machines(&references)?;
            }
        }
        if options.mode == FsckMode::Check {
            checking.machines(&References::read(self)?)?;
        }
        if options.digests == Digests::Read {
            checking.contents()?;
        }
        Ok(checking.found)
    }
}

/// Checking under way.
struct Checking<'a> {
    store: &'a Store,
    options: &'a FsckOptions,
    ctx: &'a Ctx,
    found: Checked,
}

impl Checking<'_> {
    fn find(&mut self, finding: Finding) {
        if self.found.findings.len() < MOST {
            self.found.findings.push(finding);
        } else if !matches!(finding.remedy, Remedy::Prune | Remedy::Repaired) {
            self.found.more += 1;
        }
    }

    /// Notes a finding that a person has to see to.
    fn person(
        &mut self,
        kind: FindingKind,
        path: &Path,
        machine: Option<&Name>,
        message: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.find(Finding {
            kind,
            path: path.to_owned(),
            machine: machine.cloned(),
            message: message.into(),
            remedy: Remedy::Person,
            next: next.into(),
        });
    }

    /// Notes a finding that follows from the records, and puts it right if that is asked for.
    fn derived(
        &mut self,
        kind: FindingKind,
        path: &Path,
        machine: Option<&Name>,
        message: impl Into<String>,
        repair: impl FnOnce() -> Result<()>,
    ) {
        let (mut message, mut remedy, mut next) = (
            message.into(),
            Remedy::Repair,
            "stratavm fsck --repair".to_owned(),
        );
        if self.options.mode == FsckMode::Repair {
            match repair() {
                Ok(()) => (remedy, next) = (Remedy::Repaired, "nothing is left to do".to_owned()),
                Err(error) => {
                    message.push_str(&format!("; it could not be put right: {}", line(&error)));
                    next = error
                        .next_step()
                        .unwrap_or("remove what is in the way")
                        .to_owned();
                }
            }
        }
        self.find(Finding {
            kind,
            path: path.to_owned(),
            machine: machine.cloned(),
            message,
            remedy,
            next,
        });
    }

    /// Notes what `prune` frees.
    fn leftover(&mut self, path: &Path, machine: Option<&Name>, message: impl Into<String>) {
        self.find(Finding {
            kind: FindingKind::Leftover,
            path: path.to_owned(),
            machine: machine.cloned(),
            message: message.into(),
            remedy: Remedy::Prune,
            next: "stratavm prune".to_owned(),
        });
    }

    /// The store's own folders: nobody else may change what is in them.
    fn folders(&mut self) {
        let (home, images) = (
            self.store.home().to_owned(),
            self.store.images().folder().to_owned(),
        );
        for folder in [home, images, self.store.machines_folder()] {
            self.folder_mode(&folder, None);
        }
    }

    fn folder_mode(&mut self, folder: &Path, machine: Option<&Name>) {
        // Without modes, who mounted the volume decides who may write to it.
        let has_modes = self.store.volume().permissions == Permissions::Posix;
        if has_modes && is_open_to_others(folder) {
            self.person(
                FindingKind::Mode,
                folder,
                machine,
                "other users may change what is in this folder",
                format!("chmod go-w {:?}", folder.display().to_string()),
            );
        }
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.symlink_metadata()
        .is_ok_and(|found| found.permissions().mode() & 0o022 != 0)
}

/// Elsewhere the folder of the user decides.
#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

/// An error with its causes in one line.
fn line(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

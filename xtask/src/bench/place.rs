//! Where is measured: a folder of its own on a RAM disk, and one on a disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::exec::{Error, output};

/// A temporary folder and what its volume is.
pub(crate) struct Place {
    kind: Kind,
    file_system: String,
    folder: TempDir,
}

/// What a volume keeps its bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Memory: a flush costs nothing.
    Ram,
    /// A disk.
    Disk,
}

impl Place {
    /// A folder in `/dev/shm`.
    pub(crate) fn ram() -> Result<Self, Error> {
        Self::new(Kind::Ram, Path::new("/dev/shm"))
    }

    /// A folder below `folder`, which is on a disk.
    pub(crate) fn disk(folder: &Path) -> Result<Self, Error> {
        let place = Self::new(Kind::Disk, folder)?;
        if place.file_system == "tmpfs" {
            return Err(Error::new(format!(
                "{} is on a RAM disk: name a folder on a disk with --folder",
                folder.display()
            )));
        }
        Ok(place)
    }

    fn new(kind: Kind, folder: &Path) -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("stratavm-bench-")
            .tempdir_in(folder)
            .map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
        let mut stat = Command::new("stat");
        stat.args(["--file-system", "--format=%T"])
            .arg(folder.path());
        let file_system = match output(&mut stat)?.trim() {
            "ext2/ext3" => "ext4".to_owned(),
            other => other.to_owned(),
        };
        Ok(Self {
            kind,
            file_system,
            folder,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until nothing is left to be written: a flush would pay for what ran before it.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        if self.kind == Kind::Ram {
            return Ok(());
        }
        let mut sync = Command::new("sync");
        output(sync.arg("--file-system").arg(self.folder())).map(drop)
    }

    /// The name in tables.
    pub(crate) fn name(&self) -> &str {
        match self.kind {
            Kind::Ram => "tmpfs",
            Kind::Disk => "disk",
        }
    }

    /// What lies behind the name.
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            Kind::Ram => "tmpfs: /dev/shm".to_owned(),
            Kind::Disk => format!("disk: {}, every flush waited for", self.file_system),
        }
    }
}

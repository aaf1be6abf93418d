//! What the file system below a folder can do, as plain data. Probing it lives with the caller: this crate is told.

/// Whether files may have holes (ranges without blocks that read as zeros).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holes {
    /// Yes: ext4, XFS, Btrfs, APFS, NTFS, tmpfs.
    Sparse,
    /// No: FAT32, exFAT, HFS+. Every byte of a file takes room.
    None,
}

/// Which links the volume has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Links {
    /// Hard and symbolic links.
    HardAndSymbolic,
    /// Hard links only.
    Hard,
    /// None.
    None,
}

/// Whether a file can be renamed over one that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RenameOverOpen {
    /// Yes: the POSIX rule.
    Allowed,
    /// No: the target must be closed first.
    Refused,
}

/// Whether files carry POSIX permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Permissions {
    /// Yes.
    Posix,
    /// Only a mark that a file is not written to.
    ReadOnlyMark,
    /// Nothing: anybody who gets at a file may write to it.
    None,
}

/// How names that differ in case only are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Case {
    /// They are different files.
    Sensitive,
    /// They are the same file.
    Insensitive,
}

/// What the file system below a folder can do. The default is a full POSIX volume without a file size limit.
///
/// ```
/// use stratavm_disk::{Holes, Volume};
///
/// let mut fat32 = Volume::default();
/// fat32.holes = Holes::None;
/// fat32.max_file = Some(u64::from(u32::MAX));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Volume {
    /// Whether files may have holes.
    pub holes: Holes,
    /// Largest file in bytes; `None` if there is no limit that matters.
    pub max_file: Option<u64>,
    /// Which links there are.
    pub links: Links,
    /// Whether a file can be renamed over an open one.
    pub rename_over_open: RenameOverOpen,
    /// Whether there are permission bits.
    pub permissions: Permissions,
    /// Whether names differ by case.
    pub case: Case,
}

impl Default for Volume {
    fn default() -> Volume {
        Volume {
            holes: Holes::Sparse,
            max_file: None,
            links: Links::HardAndSymbolic,
            rename_over_open: RenameOverOpen::Allowed,
            permissions: Permissions::Posix,
            case: Case::Sensitive,
        }
    }
}

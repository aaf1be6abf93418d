//! How a layer's partition is named, and which file systems it may hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::image::ImageDigest;
use crate::spec::Role;

/// The id of a partition: 64 bits, written as 16 lower-case hexadecimal digits.
///
/// For an image's partition it is the beginning of the digest of the partition's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentId([u8; 8]);

impl ContentId {
    /// An id from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl From<&ImageDigest> for ContentId {
    fn from(digest: &ImageDigest) -> Self {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(digest.as_bytes()) {
            *to = *from;
        }
        Self(bytes)
    }
}

/// A text that is no [`ContentId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no partition id: 16 lower-case hexadecimal digits")]
pub struct IdError(String);

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ContentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(IdError(text.chars().take(40).collect()));
        }
        u64::from_str_radix(text, 16)
            .map(|value| Self(value.to_be_bytes()))
            .map_err(|_| IdError(text.to_owned()))
    }
}

impl TryFrom<String> for ContentId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ContentId> for String {
    fn from(id: ContentId) -> Self {
        id.to_string()
    }
}

/// The GPT name by which the guest finds a layer: `strata.<role>.<id>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartitionName {
    /// The layer's role.
    pub role: Role,
    /// The partition's id.
    pub id: ContentId,
}

impl PartitionName {
    /// What the names of all partitions that the guest looks at start with.
    pub const PREFIX: &'static str = "strata.";
}

/// A text that is no [`PartitionName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a layer's partition: write strata.<role>.<16 hexadecimal digits>")]
pub struct PartitionNameError(String);

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}.{}", Self::PREFIX, self.role, self.id)
    }
}

impl FromStr for PartitionName {
    type Err = PartitionNameError;

    fn from_str(text: &str) -> Result<Self, PartitionNameError> {
        let (role, id) = text
            .strip_prefix(Self::PREFIX)
            .and_then(|rest| rest.split_once('.'))
            .unzip();
        let role = role.and_then(|role| role.parse().ok());
        let id = id.and_then(|id| id.parse().ok());
        match (role, id) {
            (Some(role), Some(id)) => Ok(Self { role, id }),
            _ => Err(PartitionNameError(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for PartitionName {
    type Error = PartitionNameError;

    fn try_from(text: String) -> Result<Self, PartitionNameError> {
        text.parse()
    }
}

impl From<PartitionName> for String {
    fn from(name: PartitionName) -> Self {
        name.to_string()
    }
}

/// The file systems that a layer's partition may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FileSystem {
    /// squashfs 4, read-only.
    Squashfs,
    /// EROFS, read-only.
    Erofs,
    /// ext4, and what its driver mounts too: ext2 and ext3.
    Ext4,
}

/// What a file system says of itself in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SuperBlock {
    pub(crate) fs: FileSystem,
    /// How many bytes the file system takes: fewer in a file mean that it was cut.
    pub(crate) bytes: u64,
    pub(crate) state: FsState,
}

/// Whether a file system was left in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FsState {
    /// It was unmounted, or is never written to.
    Clean,
    /// It is, or was, mounted for writing: its journal may hold what its blocks do not.
    Unclean,
}

impl FileSystem {
    /// How many bytes at the start of a file system [`Self::detect`] looks at.
    pub(crate) const HEAD: usize = 2048;

    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Squashfs, Self::Erofs, Self::Ext4];

    /// The name that `mount -t` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        }
    }

    /// What stands at the start of a partition, by magic numbers. Fields as in Linux
    /// `squashfs_fs.h`, `erofs_fs.h` and `ext4.h`.
    pub(crate) fn detect(head: &[u8]) -> Option<SuperBlock> {
        let squashfs = || {
            let version = u64::from(le(head, 28, 2)?);
            (le(head, 0, 4)? == 0x7371_7368 && version == 4).then_some(())?;
            Some((Self::Squashfs, le64(head, 40)?, FsState::Clean))
        };
        let erofs = || {
            (le(head, 1024, 4)? == 0xe0f5_e1e2).then_some(())?;
            let block = 1_u64.checked_shl(le(head, 1024 + 12, 1)?)?;
            Some((
                Self::Erofs,
                u64::from(le(head, 1024 + 36, 4)?).saturating_mul(block),
                FsState::Clean,
            ))
        };
        let ext4 = || {
            (le(head, 1024 + 0x38, 2)? == 0xef53).then_some(())?;
            let block = 1024_u64.checked_shl(le(head, 1024 + 0x18, 4)?)?;
            let wide = le(head, 1024 + 0x60, 4)? & 0x80 != 0;
            let high = if wide {
                u64::from(le(head, 1024 + 0x150, 4)?) << 32
            } else {
                0
            };
            let blocks = high | u64::from(le(head, 1024 + 4, 4)?);
            // s_state has EXT4_VALID_FS (1) and no EXT4_ERROR_FS (2); s_feature_incompat has no
            // EXT4_FEATURE_INCOMPAT_RECOVER (4), which a mount for writing sets.
            let state = le(head, 1024 + 0x3a, 2)? & 3;
            let recover = le(head, 1024 + 0x60, 4)? & 4;
            let state = match (state, recover) {
                (1, 0) => FsState::Clean,
                _ => FsState::Unclean,
            };
            Some((Self::Ext4, blocks.saturating_mul(block), state))
        };
        let (fs, bytes, state) = squashfs().or_else(erofs).or_else(ext4)?;
        Some(SuperBlock { fs, bytes, state })
    }
}

/// A little-endian field of up to 4 bytes.
fn le(head: &[u8], at: usize, len: usize) -> Option<u32> {
    let bytes = head.get(at..at + len)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)),
    )
}

fn le64(head: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(le(head, at + 4, 4)?) << 32 | u64::from(le(head, at, 4)?))
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`FileSystem`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no file system of a layer: squashfs, erofs or ext4")]
pub struct UnknownFileSystem(String);

impl FromStr for FileSystem {
    type Err = UnknownFileSystem;

    fn from_str(text: &str) -> Result<Self, UnknownFileSystem> {
        let known = Self::ALL.into_iter().find(|fs| fs.as_str() == text);
        known.ok_or_else(|| UnknownFileSystem(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip_and_fit_into_gpt() {
        for role in Role::ALL {
            let name = PartitionName {
                role,
                id: ContentId::from_bytes([0xab; 8]),
            };
            let text = name.to_string();
            assert_eq!(text.parse::<PartitionName>().unwrap(), name);
            assert!(text.len() <= 33, "{text}");
        }
        for bad in [
            "",
            "strata",
            "strata.os",
            "strata.os.12",
            "os.abababababababab",
            "strata.os.ABABABABABABABAB",
            "strata.os.+bababababababab",
            "strata.kernel.abababababababab",
        ] {
            assert!(bad.parse::<PartitionName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_head_makes_detection_fail() {
        for len in 0..=FileSystem::HEAD {
            assert_eq!(FileSystem::detect(&vec![0; len]), None);
        }
        let mut head = vec![0xff; FileSystem::HEAD];
        head[..4].copy_from_slice(b"hsqs");
        assert_eq!(FileSystem::detect(&head), None);
        head[28..30].copy_from_slice(&[4, 0]);
        let found = FileSystem::detect(&head).unwrap();
        assert_eq!((found.fs, found.bytes), (FileSystem::Squashfs, u64::MAX));
    }
}

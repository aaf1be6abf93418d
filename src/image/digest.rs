//! The digest that names an image: `sha256c:<hex>`.
//!
//! Here live its definition and text form. Computing it over files is in [`super::hash`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::linux::ContentId;

/// The size in bytes of the chunks that are hashed one by one: 4 MiB.
pub const CHUNK_SIZE: u64 = 4 << 20;

/// The name of an image's content: SHA-256 of the line
/// `stratavm-image 1 <size> 4194304\n`, followed by the SHA-256 of each 4 MiB chunk in order.
///
/// It covers the disk as stored, not how the disk is cut into extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest([u8; 32]);

impl ImageDigest {
    /// What the text form starts with.
    pub const PREFIX: &'static str = "sha256c:";

    /// A digest from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of a disk of `size` bytes whose chunks have these hashes, in order.
    pub fn from_chunks(size: u64, chunks: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(Self::header(size));
        for chunk in chunks {
            hasher.update(chunk);
        }
        Self(hasher.finalize().into())
    }

    /// The line that is hashed before the hashes of the chunks of a disk of `size` bytes.
    pub(super) fn header(size: u64) -> String {
        format!("stratavm-image 1 {size} {CHUNK_SIZE}\n")
    }

    /// The 64 hexadecimal digits without the prefix.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 64 bits: the id of a partition with this content.
    #[must_use]
    pub fn content_id(&self) -> ContentId {
        self.into()
    }
}

/// A text that is no [`ImageDigest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no image digest: write sha256c: and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.hex())
    }
}

impl FromStr for ImageDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.chars().take(80).collect());
        let hex = text.strip_prefix(Self::PREFIX).ok_or_else(error)?;
        let digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if hex.len() != 64 || !hex.as_bytes().iter().all(digit) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_strict() {
        let digest = ImageDigest::from_chunks(5, [[7; 32]]);
        assert_eq!(digest.to_string().parse::<ImageDigest>().unwrap(), digest);
        assert_eq!(digest.content_id().to_string(), digest.hex()[..16]);
        for bad in [
            "",
            "sha256:00",
            "sha256c:00",
            &digest.to_string().to_uppercase(),
        ] {
            assert!(bad.parse::<ImageDigest>().is_err());
        }
    }
}

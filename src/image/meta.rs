//! `image.json`: what is known of an image besides its content.
//!
//! Reading is strict: the file may come from anywhere. Files are opened in [`super::root`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ImageDigest;
use super::extents::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Format, Kind, Unknown};
use crate::linux::{FileSystem, PartitionName};
use crate::spec::{Name, Role};
use crate::timestamp::Timestamp;

/// What `image.json` is.
const KIND: Kind = Kind {
    name: "stratavm-image",
    version: 1,
    min_reader: 1,
};

/// Every image's size is a multiple of it, in bytes.
pub(crate) const ALIGNMENT: u64 = 1 << 20;

/// Largest image in bytes: what a VMDK can describe.
pub(crate) const MAX_SIZE: u64 = 2 << 40;

/// Most extents of an image.
const MAX_EXTENTS: usize = 1 << 16;

/// An image's own description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ImageMeta {
    /// What kind of file this is.
    pub format: Format,
    /// The digest of the content: the image's name.
    pub digest: ImageDigest,
    /// Size in bytes, a multiple of 1 MiB.
    pub size: u64,
    /// The files that hold the content, in order.
    pub extents: Vec<ExtentMeta>,
    /// The partitions that hold layers. Empty for disks that know nothing of layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionMeta>,
    /// When it came into the store.
    pub time: Timestamp,
    /// Where it came from.
    pub provenance: Provenance,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ExtentMeta {
    /// The file's name in the image's folder.
    pub file: String,
    /// Its length in sectors of 512 bytes, a multiple of 2048 (1 MiB).
    pub sectors: u64,
    /// The digest of this extent alone, where there are several: tells which one changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ImageDigest>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A partition that holds a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PartitionMeta {
    /// Its GPT name, which holds role and id.
    pub name: PartitionName,
    /// What it is, or, where it is blank, will be formatted with.
    pub fs: FileSystem,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The digest of its content.
    pub digest: ImageDigest,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Where an image came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Provenance {
    /// How it was made.
    pub origin: Origin,
    /// The name, without folders, of the file that was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What the wrapped file system is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The image that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ImageDigest>,
    /// The machine that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Provenance {
    /// Nothing is known but how it was made.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            source: None,
            name: None,
            parent: None,
            machine: None,
            label: None,
            unknown: Unknown::new(),
        }
    }
}

/// How an image was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// Added from a file as it was, but for padding.
    Added,
    /// A file system that was wrapped into a disk.
    Wrapped,
    /// Made blank.
    Blank,
    /// Made from a layer of a machine.
    Published,
}

impl ExtentMeta {
    pub(super) fn new(file: String, sectors: u64, digest: Option<ImageDigest>) -> Self {
        Self {
            file,
            sectors,
            digest,
            unknown: Unknown::new(),
        }
    }

    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR)
    }
}

impl ImageMeta {
    /// The description of a new image.
    pub(super) fn new(
        digest: ImageDigest,
        extents: Vec<ExtentMeta>,
        partitions: Vec<PartitionMeta>,
        provenance: Provenance,
    ) -> Self {
        let size = extents.iter().map(ExtentMeta::bytes).sum();
        let (format, time) = (Format::new(KIND), Timestamp::now());
        Self {
            format,
            digest,
            size,
            extents,
            partitions,
            time,
            provenance,
            unknown: Unknown::new(),
        }
    }

    /// Reads and checks an `image.json`.
    ///
    /// # Errors
    /// [`ErrorKind::FromTheFuture`] for a file that asks for a newer reader;
    /// [`ErrorKind::Malformed`] naming the key for one that breaks a rule. The caller adds the path.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let meta: Self = format::parse(bytes, KIND)?;
        meta.check()?;
        Ok(meta)
    }

    /// The bytes of `image.json`.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        format::to_bytes(self)
    }

    /// Size in sectors of 512 bytes.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.size / SECTOR
    }

    /// Whether it was made blank, so that a layer that was never written to holds nothing.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.provenance.origin == Origin::Blank
    }

    /// The partition that holds a layer of this role, under `linux` composition.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is none, or more than one.
    pub fn partition_for(&self, role: Role) -> Result<&PartitionMeta> {
        let mut found = self
            .partitions
            .iter()
            .filter(|partition| partition.name.role == role);
        match (found.next(), found.next()) {
            (Some(partition), None) => Ok(partition),
            (Some(_), Some(_)) => {
                let message = format!("image {} has several {role} partitions", self.digest);
                Err(Error::invalid(message))
            }
            (None, _) => {
                let message = format!("image {} has no partition strata.{role}.*", self.digest);
                Err(Error::invalid(message).next(format!(
                    "wrap the bare file system: image add FILE --fs --role {role} --name NAME"
                )))
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.size == 0 || !self.size.is_multiple_of(ALIGNMENT) || self.size > MAX_SIZE {
            return Err(malformed("size", "is no multiple of 1 MiB up to 2 TiB"));
        }
        if self.extents.is_empty() || self.extents.len() > MAX_EXTENTS {
            return Err(malformed("extents", &format!("must be 1 to {MAX_EXTENTS}")));
        }
        let mut names = BTreeSet::new();
        let mut sum: u64 = 0;
        for (n, extent) in self.extents.iter().enumerate() {
            let key = format!("extents[{n}]");
            if !is_plain(&extent.file) {
                return Err(malformed(
                    &format!("{key}.file"),
                    "is no plain name of an extent",
                ));
            }
            if !names.insert(&extent.file) {
                return Err(malformed(&format!("{key}.file"), "is named twice"));
            }
            let aligned = extent.sectors.is_multiple_of(ALIGNMENT / SECTOR);
            if extent.sectors == 0 || !aligned || extent.bytes() > MAX_SIZE {
                return Err(malformed(
                    &format!("{key}.sectors"),
                    "is no multiple of 1 MiB",
                ));
            }
            // No overflow: each is at most 2 TiB, and there are at most 2^16.
            sum += extent.bytes();
        }
        if sum != self.size {
            let what = format!("hold {sum} bytes together, not {}", self.size);
            return Err(malformed("extents", &what));
        }
        self.check_partitions()
    }

    fn check_partitions(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for (n, partition) in self.partitions.iter().enumerate() {
            let key = format!("partitions[{n}]");
            let end = partition.offset.checked_add(partition.length);
            if partition.length == 0 || end.is_none_or(|end| end > self.size) {
                return Err(malformed(&key, "is not within the disk"));
            }
            if !names.insert(partition.name.to_string()) {
                return Err(malformed(&format!("{key}.name"), "is given twice"));
            }
        }
        Ok(())
    }
}

/// Whether this may be the name of an extent: it never leaves the image's folder, and is no other
/// file of it, on any host.
fn is_plain(name: &str) -> bool {
    let character = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let stem = name.split('.').next().unwrap_or_default();
    name.len() <= 64
        && name.bytes().all(character)
        && stem.parse::<Name>().is_ok()
        && !name.ends_with('.')
        && ![super::root::META_FILE, super::root::LEASES].contains(&name)
}

fn malformed(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("key {key} {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn sample() -> Value {
        let digest = ImageDigest::from_bytes([7; 32]).to_string();
        json!({
            "format": {"name": "stratavm-image", "version": 1, "min-reader": 1, "writer": "w"},
            "digest": digest,
            "size": 3 << 20,
            "extents": [
                {"file": "extent-0.raw", "sectors": 2048},
                {"file": "extent-1.raw", "sectors": 4096, "digest": digest, "later": 1},
            ],
            "partitions": [{
                "name": "strata.os.0707070707070707", "fs": "squashfs",
                "offset": 1 << 20, "length": 1 << 20, "digest": digest,
            }],
            "time": "2026-01-31T12:00:00Z",
            "provenance": {"origin": "added", "source": "golden.raw", "later": [1]},
            "later": {"x": null},
        })
    }

    fn parse(value: &Value) -> Result<ImageMeta> {
        ImageMeta::parse(value.to_string().as_bytes())
    }

    #[test]
    fn round_trips_with_what_it_does_not_know() {
        let meta = parse(&sample()).unwrap();
        let again: Value = serde_json::from_slice(&meta.to_bytes().unwrap()).unwrap();
        assert_eq!(again, sample());
        assert_eq!(meta.sectors(), 6144);
        assert!(!meta.is_blank());
        assert_eq!(meta.partition_for(Role::Os).unwrap(), &meta.partitions[0]);
        assert!(meta.partition_for(Role::Apps).is_err());
    }

    #[test]
    fn every_rule_is_enforced_and_named() {
        let cases = [
            ("/size", json!(0), "size"),
            ("/size", json!((3 << 20) + 512), "size"),
            ("/size", json!(u64::MAX), "size"),
            ("/size", json!(4 << 20), "extents"),
            ("/extents", json!([]), "extents"),
            ("/extents/0/file", json!("../x"), "extents[0].file"),
            ("/extents/0/file", json!("a/b"), "extents[0].file"),
            ("/extents/0/file", json!("a\\b"), "extents[0].file"),
            ("/extents/0/file", json!(""), "extents[0].file"),
            ("/extents/0/file", json!(".hidden"), "extents[0].file"),
            ("/extents/0/file", json!("nul.raw"), "extents[0].file"),
            ("/extents/0/file", json!("image.json"), "extents[0].file"),
            ("/extents/0/file", json!("leases"), "extents[0].file"),
            ("/extents/0/file", json!("extent-1.raw"), "extents[1].file"),
            ("/extents/0/sectors", json!(0), "extents[0].sectors"),
            ("/extents/0/sectors", json!(u64::MAX), "extents[0].sectors"),
            ("/extents/0/sectors", json!(2049), "extents[0].sectors"),
            ("/partitions/0/offset", json!(u64::MAX), "partitions[0]"),
            ("/partitions/0/length", json!(3 << 20), "partitions[0]"),
            (
                "/partitions/0/name",
                json!("strata.kernel.0707070707070707"),
                "strata.<role>",
            ),
            ("/digest", json!("sha256c:00"), "no image digest"),
        ];
        for (pointer, value, names) in cases {
            let mut bad = sample();
            *bad.pointer_mut(pointer).unwrap() = value;
            let error = parse(&bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{pointer}");
            assert!(error.to_string().contains(names), "{pointer}: {error}");
        }
    }
}

//! The header of an image and its extensions, read strictly: every number is checked against the file before anything is
//! made of it. Tables are checked in `tables`.

use super::has_protocol;
use crate::file::ImageFile;
use crate::{Error, Result};

pub(crate) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes of a header of version 2, and the least of version 3.
const V2: u32 = 72;
pub(super) const V3: u32 = 104;
/// The part of the first cluster that is looked at: no writer's extensions come near this.
const MOST_HEADER: u64 = 64 << 10;
/// Bytes of the longest name of a backing file.
pub(super) const MOST_NAME: u32 = 1023;
/// Bytes of the largest L1 and refcount tables.
const MOST_L1: u64 = 32 << 20;
const MOST_COUNTS: u64 = 8 << 20;

const EXT_END: u32 = 0;
pub(super) const EXT_FORMAT: u32 = 0xe279_2aca;
const EXT_CRYPTO: u32 = 0x0537_be77;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const COMPRESSION: u64 = 1 << 3;
/// Incompatible features that images have and that are not read here.
const REFUSED: [(u64, &str); 2] = [
    (1 << 2, "external data file"),
    (1 << 4, "extended L2 entries"),
];

/// What the image says of its own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Clean,
    /// A writer that counts lazily did not close it: reference counts may be too low.
    Dirty,
    /// A writer found its tables contradict each other.
    Corrupt,
}

/// The image below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// As written.
    pub(crate) file: String,
    /// The driver's name, where the image says it.
    pub(crate) format: Option<String>,
}

/// What is used of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    /// Between 9 and 21.
    pub(crate) cluster_bits: u32,
    /// Size of the guest disk in bytes, not 0.
    pub(crate) size: u64,
    /// The L1 table lies in the file and covers the disk.
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u32,
    /// So does the table of refcount blocks lie there; at least one cluster.
    pub(super) counts_offset: u64,
    pub(super) counts_clusters: u32,
    /// Refcounts have 2 to the power of this bits; at most 6.
    pub(super) count_order: u32,
    pub(crate) mark: Mark,
    /// Features that a writer has to take back.
    pub(super) autoclear: u64,
    pub(crate) backing: Option<Named>,
}

impl Header {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// `Unsupported` naming the feature; `Malformed` naming the field, with its offset.
    pub(crate) fn read(file: &ImageFile) -> Result<Header> {
        let start = file.len().min(MOST_HEADER);
        let mut bytes = vec![0; start as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Header::parse(&bytes, file.len()).map_err(|e| e.at_path(file.path()))
    }

    /// Reads the first bytes of a file that is `len` bytes long.
    fn parse(bytes: &[u8], len: u64) -> Result<Header> {
        let b = Fields(bytes);
        if bytes.get(..4) != Some(MAGIC) {
            return Err(Error::malformed("not a qcow2 image").at_offset(0));
        }
        let version = b.u32(4)?;
        match version {
            2 | 3 => {}
            1 => return Err(Error::unsupported("qcow version 1")),
            other => return Err(Error::unsupported(format!("qcow2 version {other}"))),
        }
        let cluster_bits = b.u32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(bad(20, format!("clusters of 2^{cluster_bits} bytes")));
        }
        match b.u32(32)? {
            0 => {}
            1 => return Err(Error::unsupported("encryption (AES)")),
            2 => return Err(Error::unsupported("encryption (LUKS)")),
            other => return Err(Error::unsupported(format!("encryption (method {other})"))),
        }
        match b.u32(60)? {
            0 => {}
            n => return Err(Error::unsupported(format!("internal snapshots: {n}"))),
        }
        let (mark, autoclear) = match version {
            2 => (Mark::Clean, 0),
            _ => (features(&b)?, b.u64(88)?),
        };
        let header = Header {
            version,
            cluster_bits,
            size: b.u64(24)?,
            l1_offset: b.u64(40)?,
            l1_entries: b.u32(36)?,
            counts_offset: b.u64(48)?,
            counts_clusters: b.u32(56)?,
            count_order: match version {
                2 => 4,
                _ => b.u32(96)?,
            },
            mark,
            autoclear,
            backing: backing(&b, version, 1 << cluster_bits)?,
        };
        header.check(len)?;
        Ok(header)
    }

    fn check(&self, len: u64) -> Result<()> {
        let cluster = self.cluster();
        if self.size == 0 || self.size > i64::MAX as u64 {
            return Err(bad(24, format!("a disk of {} bytes", self.size)));
        }
        if self.count_order > 6 {
            return Err(bad(96, format!("refcounts of 2^{} bits", self.count_order)));
        }
        let needed = self.size.div_ceil(self.table_covers());
        let entries = u64::from(self.l1_entries);
        if entries < needed {
            return Err(bad(36, format!("{entries} L1 entries of {needed}")));
        }
        let table = |field: u64, what: &str, at: u64, bytes: u64, most: u64| {
            let inside = at.checked_add(bytes).is_some_and(|end| end <= len);
            match bytes {
                _ if at < cluster || !at.is_multiple_of(cluster) || !inside => {
                    Err(bad(field, format!("{what} of {bytes} bytes at byte {at}")))
                }
                _ if bytes > most => Err(Error::limit(format!("{what} of {bytes} bytes"))),
                _ => Ok(()),
            }
        };
        table(40, "L1 table", self.l1_offset, entries * 8, MOST_L1)?;
        let counts = u64::from(self.counts_clusters) << self.cluster_bits;
        table(
            48,
            "refcount table",
            self.counts_offset,
            counts,
            MOST_COUNTS,
        )?;
        match counts {
            0 => Err(bad(56, "no refcount table".to_owned())),
            _ => Ok(()),
        }
    }

    /// Bytes of a cluster.
    pub(crate) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the disk that one L2 table covers.
    pub(super) fn table_covers(&self) -> u64 {
        self.cluster() * (self.cluster() / 8)
    }

    /// A header that says the same of size and tables, and nothing else.
    pub(super) fn bare(&self) -> [u8; V3 as usize] {
        let mut bytes = [0; V3 as usize];
        bytes[..4].copy_from_slice(MAGIC);
        let mut put = |at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        };
        put(4, self.version);
        put(20, self.cluster_bits);
        put(36, self.l1_entries);
        put(56, self.counts_clusters);
        if self.version > 2 {
            put(96, self.count_order);
            put(100, V3);
        }
        let mut put = |at: usize, value: u64| {
            bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        };
        put(24, self.size);
        put(40, self.l1_offset);
        put(48, self.counts_offset);
        bytes
    }
}

/// Big-endian fields of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> Result<u32> {
        let found = self.0.get(at..).and_then(<[u8]>::first_chunk::<4>);
        let found = found.ok_or_else(|| bad(at as u64, "the file ends in its header".to_owned()));
        found.map(|b| u32::from_be_bytes(*b))
    }

    fn u64(&self, at: usize) -> Result<u64> {
        Ok(u64::from(self.u32(at)?) << 32 | u64::from(self.u32(at + 4)?))
    }

    fn text(&self, at: usize, len: usize, what: &str) -> Result<String> {
        let found = at.checked_add(len).and_then(|end| self.0.get(at..end));
        let found = found.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let found = found.filter(|text| !text.is_empty() && !text.contains(char::is_control));
        found
            .map(str::to_owned)
            .ok_or_else(|| bad(at as u64, format!("{what} is no text")))
    }
}

fn bad(field: u64, why: String) -> Error {
    Error::malformed(why).at_offset(field)
}

fn features(b: &Fields<'_>) -> Result<Mark> {
    let set = b.u64(72)?;
    if let Some((_, name)) = REFUSED.iter().find(|(bit, _)| set & bit != 0) {
        return Err(Error::unsupported(*name));
    }
    let unknown = set & !(DIRTY | CORRUPT | COMPRESSION);
    if unknown != 0 {
        let bit = unknown.trailing_zeros();
        return Err(Error::unsupported(format!("incompatible feature {bit}")));
    }
    let length = b.u32(100)?;
    let kind = match length > V3 {
        true => b.0.get(V3 as usize).copied().unwrap_or(0),
        false => 0,
    };
    match (set & COMPRESSION != 0, kind) {
        (false, 0) => {}
        (true, 1) => return Err(Error::unsupported("compression zstd")),
        (true, 2..) => return Err(Error::unsupported(format!("compression type {kind}"))),
        _ => return Err(bad(u64::from(V3), format!("compression type {kind}"))),
    }
    Ok(match set {
        _ if set & CORRUPT != 0 => Mark::Corrupt,
        _ if set & DIRTY != 0 => Mark::Dirty,
        _ => Mark::Clean,
    })
}

/// The image below, from the name in the header and the extension with its format. Both lie in the first cluster.
fn backing(b: &Fields<'_>, version: u32, cluster: u64) -> Result<Option<Named>> {
    let length = match version {
        2 => V2,
        _ => b.u32(100)?,
    };
    if version > 2 && (length < V3 || !length.is_multiple_of(8) || u64::from(length) > cluster) {
        return Err(bad(100, format!("a header of {length} bytes")));
    }
    let (at, len) = (b.u64(8)?, b.u32(16)?);
    let end = match at {
        0 => cluster,
        at if at < u64::from(length) || at > cluster => {
            return Err(bad(8, format!("name of the backing file at byte {at}")));
        }
        at => at,
    };
    let format = extension(b, u64::from(length), end)?;
    if at == 0 {
        return Ok(None);
    }
    if len == 0 || len > MOST_NAME || at + u64::from(len) > cluster {
        return Err(bad(16, format!("name of the backing file of {len} bytes")));
    }
    let file = b.text(at as usize, len as usize, "name of the backing file")?;
    if has_protocol(&file) {
        return Err(Error::unsupported(format!(
            "a backing file that is no file: {file:?}"
        )));
    }
    Ok(Some(Named { file, format }))
}

/// The format of the backing file, looked for among the extensions in a part of the header. They end with their own
/// mark, or with that part.
fn extension(b: &Fields<'_>, mut at: u64, end: u64) -> Result<Option<String>> {
    let mut found = None;
    let end = end.min(b.0.len() as u64);
    while at + 8 <= end {
        let (kind, len) = (b.u32(at as usize)?, b.u32(at as usize + 4)?);
        let data = at + 8;
        if kind == EXT_END {
            break;
        }
        if data + u64::from(len) > end {
            return Err(bad(at, format!("header extension of {len} bytes")));
        }
        match kind {
            EXT_CRYPTO => return Err(Error::unsupported("encryption")),
            EXT_FORMAT if found.is_some() => {
                return Err(bad(at, "two formats of the backing file".to_owned()));
            }
            EXT_FORMAT => {
                let text = b.text(data as usize, len as usize, "format of the backing file")?;
                found = Some(text);
            }
            _ => {}
        }
        at = data + u64::from(len).next_multiple_of(8);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

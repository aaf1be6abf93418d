//! What a new image holds: header, refcounts and an empty L1 table, version 3, clusters of 64 KiB, as QEMU makes it. A
//! pure function of the spec.

use super::header::{EXT_FORMAT, MAGIC, MOST_NAME, V3};
use super::{driver_of, has_protocol};
use crate::image::ImageBytes;
use crate::info::Format;
use crate::vmdk::SECTOR;
use crate::{Error, Result};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk that one L2 table covers.
const TABLE_COVERS: u64 = CLUSTER * CLUSTER / 8;
/// Bytes of the largest L1 table that QEMU reads.
const MOST_L1: u64 = 32 << 20;
/// Clusters: header, refcount table, the one refcount block, and then the L1 table.
const COUNTS_AT: u64 = 1;
const BLOCK_AT: u64 = 2;
const L1_AT: u64 = 3;
/// Refcounts have 16 bits.
const COUNT_ORDER: u32 = 4;

/// The image below a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Where it is, relative to the new image's folder or absolute: at most 1023 bytes, and nothing that QEMU takes for
    /// a protocol.
    pub file: String,
    /// Its format: any but a Parallels bundle.
    pub format: Format,
}

/// A new qcow2 image without data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Spec {
    /// Size of the disk in sectors of 512 bytes: at least 1, at most 2 PiB.
    pub sectors: u64,
    /// The image that it lies on.
    pub backing: Option<Backing>,
}

impl Qcow2Spec {
    fn l1_bytes(&self) -> u64 {
        let size = self.sectors.saturating_mul(SECTOR);
        size.div_ceil(TABLE_COVERS) * 8
    }
}

pub(crate) fn render(spec: &Qcow2Spec) -> Result<ImageBytes> {
    if spec.sectors == 0 {
        return Err(Error::invalid("a disk of 0 sectors"));
    }
    if spec.l1_bytes() > MOST_L1 {
        return Err(Error::limit(format!(
            "disk of {} sectors: a qcow2 with clusters of 64 KiB holds at most 2 PiB",
            spec.sectors
        )));
    }
    let clusters = L1_AT + spec.l1_bytes().div_ceil(CLUSTER);
    let mut out = ImageBytes::new(clusters * CLUSTER);
    out.push(0, header(spec)?);
    let block = BLOCK_AT * CLUSTER;
    out.push(COUNTS_AT * CLUSTER, block.to_be_bytes().to_vec());
    out.push(block, [0, 1].repeat(clusters as usize));
    Ok(out.finish())
}

fn header(spec: &Qcow2Spec) -> Result<Vec<u8>> {
    let name = match &spec.backing {
        Some(backing) => checked_name(backing)?,
        None => "",
    };
    let mut extensions = Vec::new();
    if let Some(driver) = spec.backing.as_ref().map(driver).transpose()? {
        extensions.extend(EXT_FORMAT.to_be_bytes());
        extensions.extend((driver.len() as u32).to_be_bytes());
        extensions.extend(driver.as_bytes());
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    // Their end.
    extensions.extend([0; 8]);
    let name_at = match name.len() {
        0 => 0,
        _ => u64::from(V3) + extensions.len() as u64,
    };
    let mut out = MAGIC.to_vec();
    let put32 = |out: &mut Vec<u8>, value: u32| out.extend(value.to_be_bytes());
    let put64 = |out: &mut Vec<u8>, value: u64| out.extend(value.to_be_bytes());
    put32(&mut out, 3);
    put64(&mut out, name_at);
    put32(&mut out, name.len() as u32);
    put32(&mut out, CLUSTER_BITS);
    put64(&mut out, spec.sectors * SECTOR);
    put32(&mut out, 0); // no encryption
    put32(&mut out, (spec.l1_bytes() / 8) as u32);
    put64(&mut out, L1_AT * CLUSTER);
    put64(&mut out, COUNTS_AT * CLUSTER);
    put32(&mut out, 1); // cluster of the refcount table
    put32(&mut out, 0); // no snapshots
    put64(&mut out, 0);
    for _features in ["incompatible", "compatible", "autoclear"] {
        put64(&mut out, 0);
    }
    put32(&mut out, COUNT_ORDER);
    put32(&mut out, V3);
    out.extend(extensions);
    out.extend(name.as_bytes());
    Ok(out)
}

fn checked_name(backing: &Backing) -> Result<&str> {
    let name = backing.file.as_str();
    let fits = !name.is_empty() && name.len() <= MOST_NAME as usize;
    match fits && !name.contains(char::is_control) && !has_protocol(name) {
        true => Ok(name),
        false => Err(Error::invalid(format!(
            "{name:?} is no name of a backing file: 1 to {MOST_NAME} bytes, without control characters, no colon before \
             the first slash"
        ))),
    }
}

fn driver(backing: &Backing) -> Result<&'static str> {
    driver_of(backing.format).ok_or_else(|| {
        Error::invalid(format!(
            "a qcow2 image cannot say that it lies on a {}",
            backing.format
        ))
    })
}

/// Bytes of the file once every cluster is written, tables included.
pub(crate) fn grown_len(spec: &Qcow2Spec) -> u64 {
    let data = spec.sectors.saturating_mul(SECTOR).div_ceil(CLUSTER);
    let tables = spec.l1_bytes() / 8 + spec.l1_bytes().div_ceil(CLUSTER);
    let counted = data + tables + L1_AT;
    // A block counts 32768 clusters and is one; the table of blocks may grow to 8 MiB beside its old one.
    let counts = counted.div_ceil(32 << 10) + 1 + (counted >> 28) * 2;
    (counted + counts).saturating_mul(CLUSTER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ErrorKind;

    fn spec(sectors: u64, backing: Option<(&str, Format)>) -> Qcow2Spec {
        let backing = backing.map(|(file, format)| Backing {
            file: file.to_owned(),
            format,
        });
        Qcow2Spec { sectors, backing }
    }

    #[test]
    fn an_empty_disk_takes_its_tables_alone() {
        let made = render(&spec(1, None)).unwrap();
        assert_eq!(made.len, 4 * CLUSTER);
        let at: Vec<_> = made.pieces.iter().map(|(at, b)| (*at, b.len())).collect();
        assert_eq!(at, [(0, 112), (CLUSTER, 8), (2 * CLUSTER, 8)]);
        // 1 TiB: 2048 tables, whose places fit into one cluster.
        let made = render(&spec(1 << 31, None)).unwrap();
        assert_eq!(made.len, 4 * CLUSTER);
    }

    #[test]
    fn what_no_reader_takes_is_refused() {
        let kind = |spec: &Qcow2Spec| render(spec).unwrap_err().kind();
        assert_eq!(kind(&spec(0, None)), ErrorKind::Invalid);
        assert!(render(&spec(1 << 42, None)).is_ok());
        assert_eq!(kind(&spec((1 << 42) + 1, None)), ErrorKind::Limit);
        assert_eq!(kind(&spec(u64::MAX, None)), ErrorKind::Limit);
        for name in ["", "json:{}", "nbd://host", "a\nb", &"x".repeat(1024)] {
            let spec = spec(1, Some((name, Format::Raw)));
            assert_eq!(kind(&spec), ErrorKind::Invalid, "{name:?}");
        }
        assert!(render(&spec(1, Some(("../a/b:c.raw", Format::Raw)))).is_ok());
        let bundle = spec(1, Some(("disk.hdd", Format::Hdd)));
        assert_eq!(kind(&bundle), ErrorKind::Invalid);
    }
}

//! What a new `.hds` file holds: the header and block table of Parallels' own variant (`WithoutFreeSpace`), clusters of
//! 1 MiB. A pure function of the spec; such files carry no link to their parent.

use super::HdsHeader;
use super::header::CLUSTER_SECTORS;
use crate::image::ImageBytes;
use crate::patch::{self, Patch};
use crate::vmdk::SECTOR;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Sectors that the 32-bit fields of this variant can address.
const ADDRESSABLE: u64 = 1 << 32;

/// A new expanding image. Whether it is a root or a delta is said by the bundle's descriptor alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdsSpec {
    /// Size of this storage's range in sectors: a multiple of 2048, at most 2 TiB - 9 MiB, so that a full image can
    /// still be addressed with 32-bit sector numbers.
    pub sectors: u64,
    /// What stands in it, offsets relative to this range, in order. A cluster (1 MiB) that is touched holds zeros
    /// elsewhere: in a delta those hide the parent's data.
    pub patches: Vec<Patch>,
}

pub(crate) fn render(spec: &HdsSpec) -> Result<ImageBytes> {
    if spec.sectors == 0 || !spec.sectors.is_multiple_of(CLUSTER_SECTORS) {
        return Err(Error::invalid(format!(
            "disk of {} sectors is not a multiple of 1 MiB (2048 sectors)",
            spec.sectors
        )));
    }
    if spec.sectors > ADDRESSABLE || grown_len(spec) > ADDRESSABLE * SECTOR {
        return Err(Error::limit(format!(
            "disk of {} sectors: a full .hds of that size is beyond 32-bit sector numbers",
            spec.sectors
        )));
    }
    patch::check(&spec.patches, spec.sectors * SECTOR)?;

    let header = HdsHeader::for_new(spec.sectors);
    let mut clusters = BTreeMap::new();
    let parts: Vec<_> = patch::by_block(&spec.patches, CLUSTER_SECTORS * SECTOR).collect();
    for part in &parts {
        let next = header.data_offset + clusters.len() as u64 * CLUSTER_SECTORS;
        clusters.entry(part.block).or_insert(next);
    }
    let end = header.data_offset + clusters.len() as u64 * CLUSTER_SECTORS;
    let mut out = ImageBytes::new(end * SECTOR);
    out.push(0, header.to_bytes().to_vec());
    out.push_entries(HdsHeader::SIZE, &clusters);
    for part in parts {
        if let Some(sector) = clusters.get(&part.block) {
            out.push(sector * SECTOR + part.within, part.bytes.to_vec());
        }
    }
    Ok(out.finish())
}

/// Bytes of the file once every cluster is written.
pub(crate) fn grown_len(spec: &HdsSpec) -> u64 {
    HdsHeader::for_new(spec.sectors)
        .data_offset
        .saturating_add(spec.sectors)
        .saturating_mul(SECTOR)
}

//! What a new `.hds` file holds: the header and block table of Parallels' own variant (`WithoutFreeSpace`), clusters of
//! 1 MiB. A pure function of the spec; such files carry no link to their parent.

use super::HdsHeader;
use super::header::CLUSTER_SECTORS;
use crate::image::ImageBytes;
use crate::patch::{self, Patch};
use crate::vmdk::SECTOR;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The largest range of one `.hds` file in sectors: 2 TiB - 9 MiB, so that a full file can still be addressed with
/// 32-bit sector numbers. A larger disk is split over several.
pub const MAX_STORAGE_SECTORS: u64 = (1 << 32) - 9 * CLUSTER_SECTORS;

/// A new expanding image. Whether it is a root or a delta is said by the bundle's descriptor alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdsSpec {
    /// Size of this storage's range in sectors, not 0, at most [`MAX_STORAGE_SECTORS`]. A disk that ends inside a cluster
    /// has the whole of it in the file.
    pub sectors: u64,
    /// What stands in it, offsets relative to this range, in order. A cluster (1 MiB) that is touched holds zeros
    /// elsewhere: in a delta those hide the parent's data.
    pub patches: Vec<Patch>,
}

pub(crate) fn render(spec: &HdsSpec) -> Result<ImageBytes> {
    if spec.sectors == 0 {
        return Err(Error::invalid("disk of 0 sectors"));
    }
    if spec.sectors > MAX_STORAGE_SECTORS {
        return Err(Error::limit(format!(
            "disk of {} sectors: a full .hds of that size is beyond 32-bit sector numbers; split it",
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
        .saturating_add(spec.sectors.next_multiple_of(CLUSTER_SECTORS))
        .saturating_mul(SECTOR)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn spec(sectors: u64) -> HdsSpec {
        HdsSpec {
            sectors,
            patches: Vec::new(),
        }
    }

    #[test]
    fn the_largest_image_can_be_full_and_no_larger_one_is_made() {
        let largest = spec(MAX_STORAGE_SECTORS);
        assert_eq!(grown_len(&largest), (1 << 32) * SECTOR);
        assert_eq!(render(&largest).unwrap().len, 9 << 20);
        let kind = render(&spec(MAX_STORAGE_SECTORS + 1)).unwrap_err().kind();
        assert_eq!(kind, crate::ErrorKind::Limit);
    }

    #[test]
    fn a_disk_that_ends_inside_a_cluster_has_the_whole_of_it() {
        let mut odd = spec(2049);
        odd.patches = vec![Patch {
            offset: 2048 * SECTOR,
            bytes: vec![7; 512],
        }];
        assert_eq!(render(&odd).unwrap().len, 2 << 20);
        assert_eq!(grown_len(&odd), 3 << 20);
        odd.patches[0].bytes.push(7);
        assert_eq!(render(&odd).unwrap_err().kind(), crate::ErrorKind::Invalid);
    }
}

//! What a new VDI holds: header, block map, and the blocks that its patches touch. A pure function of the spec.

use super::blocks::FREE;
use super::header::{Header, Ids, ImageType, MAX_BLOCKS};
use crate::image::ImageBytes;
use crate::patch::{self, Patch};
use crate::vmdk::SECTOR;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Blocks of 1 MiB, map and data at multiples of it, as VirtualBox makes them; QEMU knows no other size.
const BLOCK: u64 = 1 << 20;

/// When the blocks of a new image get their room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Allocation {
    /// When they are written.
    Dynamic,
    /// At once; holes where the volume has them.
    Fixed,
}

/// A new VDI. Its map takes 4 bytes of memory and of the volume for each MiB of the disk, whatever it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VdiSpec {
    /// Size of the disk in sectors of 512 bytes: not 0, at most 64 TiB.
    pub sectors: u64,
    /// Fixed only without a parent.
    pub allocation: Allocation,
    /// Its ids, and those of its parent: with them it is a differencing image.
    pub ids: Ids,
    /// What stands in it, in order. A block (1 MiB) that is touched holds zeros elsewhere: in a child those hide the
    /// parent's data.
    pub patches: Vec<Patch>,
}

fn new_header(spec: &VdiSpec) -> Header {
    let size = spec.sectors.saturating_mul(SECTOR);
    let blocks = size.div_ceil(BLOCK);
    Header {
        image_type: match (spec.allocation, spec.ids.parent) {
            (Allocation::Fixed, _) => ImageType::Fixed,
            (Allocation::Dynamic, None) => ImageType::Normal,
            (Allocation::Dynamic, Some(_)) => ImageType::Differencing,
        },
        map: BLOCK,
        data: BLOCK + (blocks * 4).next_multiple_of(BLOCK),
        size,
        block: BLOCK,
        extra: 0,
        blocks,
        allocated: 0,
        ids: spec.ids,
    }
}

pub(crate) fn render(spec: &VdiSpec) -> Result<ImageBytes> {
    let mut header = new_header(spec);
    if header.size == 0 {
        return Err(Error::invalid("disk of 0 sectors"));
    }
    if header.blocks > MAX_BLOCKS {
        let sectors = spec.sectors;
        return Err(Error::limit(format!(
            "disk of {sectors} sectors is larger than 64 TiB"
        )));
    }
    spec.ids.check()?;
    if spec.allocation == Allocation::Fixed && spec.ids.parent.is_some() {
        return Err(Error::invalid("a fixed VDI has no parent"));
    }
    patch::check(&spec.patches, header.size)?;

    let parts: Vec<_> = patch::by_block(&spec.patches, BLOCK).collect();
    let mut indices = BTreeMap::new();
    let mut map = vec![0; (header.blocks * 4) as usize];
    let entries = map.as_chunks_mut::<4>().0;
    match spec.allocation {
        Allocation::Fixed => {
            for (index, entry) in (0_u32..).zip(&mut *entries) {
                *entry = index.to_le_bytes();
            }
            header.allocated = header.blocks as u32;
        }
        Allocation::Dynamic => {
            entries.fill(FREE.to_le_bytes());
            for part in &parts {
                let next = indices.len() as u64;
                let index = *indices.entry(part.block).or_insert(next);
                if let Some(entry) = entries.get_mut(part.block as usize) {
                    *entry = (index as u32).to_le_bytes();
                }
            }
            header.allocated = indices.len() as u32;
        }
    }
    let mut out = ImageBytes::new(header.data + u64::from(header.allocated) * BLOCK);
    out.push(0, header.to_bytes().to_vec());
    out.push(header.map, map);
    for part in parts {
        let index = indices.get(&part.block).copied().unwrap_or(part.block);
        out.push(
            header.data + index * BLOCK + part.within,
            part.bytes.to_vec(),
        );
    }
    Ok(out.finish())
}

/// Bytes of the file once every block is written.
pub(crate) fn grown_len(spec: &VdiSpec) -> u64 {
    let header = new_header(spec);
    header
        .data
        .saturating_add(header.blocks.saturating_mul(BLOCK))
}

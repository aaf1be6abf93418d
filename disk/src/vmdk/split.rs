//! What a split sparse VMDK holds: createType twoGbMaxExtentSparse, a text descriptor with both link styles over sparse
//! extents that have no descriptor of their own. For volumes whose files end below a full image.
//!
//! Pure functions of their specs, like [`super::create`].

use super::create::{
    check_links, check_patches, encoding, is_file_name, render_grains, sparse_grown_len,
};
use super::descriptor::new_ddb;
use super::{
    Access, AdapterType, Cid, CreateType, Descriptor, Extent, ExtentKind, ParentLink, SECTOR,
    SparseHeader, SparseSpec, check_sectors,
};
use crate::file::ImageFile;
use crate::image::{ImageBytes, ImageSpec};
use crate::patch::{self, Patch};
use crate::{Error, Result};
use std::path::Path;
use uuid::Uuid;

/// Sectors of the largest extent: 2047 MiB, as VMware cuts them. With its tables a full one stays below 2 GiB.
pub const MAX_EXTENT_SECTORS: u64 = 2047 * MIB;
/// Bytes of a descriptor that QEMU reads whole and writes back when it renews the CID.
pub(super) const MAX_TEXT: usize = 20 * SECTOR as usize - 1;
const MIB: u64 = 2048;

/// The text descriptor of a split image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitSpec {
    /// The extents in disk order.
    pub extents: Vec<SparseExtent>,
    /// Content id of this image.
    pub cid: Cid,
    /// VirtualBox's id of this image.
    pub uuid: Uuid,
    /// The parent, if any.
    pub parent: Option<ParentLink>,
    /// Adapter, for the geometry.
    pub adapter: AdapterType,
}

/// One extent of a split image, as the descriptor names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseExtent {
    /// The file's name, without folders: extents lie beside their descriptor.
    pub file: String,
    /// Size in sectors, at most [`MAX_EXTENT_SECTORS`].
    pub sectors: u64,
}

/// A new sparse extent without a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentSpec {
    /// Size in sectors, at most [`MAX_EXTENT_SECTORS`].
    pub sectors: u64,
    /// What stands in it, offsets relative to its start, in order. A grain (64 KiB) that is touched holds zeros
    /// elsewhere: over a parent those hide the parent's data.
    pub patches: Vec<Patch>,
}

impl SplitSpec {
    /// Sum of all extents in sectors.
    pub(crate) fn sectors(&self) -> u64 {
        self.extents
            .iter()
            .fold(0, |sum, e| sum.saturating_add(e.sectors))
    }
}

impl SparseSpec {
    /// The same image in extents of `extent_sectors` (the last as long as it is): names and specs of the extents in disk
    /// order, and last that of the descriptor, under the image's own name.
    ///
    /// # Errors
    /// `Invalid` if `extent_sectors` is no multiple of 2048 up to [`MAX_EXTENT_SECTORS`]; as for any new image. `Limit`
    /// for so many extents that their descriptor is above 10 KiB: QEMU writes no more of it back. That is reached at
    /// about 400 GiB.
    pub fn split(&self, extent_sectors: u64) -> Result<Vec<(String, ImageSpec)>> {
        check_sectors(self.sectors)?;
        check_patches(&self.patches, self.sectors, self.parent.as_ref())?;
        let extents = split_extents(&self.file, self.sectors, extent_sectors)?;
        let mut made = Vec::new();
        let mut start = 0;
        for SparseExtent { file, sectors } in &extents {
            let range = start * SECTOR..(start + sectors) * SECTOR;
            let spec = ExtentSpec {
                sectors: *sectors,
                patches: patch::within(&self.patches, &range),
            };
            made.push((file.clone(), ImageSpec::VmdkExtent(spec)));
            start += sectors;
        }
        let descriptor = SplitSpec {
            extents,
            cid: self.cid,
            uuid: self.uuid,
            parent: self.parent.clone(),
            adapter: self.adapter,
        };
        render_split(&descriptor)?;
        made.push((self.file.clone(), ImageSpec::VmdkSplit(descriptor)));
        Ok(made)
    }
}

/// The extents of the image `file` of `sectors` in pieces of `extent_sectors`: `head.vmdk` has `head-s001.vmdk` and so on.
///
/// # Errors
/// As for [`SparseSpec::split`].
pub fn split_extents(file: &str, sectors: u64, extent_sectors: u64) -> Result<Vec<SparseExtent>> {
    let pieces = pieces(file, 's', sectors, extent_sectors)?;
    let extent = |(file, sectors)| SparseExtent { file, sectors };
    Ok(pieces.into_iter().map(extent).collect())
}

/// Names and sectors of the extents, called after the image and their type's letter.
pub(super) fn pieces(
    file: &str,
    letter: char,
    sectors: u64,
    extent_sectors: u64,
) -> Result<Vec<(String, u64)>> {
    check_extent_sectors(extent_sectors)?;
    let count = sectors.div_ceil(extent_sectors);
    // A line has more than 20 bytes: refused before there is one.
    if count > (MAX_TEXT / 20) as u64 {
        return Err(too_many(count));
    }
    let stem = file.strip_suffix(".vmdk").unwrap_or(file);
    let piece = |n| {
        let name = format!("{stem}-{letter}{:03}.vmdk", n + 1);
        (name, extent_sectors.min(sectors - n * extent_sectors))
    };
    Ok((0..count).map(piece).collect())
}

/// In extents of how many sectors a sparse image of `sectors` has to be kept on a volume with files of at most
/// `max_file` bytes, so that it can be written full; `None` if one file holds it.
///
/// # Errors
/// `Limit` if not even an extent of 1 MiB fits.
pub fn extent_sectors_for(sectors: u64, max_file: Option<u64>) -> Result<Option<u64>> {
    let Some(most) = max_file.filter(|most| sparse_grown_len(sectors) > *most) else {
        return Ok(None);
    };
    // Tables only grow with the extent, so the largest that fits is found by halving.
    let (mut fits, mut beyond) = (0, MAX_EXTENT_SECTORS / MIB + 1);
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        match extent_grown_len(middle * MIB) <= most {
            true => fits = middle,
            false => beyond = middle,
        }
    }
    match fits {
        0 => Err(Error::limit(format!(
            "no sparse VMDK fits into files of {most} bytes"
        ))),
        mib => Ok(Some(mib * MIB)),
    }
}

/// Refuses a size that extents of a split image cannot have.
///
/// # Errors
/// `Invalid` for anything but a multiple of 2048 up to [`MAX_EXTENT_SECTORS`].
pub fn check_extent_sectors(sectors: u64) -> Result<()> {
    if sectors == 0 || !sectors.is_multiple_of(MIB) || sectors > MAX_EXTENT_SECTORS {
        return Err(Error::invalid(format!(
            "extents of {sectors} sectors: their size is a multiple of 1 MiB (2048 sectors) up to 2047 MiB"
        )));
    }
    Ok(())
}

/// Refuses a size that one extent cannot have: the last one of an image is as long as it is.
fn check_extent(sectors: u64) -> Result<()> {
    match sectors {
        1..=MAX_EXTENT_SECTORS => Ok(()),
        _ => Err(Error::invalid(format!(
            "extent of {sectors} sectors: it has 1 to {MAX_EXTENT_SECTORS} (2047 MiB)"
        ))),
    }
}

/// Whether a split image's descriptor names these extents and nothing else, so that a product which follows it opens no
/// other file.
///
/// # Errors
/// `Mismatch` if it does not; `Malformed` and `Unsupported` from reading it.
pub fn check_split(descriptor: &Path, extents: &[SparseExtent]) -> Result<()> {
    let look = || {
        let found = super::read_text_descriptor(&ImageFile::open(descriptor)?)?;
        check_extents(&found, extents)
    };
    look().map_err(|e| e.at_path(descriptor).during("check split VMDK"))
}

/// Refuses a descriptor that names other sparse extents.
pub(super) fn check_extents(found: &Descriptor, extents: &[SparseExtent]) -> Result<()> {
    let same = |(found, want): (&Extent, &SparseExtent)| {
        found.kind == ExtentKind::Sparse
            && found.sectors == want.sectors
            && found.file.as_deref() == Some(want.file.as_str())
    };
    let all = found.extents.len() == extents.len();
    match all && found.extents.iter().zip(extents).all(same) {
        true => Ok(()),
        false => Err(Error::mismatch(
            "the descriptor names other extents than its own",
        )),
    }
}

/// Bytes of an extent once every grain is written.
pub(crate) fn extent_grown_len(sectors: u64) -> u64 {
    let header = SparseHeader::for_extent(sectors);
    header.grown().saturating_mul(SECTOR)
}

pub(crate) fn render_extent(spec: &ExtentSpec) -> Result<ImageBytes> {
    check_extent(spec.sectors)?;
    patch::check(&spec.patches, spec.sectors * SECTOR)?;
    let header = SparseHeader::for_extent(spec.sectors);
    Ok(render_grains(&header, None, &spec.patches))
}

pub(crate) fn render_split(spec: &SplitSpec) -> Result<ImageBytes> {
    let mut sectors = 0_u64;
    let mut extents = Vec::with_capacity(spec.extents.len());
    for extent in &spec.extents {
        check_extent(extent.sectors)?;
        if !is_file_name(&extent.file) {
            let name = &extent.file;
            return Err(Error::invalid(format!(
                "{name:?} is no file name without folders"
            )));
        }
        sectors = sectors.saturating_add(extent.sectors);
        extents.push(Extent {
            access: Access::ReadWrite,
            sectors: extent.sectors,
            kind: ExtentKind::Sparse,
            file: Some(extent.file.clone()),
            offset: None,
        });
    }
    check_sectors(sectors)?;
    check_links(spec.cid, spec.uuid, spec.parent.as_ref())?;
    let count = extents.len() as u64;
    let parent = spec.parent.as_ref();
    let text = Descriptor {
        cid: spec.cid,
        parent_cid: parent.map(|p| p.cid),
        create_type: CreateType::TwoGbMaxExtentSparse,
        parent_hint: parent.map(|p| p.hint.clone()),
        other: encoding(),
        extents,
        ddb: new_ddb(
            sectors,
            spec.cid,
            spec.uuid,
            parent.map(|p| p.uuid),
            spec.adapter,
        ),
    }
    .to_text()?;
    if text.len() > MAX_TEXT {
        return Err(too_many(count));
    }
    let mut out = ImageBytes::new(text.len() as u64);
    out.push(0, text.into_bytes());
    Ok(out.finish())
}

pub(super) fn too_many(count: u64) -> Error {
    Error::limit(format!(
        "a descriptor of {count} extents is above 10 KiB, of which QEMU writes no more back"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind;
    use crate::image::image_bytes;

    const FAT32: u64 = u32::MAX as u64;

    fn spec(mib: u64) -> SparseSpec {
        SparseSpec {
            file: "head-7.vmdk".to_owned(),
            sectors: mib * MIB,
            cid: Cid::new(0xabcd_ef01).unwrap(),
            uuid: Uuid::from_u128(7),
            parent: None,
            adapter: AdapterType::LsiLogic,
            patches: Vec::new(),
        }
    }

    #[test]
    fn what_fits_when_full_is_not_split() {
        assert_eq!(extent_sectors_for(9000 * MIB, None).unwrap(), None);
        assert_eq!(extent_sectors_for(4095 * MIB, Some(FAT32)).unwrap(), None);
        for mib in [4096, 9000] {
            let cut = extent_sectors_for(mib * MIB, Some(FAT32)).unwrap();
            assert_eq!(cut, Some(MAX_EXTENT_SECTORS));
        }
        let small = extent_sectors_for(100 * MIB, Some(8 << 20)).unwrap();
        assert_eq!(small, Some(7 * MIB));
        let none = extent_sectors_for(100 * MIB, Some(1 << 20)).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Limit);
        assert!(extent_grown_len(MAX_EXTENT_SECTORS) < 2 << 30);
    }

    #[test]
    fn extents_follow_each_other_and_patches_are_cut_between_them() {
        let mut spec = spec(5);
        spec.patches = vec![Patch {
            offset: (2 << 20) - 3,
            bytes: vec![1, 2, 3, 4, 5],
        }];
        let made = spec.split(2 * MIB).unwrap();
        let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "head-7-s001.vmdk",
                "head-7-s002.vmdk",
                "head-7-s003.vmdk",
                "head-7.vmdk"
            ]
        );
        let extents: Vec<_> = made
            .iter()
            .filter_map(|(_, spec)| match spec {
                ImageSpec::VmdkExtent(extent) => Some((extent.sectors, extent.patches.clone())),
                _ => None,
            })
            .collect();
        let at = |offset, bytes: &[u8]| {
            vec![Patch {
                offset,
                bytes: bytes.to_vec(),
            }]
        };
        assert_eq!(
            extents,
            [
                (2 * MIB, at((2 << 20) - 3, &[1, 2, 3])),
                (2 * MIB, at(0, &[4, 5])),
                (MIB, Vec::new())
            ]
        );
        for (_, spec) in &made {
            image_bytes(spec).unwrap();
        }
    }

    #[test]
    fn a_descriptor_that_qemu_would_cut_is_refused() {
        let e = spec(2000).split(MIB).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
        let e = spec(300).split(MIB).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
        spec(200 * 2047).split(MAX_EXTENT_SECTORS).unwrap();
        for bad in [0, 1, MAX_EXTENT_SECTORS + MIB] {
            assert_eq!(spec(9).split(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}

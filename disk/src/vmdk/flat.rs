//! What flat VMDKs hold: the text descriptor over raw files, those that are there already (a machine's own descriptor
//! over a shared image) or new ones. Pure functions of their specs, like [`super::create`].

use super::create::{check_links, encoding, is_file_name};
use super::descriptor::new_ddb;
use super::split::{MAX_TEXT, pieces, too_many};
use super::{
    Access, AdapterType, Cid, CreateType, Descriptor, Extent, ExtentKind, MAX_DESCRIPTOR,
    MAX_EXTENT_NAME, MAX_SECTORS, SECTOR, check_sectors,
};
use crate::image::{ImageBytes, ImageSpec};
use crate::patch::Patch;
use crate::{Error, RawSpec, Result};
use uuid::Uuid;

/// One raw file below a flat descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatExtent {
    /// The file as written: `/` separated, relative to the descriptor's folder or absolute; at most 511 bytes, without
    /// `"` and control characters.
    pub file: String,
    /// Size in sectors, not 0.
    pub sectors: u64,
    /// Where the extent starts in the file, in sectors.
    pub offset: u64,
}

/// How a flat image calls itself. The two differ in nothing else, and QEMU and VirtualBox take any number of extents
/// under either name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlatKind {
    /// `monolithicFlat`: one file, for VMware.
    #[default]
    Monolithic,
    /// `twoGbMaxExtentFlat`: files below 2 GiB.
    TwoGbMaxExtent,
}

/// A text descriptor over one or more raw files that stay untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatSpec {
    /// Its createType.
    pub kind: FlatKind,
    /// The raw files in disk order.
    pub extents: Vec<FlatExtent>,
    /// Content id that children record.
    pub cid: Cid,
    /// VirtualBox's id of the image.
    pub uuid: Uuid,
    /// Adapter, for the geometry.
    pub adapter: AdapterType,
}

/// A new flat disk with raw files of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatDiskSpec {
    /// The descriptor's file name, without folders: the raw files are called after it and lie beside it.
    pub file: String,
    /// Size of the disk in sectors, not 0.
    pub sectors: u64,
    /// Content id of this image.
    pub cid: Cid,
    /// VirtualBox's id of this image.
    pub uuid: Uuid,
    /// Adapter, for the geometry.
    pub adapter: AdapterType,
    /// What stands in it, in order of offset.
    pub patches: Vec<Patch>,
}

impl FlatDiskSpec {
    /// The disk in one file (`disk.vmdk` has `disk-flat.vmdk`), createType monolithicFlat: names and specs of its files,
    /// last that of the descriptor.
    ///
    /// # Errors
    /// `Invalid` or `Limit` for a spec that cannot be made.
    pub fn whole(&self) -> Result<Vec<(String, ImageSpec)>> {
        let stem = self.file.strip_suffix(".vmdk").unwrap_or(&self.file);
        let extent = (format!("{stem}-flat.vmdk"), self.sectors);
        self.files(FlatKind::Monolithic, vec![extent])
    }

    /// The disk in files of `extent_sectors` (`disk-f001.vmdk` and so on, the last as long as it is), createType
    /// twoGbMaxExtentFlat.
    ///
    /// # Errors
    /// As for [`whole`](Self::whole); `Invalid` if `extent_sectors` is no multiple of 2048 up to
    /// [`MAX_EXTENT_SECTORS`](super::MAX_EXTENT_SECTORS); `Limit` for so many files that their descriptor is above
    /// 10 KiB: QEMU writes no more of it back.
    pub fn split(&self, extent_sectors: u64) -> Result<Vec<(String, ImageSpec)>> {
        let extents = pieces(&self.file, 'f', self.sectors, extent_sectors)?;
        self.files(FlatKind::TwoGbMaxExtent, extents)
    }

    fn files(
        &self,
        kind: FlatKind,
        extents: Vec<(String, u64)>,
    ) -> Result<Vec<(String, ImageSpec)>> {
        check_sectors(self.sectors)?;
        if !is_file_name(&self.file) {
            return Err(Error::invalid(format!(
                "{:?} is no file name without folders",
                self.file
            )));
        }
        let disk = RawSpec {
            size: self.sectors * SECTOR,
            patches: self.patches.clone(),
        };
        let lengths: Vec<_> = extents.iter().map(|(_, n)| n * SECTOR).collect();
        let raw = disk.cut(&lengths).into_iter().map(ImageSpec::Raw);
        let mut made: Vec<_> = extents.iter().map(|(f, _)| f.clone()).zip(raw).collect();
        let descriptor = FlatSpec {
            kind,
            extents: extents
                .into_iter()
                .map(|(file, sectors)| FlatExtent {
                    file,
                    sectors,
                    offset: 0,
                })
                .collect(),
            cid: self.cid,
            uuid: self.uuid,
            adapter: self.adapter,
        };
        if render_flat(&descriptor)?.len > MAX_TEXT as u64 {
            return Err(too_many(descriptor.extents.len() as u64));
        }
        made.push((self.file.clone(), ImageSpec::VmdkFlat(descriptor)));
        Ok(made)
    }
}

pub(crate) fn render_flat(spec: &FlatSpec) -> Result<ImageBytes> {
    check_links(spec.cid, spec.uuid, None)?;
    let mut sectors = 0_u64;
    let mut extents = Vec::with_capacity(spec.extents.len());
    for e in &spec.extents {
        if e.sectors == 0 {
            return Err(Error::invalid(format!(
                "extent {:?} has no sectors",
                e.file
            )));
        }
        if e.file.len() > MAX_EXTENT_NAME {
            return Err(Error::limit(format!(
                "extent name of {} bytes: QEMU reads at most {MAX_EXTENT_NAME}",
                e.file.len()
            )));
        }
        if e.offset > MAX_SECTORS {
            return Err(Error::invalid(format!(
                "extent {:?} starts beyond 8 EiB",
                e.file
            )));
        }
        sectors = sectors.saturating_add(e.sectors);
        extents.push(Extent {
            access: Access::ReadWrite,
            sectors: e.sectors,
            kind: ExtentKind::Flat,
            file: Some(e.file.clone()),
            offset: Some(e.offset),
        });
    }
    check_sectors(sectors)?;
    let text = Descriptor {
        cid: spec.cid,
        parent_cid: None,
        create_type: match spec.kind {
            FlatKind::Monolithic => CreateType::MonolithicFlat,
            FlatKind::TwoGbMaxExtent => CreateType::TwoGbMaxExtentFlat,
        },
        parent_hint: None,
        other: encoding(),
        extents,
        ddb: new_ddb(sectors, spec.cid, spec.uuid, None, spec.adapter),
    }
    .to_text()?;
    if text.len() > MAX_DESCRIPTOR {
        return Err(Error::limit(format!(
            "descriptor of {} bytes: too many extents",
            text.len()
        )));
    }
    let mut out = ImageBytes::new(text.len() as u64);
    out.push(0, text.into_bytes());
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind;
    use crate::image::image_bytes;

    fn spec(sectors: u64) -> FlatDiskSpec {
        FlatDiskSpec {
            file: "disk.vmdk".to_owned(),
            sectors,
            cid: Cid::new(0xabcd_ef01).unwrap(),
            uuid: Uuid::from_u128(7),
            adapter: AdapterType::LsiLogic,
            patches: Vec::new(),
        }
    }

    #[test]
    fn a_disk_is_one_raw_file_or_several_and_a_descriptor() {
        let mut spec = spec(5 * 2048 + 3);
        let patch = |offset, bytes: &[u8]| Patch {
            offset,
            bytes: bytes.to_vec(),
        };
        spec.patches = vec![patch((4 << 20) - 1, b"ab")];
        let raw = |size, patches| ImageSpec::Raw(RawSpec { size, patches });
        let names = |made: &[(String, ImageSpec)]| {
            let names: Vec<_> = made.iter().map(|(name, _)| name.clone()).collect();
            names.join(" ")
        };
        let whole = spec.whole().unwrap();
        assert_eq!(names(&whole), "disk-flat.vmdk disk.vmdk");
        assert_eq!(whole[0].1, raw((5 << 20) + 1536, spec.patches.clone()));
        let split = spec.split(2 * 2048).unwrap();
        assert_eq!(
            names(&split),
            "disk-f001.vmdk disk-f002.vmdk disk-f003.vmdk disk.vmdk"
        );
        let tail = (1 << 20) + 1536;
        assert_eq!(split[1].1, raw(2 << 20, vec![patch((2 << 20) - 1, b"a")]));
        assert_eq!(split[2].1, raw(tail, vec![patch(0, b"b")]));
        for ((_, spec), kind) in [
            (&whole[1], "monolithicFlat"),
            (&split[3], "twoGbMaxExtentFlat"),
        ] {
            let image = image_bytes(spec).unwrap();
            let text = String::from_utf8(image.pieces[0].1.clone()).unwrap();
            assert!(text.contains(&format!("createType=\"{kind}\"\n")), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        for (change, kind) in [
            (
                (|s| s.sectors = 0) as fn(&mut FlatDiskSpec),
                ErrorKind::Invalid,
            ),
            (|s| s.sectors = u64::MAX, ErrorKind::Limit),
            (|s| s.file = "a/b.vmdk".into(), ErrorKind::Invalid),
            (|s| s.uuid = Uuid::nil(), ErrorKind::Invalid),
        ] {
            let mut spec = spec(4096);
            change(&mut spec);
            assert_eq!(spec.whole().unwrap_err().kind(), kind);
        }
        for mib in [400, 1000] {
            let e = spec(mib * 2048).split(2048).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
        }
        assert!(spec(4096).split(2047).is_err());
    }
}

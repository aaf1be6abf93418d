//! Chains in a `.hdd` bundle for tests that hold for all formats: two storages over a plain root, the first of which ends
//! inside a cluster. A freeze and a rollback change the descriptor alone.
#![allow(clippy::unwrap_used)]

use super::{Family, Image, Opening};
use crate::common;
use std::fs;
use std::path::Path;
use stratavm_disk::hdd::{self, DiskDescriptor, HdsSpec, ImageKind, LEAF_GUID, Shot, Storage};
use stratavm_disk::{Format, ImageSpec};
use uuid::Uuid;

pub(crate) const HDD: Family = Family {
    name: "hdd bundle",
    opening: Opening::Bundle,
    size: (3 << 20) + 3 * 512,
    base: root,
    head,
};

/// Where the second storage of a bundle begins, in sectors.
const SPLIT: u64 = 2048 + 5;

fn root(folder: &Path, content: &[u8]) -> Image {
    let image = image(folder, 0);
    fs::create_dir(&image.path).unwrap();
    let (first, second) = content.split_at(SPLIT as usize * 512);
    fs::write(image.path.join("0-0.raw"), first).unwrap();
    fs::write(image.path.join("0-1.raw"), second).unwrap();
    descriptor(&image.path, std::slice::from_ref(&image));
    image
}

fn head(folder: &Path, n: usize, below: &[Image]) -> Image {
    let image = image(folder, n);
    let end = (HDD.size / 512) as u64;
    for (storage, sectors) in [SPLIT, end - SPLIT].into_iter().enumerate() {
        let spec = HdsSpec {
            sectors,
            patches: Vec::new(),
        };
        let path = image.path.join(format!("{n}-{storage}.hds"));
        common::make(&path, &ImageSpec::Hds(spec)).unwrap();
    }
    descriptor(&image.path, &[below, std::slice::from_ref(&image)].concat());
    image
}

/// Image `n` of the bundle, by the id that it has once it is frozen.
fn image(folder: &Path, n: usize) -> Image {
    Image {
        path: folder.join("disk.hdd"),
        format: Format::Hdd,
        cid: None,
        uuid: Some(Uuid::from_u128(1000 + n as u128)),
    }
}

/// Writes the descriptor anew: all that a freeze or a rollback changes in a bundle.
fn descriptor(bundle: &Path, images: &[Image]) {
    let numbers: Vec<_> = images
        .iter()
        .map(|i| i.uuid.unwrap().as_u128() - 1000)
        .collect();
    let guid = |level: usize| match level + 1 == images.len() {
        true => LEAF_GUID,
        false => images[level].uuid.unwrap(),
    };
    let end = (HDD.size / 512) as u64;
    let ranges = [(0, SPLIT), (SPLIT, end)];
    let storages = ranges
        .into_iter()
        .enumerate()
        .map(|(storage, (start, end))| Storage {
            start,
            end,
            blocksize: 2048,
            images: (0..images.len())
                .map(|level| {
                    let (kind, extension) = match level {
                        0 => (ImageKind::Plain, "raw"),
                        _ => (ImageKind::Compressed, "hds"),
                    };
                    hdd::Image {
                        guid: guid(level),
                        kind,
                        file: format!("{}-{storage}.{extension}", numbers[level]),
                    }
                })
                .collect(),
        });
    let disk = DiskDescriptor {
        sectors: end,
        uid: Uuid::from_u128(77),
        name: "disk".into(),
        storages: storages.collect(),
        shots: (0..images.len())
            .map(|level| Shot {
                guid: guid(level),
                parent: level.checked_sub(1).map(guid),
            })
            .collect(),
        top_guid: None,
    };
    fs::write(bundle.join("DiskDescriptor.xml"), disk.to_xml().unwrap()).unwrap();
}

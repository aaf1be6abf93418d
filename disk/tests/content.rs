//! New images with drawn patches, read back through their own tables by a small reader that knows the formats only from
//! their published layouts, and compared with the patches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use proptest::prelude::*;
use std::path::Path;
use stratavm_disk::hdd::{HdsHeader, HdsSpec};
use stratavm_disk::vmdk::SparseHeader;
use stratavm_disk::{ImageBytes, ImageSpec, Patch, image_bytes};

// More than one grain table (32 MiB).
const SECTORS: u64 = 34 * 2048;

/// The file as bytes; pieces must be in order, apart, and inside.
fn file(image: &ImageBytes) -> Vec<u8> {
    let mut out = vec![0; image.len as usize];
    let mut free_from = 0;
    for (offset, bytes) in &image.pieces {
        assert!(*offset >= free_from && !bytes.is_empty());
        free_from = offset + bytes.len() as u64;
        out[*offset as usize..free_from as usize].copy_from_slice(bytes);
    }
    out
}

fn u32_at(file: &[u8], at: u64) -> u64 {
    u64::from(u32::from_le_bytes(
        file[at as usize..][..4].try_into().unwrap(),
    ))
}

/// The guest disk through a grain directory at this sector.
fn through_grains(file: &[u8], h: &SparseHeader, directory: u64) -> Vec<u8> {
    let grain = h.grain_size * 512;
    let mut disk = Vec::new();
    for g in 0..h.capacity / h.grain_size {
        let table = u32_at(file, directory * 512 + g / 512 * 4);
        match u32_at(file, table * 512 + g % 512 * 4) {
            0 => disk.resize(disk.len() + grain as usize, 0),
            sector => {
                assert!(sector >= h.overhead);
                disk.extend_from_slice(&file[(sector * 512) as usize..][..grain as usize]);
            }
        }
    }
    disk
}

fn through_clusters(file: &[u8], h: &HdsHeader) -> Vec<u8> {
    let cluster = u64::from(h.cluster_sectors) * 512;
    let mut disk = Vec::new();
    for c in 0..u64::from(h.entries) {
        match u32_at(file, 64 + c * 4) {
            0 => disk.resize(disk.len() + cluster as usize, 0),
            sector => {
                assert!(sector >= h.data_offset);
                disk.extend_from_slice(&file[(sector * 512) as usize..][..cluster as usize]);
            }
        }
    }
    disk
}

fn patches() -> impl Strategy<Value = Vec<Patch>> {
    let one = (0..SECTORS * 512 - 200_000, 0..200_000_usize, 1..=255_u8);
    prop::collection::vec(one, 0..6).prop_map(|mut drawn| {
        drawn.sort();
        let mut end = 0;
        let mut out = Vec::new();
        for (offset, len, byte) in drawn {
            if offset >= end {
                end = offset + len as u64;
                out.push(Patch {
                    offset,
                    bytes: vec![byte; len],
                });
            }
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn the_guest_sees_the_patches_and_zeros(patches in patches()) {
        let mut want = vec![0; SECTORS as usize * 512];
        for p in &patches {
            want[p.offset as usize..][..p.bytes.len()].copy_from_slice(&p.bytes);
        }
        let mut spec = common::sparse(SECTORS);
        spec.parent = None;
        spec.patches = patches.clone();
        let vmdk = file(&image_bytes(&ImageSpec::VmdkSparse(spec)).unwrap());
        let header = SparseHeader::parse(&vmdk[..512], Path::new("x")).unwrap();
        for directory in [header.directory, header.redundant_directory] {
            prop_assert!(through_grains(&vmdk, &header, directory.unwrap()) == want);
        }
        let spec = HdsSpec { sectors: SECTORS, patches };
        let hds = file(&image_bytes(&ImageSpec::Hds(spec)).unwrap());
        let header = HdsHeader::parse(&hds[..64], Path::new("x")).unwrap();
        prop_assert!(through_clusters(&hds, &header) == want);
    }
}

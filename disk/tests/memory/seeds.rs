//! The smallest images of each format that open: at most 2 KiB, their tables where their headers can be drawn to name
//! them.

use crate::common;
use std::path::Path;
use stratavm_disk::hdd::HdsHeader;
use stratavm_disk::vmdk::SparseHeader;
use stratavm_disk::{Format, ImageSpec, image_bytes};

/// One image, and the file that it is in.
pub(crate) struct Seed {
    pub(crate) what: &'static str,
    pub(crate) format: Format,
    /// Relative to a folder that also has `b.raw`, of a sector.
    pub(crate) file: &'static str,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn all() -> Vec<Seed> {
    let seed = |what, format, file, bytes| Seed {
        what,
        format,
        file,
        bytes,
    };
    vec![
        seed("sparse VMDK", Format::VmdkSparse, "a.vmdk", sparse()),
        seed("VMDK descriptor", Format::VmdkDescriptor, "d.vmdk", text()),
        seed("VDI", Format::Vdi, "a.vdi", vdi()),
        seed(
            ".hds, old magic",
            Format::Hds,
            "a.hds",
            hds(b"WithoutFreeSpace"),
        ),
        seed(
            ".hds, new magic",
            Format::Hds,
            "a.hds",
            hds(b"WithouFreSpacExt"),
        ),
        seed("qcow2", Format::Qcow2, "a.qcow2", qcow2()),
        seed("bundle", Format::Hdd, "a.hdd/DiskDescriptor.xml", bundle()),
    ]
}

/// The first bytes of a new image.
fn start_of(spec: &ImageSpec, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, piece) in image_bytes(spec).unwrap().pieces {
        for (at, byte) in (at as usize..len).zip(piece) {
            bytes[at] = byte;
        }
    }
    bytes
}

/// Header, descriptor, and a directory without tables.
fn sparse() -> Vec<u8> {
    let mut spec = common::sparse(1 << 20);
    spec.parent = None;
    let mut bytes = start_of(&ImageSpec::VmdkSparse(spec), 3 * 512);
    let mut header = SparseHeader::parse(&bytes[..512], Path::new("")).unwrap();
    header.descriptor_size = 1;
    header.directory = Some(2);
    header.redundant_directory = None;
    header.overhead = 3;
    header.flags = 1 | 4;
    bytes[..512].copy_from_slice(&header.to_bytes());
    bytes[512..].fill(0);
    let text = "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\n\
                createType=\"monolithicSparse\"\nRW 1048576 SPARSE \"a.vmdk\"\n";
    bytes[512..][..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn text() -> Vec<u8> {
    "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\ncreateType=\"custom\"\n\
     RW 1 FLAT \"b.raw\" 0\nRW 3 ZERO\nRW 4096 ZERO\nRW 1 FLAT \"b.raw\" 0\nRW 77 ZERO\n\
     ddb.adapterType = \"ide\"\nddb.geometry.cylinders = \"100\"\n"
        .into()
}

/// Header and a map of 128 blocks, none of which has room.
fn vdi() -> Vec<u8> {
    let mut bytes = start_of(&ImageSpec::Vdi(common::vdi(128 * 2048, 7, None)), 1024);
    bytes[512..].fill(0xff);
    bytes[0x154..0x158].copy_from_slice(&512_u32.to_le_bytes());
    bytes[0x158..0x15c].copy_from_slice(&1024_u32.to_le_bytes());
    bytes
}

/// Header, a table of 112 clusters of a sector each, and one cluster.
fn hds(magic: &[u8; 16]) -> Vec<u8> {
    let spec = stratavm_disk::hdd::HdsSpec {
        sectors: 112,
        patches: Vec::new(),
    };
    let bytes = start_of(&ImageSpec::Hds(spec), 1024);
    let mut header = HdsHeader::parse(&bytes[..64], Path::new("")).unwrap();
    header.entries = 112;
    header.cluster_sectors = 1;
    header.data_offset = 1;
    let mut bytes = [&header.to_bytes()[..], &[0; 1024 - 64]].concat();
    bytes[..16].copy_from_slice(magic);
    bytes[64] = 1;
    bytes
}

/// Version 2, clusters of 512 bytes: header, L1 table, and the refcount table.
fn qcow2() -> Vec<u8> {
    let mut bytes = vec![0; 1536];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    for (at, value) in [(4, 2), (20, 9), (36, 64), (56, 1)] {
        bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
    }
    for (at, value) in [(24, 64 * 64 * 512), (40, 512), (48, 1024)] {
        bytes[at..at + 8].copy_from_slice(&u64::to_be_bytes(value));
    }
    bytes
}

fn bundle() -> Vec<u8> {
    let guid = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
    format!(
        "<Parallels_disk_image Version=\"1.0\"><Disk_Parameters><Disk_size>2</Disk_size><Cylinders>1</Cylinders>\
         <Heads>16</Heads><Sectors>32</Sectors><Padding>0</Padding></Disk_Parameters><StorageData>\
         <Storage><Start>0</Start><End>1</End><Blocksize>2048</Blocksize><Image><GUID>{guid}</GUID>\
         <Type>Plain</Type><File>b.raw</File></Image></Storage>\
         <Storage><Start>1</Start><End>2</End><Blocksize>2048</Blocksize><Image><GUID>{guid}</GUID>\
         <Type>Plain</Type><File>c.raw</File></Image></Storage>\
         </StorageData><Snapshots><Shot><GUID>{guid}</GUID>\
         <ParentGUID>{{00000000-0000-0000-0000-000000000000}}</ParentGUID></Shot></Snapshots></Parallels_disk_image>"
    )
    .into()
}

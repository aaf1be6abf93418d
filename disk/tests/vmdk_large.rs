//! Large, nearly empty VMDKs: work and room follow the data, not the size. 3 GiB with an odd end of every kind that
//! qemu-img makes, and a tebibyte of what is made here.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies)]

mod common;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "common/qemu.rs"]
mod tools;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use stratavm_disk::vmdk::{AdapterType, GrainPacker, StreamSpec, StreamWriter};
use stratavm_disk::{Access, Below, Chain, Durability, ImageSpec, Kind, info, probe};
use tools::{missing, node, ok, qemu_reads};

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn open(path: &Path, access: Access) -> Chain {
    let gate = Below::beside(path).unwrap();
    Chain::open(path, probe(path).unwrap(), access, &gate).unwrap()
}

fn reads(chain: &Chain, at: u64, want: &[u8]) {
    let mut found = vec![0; want.len()];
    chain.read_at(&mut found, at).unwrap();
    assert!(found == want, "at {at}");
}

/// Bytes of the disk that the image has, and how many ranges they are.
fn mapped(chain: &Chain) -> (u64, usize) {
    let mut found = (0, 0);
    let mut see = |range: &stratavm_disk::MappedRange<'_>| {
        if matches!(range.kind, Kind::Data | Kind::Packed) {
            found = (found.0 + range.len, found.1 + 1);
        }
        ControlFlow::Continue(())
    };
    chain.map(0, chain.size(), &mut see).unwrap();
    found
}

#[test]
fn three_gibibytes_and_a_bit_of_qemu_are_read_and_written_at_all_edges() {
    if missing("vmdk of 3 GiB and more") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let size = 3 * GIB + 7 * 512;
    // The first and the last sector, across the end of QEMU's first extent, and across a grain table's.
    let places = [0, (32 << 20) - 512, 2 * GIB - 512, size - 1024];
    for subformat in [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
    ] {
        let path = tmp.path().join(format!("{subformat}.vmdk"));
        let (file, option) = (path.to_str().unwrap(), format!("subformat={subformat}"));
        let args = ["create", "-q", "-f", "vmdk", "-o", &option, file];
        ok("qemu-img", &[&args[..], &[&size.to_string()]].concat());
        let writes = places.map(|at| format!("write -P 0x41 {at} 1024"));
        let mut args = vec!["-f", "vmdk"];
        writes.iter().for_each(|write| args.extend(["-c", write]));
        ok("qemu-io", &[&args[..], &[file]].concat());
        let chain = open(&path, Access::Write);
        assert_eq!(chain.size(), size, "{subformat}");
        for at in places {
            reads(&chain, at, &[0x41; 1024]);
            chain.write_at(&[0x42; 512], at + 512).unwrap();
        }
        chain.close(Durability::Unsynced).unwrap();
        let image = node("vmdk", &path, None);
        for at in places {
            for (at, pattern) in [(at, "0x41"), (at + 512, "0x42")] {
                assert!(
                    qemu_reads(&image, pattern, &at.to_string(), "512"),
                    "{subformat} {at}"
                );
            }
        }
    }
}

#[test]
fn a_tebibyte_is_written_at_both_ends_mapped_and_read() {
    let tmp = tempfile::tempdir().unwrap();
    let mut spec = common::sparse(TIB / 512);
    spec.parent = None;
    let path = tmp.path().join(&spec.file);
    common::make(&path, &ImageSpec::VmdkSparse(spec)).unwrap();
    let chain = open(&path, Access::Write);
    for at in [0, TIB / 2 + 5, TIB - 70_000] {
        chain.write_at(&[0x61; 70_000], at).unwrap();
    }
    chain.close(Durability::Unsynced).unwrap();
    let chain = open(&path, Access::Read);
    for at in [0, TIB / 2 + 5, TIB - 70_000] {
        reads(&chain, at, &[0x61; 70_000]);
    }
    let (bytes, ranges) = mapped(&chain);
    assert!(bytes <= 7 * 65_536 && ranges <= 7, "{bytes} in {ranges}");
    if let Some(room) = info(&path).unwrap().allocated {
        assert!(room < 2 << 20, "{room}");
    }
    if !missing("vmdk of 3 GiB and more") {
        let image = node("vmdk", &path, None);
        let at = (TIB - 70_000).to_string();
        assert!(qemu_reads(&image, "0x61", &at, "70000"));
    }
}

#[test]
fn a_stream_of_a_tebibyte_has_the_tables_of_its_data_alone() {
    let tmp = tempfile::tempdir().unwrap();
    let spec = StreamSpec {
        file: "export.vmdk".into(),
        sectors: TIB / 512 - 3,
        cid: common::cid(9),
        uuid: uuid::Uuid::from_u128(9),
        adapter: AdapterType::LsiLogic,
    };
    let path = tmp.path().join(&spec.file);
    let mut writer = StreamWriter::create(&path, &spec).unwrap();
    let mut packer = GrainPacker::default();
    let last = (TIB - 1) / 65_536;
    for n in [0, 1, last / 2, last] {
        let packed = packer.pack(n, &[n as u8 | 1; 60_000]).unwrap();
        writer.write(&packed.unwrap()).unwrap();
    }
    writer.finish(Durability::Unsynced).unwrap();
    // The first grains' place, four grains, three tables, the directory of 128 KiB, and markers.
    assert!(fs::metadata(&path).unwrap().len() < 220 << 10);
    let chain = open(&path, Access::Read);
    assert_eq!(chain.size(), TIB - 3 * 512);
    for n in [0, 1, last / 2, last] {
        reads(&chain, n * 65_536, &[n as u8 | 1; 60_000]);
    }
    assert_eq!(mapped(&chain).1, 4);
    if !missing("vmdk of 3 GiB and more") {
        let image = node("vmdk", &path, None);
        let at = (last * 65_536).to_string();
        assert!(qemu_reads(
            &image,
            &format!("{:#x}", last as u8 | 1),
            &at,
            "60000"
        ));
    }
}

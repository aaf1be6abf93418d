//! VDI images both ways between this crate and qemu-img, byte by byte: dynamic and fixed ones, from one sector to 3 GiB,
//! with sizes that end inside a block. QEMU opens no VDI that names a parent; a child is shown to it as an image alone.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/qemu.rs"]
mod qemu;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;

use common::{make, vdi};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use stratavm_disk::vdi::Allocation;
use stratavm_disk::{Access, Chain, Closed, Durability, Format, ImageSpec, Kind, Patch, info};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Disks in sectors: smaller than a block, at its edges, with a tail.
const SIZES: [u64; 7] = [1, 3, 2047, 2048, 2049, 3 * 2048, 9 * 2048 + 77];
const LARGE: u64 = 3 * GIB / SECTOR + 2047;

/// Where data goes on a disk of this size: both ends, over a block's edge, and somewhere between, in this order.
fn places(size: u64) -> Vec<(u64, Vec<u8>)> {
    let wanted = [
        (size / 2, 70_000, 0x31),
        (size.saturating_sub(700), 700, 0x32),
        (MIB - 3, 10, 0x33),
        (0, 1, 0x34),
        (size / 3 * 2, 3_000_000, 0x35),
    ];
    let fits = |(at, len, with): (u64, u64, u8)| {
        let len = len.min(size.saturating_sub(at));
        (at, vec![with; usize::try_from(len).unwrap()])
    };
    wanted
        .into_iter()
        .map(fits)
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

fn open(path: &Path, access: Access) -> Chain {
    Chain::open(path, Format::Vdi, access, &Closed).unwrap()
}

fn to_raw(path: &Path, raw: &Path) {
    let (from, to) = (path.to_str().unwrap(), raw.to_str().unwrap());
    qemu::ok("qemu-img", &["convert", "-f", "vdi", "-O", "raw", from, to]);
}

fn check(path: &Path) {
    qemu::ok("qemu-img", &["check", "-f", "vdi", path.to_str().unwrap()]);
}

/// A raw file with these data in it and zeros elsewhere.
fn raw_with(path: &Path, size: u64, data: &[(u64, Vec<u8>)]) {
    let mut file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in data {
        file.seek(SeekFrom::Start(*at)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

/// Compares an image with a raw file: all of it, or of a large one what is data in one of them.
fn same(chain: &Chain, raw: &Path, what: &str) {
    let raw = Chain::open(raw, Format::Raw, Access::Read, &Closed).unwrap();
    assert_eq!(raw.size(), chain.size(), "{what}");
    let mut ranges = vec![(0, chain.size())];
    if chain.size() > 64 * MIB {
        ranges = data(chain);
        ranges.extend(data(&raw));
    }
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for (start, len) in ranges {
        for at in (start..start + len).step_by(1 << 20) {
            let len = usize::try_from(start + len - at).map_or(1 << 20, |n| n.min(1 << 20));
            chain.read_at(&mut one[..len], at).unwrap();
            raw.read_at(&mut other[..len], at).unwrap();
            assert!(one[..len] == other[..len], "{what}: differs behind {at}");
        }
    }
}

/// The ranges that are no holes.
fn data(chain: &Chain) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mapped = chain.map(0, chain.size(), &mut |range| {
        if range.kind == Kind::Data {
            ranges.push((range.offset, range.len));
        }
        ControlFlow::Continue(())
    });
    mapped.unwrap();
    ranges
}

/// Makes an image, writes to it, and has QEMU read it.
fn written_here(folder: &Path, sectors: u64, allocation: Allocation) {
    let what = format!("{allocation:?}, {sectors} sectors");
    let [path, raw, want] = ["new.vdi", "new.raw", "want.raw"].map(|name| folder.join(name));
    let mut spec = vdi(sectors, 5, None);
    spec.allocation = allocation;
    spec.patches.push(Patch {
        offset: 0,
        bytes: vec![0xaa; 512],
    });
    make(&path, &ImageSpec::Vdi(spec)).unwrap();
    check(&path);
    let mut data = places(sectors * SECTOR);
    let chain = open(&path, Access::Write);
    for (at, bytes) in &data {
        chain.write_at(bytes, *at).unwrap();
        chain.flush(Durability::Unsynced).unwrap();
    }
    chain.close(Durability::Unsynced).unwrap();
    check(&path);
    data.insert(0, (0, vec![0xaa; 512]));
    raw_with(&want, sectors * SECTOR, &data);
    to_raw(&path, &raw);
    let chain = open(&path, Access::Read);
    same(&chain, &raw, &what);
    same(&chain, &want, &what);
    // QEMU goes on where this crate stopped.
    let json = qemu::node("vdi", &path, None);
    let last = (sectors - 1) * SECTOR;
    qemu::qemu_write(&json, "0x5c", &last.to_string(), "512");
    if sectors > 4096 {
        qemu::qemu_write(&json, "0x5d", &MIB.to_string(), "1024");
    }
    check(&path);
    to_raw(&path, &raw);
    same(&open(&path, Access::Read), &raw, &what);
    fs::remove_file(path).unwrap();
}

/// Reads what QEMU converted, and writes to it.
fn written_by_qemu(folder: &Path, sectors: u64, allocation: Allocation) {
    let what = format!("{allocation:?} by QEMU, {sectors} sectors");
    let [path, raw] = ["q.vdi", "q.raw"].map(|name| folder.join(name));
    raw_with(&raw, sectors * SECTOR, &places(sectors * SECTOR));
    let options = match allocation {
        Allocation::Fixed => "static=on",
        _ => "static=off",
    };
    let (from, to) = (raw.to_str().unwrap(), path.to_str().unwrap());
    qemu::ok(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "vdi", "-o", options, from, to],
    );
    let found = info(&path).unwrap();
    assert_eq!(
        (found.format, found.size),
        (Format::Vdi, sectors * SECTOR),
        "{what}"
    );
    same(&open(&path, Access::Read), &raw, &what);

    let chain = open(&path, Access::Write);
    let last = (sectors - 1) * SECTOR;
    chain.write_at(b"last", last).unwrap();
    chain.write_at(b"middle", sectors / 2 * SECTOR).unwrap();
    chain.zero(0, sectors.min(3000) * SECTOR / 2).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    check(&path);
    to_raw(&path, &raw);
    same(&open(&path, Access::Read), &raw, &what);
    fs::remove_file(path).unwrap();
}

#[test]
fn images_of_all_sizes_go_both_ways() {
    if qemu::missing("vdi") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for sectors in SIZES {
        for allocation in [Allocation::Dynamic, Allocation::Fixed] {
            written_here(dir.path(), sectors, allocation);
            written_by_qemu(dir.path(), sectors, allocation);
        }
    }
}

#[test]
fn a_large_image_goes_both_ways() {
    if qemu::missing("vdi of 3 GiB") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    written_here(dir.path(), LARGE, Allocation::Dynamic);
    written_by_qemu(dir.path(), LARGE, Allocation::Fixed);
    written_here(dir.path(), LARGE, Allocation::Fixed);
    written_by_qemu(dir.path(), LARGE, Allocation::Dynamic);
}

/// What a child has of its own is what QEMU sees when the child is made to look like an image without a parent.
#[test]
fn the_blocks_of_a_child_are_whole() {
    if qemu::missing("vdi child") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [base, child, alone, raw] =
        ["base.vdi", "child.vdi", "alone.vdi", "alone.raw"].map(|name| dir.path().join(name));
    let mut below = vdi(6 * 2048 + 9, 1, None);
    below.patches.push(Patch {
        offset: 0,
        bytes: vec![0x11; usize::try_from(below.sectors * SECTOR).unwrap()],
    });
    let above = vdi(below.sectors, 2, Some(below.ids.image));
    make(&base, &ImageSpec::Vdi(below)).unwrap();
    make(&child, &ImageSpec::Vdi(above)).unwrap();
    let list = [
        (base.as_path(), Format::Vdi),
        (child.as_path(), Format::Vdi),
    ];
    let chain = Chain::open_all(&list, Access::Write, &Closed).unwrap();
    chain.write_at(&[0x22; 100], 6 * MIB).unwrap(); // the last block, cut short
    chain.write_at(&[0x23; 3000], MIB + 77).unwrap();
    chain.zero(3 * MIB - 10, MIB + 20).unwrap(); // a whole block, and a part of two others
    let mut want = vec![0; usize::try_from(chain.size()).unwrap()];
    let size = chain.size();
    let mut ranges = Vec::new();
    let seen = chain.map(0, size, &mut |range| {
        ranges.push((range.offset, range.len, range.depth, range.kind));
        ControlFlow::Continue(())
    });
    seen.unwrap();
    assert!(
        ranges.contains(&(3 * MIB, MIB, Some(0), Kind::Zero)),
        "{ranges:?}"
    );
    for (at, len, depth, _) in ranges {
        if depth == Some(0) {
            let range = usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap();
            chain.read_at(&mut want[range], at).unwrap();
        }
    }
    chain.close(Durability::Unsynced).unwrap();

    let mut bytes = fs::read(&child).unwrap();
    bytes[0x4c] = 1;
    bytes[0x1a8..0x1c8].fill(0);
    fs::write(&alone, bytes).unwrap();
    check(&alone);
    to_raw(&alone, &raw);
    assert!(fs::read(&raw).unwrap() == want);
    assert!(want[MIB as usize..][..77].iter().all(|b| *b == 0x11));
}

#[test]
fn qemu_sees_the_size_of_images_of_any_size() {
    if qemu::missing("vdi") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for sectors in [1, 2049, (1 << 31) + 1, 1 << 36] {
        let path = dir.path().join(format!("{sectors}.vdi"));
        let spec = vdi(sectors, u128::from(sectors), None);
        make(&path, &ImageSpec::Vdi(spec)).unwrap();
        let args = ["info", "--output=json", "-f", "vdi", path.to_str().unwrap()];
        let seen: Value = serde_json::from_str(&qemu::ok("qemu-img", &args)).unwrap();
        assert_eq!(seen["virtual-size"], sectors * SECTOR);
        let last = format!("write -P 1 {} 512", (sectors - 1) * SECTOR);
        qemu::ok(
            "qemu-io",
            &["-f", "vdi", "-c", &last, path.to_str().unwrap()],
        );
        let mut found = [0; 512];
        let chain = open(&path, Access::Read);
        chain.read_at(&mut found, (sectors - 1) * SECTOR).unwrap();
        assert_eq!(found, [1; 512]);
        drop(chain);
        fs::remove_file(path).unwrap();
    }
}

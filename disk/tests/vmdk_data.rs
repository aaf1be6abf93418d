//! Guest data of every kind of VMDK: what qemu-img makes is read and written here, and what is written here is read by
//! qemu-img, byte by byte, sizes from one sector on. Skipped, and counted as such, where its tools are not installed.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies)]

mod common;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "common/qemu.rs"]
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::vmdk::{AdapterType, FlatDiskSpec, GrainPacker, StreamSpec, StreamWriter};
use stratavm_disk::{Access, Below, Chain, Durability, ErrorKind, ImageSpec, Kind, probe, verify};
use tools::{missing, node, ok, qemu_reads, qemu_write};

const GRAIN: usize = 65536;
const SUBFORMATS: [&str; 5] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
];
/// In sectors: less than a grain, a grain and a bit, and more than one grain table, none a multiple of anything.
const SIZES: [usize; 5] = [1, 127, 128, 131, 65_536 + 3 * 128 + 5];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A disk of `sectors`, with data that packs well and data that does not, zeros, and something in its last sector.
fn disk(sectors: usize) -> Vec<u8> {
    let mut disk = vec![0; sectors * 512];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (n, grain) in disk.chunks_mut(GRAIN).enumerate() {
        match n % 7 {
            0 => grain.iter_mut().for_each(|byte| *byte = next() as u8),
            2 => grain.fill(n as u8 | 1),
            4 => grain
                .iter_mut()
                .skip(900)
                .for_each(|byte| *byte = (next() % 7) as u8),
            _ => {}
        }
    }
    let end = disk.len();
    disk[end - 3..].copy_from_slice(b"end");
    disk
}

fn open(path: &Path, access: Access) -> Chain {
    let gate = Below::beside(path).unwrap();
    Chain::open(path, probe(path).unwrap(), access, &gate).unwrap()
}

fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// Writes all of a disk but its zeros, in pieces that keep to no unit.
fn write(chain: &Chain, disk: &[u8]) {
    for (n, piece) in disk.chunks(100_003).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            chain.write_at(piece, n as u64 * 100_003).unwrap();
        }
    }
}

/// Whether qemu-img sees exactly this disk in the image.
fn qemu_sees(image: &Path, disk: &[u8]) {
    let raw = image.with_extension("raw");
    fs::write(&raw, disk).unwrap();
    let (raw, image) = (text(&raw), text(image));
    ok(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "vmdk", raw, image],
    );
}

#[test]
fn what_qemu_makes_is_read_whole_and_in_pieces() {
    if missing("vmdk") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    for sectors in SIZES {
        let want = disk(sectors);
        let raw = tmp.path().join("disk.raw");
        fs::write(&raw, &want).unwrap();
        for subformat in SUBFORMATS {
            let path = tmp.path().join(format!("{subformat}-{sectors}.vmdk"));
            let option = format!("subformat={subformat}");
            let args = ["convert", "-f", "raw", "-O", "vmdk", "-o", &option];
            ok(
                "qemu-img",
                &[&args[..], &[text(&raw), text(&path)]].concat(),
            );
            let chain = open(&path, Access::Read);
            assert!(content(&chain) == want, "{subformat} of {sectors} sectors");
            let mut odd = vec![0; want.len().min(70_001)];
            let at = want.len() - odd.len();
            chain.read_at(&mut odd, at as u64).unwrap();
            assert!(odd == want[at..], "{subformat} of {sectors} sectors");
        }
    }
}

#[test]
fn what_is_written_into_images_of_qemu_it_reads_itself() {
    if missing("vmdk") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    for sectors in SIZES {
        let want = disk(sectors);
        for subformat in &SUBFORMATS[..4] {
            let path = tmp.path().join(format!("{subformat}-{sectors}.vmdk"));
            let option = format!("subformat={subformat}");
            let size = (sectors * 512).to_string();
            let args = ["create", "-q", "-f", "vmdk", "-o", &option];
            ok("qemu-img", &[&args[..], &[text(&path), &size]].concat());
            let chain = open(&path, Access::Write);
            write(&chain, &want);
            assert!(content(&chain) == want, "{subformat} of {sectors} sectors");
            chain.close(Durability::Unsynced).unwrap();
            qemu_sees(&path, &want);
            if subformat.ends_with("Sparse") {
                ok("qemu-img", &["check", "-f", "vmdk", text(&path)]);
            }
        }
    }
}

#[test]
fn a_chain_of_qemu_is_followed_and_written_to() {
    if missing("vmdk") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let sectors = 5 * 128 + 17;
    let mut want = disk(sectors);
    let raw = dir.join("base.raw");
    fs::write(&raw, &want).unwrap();
    let [base, middle, top] = ["base.vmdk", "middle.vmdk", "top.vmdk"].map(|n| dir.join(n));
    let args = [
        "convert",
        "-f",
        "raw",
        "-O",
        "vmdk",
        text(&raw),
        text(&base),
    ];
    ok("qemu-img", &args);
    let over = |child: &Path, parent: &str, subformat: &str| {
        let option = format!("subformat={subformat}");
        let args = ["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", parent];
        ok(
            "qemu-img",
            &[&args[..], &["-o", &option, text(child)]].concat(),
        );
    };
    let all = |path: &Path| format!("{}", path.display());
    // QEMU draws a new CID at a first write: each image gets its data before the next one lies on it.
    over(&middle, &all(&base), "monolithicSparse");
    ok(
        "qemu-io",
        &["-f", "vmdk", "-c", "write -P 0x21 64k 64k", text(&middle)],
    );
    want[GRAIN..2 * GRAIN].fill(0x21);
    over(&top, &all(&middle), "twoGbMaxExtentSparse");
    ok(
        "qemu-io",
        &["-f", "vmdk", "-c", "write -P 0x22 260k 4k", text(&top)],
    );
    want[260 * 1024..264 * 1024].fill(0x22);

    let chain = open(&top, Access::Write);
    assert_eq!(chain.depth(), 3);
    assert!(content(&chain) == want);
    let end = want.len();
    for at in [100, 3 * GRAIN - 10, end - 600] {
        chain.write_at(&[0x33; 600], at as u64).unwrap();
        want[at..at + 600].fill(0x33);
    }
    chain.zero(70_000, 200).unwrap();
    want[70_000..70_200].fill(0);
    assert!(content(&chain) == want);
    chain.close(Durability::Synced).unwrap();
    qemu_sees(&top, &want);
    let mut chain = node("vmdk", &base, None);
    for image in [&middle, &top] {
        chain = node("vmdk", image, Some(chain));
    }
    assert!(qemu_reads(&chain, "0x21", "80k", "8k"));
}

/// What a writable image of each kind is made of, in extents that keep to no grain; the last file is the one to open.
fn new_images(sectors: u64) -> Vec<Vec<(String, ImageSpec)>> {
    let mut sparse = common::sparse(sectors);
    sparse.parent = None;
    let flat = FlatDiskSpec {
        file: "flat.vmdk".into(),
        sectors,
        cid: sparse.cid,
        uuid: sparse.uuid,
        adapter: AdapterType::Ide,
        patches: Vec::new(),
    };
    let mut split = sparse.clone();
    split.file = "split.vmdk".into();
    let mut split_flat = flat.clone();
    split_flat.file = "split-flat.vmdk".into();
    vec![
        vec![(sparse.file.clone(), ImageSpec::VmdkSparse(sparse))],
        split.split(5 * 2048).unwrap(),
        flat.whole().unwrap(),
        split_flat.split(5 * 2048).unwrap(),
    ]
}

#[test]
fn new_images_of_any_size_are_written_and_read_by_us_and_by_qemu() {
    for sectors in SIZES {
        let tmp = tempfile::tempdir().unwrap();
        let want = disk(sectors);
        for files in new_images(sectors as u64) {
            let mut path = PathBuf::new();
            for (file, spec) in files {
                path = tmp.path().join(file);
                common::make(&path, &spec).unwrap();
                verify(&path, &spec).unwrap();
            }
            let chain = open(&path, Access::Write);
            assert_eq!(chain.size(), want.len() as u64);
            write(&chain, &want);
            chain.close(Durability::Unsynced).unwrap();
            assert!(content(&open(&path, Access::Read)) == want, "{path:?}");
            if missing("vmdk") {
                continue;
            }
            qemu_sees(&path, &want);
            // And it takes QEMU's writes, to its last sector.
            let image = node("vmdk", &path, None);
            qemu_write(&image, "0x5a", &(want.len() - 512).to_string(), "512");
            let seen = content(&open(&path, Access::Read));
            assert!(
                seen.ends_with(&[0x5a; 512])
                    && seen[..want.len() - 512] == want[..want.len() - 512]
            );
        }
    }
}

fn stream_spec(sectors: usize) -> StreamSpec {
    StreamSpec {
        file: "export.vmdk".into(),
        sectors: sectors as u64,
        cid: common::cid(0x5712_ea00),
        uuid: uuid::Uuid::from_u128(7),
        adapter: AdapterType::LsiLogic,
    }
}

fn export(folder: &Path, disk: &[u8]) -> PathBuf {
    let spec = stream_spec(disk.len() / 512);
    let path = folder.join(&spec.file);
    let mut writer = StreamWriter::create(&path, &spec).unwrap();
    let mut packer = GrainPacker::default();
    for (n, grain) in disk.chunks(GRAIN).enumerate() {
        if let Some(packed) = packer.pack(n as u64, grain).unwrap() {
            writer.write(&packed).unwrap();
        }
    }
    writer.finish(Durability::Unsynced).unwrap();
    path
}

#[test]
fn an_exported_stream_is_read_by_us_and_by_qemu() {
    for sectors in SIZES {
        let tmp = tempfile::tempdir().unwrap();
        let want = disk(sectors);
        let path = export(tmp.path(), &want);
        let chain = open(&path, Access::Read);
        assert!(content(&chain) == want, "{sectors} sectors");
        // What is not there takes no room, and what is there is packed.
        let mut packed = 0;
        chain
            .map(0, chain.size(), &mut |range| {
                assert!(matches!(range.kind, Kind::Packed | Kind::Absent));
                packed += usize::from(range.kind == Kind::Packed);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        let grains = want.chunks(GRAIN);
        assert_eq!(packed, grains.filter(|g| g.iter().any(|b| *b != 0)).count());
        if !missing("vmdk") {
            qemu_sees(&path, &want);
        }
    }
    // A disk without data is three sectors of tables.
    let tmp = tempfile::tempdir().unwrap();
    let path = export(tmp.path(), &vec![0; 10 * GRAIN]);
    assert_eq!(fs::metadata(&path).unwrap().len(), (128 + 5) * 512);
    assert!(content(&open(&path, Access::Read)) == vec![0; 10 * GRAIN]);
}

#[test]
fn a_stream_is_written_in_order_and_once() {
    let tmp = tempfile::tempdir().unwrap();
    let spec = stream_spec(10 * 128);
    let path = tmp.path().join(&spec.file);
    let mut packer = GrainPacker::default();
    let mut grain = |n| packer.pack(n, b"x").unwrap().unwrap();
    let mut writer = StreamWriter::create(&path, &spec).unwrap();
    writer.write(&grain(3)).unwrap();
    for bad in [3, 2, 10, u64::MAX / 128] {
        let error = writer.write(&grain(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let error = StreamWriter::create(&path, &spec).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Exists);
    drop(writer);
    assert!(!path.exists(), "an unfinished file stays");
    assert!(GrainPacker::default().pack(0, &[1; GRAIN + 1]).is_err());
    let path = export(tmp.path(), &disk(128));
    let error = Chain::open(
        &path,
        probe(&path).unwrap(),
        Access::Write,
        &Below::beside(&path).unwrap(),
    );
    assert_eq!(error.err().unwrap().kind(), ErrorKind::Unsupported);
}

/// Entry `n` of the directory in sector `sector`.
fn entry(bytes: &[u8], sector: usize, n: usize) -> usize {
    let at = sector * 512 + n * 4;
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn tables_that_are_not_there_are_added_in_both_copies() {
    let tmp = tempfile::tempdir().unwrap();
    let sectors = 20 * 65_536 + 9; // 21 tables
    let mut spec = common::sparse(sectors);
    spec.parent = None;
    let path = tmp.path().join(&spec.file);
    common::make(&path, &ImageSpec::VmdkSparse(spec)).unwrap();
    // What a product leaves that makes tables when it needs them.
    let mut bytes = fs::read(&path).unwrap();
    let directories = [48, 56].map(|at| bytes[at] as usize);
    for directory in directories {
        bytes[directory * 512 + 4..directory * 512 + 21 * 4].fill(0);
    }
    fs::write(&path, &bytes).unwrap();

    let places: Vec<u64> = (0..21).map(|table| table * (32 << 20) + 12_345).collect();
    let chain = open(&path, Access::Write);
    for (n, at) in places.iter().enumerate() {
        chain
            .write_at(&[n as u8 + 1; 70_000], *at)
            .unwrap_or_else(|e| {
                // The last table's disk ends before.
                assert_eq!((n, e.kind()), (20, ErrorKind::Invalid));
            });
    }
    chain.write_at(b"end", sectors * 512 - 3).unwrap();
    // Nothing names a table before it is in the file.
    assert_eq!(entry(&fs::read(&path).unwrap(), directories[1], 1), 0);
    chain.flush(Durability::Unsynced).unwrap();
    let flushed = fs::read(&path).unwrap();
    chain.close(Durability::Unsynced).unwrap();

    let mut seen = Vec::new();
    for table in 0..21 {
        let [one, two] = directories.map(|directory| entry(&flushed, directory, table));
        let of = |sector: usize| &flushed[sector * 512..sector * 512 + 2048];
        assert!(one != two && of(one) == of(two), "table {table}");
        assert!(of(one).iter().any(|byte| *byte != 0), "table {table}");
        seen.extend([one, two]);
    }
    seen.sort_unstable();
    assert!(seen.windows(2).all(|pair| pair[0] + 4 <= pair[1]));
    let chain = open(&path, Access::Read);
    let mut buf = vec![0; 70_000];
    for (n, at) in places[..20].iter().enumerate() {
        chain.read_at(&mut buf, *at).unwrap();
        assert!(buf.iter().all(|byte| *byte == n as u8 + 1), "table {n}");
    }
    if !missing("vmdk") {
        let image = node("vmdk", &path, None);
        assert!(qemu_reads(&image, "0x0b", &places[10].to_string(), "70000"));
        qemu_write(&image, "0x77", &places[4].to_string(), "512");
        ok("qemu-img", &["check", "-f", "vmdk", text(&path)]);
    }
}

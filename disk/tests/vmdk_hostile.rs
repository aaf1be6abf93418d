//! Damaged and hostile VMDKs, field by field: each is refused with its kind and its place before anything is read or
//! written by it, and forms that are only unusual are read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unused_crate_dependencies
)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use stratavm_disk::vmdk::{AdapterType, GrainPacker, StreamSpec, StreamWriter};
use stratavm_disk::{
    Access, Below, Chain, Durability, Error, ErrorKind, Format, ImageSpec, Kind, Patch, info,
};

const GRAIN: usize = 65536;

fn open(path: &Path, access: Access) -> Result<Chain, Error> {
    let format = match path.extension() {
        Some(extension) if extension == "txt" => Format::VmdkDescriptor,
        _ => Format::VmdkSparse,
    };
    Chain::open(path, format, access, &Below::beside(path)?)
}

/// Opens an image and reads all of it.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let chain = open(path, Access::Read)?;
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0)?;
    Ok(all)
}

fn put(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// A stream of 70 sectors more than three grains, data in the first and the last: its file is
/// 128 sectors, a grain of 1 each, a marker and 4 of a table, a marker and 1 of the directory, 3 of the footer.
fn stream(path: &Path) -> Vec<u8> {
    let spec = StreamSpec {
        file: "stream.vmdk".into(),
        sectors: 3 * 128 + 70,
        cid: common::cid(5),
        uuid: uuid::Uuid::from_u128(5),
        adapter: AdapterType::Ide,
    };
    let mut writer = StreamWriter::create(path, &spec).unwrap();
    let mut packer = GrainPacker::default();
    for n in [0, 3] {
        let packed = packer.pack(n, &[n as u8 + 1; 70 * 512]).unwrap();
        writer.write(&packed.unwrap()).unwrap();
    }
    writer.finish(Durability::Unsynced).unwrap();
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len(), (128 + 2 + 5 + 2 + 3) * 512);
    bytes
}

const FIRST: usize = 128 * 512;
const LAST: usize = 129 * 512;
const TABLE: usize = 131 * 512;
const DIRECTORY: usize = 136 * 512;
const FOOTER_MARKER: usize = 137 * 512;
const FOOTER: usize = 138 * 512;
const END_MARKER: usize = 139 * 512;

#[test]
fn each_damaged_field_of_a_stream_is_refused() {
    use ErrorKind::{Malformed, Unsupported};
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("stream.vmdk");
    let good = stream(&path);
    let want = read(&path).unwrap();
    assert!(want[..70 * 512] == [1; 70 * 512] && want.ends_with(&[4; 70 * 512]));
    let cases: &[(&str, usize, &[u8], ErrorKind, usize)] = &[
        ("markers, not packed", 8, &[1, 0, 2, 0], Malformed, 77),
        ("packed by another way", 77, &[2], Malformed, 77),
        (
            "kind of the footer's marker",
            FOOTER_MARKER + 12,
            &[2],
            Malformed,
            good.len(),
        ),
        (
            "packed size of that marker",
            FOOTER_MARKER + 8,
            &[1],
            Malformed,
            good.len(),
        ),
        (
            "end of stream",
            END_MARKER + 12,
            &[3],
            Malformed,
            good.len(),
        ),
        (
            "sectors behind the end of stream",
            END_MARKER,
            &[1],
            Malformed,
            good.len(),
        ),
        ("footer's magic", FOOTER, b"COWD", Malformed, 0),
        ("footer's capacity", FOOTER + 12, &[9], Malformed, FOOTER),
        ("footer's grain size", FOOTER + 20, &[64], Malformed, FOOTER),
        (
            "footer without a directory",
            FOOTER + 56,
            &[0xff; 8],
            Malformed,
            FOOTER,
        ),
        (
            "directory behind the file",
            FOOTER + 56,
            &[0, 0, 0, 0x40],
            Malformed,
            0x4000_0000 * 512,
        ),
        (
            "directory across its end",
            FOOTER + 56,
            &[140, 0],
            Malformed,
            140 * 512,
        ),
        (
            "table behind the file",
            DIRECTORY,
            &[0xff; 4],
            Malformed,
            0xffff_ffff * 512,
        ),
        (
            "table across its end",
            DIRECTORY,
            &[137, 0],
            Malformed,
            137 * 512,
        ),
        ("grain behind the file", TABLE, &[140, 0], Malformed, TABLE),
        (
            "grain far behind the file",
            TABLE,
            &[0xff; 4],
            Malformed,
            TABLE,
        ),
        ("grain in the descriptor", TABLE, &[1, 0], Malformed, 512),
        ("another grain's place", TABLE, &[129, 0], Malformed, LAST),
        ("first sector of a grain", FIRST, &[128], Malformed, FIRST),
        ("grain of no bytes", FIRST + 8, &[0; 4], Malformed, FIRST),
        ("grain of 4 GiB", FIRST + 8, &[0xff; 4], Malformed, FIRST),
        (
            "grain that ends too early",
            FIRST + 8,
            &[9, 0],
            Malformed,
            FIRST,
        ),
        ("no zlib stream", FIRST + 12, &[0xff; 2], Malformed, FIRST),
        ("checksum", FIRST + 12 + 20, &[0x55; 60], Malformed, FIRST),
        ("version", 4, &[4], Unsupported, 4),
    ];
    for (what, at, with, kind, offset) in cases {
        let mut bytes = good.clone();
        put(&mut bytes, *at, with);
        fs::write(&path, bytes).unwrap();
        let error = read(&path).expect_err(what);
        assert_eq!(error.kind(), *kind, "{what}: {error}");
        assert_eq!(error.offset(), Some(*offset as u64), "{what}: {error}");
        assert_eq!(error.path(), Some(path.as_path()), "{what}: {error}");
    }
    // Packed without markers: a form that the format has and nobody writes.
    let mut bytes = good.clone();
    for header in [0, FOOTER] {
        put(&mut bytes, header + 8, &[1, 0, 1, 0]);
        put(&mut bytes, header + 56, &[136, 0, 0, 0, 0, 0, 0, 0]);
    }
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap_err().kind(), Unsupported);
    // Cut short anywhere.
    for len in (0..good.len()).step_by(512).chain([good.len() - 1]) {
        fs::write(&path, &good[..len]).unwrap();
        let error = read(&path).expect_err("cut short");
        assert_eq!(error.kind(), Malformed, "{len}: {error}");
    }
}

/// A zlib stream that stores `len` bytes as they are, without a checksum that anyone gets to.
fn stored(len: usize) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut left = len;
    while left > 0 {
        let n = left.min(0xffff);
        left -= n;
        out.push(u8::from(left == 0));
        out.extend((n as u16).to_le_bytes());
        out.extend((!n as u16).to_le_bytes());
        out.resize(out.len() + n, 7);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for _ in 0..len {
        a = (a + 7) % 65521;
        b = (b + a) % 65521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}

#[test]
fn a_packed_grain_is_as_long_as_the_disk_needs_and_no_longer() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("stream.vmdk");
    let good = stream(&path);
    // The last grain holds 70 sectors of the disk: more may be there, less not. The first one must be whole.
    for (sector, len, accepted) in [
        (3 * 128_u64, 70 * 512, true),
        (3 * 128, GRAIN, true),
        (3 * 128, 70 * 512 - 1, false),
        (3 * 128, GRAIN + 1, false),
        (0, GRAIN, true),
        (0, GRAIN - 1, false),
        (0, GRAIN + 1, false),
    ] {
        let packed = stored(len);
        let mut bytes = good[..FIRST].to_vec();
        bytes.extend(sector.to_le_bytes());
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(&packed);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let moved = bytes.len() / 512 - 130;
        bytes.extend(&good[130 * 512..]);
        let at = |sector: usize| (sector + moved) * 512;
        let entry = at(131) + (sector / 128) as usize * 4;
        put(&mut bytes, at(131), &[0; 16]);
        put(&mut bytes, entry, &128_u32.to_le_bytes());
        put(&mut bytes, at(136), &(131 + moved as u32).to_le_bytes());
        put(
            &mut bytes,
            at(138) + 56,
            &(136 + moved as u64).to_le_bytes(),
        );
        fs::write(&path, &bytes).unwrap();
        match read(&path) {
            Ok(disk) => {
                let n = sector as usize * 512;
                assert!(accepted && disk[n..n + 70 * 512] == [7; 70 * 512], "{len}");
            }
            Err(e) => assert!(!accepted && e.kind() == ErrorKind::Malformed, "{len}: {e}"),
        }
    }
}

/// A sparse image of its own of two grains and a bit, data in the first: directories at 21 and 26, tables at 22 and 27.
fn sparse(path: &Path) -> Vec<u8> {
    let mut spec = common::sparse(2 * 128 + 3);
    spec.file = path.file_name().unwrap().to_str().unwrap().to_owned();
    spec.parent = None;
    spec.patches = vec![Patch {
        offset: 0,
        bytes: vec![9; 1000],
    }];
    common::make(path, &ImageSpec::VmdkSparse(spec)).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn what_a_writer_could_spoil_is_refused_and_still_read() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    let good = sparse(&path);
    let want = read(&path).unwrap();
    let cases: &[(&str, usize, &[u8], ErrorKind)] = &[
        (
            "open elsewhere, or not closed",
            72,
            &[1],
            ErrorKind::Mismatch,
        ),
        (
            "second directory cut off",
            48,
            &[0, 0, 1],
            ErrorKind::Malformed,
        ),
        (
            "second table cut off",
            21 * 512,
            &[0xff; 4],
            ErrorKind::Malformed,
        ),
    ];
    for (what, at, with, kind) in cases {
        let mut bytes = good.clone();
        put(&mut bytes, *at, with);
        fs::write(&path, &bytes).unwrap();
        let write = || open(&path, Access::Write)?.write_at(b"x", 70_000);
        assert_eq!(write().expect_err(what).kind(), *kind, "{what}");
        if *at != 48 {
            assert!(read(&path).unwrap() == want, "{what}");
        }
    }
    for (what, at, with) in [
        ("directory", 56, [0, 0, 1, 0]),
        ("table", 26 * 512, [0xff; 4]),
        ("grain behind the file", 27 * 512, [0xff; 4]),
        ("grain among the tables", 27 * 512, [22, 0, 0, 0]),
    ] {
        let mut bytes = good.clone();
        put(&mut bytes, at, &with);
        fs::write(&path, &bytes).unwrap();
        let error = read(&path).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{what}: {error}");
    }
}

#[test]
fn a_grain_where_the_next_new_one_would_lie_keeps_an_image_from_being_written() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    let mut bytes = sparse(&path);
    // Grain 1 is where the file ends: a write to grain 2 would show in grain 1 as well.
    let end = u32::try_from(bytes.len().next_multiple_of(65536) / 512).unwrap();
    for table in [22, 27] {
        put(&mut bytes, table * 512 + 4, &end.to_le_bytes());
    }
    fs::write(&path, &bytes).unwrap();
    let write = open(&path, Access::Write).map(drop);
    let error = write.expect_err("it is refused as a whole");
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert_eq!(error.offset(), Some(27 * 512 + 4));
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn unusual_images_are_read_and_written() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    let good = sparse(&path);
    let want = read(&path).unwrap();

    // The header counts up to the end of the last grain; the disk ends where the descriptor says.
    let mut rounded = good.clone();
    put(&mut rounded, 12, &[0x80, 1]);
    fs::write(&path, &rounded).unwrap();
    assert!(read(&path).unwrap() == want);
    put(&mut rounded, 12, &[0x81, 1]);
    fs::write(&path, &rounded).unwrap();
    assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Mismatch);

    // Zeroed grains, which are no data and hide none; written to, they become grains.
    let mut zeroed = good.clone();
    put(&mut zeroed, 4, &[2]);
    put(&mut zeroed, 8, &[7]);
    for table in [22, 27] {
        put(&mut zeroed, table * 512, &[1, 0, 0, 0, 1, 0, 0, 0]);
    }
    fs::write(&path, &zeroed).unwrap();
    assert!(read(&path).unwrap() == vec![0; want.len()]);
    let chain = open(&path, Access::Write).unwrap();
    let mut kinds = Vec::new();
    let mut see = |range: &stratavm_disk::MappedRange<'_>| {
        kinds.push((range.kind, range.len));
        ControlFlow::Continue(())
    };
    chain.map(0, chain.size(), &mut see).unwrap();
    assert_eq!(
        kinds,
        [(Kind::Zero, 2 * GRAIN as u64), (Kind::Absent, 3 * 512)]
    );
    chain.write_at(b"here", 100).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    let mut now = vec![0; want.len()];
    now[100..104].copy_from_slice(b"here");
    assert!(read(&path).unwrap() == now);

    // The last grain is cut where its writer had no more: the rest reads as zeros, and can be written.
    let cut = &good[..good.len() - GRAIN + 700];
    fs::write(&path, cut).unwrap();
    let mut now = want.clone();
    now[700..1000].fill(0);
    assert!(read(&path).unwrap() == now);
    let chain = open(&path, Access::Write).unwrap();
    for at in [50_000, 70_000] {
        chain.write_at(b"more", at as u64).unwrap();
        now[at..at + 4].copy_from_slice(b"more");
    }
    chain.close(Durability::Unsynced).unwrap();
    assert!(read(&path).unwrap() == now);

    // Without its flag the second directory is not in use, whatever is said of it.
    let mut single = good.clone();
    put(&mut single, 8, &[1]);
    put(&mut single, 48, &[0xff; 8]);
    fs::write(&path, &single).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    chain.write_at(b"more", 70_000).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    assert_eq!(&read(&path).unwrap()[70_000..70_004], b"more");
    assert_eq!(
        fs::read(&path).unwrap()[21 * 512..26 * 512],
        good[21 * 512..26 * 512]
    );
}

#[test]
fn extents_are_opened_as_their_access_says() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("disk.txt");
    sparse(&tmp.path().join("a.vmdk"));
    fs::write(tmp.path().join("b.raw"), [5; 1024]).unwrap();
    let text = |access: &str| {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\ncreateType=\"custom\"\n\
             {access} 259 SPARSE \"a.vmdk\"\nRW 2 FLAT \"b.raw\" 0\nRW 3 ZERO\n"
        );
        fs::write(&path, text).unwrap();
    };
    text("RW");
    let chain = open(&path, Access::Write).unwrap();
    chain.write_at(&[6; 1000], 259 * 512 - 500).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    let error = open(&path, Access::Write)
        .unwrap()
        .write_at(b"x", 261 * 512);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    text("RDONLY");
    let all = read(&path).unwrap();
    assert_eq!(all.len(), 264 * 512);
    assert_eq!(all[259 * 512 - 500..259 * 512 + 500], [6; 1000]);
    let chain = open(&path, Access::Write).unwrap();
    chain.write_at(b"y", 259 * 512).unwrap();
    assert!(chain.write_at(b"x", 0).is_err());
    drop(chain);
    text("NOACCESS");
    assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Unsupported);
    // An extent of QEMU's has room for a descriptor and none in it.
    let mut extent = sparse(&tmp.path().join("c.vmdk"));
    extent[512..21 * 512].fill(0);
    fs::write(tmp.path().join("c.vmdk"), extent).unwrap();
    let found = info(&tmp.path().join("c.vmdk")).unwrap();
    assert_eq!((found.size, found.vmdk), (259 * 512, None));
}

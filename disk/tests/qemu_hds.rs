//! `.hds` images through QEMU's own driver, both ways and in chains: what is written here reads the same there, and what
//! QEMU makes (the other variant) reads the same here, at sizes from one sector to 3 GiB.
//! Skipped, and counted as such, where qemu-img and qemu-io are not installed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unused_crate_dependencies
)]

#[path = "common/bundle.rs"]
mod bundle;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "common/qemu.rs"]
mod tools;

use bundle::content;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::{
    Access, Chain, Closed, ConvertOptions, Ctx, Durability, Format, ImageSpec, Target, Volume,
    create, flatten,
};
use tools::{missing, node, ok, qemu_write};
use uuid::Uuid;

const MIB: u64 = 1 << 20;

/// Sizes in sectors: odd tails, a cluster and its neighbours, and 3 GiB.
const SIZES: [u64; 8] = [
    1,
    3,
    2047,
    2048,
    2049,
    6000,
    20 * 2048 + 1,
    6 * 2048 * 512 - 7,
];

/// Where something is written in a disk of `size` bytes, and what: the ends, and over the edges of clusters.
fn writes(size: u64) -> Vec<(u64, Vec<u8>)> {
    let places = [
        (0, 1),
        (700, 900),
        (MIB - 5, 10),
        (2 * MIB, MIB),
        (5 * MIB + 512, 3 * MIB),
        (size / 2, 70_000),
        (size.saturating_sub(1025), 1025),
    ];
    let inside = |(at, len): (u64, u64)| at.checked_add(len).is_some_and(|end| end <= size);
    let places = places.into_iter().filter(|place| inside(*place));
    let bytes = |(n, (at, len)): (usize, (u64, u64))| {
        let byte = |i: u64| (i % 251) as u8 ^ (n as u8 + 1);
        (at, (0..len).map(byte).collect())
    };
    places.enumerate().map(bytes).collect()
}

/// A raw file with what is written.
fn raw(path: &Path, sectors: u64) {
    let file = File::create(path).unwrap();
    file.set_len(sectors * 512).unwrap();
    put(file, &writes(sectors * 512));
}

fn put(mut file: File, writes: &[(u64, Vec<u8>)]) {
    for (at, bytes) in writes {
        file.seek(SeekFrom::Start(*at)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

fn new(path: &Path, sectors: u64) {
    let spec = ImageSpec::Hds(HdsSpec {
        sectors,
        patches: Vec::new(),
    });
    create(path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
}

fn open(path: &Path, access: Access) -> Chain {
    Chain::open(path, Format::Hds, access, &Closed).unwrap()
}

fn write(chain: Chain, writes: &[(u64, Vec<u8>)]) {
    for (at, bytes) in writes {
        chain.write_at(bytes, *at).unwrap();
    }
    chain.close(Durability::Unsynced).unwrap();
}

/// Byte by byte, by QEMU, and of the same size.
fn same(raw: &Path, format: &str, image: &Path) {
    let bytes = fs::metadata(raw).unwrap().len();
    let (raw, image) = (raw.to_str().unwrap(), image.to_str().unwrap());
    let info = ok("qemu-img", &["info", "--output=json", "-f", format, image]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], bytes, "{image}");
    ok(
        "qemu-img",
        &["compare", "-f", "raw", "-F", format, raw, image],
    );
}

fn check(image: &Path) {
    let image = image.to_str().unwrap();
    ok("qemu-img", &["check", "-f", "parallels", image]);
}

#[test]
fn what_is_written_here_reads_the_same_there() {
    if missing("hds") {
        return;
    }
    for sectors in SIZES {
        let dir = tempfile::tempdir().unwrap();
        let (want, image) = (dir.path().join("want.raw"), dir.path().join("x.hds"));
        raw(&want, sectors);
        new(&image, sectors);
        write(open(&image, Access::Write), &writes(sectors * 512));
        check(&image);
        same(&want, "parallels", &image);

        // What QEMU writes into it is seen here.
        let last = sectors * 512 - 512;
        qemu_write(
            &node("parallels", &image, None),
            "0x77",
            &last.to_string(),
            "512",
        );
        check(&image);
        let chain = open(&image, Access::Read);
        let mut end = [0; 512];
        chain.read_at(&mut end, last).unwrap();
        assert_eq!(end, [0x77; 512], "{sectors} sectors");
    }
}

#[test]
fn what_qemu_makes_reads_the_same_here_and_takes_writes() {
    if missing("hds") {
        return;
    }
    for sectors in SIZES {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let (want, image, back) = (file("want.raw"), file("x.hds"), file("back.raw"));
        raw(&want, sectors);
        let cluster = if sectors % 2 == 0 { "1M" } else { "64k" };
        let option = format!("cluster_size={cluster}");
        let [from, to] = [&want, &image].map(|path| path.to_str().unwrap());
        let args = [
            "convert",
            "-O",
            "parallels",
            "-o",
            &option,
            "-f",
            "raw",
            from,
            to,
        ];
        ok("qemu-img", &args);
        let options = ConvertOptions::new(Uuid::from_u128(1));
        let source = open(&image, Access::Read);
        flatten(&source, &back, Target::Raw, &options, &Ctx::none()).unwrap();
        drop(source);
        same(&want, "raw", &back);

        // More into its holes, and over what it has.
        let more: Vec<_> = writes(sectors * 512)
            .into_iter()
            .map(|(at, bytes)| (at / 2, bytes.iter().map(|b| b ^ 0x80).collect::<Vec<_>>()))
            .collect();
        put(File::options().write(true).open(&want).unwrap(), &more);
        write(open(&image, Access::Write), &more);
        check(&image);
        same(&want, "parallels", &image);
    }
}

/// Three levels over a raw root, the middle one made by QEMU: which is written by whom.
#[test]
fn a_chain_of_both_variants_is_shared_with_qemu() {
    if missing("hds") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sectors = 12 * 2048 + 9;
    let files: Vec<PathBuf> = ["root.raw", "1.hds", "2.hds", "3.hds"]
        .iter()
        .map(|name| dir.path().join(name))
        .collect();
    raw(&files[0], sectors);
    let mut want = fs::read(&files[0]).unwrap();
    new(&files[1], sectors);
    let size = (sectors * 512).to_string();
    let middle = files[2].to_str().unwrap();
    ok("qemu-img", &["create", "-f", "parallels", middle, &size]);
    new(&files[3], sectors);
    let list: Vec<_> = files
        .iter()
        .zip([Format::Raw, Format::Hds, Format::Hds, Format::Hds])
        .map(|(path, format)| (path.as_path(), format))
        .collect();
    let nodes = |levels: usize| {
        let root = node("raw", &files[0], None);
        files[1..levels]
            .iter()
            .fold(root, |below, file| node("parallels", file, Some(below)))
    };
    for levels in 2..=4 {
        let mut set = |at: u64, len: u64, with: u8| {
            want[at as usize..(at + len) as usize].fill(with);
        };
        let n = levels as u64;
        // Copied up from below by each of the two, into clusters of their own.
        qemu_write(&nodes(levels), "0x51", &(n * MIB + 512).to_string(), "1024");
        set(n * MIB + 512, 1024, 0x51);
        let chain = Chain::open_all(&list[..levels], Access::Write, &Closed).unwrap();
        chain.write_at(&[0x61; 999], (n + 3) * MIB - 500).unwrap();
        set((n + 3) * MIB - 500, 999, 0x61);
        chain.zero(6 * MIB - 3, n * 1000).unwrap();
        set(6 * MIB - 3, n * 1000, 0);
        chain.close(Durability::Unsynced).unwrap();
        qemu_write(
            &nodes(levels),
            "0x71",
            &(n * MIB + 700_000).to_string(),
            "3k",
        );
        set(n * MIB + 700_000, 3072, 0x71);

        let chain = Chain::open_all(&list[..levels], Access::Read, &Closed).unwrap();
        assert!(content(&chain) == want, "{levels} levels here");
        assert!(
            tools::content(&nodes(levels), dir.path()) == want,
            "{levels} levels there"
        );
    }
    files[1..].iter().for_each(|file| check(file));
}

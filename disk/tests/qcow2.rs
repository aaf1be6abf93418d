//! qcow2 and QEMU's tools, both ways: what they make is read and written here and found in order by them, and the other
//! way round; all content is compared byte by byte. What is not read is refused by its name.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies)]

#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "common/qemu.rs"]
mod tools;

use std::fs;
use std::path::Path;
use stratavm_disk::qcow2::{Backing, Qcow2Spec};
use stratavm_disk::{
    Access, Below, Chain, Closed, Durability, ErrorKind, Format, ImageSpec, Kind, Volume, create,
    info, probe, verify,
};
use tools::{missing, ok, run};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn open(path: &Path, access: Access) -> stratavm_disk::Result<Chain> {
    let gate = Below::beside(path)?;
    Chain::open(path, Format::Qcow2, access, &gate)
}

fn content(path: &Path) -> Vec<u8> {
    let chain = open(path, Access::Read).unwrap();
    let mut all = vec![0; chain.size() as usize];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// As QEMU reads it.
fn theirs(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("theirs");
    let (from, to) = (path.to_str().unwrap(), raw.to_str().unwrap());
    ok(
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", from, to],
    );
    let read = fs::read(&raw).unwrap();
    fs::remove_file(raw).unwrap();
    read
}

/// No error and no leak.
fn in_order(path: &Path) {
    ok(
        "qemu-img",
        &["check", "-q", "-f", "qcow2", path.to_str().unwrap()],
    );
}

fn same(what: &str, have: &[u8], want: &[u8]) {
    assert_eq!(have.len(), want.len(), "{what}");
    if let Some(at) = have.iter().zip(want).position(|(a, b)| a != b) {
        panic!("{what}: byte {at} is {:#x}, not {:#x}", have[at], want[at]);
    }
}

/// Writes and zeroes ranges here, in places that lie across clusters of every size; what the disk is to hold then.
fn write_some(path: &Path, mut disk: Vec<u8>) -> Vec<u8> {
    let chain = open(path, Access::Write).unwrap();
    let size = disk.len();
    let mut byte = 0xa0;
    for (at, len) in [
        (0, 1),
        (100 * KIB + 7, 3 * KIB),
        (511 * KIB, 300 * KIB),
        (2 * MIB - 5, 70 * KIB),
        (size - 700, 700),
    ] {
        byte += 1;
        chain.write_at(&vec![byte; len], at as u64).unwrap();
        disk[at..at + len].fill(byte);
    }
    for (at, len) in [
        (64 * KIB, 128 * KIB),
        (MIB + 3, 200 * KIB),
        (size - 100, 99),
    ] {
        chain.zero(at as u64, len as u64).unwrap();
        disk[at..at + len].fill(0);
    }
    chain.close(Durability::Synced).unwrap();
    disk
}

/// QEMU reads what was written, finds nothing wrong, and can go on with it.
fn check_written(path: &Path, mut want: Vec<u8>, what: &str) {
    in_order(path);
    same(what, &content(path), &want);
    same(what, &theirs(path), &want);
    let at = 300 * KIB + 1;
    let write = format!("write -P 0x5c {at} 70000");
    ok(
        "qemu-io",
        &["-f", "qcow2", "-c", &write, path.to_str().unwrap()],
    );
    want[at..at + 70_000].fill(0x5c);
    in_order(path);
    same(what, &content(path), &want);
}

#[test]
fn images_of_every_kind_that_qemu_makes_are_read_and_written() {
    if missing("qcow2") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let size = 3 * MIB + 512;
    for (n, options) in [
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on",
        "cluster_size=512",
        "cluster_size=4096,compat=0.10",
        "cluster_size=2M",
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full,cluster_size=8k",
        "refcount_bits=1",
        "refcount_bits=2,cluster_size=512",
        "refcount_bits=8,cluster_size=512",
        "refcount_bits=64,cluster_size=1k",
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{n}.qcow2"));
        let file = path.to_str().unwrap();
        ok(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                options,
                file,
                &size.to_string(),
            ],
        );
        let mut disk = vec![0; size];
        let blank = content(&path);
        same(options, &blank, &disk);
        for (at, len, byte) in [
            (0, 5000, 1),
            (700 * KIB, 600 * KIB, 2),
            (size - 512, 512, 3),
        ] {
            let write = format!("write -P {byte} {at} {len}");
            ok("qemu-io", &["-f", "qcow2", "-c", &write, file]);
            disk[at..at + len].fill(byte);
        }
        if !options.contains("0.10") {
            // Clusters of zeros with and without room.
            ok(
                "qemu-io",
                &["-f", "qcow2", "-c", "write -z 704k 128k", file],
            );
            ok(
                "qemu-io",
                &["-f", "qcow2", "-c", "write -z -u 960k 64k", file],
            );
            disk[704 * KIB..832 * KIB].fill(0);
            disk[960 * KIB..1024 * KIB].fill(0);
        }
        same(options, &content(&path), &disk);
        let want = write_some(&path, disk);
        check_written(&path, want, options);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn compressed_clusters_are_read_and_overwritten() {
    if missing("qcow2") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let size = 4 * MIB - 512;
    let disk: Vec<u8> = (0..size).map(|i| (i / 97 % 200) as u8).collect();
    fs::write(&raw, &disk).unwrap();
    for options in [
        "cluster_size=64k",
        "cluster_size=512",
        "compat=0.10",
        "cluster_size=2M",
    ] {
        let path = dir.path().join("packed.qcow2");
        let (from, to) = (raw.to_str().unwrap(), path.to_str().unwrap());
        ok(
            "qemu-img",
            &[
                "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "-o", options, from, to,
            ],
        );
        let chain = open(&path, Access::Read).unwrap();
        let mut packed = 0;
        chain
            .map(0, size as u64, &mut |range| {
                packed += u64::from(range.kind == Kind::Packed) * range.len;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(packed, size as u64, "{options}");
        let mut few = [0; 100];
        chain.read_at(&mut few, (MIB - 50) as u64).unwrap();
        same(options, &few, &disk[MIB - 50..MIB + 50]);
        drop(chain);
        same(options, &content(&path), &disk);
        let want = write_some(&path, disk.clone());
        check_written(&path, want, options);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn chains_of_theirs_are_followed_by_the_formats_they_name() {
    if missing("qcow2") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let size = 3 * MIB;
    let base: Vec<u8> = (0..size).map(|i| (i / 4096) as u8 | 1).collect();
    fs::write(at("base.raw"), &base).unwrap();
    ok(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "vmdk",
            &at("base.raw"),
            &at("base.vmdk"),
        ],
    );
    for (format, below) in [("raw", "base.raw"), ("vmdk", "base.vmdk")] {
        for (name, format, below) in [("middle", format, below), ("head", "qcow2", "middle")] {
            let _ = fs::remove_file(at(name));
            ok(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-b",
                    below,
                    "-F",
                    format,
                    &at(name),
                ],
            );
            let write = format!("write -P {} 100k 90k", name.len());
            ok("qemu-io", &["-f", "qcow2", "-c", &write, &at(name)]);
        }
        let head = dir.path().join("head");
        let chain = open(&head, Access::Read).unwrap();
        assert_eq!(chain.depth(), 3);
        drop(chain);
        let mut want = base.clone();
        want[100 * KIB..190 * KIB].fill(4);
        same(format, &content(&head), &want);
        let want = write_some(&head, want);
        check_written(&head, want, format);
        in_order(&dir.path().join("middle"));
        let found = info(&head).unwrap().qcow2.unwrap();
        assert_eq!(found.backing_file.as_deref(), Some("middle"));
        assert_eq!(found.backing_format.as_deref(), Some("qcow2"));
    }
    assert_eq!(fs::read(at("base.raw")).unwrap(), base);
}

#[test]
fn new_images_are_in_order_and_qemu_reads_what_is_written_into_them() {
    if missing("qcow2") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.qcow2");
    for sectors in [1, 2049, 3 << 21, (3 << 21) + 1, 1 << 31] {
        let spec = ImageSpec::Qcow2(Qcow2Spec {
            sectors,
            backing: None,
        });
        create(&path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
        verify(&path, &spec).unwrap();
        in_order(&path);
        assert_eq!(probe(&path).unwrap(), Format::Qcow2);
        let size = sectors * 512;
        assert_eq!(info(&path).unwrap().size, size);
        let chain = open(&path, Access::Write).unwrap();
        let places = [0, size / 3, size / 2, size - 300];
        for (n, at) in places.iter().enumerate() {
            chain.write_at(&[n as u8 + 1; 40], *at).unwrap();
        }
        chain.close(Durability::Synced).unwrap();
        in_order(&path);
        for (n, at) in places.iter().enumerate() {
            let read = format!("read -P {} {at} 40", n + 1);
            let text = ok(
                "qemu-io",
                &["-f", "qcow2", "-c", &read, path.to_str().unwrap()],
            );
            assert!(!text.contains("failed"), "{text}");
        }
        assert!(fs::metadata(&path).unwrap().len() < 4 * MIB as u64);
        fs::remove_file(&path).unwrap();
    }
    fs::write(dir.path().join("base"), vec![7; MIB]).unwrap();
    let backing = Some(Backing {
        file: "base".into(),
        format: Format::Raw,
    });
    let spec = ImageSpec::Qcow2(Qcow2Spec {
        sectors: 2048,
        backing,
    });
    create(&path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
    in_order(&path);
    same("new head", &theirs(&path), &vec![7; MIB]);
    let named = ok("qemu-img", &["info", "-f", "qcow2", path.to_str().unwrap()]);
    assert!(named.contains("backing file format: raw"), "{named}");
}

/// A small image of QEMU's with these options.
fn theirs_with(path: &Path, options: &str) {
    let file = path.to_str().unwrap();
    ok(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", options, file, "1M"],
    );
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    if missing("qcow2") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let data = format!("data_file={}", dir.path().join("data").display());
    let cases = [
        ("compression_type=zstd", "compression zstd"),
        ("extended_l2=on", "extended L2 entries"),
        (data.as_str(), "external data file"),
    ];
    let refused = |why: &str| {
        for access in [Access::Read, Access::Write] {
            let error = Chain::open(&path, Format::Qcow2, access, &Closed)
                .err()
                .unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(info(&path).unwrap_err().to_string().contains(why));
        fs::remove_file(&path).unwrap();
    };
    for (options, why) in cases {
        let out = run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                options,
                path.to_str().unwrap(),
                "1M",
            ],
        );
        if !out.status.success() {
            report::skip("qemu-img", options, "this one makes no such image");
            continue;
        }
        refused(why);
    }
    theirs_with(&path, "compat=1.1");
    ok(
        "qemu-img",
        &["snapshot", "-c", "one", path.to_str().unwrap()],
    );
    refused("internal snapshots: 1");
    fs::write(
        &path,
        b"QFI\xfb\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0",
    )
    .unwrap();
    refused("qcow version 1");
}

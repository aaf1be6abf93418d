//! Chains flattened and converted with their layers kept, read back by this crate and by qemu-img, and what is left
//! behind when it goes wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/qemu.rs"]
mod qemu;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stratavm_disk::vmdk::{ParentLink, SparseSpec};
use stratavm_disk::{
    Access, Below, CancelToken, Chain, ConvertOptions, Ctx, Durability, ErrorKind, ImageSpec,
    Target, convert_chain, flatten, probe,
};
use uuid::Uuid;

const SIZE: u64 = 9 << 20;

/// Where the levels of the test chain are written, in order: `(offset, length, byte)`; 0 makes zeros.
const WRITES: [&[(u64, u64, u8)]; 4] = [
    &[
        (0, 3 << 20, 0x11),
        (5 << 20, 100_000, 0x12),
        (SIZE - 5000, 5000, 0x13),
    ],
    &[
        (512, 1000, 0x21),
        (2 << 20, 300_000, 0),
        (4 << 20, 65536, 0x22),
    ],
    &[
        (1 << 20, 65536, 0),
        (5 << 20, 4096, 0x31),
        (6 << 20, 1 << 20, 0x32),
    ],
    &[(0, 1, 0x41), (SIZE - 1, 1, 0x42)],
];

/// A chain of sparse VMDKs, and what each prefix of it reads as.
fn chain_in(folder: &Path) -> Vec<Vec<u8>> {
    let mut parent = None;
    let mut model = vec![0; SIZE as usize];
    let mut models = Vec::new();
    for (n, writes) in WRITES.iter().enumerate() {
        let file = format!("level-{n}.vmdk");
        let mut spec: SparseSpec = common::sparse(SIZE / 512);
        spec.file.clone_from(&file);
        spec.cid = common::cid(100 + n as u32);
        spec.uuid = Uuid::from_u128(100 + n as u128);
        spec.parent = parent;
        parent = Some(ParentLink {
            hint: file.clone(),
            cid: spec.cid,
            uuid: spec.uuid,
        });
        common::make(&folder.join(&file), &ImageSpec::VmdkSparse(spec)).unwrap();
        let chain = open(&folder.join(file), Access::Write);
        for (at, len, with) in *writes {
            match with {
                0 => chain.zero(*at, *len).unwrap(),
                _ => chain.write_at(&vec![*with; *len as usize], *at).unwrap(),
            }
            model[*at as usize..(at + len) as usize].fill(*with);
        }
        chain.close(Durability::Unsynced).unwrap();
        models.push(model.clone());
    }
    models
}

fn top(folder: &Path) -> PathBuf {
    folder.join(format!("level-{}.vmdk", WRITES.len() - 1))
}

fn open(path: &Path, access: Access) -> Chain {
    Chain::open(
        path,
        probe(path).unwrap(),
        access,
        &Below::beside(path).unwrap(),
    )
    .unwrap()
}

fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; chain.size() as usize];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// The extension of an image's name, and QEMU's driver for it.
fn names(to: Target) -> (&'static str, &'static str) {
    match to {
        Target::Raw => ("raw", "raw"),
        Target::Vdi => ("vdi", "vdi"),
        Target::Hdd => ("hdd", "parallels"),
        Target::Qcow2 => ("qcow2", "qcow2"),
        _ => ("vmdk", "vmdk"),
    }
}

fn options() -> ConvertOptions {
    ConvertOptions::new(Uuid::from_u128(7))
}

#[test]
fn one_image_of_a_chain_reads_as_the_chain_does() {
    let dir = tempfile::tempdir().unwrap();
    let want = chain_in(dir.path()).pop().unwrap();
    let source = open(&top(dir.path()), Access::Read);
    for to in Target::ALL {
        let folder = dir.path().join(to.to_string());
        fs::create_dir(&folder).unwrap();
        let (extension, driver) = names(to);
        let target = folder.join(format!("flat.{extension}"));
        let made = flatten(&source, &target, to, &options(), &Ctx::none()).unwrap();
        assert_eq!(made.images, 1);
        assert_eq!(made.files.last(), Some(&target));
        assert!(content(&open(&target, Access::Read)) == want, "{to}");
        // As many files as it says, and no folder of unfinished ones.
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            made.files.len(),
            "{to}"
        );
        let raw = folder.join("by-qemu.raw");
        let read = match to {
            // QEMU reads the images of a bundle one by one.
            Target::Hdd => target.join("flat.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds"),
            _ => target.clone(),
        };
        let args = [
            "convert",
            "-f",
            driver,
            "-O",
            "raw",
            read.to_str().unwrap(),
            raw.to_str().unwrap(),
        ];
        if !qemu::missing("converted images") {
            qemu::ok("qemu-img", &args);
            assert!(fs::read(&raw).unwrap() == want, "{to} by qemu-img");
        }
    }
}

/// The lowest images of a converted chain, up to the `n`th.
fn prefix(target: &Path, to: Target, n: usize) -> Chain {
    let gate = Below::beside(target).unwrap();
    if to == Target::Hdd {
        let info = stratavm_disk::info(target).unwrap().hdd.unwrap();
        let guid = info.chain[info.chain.len() - 1 - n];
        return stratavm_disk::hdd::open_snapshot(target, guid, Access::Read, &gate).unwrap();
    }
    let file = |level: usize| match level + 1 == WRITES.len() {
        true => target.to_owned(),
        false => {
            let stem = target.file_stem().unwrap().to_str().unwrap();
            target.with_file_name(format!("{stem}-{level}.{}", names(to).0))
        }
    };
    let images: Vec<_> = (0..=n).map(file).collect();
    let images: Vec<_> = images
        .iter()
        .map(|path| (path.as_path(), probe(path).unwrap()))
        .collect();
    Chain::open_all(&images, Access::Read, &gate).unwrap()
}

#[test]
fn each_prefix_of_a_converted_chain_reads_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let want = chain_in(dir.path());
    let source = open(&top(dir.path()), Access::Read);
    for to in Target::ALL.into_iter().filter(|to| to.has_parents()) {
        let folder = dir.path().join(to.to_string());
        fs::create_dir(&folder).unwrap();
        let target = folder.join(format!("disk.{}", names(to).0));
        let made = convert_chain(&source, &target, to, &options(), &Ctx::none()).unwrap();
        assert_eq!(made.images, want.len());
        for (n, want) in want.iter().enumerate() {
            let prefix = prefix(&target, to, n);
            assert_eq!(prefix.depth(), n + 1);
            assert!(content(&prefix) == *want, "{to}, {n}");
        }
        // Back again, from whatever it is now.
        let back = folder.join("back.vmdk");
        let new = prefix(&target, to, want.len() - 1);
        convert_chain(&new, &back, Target::Vmdk, &options(), &Ctx::none()).unwrap();
        for (n, want) in want.iter().enumerate() {
            assert!(
                content(&prefix(&back, Target::Vmdk, n)) == *want,
                "{to} and back, {n}"
            );
        }
    }
    let error = convert_chain(
        &source,
        &dir.path().join("x.raw"),
        Target::Raw,
        &options(),
        &Ctx::none(),
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn nothing_is_left_of_what_did_not_come_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    chain_in(dir.path());
    let source = open(&top(dir.path()), Access::Read);
    let folder = dir.path().join("new");
    fs::create_dir(&folder).unwrap();
    let target = folder.join("x.vmdk");

    let cancel = CancelToken::new();
    let reports = Arc::new(AtomicU64::new(0));
    let (token, seen) = (cancel.clone(), Arc::clone(&reports));
    let ctx = Ctx::none().with_cancel(cancel).with_progress(move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == 1 {
            token.cancel();
        }
    });
    let error = flatten(&source, &target, Target::Vmdk, &options(), &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(reports.load(Ordering::Relaxed) > 1);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    // A name that one of the files would take.
    fs::write(folder.join("x-flat.vmdk"), "mine").unwrap();
    let error = flatten(&source, &target, Target::VmdkFlat, &options(), &Ctx::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(fs::read(folder.join("x-flat.vmdk")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    let error = flatten(
        &source,
        &dir.path().join("no/x.raw"),
        Target::Raw,
        &options(),
        &Ctx::none(),
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

//! Writing to chains, freezing and converting them, put through faults and power cuts at each change of a file: the image
//! opens, what was flushed is there, what nobody touched is as it was, and no half of an image stands under a target's
//! name.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "common/report.rs"]
mod report;
#[path = "common/written.rs"]
mod written;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm_disk::vmdk::{AdapterType, Cid, ParentLink, SparseSpec, renew_cid};
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, ConvertOptions, Ctx, Durability, Format, ImageSpec, Repair,
    Result, Target, Volume, check, convert_chain, create, flatten,
};
use uuid::Uuid;
use written::{Draw, Model, Step, content, run};

const SIZE: u64 = 1 << 20;

/// A chain that is put through faults.
#[derive(Clone, Copy)]
struct Family {
    head: &'static str,
    format: Format,
    /// Makes it in a folder, on a raw base with this content; what the disk reads as then.
    make: fn(&Path, base: Vec<u8>) -> Vec<u8>,
    /// What must hold of the head after a fault.
    check: fn(&Path, what: &str),
}

const VMDK: Family = Family {
    head: "head.vmdk",
    format: Format::VmdkSparse,
    make: vmdk,
    check: |_, _| {},
};

/// As a product leaves a head that makes its grain tables when it needs them.
const GROWING: Family = Family {
    make: |folder, base| {
        let base = vmdk(folder, base);
        let head = folder.join(GROWING.head);
        let mut bytes = fs::read(&head).unwrap();
        // Where the header says that the two grain directories are.
        for directory in [48, 56].map(|at| usize::from(bytes[at]) * 512) {
            bytes[directory..directory + 4].fill(0);
        }
        fs::write(&head, bytes).unwrap();
        base
    },
    check: vmdk_can_be_mended,
    ..VMDK
};

/// Clusters of the smallest size, so that a small disk has many tables; compressed ones in the middle.
const QCOW2: Family = Family {
    head: "head.qcow2",
    format: Format::Qcow2,
    make: qcow2,
    check: qcow2_is_in_order,
};

fn chain_in(folder: &Path, family: Family) -> Vec<u8> {
    let base: Vec<u8> = (0..SIZE).map(|i| (i / 4096 % 251) as u8 + 1).collect();
    fs::write(folder.join("base.raw"), &base).unwrap();
    (family.make)(folder, base)
}

/// The base below a descriptor, and two heads.
fn vmdk(folder: &Path, base: Vec<u8>) -> Vec<u8> {
    let mut parent = None;
    for (n, file) in ["base.vmdk", "middle.vmdk", "head.vmdk"]
        .into_iter()
        .enumerate()
    {
        let cid = Cid::new(100 + n as u32).unwrap();
        let uuid = Uuid::from_u128(100 + n as u128);
        let spec = match n {
            0 => ImageSpec::VmdkFlat(stratavm_disk::vmdk::FlatSpec {
                kind: stratavm_disk::vmdk::FlatKind::Monolithic,
                extents: vec![stratavm_disk::vmdk::FlatExtent {
                    file: "base.raw".into(),
                    sectors: SIZE / 512,
                    offset: 0,
                }],
                cid,
                uuid,
                adapter: AdapterType::LsiLogic,
            }),
            _ => ImageSpec::VmdkSparse(SparseSpec {
                file: file.into(),
                sectors: SIZE / 512,
                cid,
                uuid,
                parent: parent.take(),
                adapter: AdapterType::LsiLogic,
                patches: Vec::new(),
            }),
        };
        parent = Some(ParentLink {
            hint: file.into(),
            cid,
            uuid,
        });
        create(
            &folder.join(file),
            &spec,
            &Volume::default(),
            Durability::Synced,
        )
        .unwrap();
    }
    base
}

/// Runs qemu-img to its end.
fn qemu_img(args: &[&str]) -> Output {
    let run = Command::new("qemu-img")
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    run.unwrap()
}

fn qcow2(folder: &Path, base: Vec<u8>) -> Vec<u8> {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mut top = base.clone();
    top[300_000..700_000].fill(0x77);
    fs::write(at("top.raw"), &top).unwrap();
    let options = "cluster_size=512,backing_file=base.raw,backing_fmt=raw";
    let (from, to) = (at("top.raw"), at("head.qcow2"));
    let made = qemu_img(&[
        "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "-o", options, &from, &to,
    ]);
    assert!(made.status.success(), "{made:?}");
    top
}

/// Room may be lost, but no table contradicts another, and it can be written to.
fn qcow2_is_in_order(head: &Path, what: &str) {
    let found = qemu_img(&["check", "-f", "qcow2", head.to_str().unwrap()]);
    // 3: leaks alone.
    let code = found.status.code();
    assert!(matches!(code, Some(0 | 3)), "{what}: {found:?}");
    let gate = Below::beside(head).unwrap();
    let chain = Chain::open(head, Format::Qcow2, Access::Write, &gate).unwrap();
    chain.write_at(&[9; 3_000], 400_000).unwrap();
    chain.close(Durability::Unsynced).unwrap();
}

/// After a repair as it is right after a crash it is sound, and can be written to.
fn vmdk_can_be_mended(head: &Path, what: &str) {
    let gate = Below::beside(head).unwrap();
    let look = |repair| {
        let options = CheckOptions::default().repair(repair);
        check(head, Format::VmdkSparse, &gate, &options, &Ctx::none()).unwrap()
    };
    look(Repair::DropLost);
    let found = look(Repair::No);
    assert!(found.is_sound(), "{what}: {found:?}");
    let chain = Chain::open(head, Format::VmdkSparse, Access::Write, &gate).unwrap();
    chain.write_at(&[9; 3_000], 400_000).unwrap();
    chain.close(Durability::Unsynced).unwrap();
}

fn open(folder: &Path, family: Family, access: Access) -> Result<Chain> {
    let (head, gate) = (folder.join(family.head), Below::new(folder)?);
    Chain::open(&head, family.format, access, &gate)
}

fn in_family(folder: &Path, family: Family, steps: &[Step], model: &mut Model) -> Result<()> {
    run(open(folder, family, Access::Write)?, steps, model)
}

fn points_of(family: Family, steps: &[Step]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let flushed = chain_in(dir.path(), family);
    let faults = Faults::below(dir.path(), Fault::None).unwrap();
    let mut model = Model {
        flushed,
        since: Vec::new(),
    };
    in_family(dir.path(), family, steps, &mut model).unwrap();
    let points = faults.points().len();
    drop(faults);
    assert!(content(&open(dir.path(), family, Access::Read).unwrap()) == model.flushed);
    points
}

#[test]
fn an_image_that_was_being_written_opens_and_holds_what_was_flushed() {
    let most = if report::slow() { 5000 } else { 500 };
    written_through_faults(VMDK, most);
}

#[test]
fn a_head_that_was_given_grain_tables_can_be_mended() {
    written_through_faults(GROWING, if report::slow() { 3000 } else { 80 });
}

#[test]
fn a_qcow2_that_was_being_written_has_no_tables_that_contradict_each_other() {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        return report::skip("qemu-img", "qcow2 after faults", "not on PATH");
    }
    let most = if report::slow() { 3000 } else { 80 };
    written_through_faults(QCOW2, most);
}

fn written_through_faults(family: Family, most: u64) {
    let seed = report::seed(20_261_124);
    let mut draw = Draw(seed);
    let mut trials = 0;
    while trials < most {
        let steps = draw.steps(SIZE);
        let points = points_of(family, &steps);
        // At most about a hundred of each history, spread over it.
        for at in (0..points).step_by(points.div_ceil(100)) {
            let cut = draw.next(2) == 0;
            let dir = tempfile::tempdir().unwrap();
            let flushed = chain_in(dir.path(), family);
            let fault = match cut {
                true => Fault::PowerCut { at },
                // What a kill leaves, with the write that it came in torn.
                false => Fault::Error {
                    at,
                    failure: Failure::Io,
                    then: Then::StaysBroken,
                },
            };
            let faults = Faults::below(dir.path(), fault).unwrap();
            let mut model = Model {
                flushed,
                since: Vec::new(),
            };
            in_family(dir.path(), family, &steps, &mut model).unwrap_err();
            match cut {
                true => faults.crash(Lost::Any(draw.next(u64::MAX))).unwrap(),
                false => drop(faults),
            }
            let what = format!("seed {seed}, point {at}, power cut {cut}");
            let chain =
                open(dir.path(), family, Access::Read).unwrap_or_else(|e| panic!("{what}: {e}"));
            model.check(&content(&chain), &what);
            drop(chain);
            (family.check)(&dir.path().join(family.head), &what);
            trials += 1;
        }
    }
    report::counted(
        family.head,
        "faults while a chain is written",
        trials,
        Some(seed),
    );
}

#[test]
fn nothing_half_done_stands_under_the_name_of_a_new_image() {
    let convert = |folder: &Path, keep: bool| {
        let source = open(folder, VMDK, Access::Read)?;
        let options = ConvertOptions::new(Uuid::from_u128(9));
        let target = folder.join("new.vmdk");
        match keep {
            true => convert_chain(&source, &target, Target::Vmdk, &options, &Ctx::none()),
            false => flatten(&source, &target, Target::VmdkFlat, &options, &Ctx::none()),
        }
    };
    let mut trials = 0;
    for keep in [true, false] {
        let ready = |folder: &Path| {
            let flushed = chain_in(folder, VMDK);
            let mut model = Model {
                flushed,
                since: Vec::new(),
            };
            in_family(folder, VMDK, &Draw(3).steps(SIZE), &mut model).unwrap();
            model.flushed
        };
        let dir = tempfile::tempdir().unwrap();
        ready(dir.path());
        let faults = Faults::below(dir.path(), Fault::None).unwrap();
        convert(dir.path(), keep).unwrap();
        let points = faults.points().len();
        drop(faults);
        let step = if report::slow() {
            1
        } else {
            points.div_ceil(40)
        };
        for at in (0..points).step_by(step) {
            for then in [Then::Recovers, Then::StaysBroken] {
                let dir = tempfile::tempdir().unwrap();
                let want = ready(dir.path());
                let before = fs::read_dir(dir.path()).unwrap().count();
                let fault = Fault::Error {
                    at,
                    failure: Failure::NoSpace,
                    then,
                };
                let faults = Faults::below(dir.path(), fault).unwrap();
                let made = convert(dir.path(), keep);
                drop(faults);
                let target = dir.path().join("new.vmdk");
                if made.is_err() && then == Then::Recovers && !target.exists() {
                    let after = fs::read_dir(dir.path()).unwrap().count();
                    assert_eq!(after, before, "point {at}: {made:?}");
                }
                if target.exists() {
                    let gate = Below::new(dir.path()).unwrap();
                    let format = stratavm_disk::probe(&target).unwrap();
                    let chain = Chain::open(&target, format, Access::Read, &gate).unwrap();
                    assert!(content(&chain) == want, "point {at}");
                }
                trials += 1;
            }
        }
    }
    report::counted(
        "faults_disk",
        "faults while a chain is converted",
        trials,
        None,
    );
}

#[test]
fn a_head_that_was_being_frozen_has_the_old_content_id_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let want = chain_in(dir.path(), VMDK);
    let head = dir.path().join("head.vmdk");
    let new = Cid::new(0x0dd0_beef).unwrap();
    let before = fs::read(&head).unwrap();
    let faults = Faults::below(dir.path(), Fault::None).unwrap();
    renew_cid(&head, new, Durability::Synced).unwrap();
    let points = faults.points().len();
    drop(faults);
    let after = fs::read(&head).unwrap();
    for at in 0..points {
        for lost in [Lost::Nothing, Lost::Unflushed, Lost::Any(at as u64)] {
            fs::write(&head, &before).unwrap();
            let faults = Faults::below(dir.path(), Fault::PowerCut { at }).unwrap();
            renew_cid(&head, new, Durability::Synced).unwrap_err();
            faults.crash(lost).unwrap();
            let found = fs::read(&head).unwrap();
            assert!(found == before || found == after, "point {at}, {lost:?}");
            assert!(content(&open(dir.path(), VMDK, Access::Read).unwrap()) == want);
        }
    }
}

//! Writing to chains, freezing and converting them, put through faults and power cuts at each change of a file: the image
//! opens, what was flushed is there, what nobody touched is as it was, and no half of an image stands under a target's
//! name.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "common/report.rs"]
mod report;

use std::fs;
use std::path::Path;
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm_disk::vmdk::{AdapterType, Cid, ParentLink, SparseSpec, renew_cid};
use stratavm_disk::{
    Access, Below, Chain, ConvertOptions, Ctx, Durability, Format, ImageSpec, Result, Target,
    Volume, convert_chain, create, flatten,
};
use uuid::Uuid;

const SIZE: u64 = 1 << 20;

/// What is done to a head, with a flush where it says so.
#[derive(Clone, Copy)]
enum Step {
    Write { at: u64, len: u64, with: u8 },
    Zero { at: u64, len: u64 },
    Flush,
}

/// A generator whose whole state is its seed: SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn steps(&mut self) -> Vec<Step> {
        let step = |draw: &mut Draw| {
            let at = draw.next(SIZE);
            let len = (1 + draw.next(150_000)).min(SIZE - at);
            match draw.next(10) {
                0..=4 => Step::Write {
                    at,
                    len,
                    with: 1 + draw.next(255) as u8,
                },
                5 | 6 => Step::Zero { at, len },
                _ => Step::Flush,
            }
        };
        (0..14).map(|_| step(self)).collect()
    }
}

/// A raw base of a pattern below a descriptor, and two heads; what the disk reads as.
fn chain_in(folder: &Path) -> Vec<u8> {
    let base: Vec<u8> = (0..SIZE).map(|i| (i / 4096 % 251) as u8 + 1).collect();
    fs::write(folder.join("base.raw"), &base).unwrap();
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

fn open(folder: &Path, access: Access) -> Result<Chain> {
    Chain::open(
        &folder.join("head.vmdk"),
        Format::VmdkSparse,
        access,
        &Below::new(folder)?,
    )
}

fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; chain.size() as usize];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// What the disk may read as: what was flushed, and all that was written over it since.
struct Model {
    flushed: Vec<u8>,
    since: Vec<(u64, u64, u8)>,
}

impl Model {
    fn settle(&mut self) {
        for (at, len, with) in self.since.drain(..) {
            self.flushed[at as usize..(at + len) as usize].fill(with);
        }
    }

    fn check(&self, found: &[u8], what: &str) {
        let blocks = found.chunks(4096).zip(self.flushed.chunks(4096));
        for (n, (found, flushed)) in blocks.enumerate() {
            if found != flushed {
                self.check_block(n * 4096, found, flushed, what);
            }
        }
    }

    fn check_block(&self, start: usize, found: &[u8], flushed: &[u8], what: &str) {
        for (n, (found, flushed)) in found.iter().zip(flushed).enumerate() {
            let at = (start + n) as u64;
            let written = |(from, len, with): &(u64, u64, u8)| {
                (*from..from + len).contains(&at) && with == found
            };
            assert!(
                found == flushed || self.since.iter().any(written),
                "{what}: byte {at} is {found:#x}, was flushed as {flushed:#x}",
            );
        }
    }
}

/// Does the steps until one fails.
fn run(folder: &Path, steps: &[Step], model: &mut Model) -> Result<()> {
    let chain = open(folder, Access::Write)?;
    for step in steps {
        match *step {
            Step::Write { at, len, with } => {
                model.since.push((at, len, with));
                chain.write_at(&vec![with; len as usize], at)?;
            }
            Step::Zero { at, len } => {
                model.since.push((at, len, 0));
                chain.zero(at, len)?;
            }
            Step::Flush => {
                chain.flush(Durability::Synced)?;
                model.settle();
            }
        }
    }
    chain.close(Durability::Synced)?;
    model.settle();
    Ok(())
}

fn points_of(steps: &[Step]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let flushed = chain_in(dir.path());
    let faults = Faults::below(dir.path(), Fault::None).unwrap();
    let mut model = Model {
        flushed,
        since: Vec::new(),
    };
    run(dir.path(), steps, &mut model).unwrap();
    let points = faults.points().len();
    drop(faults);
    assert!(content(&open(dir.path(), Access::Read).unwrap()) == model.flushed);
    points
}

#[test]
fn an_image_that_was_being_written_opens_and_holds_what_was_flushed() {
    let seed = report::seed(20_261_124);
    let mut draw = Draw(seed);
    let most = if report::slow() { 5000 } else { 500 };
    let mut trials = 0;
    while trials < most {
        let steps = draw.steps();
        for at in 0..points_of(&steps) {
            let cut = draw.next(2) == 0;
            let dir = tempfile::tempdir().unwrap();
            let flushed = chain_in(dir.path());
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
            run(dir.path(), &steps, &mut model).unwrap_err();
            match cut {
                true => faults.crash(Lost::Any(draw.next(u64::MAX))).unwrap(),
                false => drop(faults),
            }
            let what = format!("seed {seed}, point {at}, power cut {cut}");
            let chain = open(dir.path(), Access::Read).unwrap_or_else(|e| panic!("{what}: {e}"));
            model.check(&content(&chain), &what);
            trials += 1;
        }
    }
    report::counted(
        "faults_disk",
        "faults while a chain is written",
        trials,
        Some(seed),
    );
}

#[test]
fn nothing_half_done_stands_under_the_name_of_a_new_image() {
    let convert = |folder: &Path, keep: bool| {
        let source = open(folder, Access::Read)?;
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
            let flushed = chain_in(folder);
            let mut model = Model {
                flushed,
                since: Vec::new(),
            };
            run(folder, &Draw(3).steps(), &mut model).unwrap();
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
    let want = chain_in(dir.path());
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
            assert!(content(&open(dir.path(), Access::Read).unwrap()) == want);
        }
    }
}

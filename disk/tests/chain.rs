//! Chains of every format against a plain array of bytes: random writes, zeroed ranges, freezes, rollbacks and
//! reopenings.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;
#[path = "common/families.rs"]
mod families;
#[path = "../../tests/common/report.rs"]
mod report;

use families::{FAMILIES, Family, Image, Opening, open};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::path::Path;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Checked, Ctx, Durability, ErrorKind, check,
};

#[derive(Debug, Clone)]
enum Step {
    Write {
        at: usize,
        len: usize,
        with: u8,
    },
    Zero {
        at: usize,
        len: usize,
    },
    Flush,
    Reopen,
    /// A new head; what was the head is not written to any more.
    Freeze,
    /// A new head on an image further down.
    Rollback {
        to: usize,
    },
}

fn step(size: usize) -> impl Strategy<Value = Step> {
    let len = prop_oneof![1_usize..600, 1_usize..200_000, 1_usize..3_000_000];
    let range = (0..size, len).prop_map(move |(at, len)| (at, len.min(size - at)));
    prop_oneof![
        6 => (range.clone(), 1_u8..).prop_map(|((at, len), with)| Step::Write { at, len, with }),
        3 => range.prop_map(|(at, len)| Step::Zero { at, len }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Freeze),
        1 => (0_usize..8).prop_map(|to| Step::Rollback { to }),
    ]
}

/// A chain and what each of its images is to read as.
struct Model<'a> {
    family: &'a Family,
    folder: &'a Path,
    images: Vec<Image>,
    contents: Vec<Vec<u8>>,
    /// How many images were made.
    made: usize,
}

impl<'a> Model<'a> {
    /// A base of a pattern, and two heads on it.
    fn new(family: &'a Family, folder: &'a Path) -> Model<'a> {
        let base = common::pattern(family.size);
        let mut model = Model {
            family,
            folder,
            images: vec![(family.base)(folder, &base)],
            contents: vec![base],
            made: 0,
        };
        model.push();
        model.push();
        model
    }

    /// A new head on what is there.
    fn push(&mut self) {
        self.made += 1;
        let image = (self.family.head)(self.folder, self.made, &self.images);
        self.images.push(image);
        let content = self.now().clone();
        self.contents.push(content);
    }

    fn rollback(&mut self, to: usize) {
        let keep = 1 + to % (self.images.len() - 1);
        self.images.truncate(keep);
        self.contents.truncate(keep);
        self.push();
    }

    fn now(&mut self) -> &mut Vec<u8> {
        self.contents.last_mut().unwrap()
    }

    fn open(&self, access: Access) -> Chain {
        open(self.family, self.folder, &self.images, access)
    }

    fn check(&self) -> Checked {
        let (top, below) = self.images.split_last().unwrap();
        let below = match self.family.opening {
            Opening::ByList => below.iter().map(|i| (i.path.clone(), i.format)).collect(),
            _ => Vec::new(),
        };
        let options = CheckOptions::default().below(below);
        let gate = Below::new(self.folder).unwrap();
        check(&top.path, top.format, &gate, &options, &Ctx::none()).unwrap()
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        let mut chain = self.open(Access::Write);
        for step in steps {
            match *step {
                Step::Write { at, len, with } => {
                    chain.write_at(&vec![with; len], at as u64).unwrap();
                    self.now()[at..at + len].fill(with);
                }
                Step::Zero { at, len } => {
                    chain.zero(at as u64, len as u64).unwrap();
                    self.now()[at..at + len].fill(0);
                }
                Step::Flush => chain.flush(Durability::Unsynced).unwrap(),
                Step::Reopen | Step::Freeze | Step::Rollback { .. } => {
                    chain.close(Durability::Unsynced).unwrap();
                    match *step {
                        Step::Freeze => self.push(),
                        Step::Rollback { to } => self.rollback(to),
                        _ => {}
                    }
                    chain = self.open(Access::Write);
                }
            }
            prop_assert!(content(&chain) == *self.now(), "after {step:?}");
        }
        chain.close(Durability::Synced).unwrap();
        let checked = self.check();
        prop_assert!(checked.findings.is_empty(), "{checked:#?}");
        // Every image still reads as it did when it was frozen.
        while let Some(want) = self.contents.pop() {
            prop_assert!(content(&self.open(Access::Read)) == want);
            self.images.pop();
        }
        Ok(())
    }
}

fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

/// Draws histories and shrinks one that fails.
fn reads_as_what_was_written(family: &Family) {
    let seed = report::seed(5);
    let (cases, most) = if report::slow() { (250, 80) } else { (12, 40) };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    };
    let steps = prop::collection::vec(step(family.size), 1..most);
    let result = TestRunner::new_with_rng(config, rng).run(&steps, |steps| {
        let dir = tempfile::tempdir().unwrap();
        Model::new(family, dir.path()).run(&steps)
    });
    if let Err(error) = result {
        panic!("{} with seed {seed}: {error}", family.name);
    }
    report::counted(
        family.name,
        "histories of a chain",
        cases.into(),
        Some(seed),
    );
}

#[test]
fn a_vmdk_chain_reads_as_what_was_written() {
    reads_as_what_was_written(&families::VMDK);
}

#[test]
fn a_vdi_chain_reads_as_what_was_written() {
    reads_as_what_was_written(&families::VDI);
}

#[test]
fn a_chain_of_several_formats_reads_as_what_was_written() {
    reads_as_what_was_written(&families::MIXED);
}

#[test]
fn a_qcow2_chain_reads_as_what_was_written() {
    reads_as_what_was_written(&families::QCOW2);
}

#[test]
fn a_split_vmdk_chain_reads_as_what_was_written() {
    reads_as_what_was_written(&families::VMDK_SPLIT);
}

#[test]
fn an_hds_chain_reads_as_what_was_written() {
    reads_as_what_was_written(&families::HDS);
}

#[test]
fn a_bundle_reads_as_what_was_written() {
    reads_as_what_was_written(&families::HDD);
}

#[test]
fn what_is_beyond_the_disk_or_not_open_for_writing_is_refused() {
    for family in FAMILIES {
        let dir = tempfile::tempdir().unwrap();
        let chain = Model::new(family, dir.path()).open(Access::Read);
        let size = family.size as u64;
        let kind = chain.write_at(&[1], 0).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::PermissionDenied, "{}", family.name);
        for (at, len) in [(size, 1), (u64::MAX, 2), (size - 1, 2)] {
            let error = chain.read_at(&mut vec![0; len], at).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", family.name);
        }
    }
}

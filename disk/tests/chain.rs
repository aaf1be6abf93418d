//! A chain against a plain array of bytes: random writes, zeroed ranges and reopenings, read back here and by qemu-img.
#![allow(clippy::unwrap_used)]

mod common;

use proptest::prelude::*;
use std::fs;
use std::path::Path;
use stratavm_disk::vmdk::{ParentLink, SparseSpec};
use stratavm_disk::{Access, Below, Chain, Durability, ErrorKind, Format, ImageSpec};

const SIZE: usize = 4 << 20;

/// A raw base of a pattern, its descriptor, and two heads on it.
fn chain_in(folder: &Path) -> Vec<u8> {
    let base: Vec<u8> = (0..SIZE).map(|i| (i / 4096 % 251) as u8 + 1).collect();
    fs::write(folder.join("base.raw"), &base).unwrap();
    let sectors = (SIZE / 512) as u64;
    let flat = common::flat(&[("base.raw", sectors)]);
    let mut parent = ParentLink {
        hint: "base.vmdk".into(),
        cid: flat.cid,
        uuid: flat.uuid,
    };
    common::make(&folder.join("base.vmdk"), &ImageSpec::VmdkFlat(flat)).unwrap();
    for (n, file) in ["middle.vmdk", "head.vmdk"].into_iter().enumerate() {
        let mut spec: SparseSpec = common::sparse(sectors);
        spec.file = file.into();
        spec.cid = common::cid(100 + n as u32);
        spec.uuid = uuid::Uuid::from_u128(100 + n as u128);
        spec.parent = Some(parent);
        parent = ParentLink {
            hint: file.into(),
            cid: spec.cid,
            uuid: spec.uuid,
        };
        common::make(&folder.join(file), &ImageSpec::VmdkSparse(spec)).unwrap();
    }
    base
}

fn open(folder: &Path, access: Access) -> Chain {
    let gate = Below::new(folder).unwrap();
    Chain::open(&folder.join("head.vmdk"), Format::VmdkSparse, access, &gate).unwrap()
}

fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

#[derive(Debug, Clone)]
enum Step {
    Write { at: usize, len: usize, with: u8 },
    Zero { at: usize, len: usize },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1_usize..600, 1_usize..200_000];
    let range = (0..SIZE, len).prop_map(|(at, len)| (at, len.min(SIZE - at)));
    prop_oneof![
        6 => (range.clone(), 1_u8..).prop_map(|((at, len), with)| Step::Write { at, len, with }),
        3 => range.prop_map(|(at, len)| Step::Zero { at, len }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_chain_reads_as_what_was_written(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let mut model = chain_in(folder);
        let base = model.clone();
        let mut chain = open(folder, Access::Write);
        for step in steps {
            match step {
                Step::Write { at, len, with } => {
                    chain.write_at(&vec![with; len], at as u64).unwrap();
                    model[at..at + len].fill(with);
                }
                Step::Zero { at, len } => {
                    chain.zero(at as u64, len as u64).unwrap();
                    model[at..at + len].fill(0);
                }
                Step::Flush => chain.flush(Durability::Unsynced).unwrap(),
                Step::Reopen => {
                    chain.close(Durability::Unsynced).unwrap();
                    chain = open(folder, Access::Write);
                }
            }
            prop_assert!(content(&chain) == model);
        }
        chain.close(Durability::Synced).unwrap();
        prop_assert!(content(&open(folder, Access::Read)) == model);
        prop_assert!(fs::read(folder.join("base.raw")).unwrap() == base);
    }
}

#[test]
fn what_is_beyond_the_disk_or_not_open_for_writing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    chain_in(dir.path());
    let chain = open(dir.path(), Access::Read);
    let kind = chain.write_at(&[1], 0).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::PermissionDenied);
    for (at, len) in [(SIZE as u64, 1), (u64::MAX, 2), (SIZE as u64 - 1, 2)] {
        let error = chain.read_at(&mut vec![0; len], at).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

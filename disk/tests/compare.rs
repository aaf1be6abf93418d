//! Comparing chains of every format with plain arrays of bytes, sizes that differ, and cancelling.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/families.rs"]
mod families;

use families::{FAMILIES, Family, Image, open};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use stratavm_disk::{
    Access, CancelToken, Chain, Closed, Comparison, Ctx, Durability, ErrorKind, Format, Phase,
    Sizes, compare,
};

const SIZE: usize = 3 << 20;

fn raw(path: &Path) -> Chain {
    Chain::open(path, Format::Raw, Access::Read, &Closed).unwrap()
}

/// Two images of a chain of the family that hold `content` together.
fn chain(family: &Family, folder: &Path, content: &[u8]) -> Chain {
    fs::create_dir(folder).unwrap();
    let mut base = vec![0; family.size];
    base[..SIZE].copy_from_slice(content);
    // What the head is to hide.
    let hidden = base[SIZE / 3..SIZE / 2].to_vec();
    base[SIZE / 3..SIZE / 2].fill(0xee);
    let mut images: Vec<Image> = vec![(family.base)(folder, &base)];
    images.push((family.head)(folder, 1, &images));
    let head = open(family, folder, &images, Access::Write);
    head.write_at(&hidden, (SIZE / 3) as u64).unwrap();
    head.close(Durability::Unsynced).unwrap();
    open(family, folder, &images, Access::Read)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_first_difference_is_the_first(
        family in 0..FAMILIES.len(),
        data in prop::collection::vec((0..SIZE, 1_usize..300_000, any::<u8>()), 0..6),
        changes in prop::collection::vec((0..SIZE, 1_u8..), 0..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut content = vec![0; SIZE];
        for (at, len, with) in data {
            content[at..(at + len).min(SIZE)].fill(with);
        }
        let one = chain(FAMILIES[family], &dir.path().join("one"), &content);
        let mut other = content.clone();
        for (at, by) in changes {
            other[at] ^= by;
        }
        let first = content.iter().zip(&other).position(|(a, b)| a != b);
        let want = first.map_or(Comparison::Equal, |n| Comparison::Differs(n as u64));
        // A raw disk with holes, of another size: zeros behind its end.
        let path = dir.path().join("other.raw");
        let end = other.iter().rposition(|b| *b != 0).map_or(1, |n| n + 1);
        fs::write(&path, &other[..end]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(end.next_multiple_of(512) as u64).unwrap();
        let other = raw(&path);
        let ctx = Ctx::none();
        prop_assert_eq!(compare(&one, &other, Sizes::MayDiffer, &ctx).unwrap(), want);
        prop_assert_eq!(compare(&other, &one, Sizes::MayDiffer, &ctx).unwrap(), want);
        if one.size() != other.size() {
            prop_assert_eq!(compare(&one, &other, Sizes::MustAgree, &ctx).unwrap(), Comparison::Sizes);
        }
    }
}

#[test]
fn a_byte_behind_the_end_of_the_smaller_disk_is_a_difference() {
    let dir = tempfile::tempdir().unwrap();
    let (short, long) = (dir.path().join("short"), dir.path().join("long"));
    fs::write(&short, vec![7; 1000]).unwrap();
    let mut bytes = vec![7; 1000];
    bytes.resize(9_000_000, 0);
    fs::write(&long, &bytes).unwrap();
    let verdict = || compare(&raw(&short), &raw(&long), Sizes::MayDiffer, &Ctx::none()).unwrap();
    assert_eq!(verdict(), Comparison::Equal);
    bytes[8_999_999] = 1;
    fs::write(&long, &bytes).unwrap();
    assert_eq!(verdict(), Comparison::Differs(8_999_999));
    bytes[1000] = 1;
    fs::write(&long, &bytes).unwrap();
    assert_eq!(verdict(), Comparison::Differs(1000));
}

#[test]
fn one_that_is_cancelled_stops_and_empty_terabytes_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, size: u64| {
        let path = dir.path().join(name);
        let file = fs::File::create(&path).unwrap();
        file.set_len(size).unwrap();
        path
    };
    let (a, b) = (file("a", 1 << 42), file("b", 1 << 43));
    let token = CancelToken::new();
    let seen = token.clone();
    let ctx = Ctx::none().with_cancel(token).with_progress(move |p| {
        assert_eq!((p.phase, p.total), (Phase::Compare, Some(1 << 43)));
        if p.done > 1 << 41 {
            seen.cancel();
        }
    });
    let error = compare(&raw(&a), &raw(&b), Sizes::MayDiffer, &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let whole = compare(&raw(&a), &raw(&b), Sizes::MayDiffer, &Ctx::none()).unwrap();
    assert_eq!(whole, Comparison::Equal);
}

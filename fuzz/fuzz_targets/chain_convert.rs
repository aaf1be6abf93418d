//! A chain of several formats, drawn with what each of its images is to read as: it is converted with its layers kept
//! into a format that has them, else flattened, and every prefix of the new chain reads as the old one's.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, Format, Target, check, convert_chain, flatten, probe,
};
use stratavm_fuzz::drawn::{Bytes, Drawn, options, reads_as};

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let to = bytes.one(&Target::ALL);
    let folder = stratavm_fuzz::folder().expect("a folder");
    let drawn = Drawn::new(&mut bytes, folder.path()).expect("a chain");
    let source = drawn.open(Access::Read, folder.path()).expect("it opens");
    let (target, ctx) = (folder.path().join("new"), Ctx::none());
    let made = match to.has_parents() {
        true => convert_chain(&source, &target, to, &options(3), &ctx),
        false => flatten(&source, &target, to, &options(3), &ctx),
    };
    let made = made.expect("it is converted");
    let gate = Below::new(folder.path()).expect("a folder");
    if to == Target::Hdd {
        let chain = Chain::open(&target, Format::Hdd, Access::Read, &gate).expect("it opens");
        assert_eq!(chain.depth(), drawn.images.len());
        let content = drawn.contents.last().expect("a base");
        assert!(
            reads_as(&chain, content).expect("it reads"),
            "another content"
        );
        return;
    }
    let depth = made.images;
    assert_eq!(
        depth,
        if to.has_parents() {
            drawn.images.len()
        } else {
            1
        }
    );
    let images: Vec<(PathBuf, Format)> = (0..depth)
        .map(|n| match n + 1 == depth {
            true => target.clone(),
            false => folder.path().join(format!("new-{n}")),
        })
        .map(|path| match to {
            Target::Raw => (path, Format::Raw),
            _ => (path.clone(), probe(&path).expect("of a format")),
        })
        .collect();
    for n in 1..=depth {
        let prefix: Vec<_> = images[..n].iter().map(|(p, f)| (p.as_path(), *f)).collect();
        let chain = Chain::open_all(&prefix, Access::Read, &gate).expect("it opens");
        let content = &drawn.contents[drawn.contents.len() - depth + n - 1];
        assert!(
            reads_as(&chain, content).expect("it reads"),
            "{to}: prefix {n}"
        );
    }
    let (top, below) = images.split_last().expect("a top");
    let check_options = CheckOptions::default().below(below.to_vec());
    let checked = check(&top.0, top.1, &gate, &check_options, &ctx).expect("it is checked");
    assert!(checked.findings.is_empty(), "{to}: {checked:?}");
});

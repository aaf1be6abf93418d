//! Any bytes as several files of one folder, which may name each other, themselves, and files elsewhere: each is opened
//! as what it seems to be, under the gate that callers get by default. Nothing outside of the folder is opened; loops
//! and long chains end.
#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, Durability, Error, Format, MAX_DEPTH, check, probe,
};
use stratavm_fuzz::files;

const RANGES: usize = 300;

fuzz_target!(|data: &[u8]| {
    let outer = stratavm_fuzz::folder().expect("a folder");
    let folder = outer.path().join("in");
    fs::create_dir(&folder).expect("a folder");
    fs::write(outer.path().join("secret"), [0x5e; 4096]).expect("a file");
    let named: Vec<_> = files::of(data).collect();
    for (name, content) in &named {
        fs::write(folder.join(name), content).expect("a file");
    }
    let folder = fs::canonicalize(folder).expect("a folder");
    let gate = Below::new(&folder).expect("a folder");
    let mut all = Vec::new();
    for (name, _) in &named {
        let path = folder.join(name);
        let Ok(format) = probe(&path) else { continue };
        drop(look(&path, format, &folder, &gate));
        all.push((path, format));
    }
    // As one chain, in the order given.
    let all: Vec<_> = all.iter().map(|(p, f)| (p.as_path(), *f)).collect();
    if let Ok(chain) = Chain::open_all(&all, Access::Read, &gate) {
        drop(read(&chain, &folder));
    }
    if let Some((path, format)) = all.last() {
        drop(write(path, *format, &gate));
    }
    let secret = fs::read(outer.path().join("secret")).expect("it is there");
    assert!(secret == [0x5e; 4096], "written to");
});

fn look(path: &Path, format: Format, folder: &Path, gate: &Below) -> Result<(), Error> {
    drop(check(
        path,
        format,
        gate,
        &CheckOptions::default(),
        &Ctx::none(),
    ));
    let chain = Chain::open(path, format, Access::Read, gate)?;
    assert!(
        (1..=MAX_DEPTH).contains(&chain.depth()),
        "{}",
        chain.depth()
    );
    read(&chain, folder)
}

fn read(chain: &Chain, folder: &Path) -> Result<(), Error> {
    let mut left = RANGES;
    chain.map(0, chain.size(), &mut |range| {
        if let Some((path, _)) = range.at {
            assert!(path.starts_with(folder), "{path:?} is read");
        }
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    let mut piece = [0; 5000];
    for part in 1..=4 {
        let end = chain.size() / 4 * part;
        let len = end.min(piece.len() as u64);
        drop(chain.read_at(&mut piece[..len as usize], end - len));
    }
    Ok(())
}

fn write(path: &Path, format: Format, gate: &Below) -> Result<(), Error> {
    let chain = Chain::open(path, format, Access::Write, gate)?;
    let len = chain.size().min(700);
    chain.write_at(&[0x5a; 700][..len as usize], chain.size() / 2 - len / 2)?;
    chain.close(Durability::Unsynced)
}

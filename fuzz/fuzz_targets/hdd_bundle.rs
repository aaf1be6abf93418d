//! Any bytes as a `.hdd` bundle: a descriptor, a NUL, and the content of every file that it names. The chain opens or is
//! refused, is read, and takes a write that is read back.
#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;
use stratavm_disk::{Access, Chain, Durability, Error, ErrorKind, Format, Gate, Named, Result};

/// Files of a bundle that are opened; a chain of more is refused.
const FILES: usize = 12;
const RANGES: usize = 256;

/// Gives a file of its own for each name, all with the same content.
struct Copies<'a> {
    folder: PathBuf,
    content: &'a [u8],
    given: AtomicUsize,
    names: Mutex<Vec<String>>,
}

impl Gate for Copies<'_> {
    fn allow(&self, named: &Named<'_>) -> Result<PathBuf> {
        let mut names = self.names.lock().expect("no thread has panicked");
        let known = names.iter().position(|name| name == named.name);
        let n = known.unwrap_or(names.len());
        if n == FILES {
            return Err(Error::new(ErrorKind::Limit, "enough files"));
        }
        let path = self.folder.join(n.to_string());
        if known.is_none() {
            fs::write(&path, self.content).expect("a file");
            names.push(named.name.to_owned());
        }
        self.given.fetch_add(1, Ordering::Relaxed);
        Ok(path)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == 0);
    let (xml, content) = bytes.split_at(cut.unwrap_or(bytes.len()));
    let folder = stratavm_fuzz::folder().expect("a folder");
    fs::write(folder.path().join("DiskDescriptor.xml"), xml).expect("a file");
    let gate = Copies {
        folder: folder.path().to_owned(),
        content: content.get(1..).unwrap_or_default(),
        given: AtomicUsize::new(0),
        names: Mutex::default(),
    };
    let _ = read(&gate);
    let _ = write(&gate);
});

fn open(gate: &Copies<'_>, access: Access) -> Result<Chain> {
    let chain = Chain::open(&gate.folder, Format::Hdd, access, gate)?;
    assert!(gate.given.load(Ordering::Relaxed) >= chain.depth());
    Ok(chain)
}

fn read(gate: &Copies<'_>) -> Result<()> {
    let chain = open(gate, Access::Read)?;
    let mut left = RANGES;
    chain.map(0, chain.size(), &mut |_| {
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
        chain.read_at(&mut piece[..len as usize], end - len)?;
    }
    Ok(())
}

fn write(gate: &Copies<'_>) -> Result<()> {
    let chain = open(gate, Access::Write)?;
    let with = [0x5a; 700];
    let at = (chain.size() / 2).min(chain.size().saturating_sub(700));
    let len = with.len().min(chain.size() as usize);
    chain.write_at(&with[..len], at)?;
    let mut found = [0; 700];
    chain.read_at(&mut found[..len], at)?;
    assert!(found[..len] == with[..len], "another content");
    chain.close(Durability::Unsynced)
}

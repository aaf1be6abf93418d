//! What the targets of image formats share: bytes become a file, which is opened, mapped, read, written to, checked and
//! mended as its format says. No panic, bounded memory, and an end.
//!
//! `drawn` makes sound images and chains of an input's bytes, `files` takes several files from one.

pub mod drawn;
pub mod files;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, Durability, Error, Format, Repair, check,
};

/// Ranges that are looked at: a small image can map a large disk.
const RANGES: usize = 1000;

/// Takes `data` for an image of this format, in a file of this name.
///
/// # Panics
/// Where the machine has no room for the file.
pub fn image(data: &[u8], name: &str, format: Format) {
    let folder = folder().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, data).expect("a file");
    // What they answer is for the tests; here they only have to answer.
    drop(look(&path, format));
    drop(change(&path, format));
    drop(mend(&path, format));
}

/// A folder in memory where the system has one: some images are flushed again and again.
///
/// # Errors
/// What the operating system reports.
pub fn folder() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
}

fn look(path: &Path, format: Format) -> Result<(), Error> {
    let chain = Chain::open(path, format, Access::Read, &Below::beside(path)?)?;
    let mut left = RANGES;
    let mut bytes = vec![0; 100_000];
    chain.map(0, chain.size(), &mut |_| {
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    for part in 0..4 {
        let end = chain.size() / 4 * (part + 1);
        let len = bytes.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        // A damaged part must not keep the others from being looked at.
        drop(chain.read_at(&mut bytes[..len], end - len as u64));
    }
    Ok(())
}

fn change(path: &Path, format: Format) -> Result<(), Error> {
    let chain = Chain::open(path, format, Access::Write, &Below::beside(path)?)?;
    let (size, piece) = (chain.size(), [0x5a; 3000]);
    for at in [0, size / 2, size.saturating_sub(3000)] {
        let len = piece
            .len()
            .min(usize::try_from(size - at).unwrap_or(usize::MAX));
        chain.write_at(&piece[..len], at)?;
    }
    chain.zero(size / 3, (size - size / 3).min(200_000))?;
    chain.close(Durability::Unsynced)
}

/// Mends what was written, damaged as it may be. What a check calls sound can be mapped.
fn mend(path: &Path, format: Format) -> Result<(), Error> {
    let gate = Below::beside(path)?;
    let options = CheckOptions::default().repair(Repair::DropLost);
    let checked = check(path, format, &gate, &options, &Ctx::none())?;
    // Tables of qcow2 are not looked at.
    if checked.is_sound() && format != Format::Qcow2 {
        let chain = Chain::open(path, format, Access::Read, &gate)?;
        let mut left = RANGES;
        let mapped = chain.map(0, chain.size(), &mut |_| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        mapped.expect("what is sound can be mapped");
    }
    Ok(())
}

/// As [`write_then_read`], for formats whose writers do not look for units that share a place: only where a check finds
/// none.
pub fn write_then_read_if_sound(data: &[u8], name: &str, format: Format) {
    let folder = folder().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, data).expect("a file");
    let gate = Below::beside(&path).expect("a folder");
    let checked = check(&path, format, &gate, &CheckOptions::default(), &Ctx::none());
    if checked.is_ok_and(|checked| checked.findings.is_empty()) {
        write_then_read(data, name, format);
    }
}

/// Writes to an image that can be written to, and compares what is around that, now and when it is opened again. For
/// formats whose writers refuse tables in which two units share a place.
///
/// # Panics
/// If anything but what was written has changed; where the machine has no room for the file.
pub fn write_then_read(data: &[u8], name: &str, format: Format) {
    let folder = folder().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, data).expect("a file");
    let open = |access| Chain::open(&path, format, access, &Below::beside(&path)?);
    let Ok(chain) = open(Access::Write) else {
        return;
    };
    let Ok(want) = write_in_windows(&chain) else {
        return;
    };
    compare(&chain, &want);
    if chain.close(Durability::Unsynced).is_ok() {
        compare(&open(Access::Read).expect("it opens again"), &want);
    }
}

/// Bytes at a place of the disk.
type Piece = (u64, Vec<u8>);

/// Changes the middle of some ranges; what they are to read as then.
fn write_in_windows(chain: &Chain) -> Result<Vec<Piece>, Error> {
    const WINDOW: u64 = 3000;
    let size = chain.size();
    let mut want: Vec<Piece> = Vec::new();
    let places = [
        0,
        127 << 10,
        (1 << 20) - 1000,
        size / 2,
        size.saturating_sub(WINDOW),
    ];
    for (n, start) in places.into_iter().filter(|at| *at < size).enumerate() {
        let mut bytes = vec![0; (size - start).min(WINDOW) as usize];
        chain.read_at(&mut bytes, start)?;
        let (from, to) = (bytes.len() / 3, bytes.len() - bytes.len() / 3);
        // The last ones make zeros.
        let with = if n < 3 { n as u8 + 1 } else { 0 };
        bytes[from..to].fill(with);
        match with {
            0 => chain.zero(start + from as u64, (to - from) as u64)?,
            _ => chain.write_at(&bytes[from..to], start + from as u64)?,
        }
        // Ranges of a small disk overlap: what an earlier one read as may have changed.
        want.retain(|(other, old)| {
            other + old.len() as u64 <= start || start + bytes.len() as u64 <= *other
        });
        want.push((start, bytes));
    }
    Ok(want)
}

fn compare(chain: &Chain, want: &[Piece]) {
    for (start, bytes) in want {
        let mut found = vec![0; bytes.len()];
        chain.read_at(&mut found, *start).expect("it is read");
        assert!(found == *bytes, "another content behind {start}");
    }
}

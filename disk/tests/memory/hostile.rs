//! Images of 2 KiB at most, changed where it hurts: opening, describing, mapping, reading and checking one takes at most
//! 1 MiB of memory, and no more steps and reads than there are bytes in it. They may be refused.

use crate::report;
use crate::seeds::{self, Seed};
use crate::sys;
use crate::written::Draw;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use stratavm_disk::{Access, Below, Chain, CheckOptions, Ctx, Durability, Error, check, info};

const MOST: usize = 1 << 20;
/// Ranges that a map may have, and reads of the system that one image may take.
const MOST_STEPS: u64 = 2048;

pub(crate) fn all() {
    let usual = if report::slow() { 100_000 } else { 3000 };
    let seed = report::seed(31);
    // What hangs is told, with the means to draw it again.
    let (done, wait) = mpsc::channel();
    let work = std::thread::spawn(move || {
        for one in seeds::all() {
            let tried = drawn_from(&one, seed, usual, &done);
            report::counted("memory", one.what, tried, Some(seed));
        }
    });
    let mut last = String::new();
    loop {
        match wait.recv_timeout(Duration::from_secs(60)) {
            Ok(now) => last = now,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs behind {last}"),
        }
    }
    if let Err(why) = work.join() {
        std::panic::resume_unwind(why);
    }
}

/// How many images were opened, of all that were drawn.
fn drawn_from(seed: &Seed, number: u64, most: u64, done: &mpsc::Sender<String>) -> u64 {
    // In memory where the system has such a folder: some images are flushed again and again.
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.unwrap();
    fs::create_dir(folder.path().join("a.hdd")).unwrap();
    for raw in ["b.raw", "a.hdd/b.raw", "a.hdd/c.raw"] {
        fs::write(folder.path().join(raw), [7; 512]).unwrap();
    }
    let file = folder.path().join(seed.file);
    let path = match seed.file.split_once('/') {
        Some((bundle, _)) => folder.path().join(bundle),
        None => file.clone(),
    };
    fs::write(&file, &seed.bytes).unwrap();
    look(&path, seed, &mut [0; 4096], &mut 0).unwrap_or_else(|e| panic!("{}: {e}", seed.what));
    let mut draw = Draw(number);
    let mut buf = vec![0; 64 << 10];
    let mut opened = 0;
    for n in 0..most {
        let image = drawn(&mut draw, &seed.bytes);
        fs::write(&file, &image).unwrap();
        let what = format!("{} {n} of seed {number}", seed.what);
        done.send(what.clone()).unwrap();
        let mut ranges = 0;
        let before = reads();
        let (looked, peak) = sys::peak_of(|| look(&path, seed, &mut buf, &mut ranges));
        let taken = before.zip(reads()).map_or(0, |(before, now)| now - before);
        let show = || format!("{what}: {looked:?}, {:?}", image.escape_ascii().to_string());
        assert!(peak <= MOST, "{peak} bytes: {}", show());
        assert!(ranges < MOST_STEPS, "{}", show());
        assert!(taken < MOST_STEPS, "{taken} reads: {}", show());
        opened += u64::from(looked.is_ok());
    }
    assert!(opened > most / 50, "{}: only {opened} opened", seed.what);
    most
}

/// All that can be done with an image. What a part answers is for other tests.
fn look(path: &Path, seed: &Seed, buf: &mut [u8], ranges: &mut u64) -> Result<(), Error> {
    drop(info(path));
    let gate = Below::beside(path)?;
    drop(check(
        path,
        seed.format,
        &gate,
        &CheckOptions::default(),
        &Ctx::none(),
    ));
    let chain = Chain::open(path, seed.format, Access::Read, &gate)?;
    let size = chain.size();
    let mapped = chain.map(0, size, &mut |_| {
        *ranges += 1;
        match *ranges < MOST_STEPS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    for part in 0..8 {
        let at = size / 8 * part;
        let len = buf
            .len()
            .min(usize::try_from(size - at).unwrap_or(usize::MAX));
        drop(chain.read_at(&mut buf[..len], at));
    }
    drop(chain);
    drop(change(path, seed, &gate));
    mapped
}

/// Writes to it and makes zeros, where that is allowed.
fn change(path: &Path, seed: &Seed, gate: &Below) -> Result<(), Error> {
    let chain = Chain::open(path, seed.format, Access::Write, gate)?;
    let size = chain.size();
    let piece = [0x5a; 3000];
    for at in [0, size / 2, size.saturating_sub(3000)] {
        let len = piece
            .len()
            .min(usize::try_from(size - at).unwrap_or(usize::MAX));
        chain.write_at(&piece[..len], at)?;
    }
    chain.zero(size / 3, (size - size / 3).min(200_000))?;
    chain.close(Durability::Unsynced)
}

/// How often this thread has read from the system, where that is counted.
fn reads() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("syscr: "))?;
    line.parse().ok()
}

/// An image with some of its numbers changed.
fn drawn(draw: &mut Draw, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=draw.next(3) {
        match seed.is_ascii() {
            true => change_text(draw, &mut bytes),
            false => change_numbers(draw, &mut bytes),
        }
    }
    match draw.next(12) {
        0 => bytes.truncate(draw.next(bytes.len() as u64) as usize),
        1 => bytes.resize(2048, 0),
        _ => {}
    }
    bytes.truncate(2048);
    bytes
}

/// Numbers that sums and products of sizes stumble over.
fn number(draw: &mut Draw) -> u64 {
    let power = 1_u64 << draw.next(64);
    match draw.next(6) {
        0 => 0,
        1 => power.wrapping_sub(1),
        2 => u64::MAX - draw.next(1024),
        3 => draw.next(4096),
        4 => draw.next(u64::MAX),
        _ => power,
    }
}

fn change_numbers(draw: &mut Draw, bytes: &mut [u8]) {
    // Headers end before byte 456; a quarter of the changes are behind them, in the tables.
    let most = if draw.next(4) == 0 { bytes.len() } else { 456 };
    let width = [1, 2, 4, 8][draw.next(4) as usize];
    let at = draw.next((most - 8) as u64) as usize / width * width;
    let value = match draw.next(2) {
        0 => number(draw).to_le_bytes(),
        _ => number(draw).to_be_bytes(),
    };
    let value = if value[0] == 0 && draw.next(2) == 0 {
        &value[8 - width..]
    } else {
        &value[..width]
    };
    bytes[at..at + width].copy_from_slice(value);
}

fn change_text(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let at = draw.next(bytes.len() as u64) as usize;
    let digits = |from: &[u8]| from.iter().take_while(|b| b.is_ascii_digit()).count();
    match draw.next(5) {
        0 => bytes[at] = draw.next(256) as u8,
        1 => drop(bytes.remove(at)),
        2 => {
            // A part of it many times.
            let part = bytes[at..(at + 120).min(bytes.len())].to_vec();
            for _ in 0..draw.next(16) {
                bytes.splice(at..at, part.iter().copied());
            }
        }
        _ => {
            let Some(first) = bytes[at..].iter().position(u8::is_ascii_digit) else {
                return;
            };
            let end = at + first + digits(&bytes[at + first..]);
            let new = number(draw).to_string();
            bytes.splice(at + first..end, new.into_bytes());
        }
    }
}

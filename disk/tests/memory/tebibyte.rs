//! Disks of 1 TiB with 100 MiB of data in pieces all over them: made, written, mapped, checked, flattened and read in a
//! process of their own, of which the most memory that it ever had is asked for.

use crate::report;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, ConvertOptions, Ctx, Durability, Format, Kind, Target,
    check, create_blank, flatten, probe,
};
use uuid::Uuid;

const TIB: u64 = 1 << 40;
/// The largest split VMDK whose descriptor fits into the room that products read: near 400 GiB.
const SPLIT: u64 = 400 << 30;
const MOST: u64 = 32 << 20;
const PIECE: u64 = 1 << 20;
const PIECES: u64 = 100;

/// Each format, as which it is flattened.
const WORK: [(Target, Target); 8] = [
    (Target::Raw, Target::Vmdk),
    (Target::Vmdk, Target::Vdi),
    (Target::VmdkFlat, Target::Qcow2),
    (Target::VmdkSplit, Target::VmdkSplit),
    (Target::VmdkStream, Target::Raw),
    (Target::Vdi, Target::Hdd),
    (Target::Hdd, Target::VmdkStream),
    (Target::Qcow2, Target::VmdkFlat),
];

pub(crate) fn all() {
    for (from, to) in WORK {
        let folder = tempfile::tempdir().unwrap();
        let run = Command::new(std::env::current_exe().unwrap())
            .env("STRATAVM_TEBIBYTE", format!("{from} {to}"))
            .env("STRATAVM_TEBIBYTE_IN", folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{from} to {to}: {said}");
        println!(
            "{from} to {to}: {}",
            String::from_utf8_lossy(&run.stdout).trim()
        );
        let what = format!("{from} of {} GiB", size_of(from) >> 30);
        report::counted("memory", &what, 1, None);
    }
}

/// What the process that was started is to do.
pub(crate) struct Orders {
    from: Target,
    to: Target,
    folder: PathBuf,
}

impl Orders {
    pub(crate) fn of_environment() -> Option<Orders> {
        let what = std::env::var("STRATAVM_TEBIBYTE").ok()?;
        let folder = std::env::var_os("STRATAVM_TEBIBYTE_IN")?;
        let (from, to) = what.split_once(' ')?;
        Some(Orders {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            folder: folder.into(),
        })
    }
}

pub(crate) fn work(orders: &Orders) {
    let size = size_of(orders.from);
    let first = orders
        .folder
        .join(format!("first.{}", extension(orders.from)));
    match orders.from {
        Target::VmdkStream => {
            let written = orders.folder.join("written.vmdk");
            write(&written, Target::Vmdk, size);
            flat(&written, &first, Target::VmdkStream);
        }
        from => write(&first, from, size),
    }
    look(&first, size);
    let second = orders
        .folder
        .join(format!("second.{}", extension(orders.to)));
    flat(&first, &second, orders.to);
    look(&second, size);
    let allocated = crate::sys::peak() as u64;
    assert!(allocated <= MOST, "{allocated} bytes were allocated");
    let resident = resident();
    assert!(
        resident.is_none_or(|n| n <= MOST),
        "{resident:?} bytes were resident"
    );
    println!(
        "{} KiB allocated, {resident:?} bytes resident",
        allocated >> 10
    );
}

fn size_of(disk: Target) -> u64 {
    match disk {
        Target::VmdkSplit => SPLIT,
        _ => TIB,
    }
}

fn extension(of: Target) -> &'static str {
    match of {
        Target::Raw => "raw",
        Target::Vdi => "vdi",
        Target::Hdd => "hdd",
        Target::Qcow2 => "qcow2",
        _ => "vmdk",
    }
}

fn options() -> ConvertOptions {
    let mut options = ConvertOptions::new(Uuid::from_u128(7));
    options.durability = Durability::Unsynced;
    options
}

fn format(path: &Path) -> Format {
    probe(path).unwrap()
}

fn open(path: &Path, access: Access) -> Chain {
    let gate = Below::beside(path).unwrap();
    Chain::open(path, format(path), access, &gate).unwrap()
}

/// Where the pieces are: the first and the last byte of the disk among them.
fn pieces(size: u64) -> impl Iterator<Item = (u64, u8)> {
    let apart = (size - PIECE) / (PIECES - 1) / 4096 * 4096;
    (0..PIECES).map(move |n| match n + 1 == PIECES {
        true => (size - PIECE, 255),
        false => (n * apart, n as u8 + 1),
    })
}

fn write(path: &Path, to: Target, size: u64) {
    create_blank(path, to, size, &options()).unwrap();
    let chain = open(path, Access::Write);
    assert_eq!(chain.size(), size);
    for (at, with) in pieces(size) {
        chain.write_at(&vec![with; PIECE as usize], at).unwrap();
    }
    chain.close(Durability::Unsynced).unwrap();
}

fn flat(from: &Path, to: &Path, format: Target) {
    let chain = open(from, Access::Read);
    let made = flatten(&chain, to, format, &options(), &Ctx::none()).unwrap();
    // Whole grains where those are packed.
    let most = PIECES * (PIECE + 2 * 65_536);
    let written = made.written;
    assert!(
        (PIECES * PIECE..most).contains(&written),
        "{format}: {written}"
    );
}

/// Maps, checks and reads it.
fn look(path: &Path, size: u64) {
    let chain = open(path, Access::Read);
    assert_eq!(chain.size(), size);
    let (mut held, mut end) = (0, 0);
    let mut see = |range: &stratavm_disk::MappedRange<'_>| {
        if matches!(range.kind, Kind::Data | Kind::Packed) {
            held += range.len;
        }
        assert_eq!(range.offset, end);
        end += range.len;
        ControlFlow::Continue(())
    };
    chain.map(0, size, &mut see).unwrap();
    assert_eq!(end, size);
    // Units of 1 MiB at most: a piece lies in two of them.
    assert!(
        (PIECES * PIECE..=2 * PIECES * PIECE).contains(&held),
        "{held}"
    );
    for (at, with) in pieces(size) {
        let mut found = vec![0; PIECE as usize];
        chain.read_at(&mut found, at).unwrap();
        assert!(found.iter().all(|byte| *byte == with), "at {at}");
    }
    drop(chain);
    let gate = Below::beside(path).unwrap();
    let checked = check(
        path,
        format(path),
        &gate,
        &CheckOptions::default(),
        &Ctx::none(),
    );
    let checked = checked.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
}

/// The most that was resident, code and all, where the system says it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

//! The disk engine beside qemu-img and cp: conversions, a chain flattened, a chain converted with its layers kept, and
//! small reads and writes through it. All files lie in memory: what the programs do is compared, not the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stratavm_disk::vmdk::{AdapterType, Cid, ParentLink, SparseSpec};
use stratavm_disk::{
    Access, Below, Chain, ConvertOptions, Ctx, Durability, Format, ImageSpec, Target, Volume,
    convert_chain, create, flatten, probe,
};
use uuid::Uuid;

use super::data::{self, GOLDEN_DATA, GOLDEN_SIZE};
use super::measure::{Best, RUNS, show};
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::{Error, output};

/// Deltas on the base of the chain, and the bytes that each has of its own.
const DELTAS: u64 = 5;
const DELTA_DATA: u64 = 100 << 20;
/// Small requests: how many, of how many bytes, and how far apart. The distance is odd in blocks, so that they go all
/// over the disk before they meet a place again.
const REQUESTS: u64 = 50_000;
const REQUEST: u64 = 4096;
const DISTANCE: u64 = REQUEST * 81_817;
/// Each with its name for qemu-img.
const TARGETS: [(Target, &str); 3] = [
    (Target::Vmdk, "vmdk"),
    (Target::Vdi, "vdi"),
    (Target::Hdd, "parallels"),
];

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    if place.kind() == Kind::Disk {
        return Ok(());
    }
    let golden = place.path("golden.raw");
    data::disk(&golden, GOLDEN_SIZE, GOLDEN_DATA, 1)?;
    for (to, name) in TARGETS {
        single(place, report, &golden, to, name)?;
    }
    remove(&golden)?;
    let top = chain(place)?;
    whole(place, report, &top)?;
    small(place, report, &top)?;
    for file in fs::read_dir(place.path("")).map_err(io)? {
        remove(&file.map_err(io)?.path())?;
    }
    Ok(())
}

/// Raw into another format, and back.
fn single(
    place: &Place,
    report: &mut Report,
    golden: &Path,
    to: Target,
    name: &str,
) -> Result<(), Error> {
    let extension = if to == Target::Hdd { "hdd" } else { name };
    let file = |who: &str| place.path(&format!("{who}.{extension}"));
    let (ours, theirs, copy) = (file("ours"), file("theirs"), place.path("copy.raw"));
    let back = |who: &str| place.path(&format!("{who}-back.raw"));
    let mut times = [const { Best::new() }; 5];
    for _ in 0..RUNS {
        let [there, peer, cp, here, peer_here] = &mut times;
        for path in [&ours, &theirs, &copy, &back("ours"), &back("theirs")] {
            remove(path)?;
        }
        there.run(|| one(golden, &ours, to))?;
        peer.run(|| qemu_img(golden, "raw", &theirs, name))?;
        cp.run(|| {
            output(
                Command::new("cp")
                    .arg("--sparse=always")
                    .arg(golden)
                    .arg(&copy),
            )
            .map(drop)
        })?;
        here.run(|| one(&ours, &back("ours"), Target::Raw))?;
        peer_here.run(|| qemu_img(&theirs, name, &back("theirs"), "raw"))?;
    }
    for path in [&ours, &theirs, &copy, &back("ours"), &back("theirs")] {
        remove(path)?;
    }
    let [there, peer, cp, here, peer_here] = times.map(|best| best.get());
    for (what, ours, peer) in [
        (
            format!("convert raw to {name}, 4 GiB with 600 MiB of data"),
            there,
            peer,
        ),
        (format!("convert {name} to raw, the same"), here, peer_here),
    ] {
        report.push(Row::ratio(
            &what,
            place,
            ours,
            "qemu-img convert",
            peer,
            0.5,
        ));
        let beside = format!("1.3 × cp --sparse=always ({})", show(cp));
        report.push(Row::ratio(
            &what,
            place,
            ours,
            &beside,
            cp.mul_f64(1.3),
            1.0,
        ));
    }
    Ok(())
}

/// A chain into one image, and with its images kept.
fn whole(place: &Place, report: &mut Report, top: &Path) -> Result<(), Error> {
    let (ours, theirs) = (place.path("flat.vmdk"), place.path("flat-q.vmdk"));
    let kept = place.path("kept");
    let mut times = [const { Best::new() }; 3];
    for _ in 0..RUNS {
        let [flat, peer, chain] = &mut times;
        remove(&ours)?;
        remove(&theirs)?;
        fs::create_dir(&kept).map_err(io)?;
        flat.run(|| one(top, &ours, Target::Vmdk))?;
        peer.run(|| qemu_img(top, "vmdk", &theirs, "vmdk"))?;
        chain.run(|| {
            let source = open(top, Access::Read)?;
            let target = kept.join("top.hdd");
            convert_chain(&source, &target, Target::Hdd, &options(), &Ctx::none()).map_err(failed)
        })?;
        fs::remove_dir_all(&kept).map_err(io)?;
    }
    let [flat, peer, chain] = times.map(|best| best.get());
    let what = "flatten base + 5 deltas of 100 MiB to vmdk";
    report.push(Row::ratio(what, place, flat, "qemu-img convert", peer, 0.5));
    let what = "convert --chain of the same 6 levels, vmdk to hdd";
    report.push(Row::ratio(
        what,
        place,
        chain,
        "qemu-img convert of the chain into one",
        peer,
        1.0,
    ));
    Ok(())
}

/// Small requests all over the chain, one after the other.
fn small(place: &Place, report: &mut Report, top: &Path) -> Result<(), Error> {
    for (what, write) in [("reads", ""), ("writes", "-w")] {
        let (mut ours, mut peer) = (Best::new(), Best::new());
        for _ in 0..RUNS {
            let (mine, other) = (
                fresh_head(place, top, "mine")?,
                fresh_head(place, top, "other")?,
            );
            ours.run(|| requests(&mine, write))?;
            peer.run(|| bench(&other, write))?;
            remove(&mine)?;
            remove(&other)?;
        }
        let what = format!("{REQUESTS} {what} of 4 KiB all over the chain and a fresh head");
        report.push(Row::ratio(
            &what,
            place,
            ours.get(),
            "qemu-img bench -d 1",
            peer.get(),
            1.0,
        ));
    }
    Ok(())
}

fn requests(top: &Path, write: &str) -> Result<(), Error> {
    let access = if write.is_empty() {
        Access::Read
    } else {
        Access::Write
    };
    let chain = open(top, access)?;
    let mut buf = vec![0x5a; REQUEST as usize];
    for n in 0..REQUESTS {
        let at = n * DISTANCE % (GOLDEN_SIZE - REQUEST) / REQUEST * REQUEST;
        match access {
            Access::Write => chain.write_at(&buf, at),
            _ => chain.read_at(&mut buf, at),
        }
        .map_err(failed)?;
    }
    chain.close(Durability::Unsynced).map_err(failed)
}

fn bench(top: &Path, write: &str) -> Result<(), Error> {
    let mut qemu = Command::new("qemu-img");
    qemu.args(["bench", "-f", "vmdk", "-d", "1", "-t", "unsafe"]);
    qemu.args([
        "-c",
        &REQUESTS.to_string(),
        "-s",
        &REQUEST.to_string(),
        "-S",
        &DISTANCE.to_string(),
    ]);
    if !write.is_empty() {
        qemu.args([write, "--pattern=90"]);
    }
    output(qemu.arg(top)).map(drop)
}

/// A base with the golden's data, and deltas on it, each written all over; the top one.
fn chain(place: &Place) -> Result<PathBuf, Error> {
    let golden = place.path("golden.raw");
    data::disk(&golden, GOLDEN_SIZE, GOLDEN_DATA, 1)?;
    let mut top = place.path("level-0.vmdk");
    one(&golden, &top, Target::Vmdk)?;
    remove(&golden)?;
    for n in 1..=DELTAS {
        top = head(place, &top, &format!("level-{n}.vmdk"), n)?;
        let delta = place.path("delta.raw");
        data::disk(&delta, DELTA_DATA, DELTA_DATA, n + 1)?;
        let bytes = fs::read(&delta).map_err(io)?;
        remove(&delta)?;
        let chain = open(&top, Access::Write)?;
        let pieces = bytes.chunks(1 << 20);
        let far = GOLDEN_SIZE / pieces.len() as u64;
        for (piece, bytes) in pieces.enumerate() {
            // Each level a little further, so that some pieces hide parts of those below.
            let at = (piece as u64 * far + n * (300 << 10)) / 4096 * 4096;
            chain
                .write_at(bytes, at.min(GOLDEN_SIZE - (1 << 20)))
                .map_err(failed)?;
        }
        chain.close(Durability::Unsynced).map_err(failed)?;
    }
    Ok(top)
}

fn fresh_head(place: &Place, on: &Path, name: &str) -> Result<PathBuf, Error> {
    head(place, on, &format!("{name}.vmdk"), 100)
}

/// An empty sparse image on another one, in the same folder.
fn head(place: &Place, on: &Path, name: &str, n: u64) -> Result<PathBuf, Error> {
    let below = stratavm_disk::info(on).map_err(failed)?;
    let below = below.vmdk.ok_or_else(|| Error::new("no VMDK"))?;
    let number = |text: &str| u32::from_str_radix(text, 16).map_err(|e| Error::new(e.to_string()));
    let hint = on.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let spec = SparseSpec {
        file: name.to_owned(),
        sectors: GOLDEN_SIZE / 512,
        cid: Cid::new(0x1000 + n as u32).map_err(failed)?,
        uuid: Uuid::from_u128(u128::from(n) + 1),
        parent: Some(ParentLink {
            hint: hint.to_owned(),
            cid: Cid::new(number(&below.cid)?).map_err(failed)?,
            uuid: below.uuid.unwrap_or_default(),
        }),
        adapter: AdapterType::LsiLogic,
        patches: Vec::new(),
    };
    let path = place.path(name);
    let volume = Volume::default();
    create(
        &path,
        &ImageSpec::VmdkSparse(spec),
        &volume,
        Durability::Unsynced,
    )
    .map_err(failed)?;
    Ok(path)
}

fn open(path: &Path, access: Access) -> Result<Chain, Error> {
    let raw = path.extension().is_some_and(|e| e == "raw");
    let format = if raw { Ok(Format::Raw) } else { probe(path) };
    let gate = Below::beside(path).map_err(failed)?;
    Chain::open(path, format.map_err(failed)?, access, &gate).map_err(failed)
}

fn one(from: &Path, into: &Path, to: Target) -> Result<(), Error> {
    let source = open(from, Access::Read)?;
    flatten(&source, into, to, &options(), &Ctx::none())
        .map_err(failed)
        .map(drop)
}

/// Not flushed: neither is what the peers write.
fn options() -> ConvertOptions {
    let mut options = ConvertOptions::new(Uuid::from_u128(1));
    options.durability = Durability::Unsynced;
    options
}

fn qemu_img(from: &Path, format: &str, into: &Path, to: &str) -> Result<(), Error> {
    let mut qemu = Command::new("qemu-img");
    qemu.args(["convert", "-f", format, "-O", to]);
    output(qemu.arg(from).arg(into)).map(drop)
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(error)),
        _ => Ok(()),
    }
}

fn io(error: std::io::Error) -> Error {
    Error::new(error.to_string())
}

fn failed(error: stratavm_disk::Error) -> Error {
    Error::new(error.to_string())
}

//! Thousands of machines over one golden and eight applications in one store: time and bytes of each, that neither
//! follows the number of the others nor the size of the disks, and peak memory. Each measurement is a process of its own.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use stratavm::machine::CreateOptions;
use stratavm::store::{FsckOptions, PruneOptions};
use stratavm::{Ctx, State, Store, Vm, block_on};

use super::data::{self, GIB};
use super::machine::{self, failed, from_image, name};
use super::measure::show;
use super::memory;
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::{Error, output};

/// Layers of applications beside the golden one.
const APPS: u64 = 8;
/// Bytes of data in each image.
const DATA: u64 = 4 << 20;
/// Bytes that any of these processes may ever have.
const MEMORY: u64 = 64 << 20;
/// How many times as long a machine may take among ten times as many others.
const LINEAR: f64 = 1.5;
/// Machines that qemu-img makes chains for: it takes as long for each.
const PEERS: u32 = 10;
/// Machines for the comparison of disk sizes.
const FEW: u64 = 100;
/// Bytes that a machine of nine layers may take on the volume.
const BYTES_EACH: u64 = 256 << 10;

/// What is done to all machines at once, in this order; what the time is counted for.
const OPERATIONS: [(&str, &str); 5] = [
    ("create", "create_all"),
    ("list", "list with states"),
    ("status", "status of one, 100 times"),
    ("fsck", "fsck without digests"),
    ("prune", "prune, nothing to free"),
];

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    let counts: &[u64] = match place.kind() {
        Kind::Ram => &[500, 1000, 5000],
        Kind::Disk => &[500, 5000],
    };
    let mut each: Vec<Vec<Duration>> = vec![Vec::new(); OPERATIONS.len()];
    let (mut bytes, mut peak) = (Vec::new(), 0);
    for count in counts {
        prepare(place, 8 * GIB)?;
        for ((operation, _), times) in OPERATIONS.iter().zip(&mut each) {
            place.settle()?;
            let (memory, time) = child(place, operation, *count)?;
            peak = peak.max(memory);
            let divisor = if *operation == "status" { 1 } else { *count };
            times.push(time.div_f64(divisor as f64));
        }
        bytes.push(data::allocated(&place.path("store/machines"))? / count);
        remove(place)?;
    }
    let most = counts.last().copied().unwrap_or_default();
    let peer = peer(place)?;
    for ((operation, what), times) in OPERATIONS.iter().zip(&each) {
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            continue;
        };
        if *operation == "create" {
            let what = format!("create_all, each of {most} machines of 9 layers");
            let chains = "qemu-img create -b for each layer, not flushed";
            report.push(Row::ratio(&what, place, *last, chains, peer, 0.1));
        }
        let what = format!("{what}: each of {most}");
        let among = format!("each of {}", counts[0]);
        report.push(Row::ratio(&what, place, *last, &among, *first, LINEAR));
    }
    for (count, bytes) in counts.iter().zip(&bytes) {
        let what = format!("bytes of each of {count} machines of 9 layers");
        report.push(Row::bytes(&what, place, *bytes, BYTES_EACH));
    }
    let what = format!("peak memory of all of these over {most} machines");
    report.push(Row::bytes(&what, place, peak, MEMORY));
    sizes(place, report)
}

/// The same for disks of 8 GiB and of 1 TiB, less the grain directories that a VMDK of that size has.
fn sizes(place: &Place, report: &mut Report) -> Result<(), Error> {
    let mut times = Vec::new();
    for size in [8 * GIB, 1024 * GIB] {
        prepare(place, size)?;
        place.settle()?;
        times.push(child(place, "single", FEW)?.1.div_f64(FEW as f64));
        remove(place)?;
    }
    let path = place.path("directories");
    let begun = Instant::now();
    for _ in 0..=APPS {
        // Made for each layer whatever is in it; the page gives their size.
        let made = fs::write(&path, vec![1; 256 << 10]).and_then(|()| fs::remove_file(&path));
        made.map_err(|error| Error::new(error.to_string()))?;
    }
    let directories = begun.elapsed();
    report.push(Row::ratio(
        &format!(
            "create, one by one, of a machine of 9 layers of 1 TiB, less 256 KiB of grain directories for each ({})",
            show(directories)
        ),
        place,
        times[1].saturating_sub(directories),
        "of 8 GiB",
        times[0],
        2.0,
    ));
    Ok(())
}

/// A store with the images.
fn prepare(place: &Place, size: u64) -> Result<(), Error> {
    let store = machine::store(&place.path("store"))?;
    let raw = place.path("image.raw");
    for seed in 0..=APPS {
        data::disk(&raw, size, DATA, 2 * seed + 1)?;
        let image = machine::image(&store, &raw)?;
        let digest = image.meta.digest.to_string();
        fs::write(place.path(&format!("digest-{seed}")), digest)
            .map_err(|error| Error::new(error.to_string()))?;
    }
    fs::remove_file(raw).map_err(|error| Error::new(error.to_string()))
}

fn remove(place: &Place) -> Result<(), Error> {
    fs::remove_dir_all(place.path("store")).map_err(|error| Error::new(error.to_string()))
}

/// What qemu-img takes for the chains of one machine.
fn peer(place: &Place) -> Result<Duration, Error> {
    let base = place.path("peer.raw");
    data::disk(&base, 8 * GIB, DATA, 1)?;
    let folder = place.path("peer");
    fs::create_dir_all(&folder).map_err(|error| Error::new(error.to_string()))?;
    let begun = Instant::now();
    for machine in 0..PEERS {
        for layer in 0..=APPS {
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
            output(
                create
                    .arg(&base)
                    .arg(folder.join(format!("{machine}-{layer}.qcow2"))),
            )?;
        }
    }
    let time = begun.elapsed() / PEERS;
    fs::remove_dir_all(folder).map_err(|error| Error::new(error.to_string()))?;
    fs::remove_file(base).map_err(|error| Error::new(error.to_string()))?;
    Ok(time)
}

/// Peak memory in bytes and the time of one operation on `count` machines.
fn child(place: &Place, operation: &str, count: u64) -> Result<(u64, Duration), Error> {
    let program = env::current_exe().map_err(|error| Error::new(error.to_string()))?;
    let what = format!("many-{operation}-{count}={}", place.folder().display());
    let printed = output(Command::new(program).args(["bench", "--memory", &what]))?;
    let mut numbers = printed.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(peak)), Some(Ok(time))) => Ok((memory::bytes(peak), Duration::from_micros(time))),
        _ => Err(Error::new(format!("{what} printed {printed:?}"))),
    }
}

/// Does what `what` says, `many-OPERATION-COUNT`, and answers how long it took.
pub(crate) fn operate(what: &str, folder: &Path) -> Result<Duration, Error> {
    let (operation, count) = what
        .strip_prefix("many-")
        .and_then(|what| what.split_once('-'))
        .ok_or_else(|| Error::new(format!("no operation {what}")))?;
    let count: u64 = count
        .parse()
        .map_err(|_| Error::new(format!("no count: {count}")))?;
    let store = machine::store(&folder.join("store"))?;
    let begun = Instant::now();
    match operation {
        "create" => create(&store, folder, count, How::Together)?,
        "single" => create(&store, folder, count, How::Single)?,
        "list" => {
            let names = store.machines().map_err(|error| failed(&error))?;
            let off = names.iter().map(|name| state(&store, name.as_str()));
            let off = off.filter(|state| matches!(state, Ok(State::Off))).count() as u64;
            if off != count {
                return Err(Error::new(format!("{off} of {count} machines are off")));
            }
        }
        "status" => {
            for n in 0..100 {
                state(&store, &format!("machine-{}", n * count / 100))?;
            }
        }
        "fsck" => {
            let checked = store.fsck(&FsckOptions::default(), &Ctx::none());
            let checked = checked.map_err(|error| failed(&error))?;
            if !checked.is_sound() || checked.machines != count {
                return Err(Error::new(format!("fsck found {checked:?}")));
            }
        }
        "prune" => {
            let pruned = store.prune(&PruneOptions::default(), &Ctx::none());
            let pruned = pruned.map_err(|error| failed(&error))?;
            if !pruned.freed.is_empty() || !pruned.failed.is_empty() {
                return Err(Error::new(format!("prune found {pruned:?}")));
            }
        }
        other => return Err(Error::new(format!("no operation {other}"))),
    }
    Ok(begun.elapsed())
}

/// Whether machines share their flushes.
#[derive(Debug, Clone, Copy)]
enum How {
    Together,
    Single,
}

fn create(store: &Store, folder: &Path, count: u64, how: How) -> Result<(), Error> {
    let mut images = Vec::new();
    for seed in 0..=APPS {
        let text = fs::read_to_string(folder.join(format!("digest-{seed}")))
            .map_err(|error| Error::new(error.to_string()))?;
        let digest = text
            .parse()
            .map_err(|error| Error::new(format!("{error}")))?;
        images.push(store.image(&digest).map_err(|error| failed(&error))?);
    }
    let names: Vec<_> = (1..=APPS).map(|n| format!("apps-{n}")).collect();
    let mut layers = vec![("os", "os", from_image(&images[0]))];
    for (name, image) in names.iter().zip(&images[1..]) {
        layers.push((name.as_str(), "apps", from_image(image)));
    }
    let specs = (0..count).map(|n| machine::spec(&format!("machine-{n}"), &layers));
    let specs = specs.collect::<Result<Vec<_>, _>>()?;
    let options = CreateOptions::default();
    match how {
        How::Together => {
            let made = store.create_all(&specs, folder, &options, &Ctx::none());
            made.map_err(|error| failed(&error))?;
        }
        How::Single => {
            for spec in &specs {
                let made = store.create(spec, folder, &options, &Ctx::none());
                made.map_err(|error| failed(&error))?;
            }
        }
    }
    Ok(())
}

/// As `list` and `status` find it.
fn state(store: &Store, machine: &str) -> Result<State, Error> {
    let vm = Vm::open(store, &name(machine)?, &stratavm_builtin::registry());
    let state = vm.and_then(|vm| {
        vm.machine().record()?;
        block_on(vm.state(&Ctx::none()))
    });
    state.map_err(|error| failed(&error))
}

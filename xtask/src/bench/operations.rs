//! Rollback, rejuvenate, update and the reset at start: how long they take does not follow the size of the disks, nor
//! how much was written to them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use stratavm::Store;
use stratavm::chain::Family;
use stratavm::image::Image;
use stratavm::machine::{Kept, Machine};

use super::data::{self, GIB};
use super::machine::{self, blank, failed, from_image, name};
use super::measure::{Best, RUNS, SHORT_RUNS, ratio, show};
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::Error;

/// Bytes that a guest has written to the layer that an operation is about.
const DIRTY: u64 = 500 << 20;
/// Bytes of the two grain directories of a head of 1 TiB, which are written however little changes.
const DIRECTORIES: usize = 256 << 10;

/// An operation, which takes its own time.
type Timed = fn(&Bench<'_>, &Machine) -> Result<Duration, Error>;

/// What is measured: its name, the layer that it is about, and the operation.
type Operation = (&'static str, &'static str, Timed);

const OPERATIONS: [Operation; 4] = [
    ("rollback", "home", |_, machine| {
        let home = name("home")?;
        timed(|| machine.rollback(&home, Some(1), Kept::Preserve))
    }),
    ("rejuvenate", "os", |_, machine| {
        timed(|| machine.rejuvenate())
    }),
    ("update", "os", |bench, machine| {
        let os = name("os")?;
        timed(|| machine.update(&os, &bench.newer.meta.digest, Kept::Preserve))
    }),
    ("reset at start", "os", |_, machine| machine::start(machine)),
];

/// A store with the images for disks of one size.
struct Bench<'a> {
    store: &'a Store,
    size: u64,
    os: Image,
    newer: Image,
}

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    let folder = place.path("store");
    let store = machine::store(&folder)?;
    let done = match place.kind() {
        Kind::Ram => in_memory(place, &store, report),
        Kind::Disk => on_disk(place, &store, report),
    };
    done.and_then(|()| fs::remove_dir_all(&folder).map_err(|error| Error::new(error.to_string())))
}

/// On a RAM disk: the same time for 1 GiB and 1 TiB, for nothing and for 500 MiB written.
fn in_memory(place: &Place, store: &Store, report: &mut Report) -> Result<(), Error> {
    let sizes = [("1 GiB", GIB), ("1 TiB", 1024 * GIB)];
    let benches = sizes
        .iter()
        .map(|(_, size)| Bench::new(place, store, *size))
        .collect::<Result<Vec<_>, _>>()?;
    let written = [("nothing", 0), ("500 MiB", DIRTY)];
    let mut directories = Best::new();
    for run in 0..RUNS {
        let path = place.path(&format!("directories-{run}"));
        // An operation makes those of the new head and removes those of the old one.
        let write = || fs::write(&path, vec![1; DIRECTORIES]).and_then(|()| fs::remove_file(&path));
        directories.run(|| write().map_err(|error| Error::new(error.to_string())))?;
    }
    let directories = directories.get();
    for (what, layer, operation) in OPERATIONS {
        let mut times = Vec::new();
        for ((size, _), bench) in sizes.iter().zip(&benches) {
            for (amount, dirty) in written {
                let time = bench.best(layer, dirty, operation)?;
                let what = format!("{what}, {size}, {amount} written");
                report.push(Row::time(&what, place, time, Duration::from_millis(5)));
                times.push(time);
            }
        }
        let fastest = times.iter().min().copied().unwrap_or_default();
        let slowest = times.iter().max().copied().unwrap_or_default();
        // Rejuvenate and the reset make the heads of two layers; that is allowed for twice.
        let slowest = slowest.saturating_sub(directories * 2);
        report.push(Row::ratio(
            &format!(
                "{what}: slowest of the four, less 256 KiB of grain directories made and removed twice ({} each)",
                show(directories)
            ),
            place,
            slowest,
            "fastest of the four",
            fastest,
            2.0,
        ));
    }
    Ok(())
}

/// On a disk: beside the least that a change of one file costs.
fn on_disk(place: &Place, store: &Store, report: &mut Report) -> Result<(), Error> {
    let bench = Bench::new(place, store, GIB)?;
    place.settle()?;
    let mut unit = Best::new();
    let mut times = [Best::new(), Best::new(), Best::new()];
    for _ in 0..SHORT_RUNS {
        for ((_, layer, operation), best) in OPERATIONS.into_iter().zip(&mut times) {
            unit.run(|| replace(place.folder()))?;
            best.take(bench.once(layer, 0, operation)?);
        }
    }
    let unit = unit.get();
    for ((what, ..), time) in OPERATIONS.into_iter().zip(times.map(|best| best.get())) {
        let peer = "write 4 KiB + fsync + rename + fsync folder";
        report.push(Row::ratio(
            &format!("{what}, 1 GiB"),
            place,
            time,
            peer,
            unit,
            6.0,
        ));
    }
    let (one, eight) = bench.resets(1, 8)?;
    let what = "reset at start of 8 discard layers";
    report.push(Row::ratio(what, place, eight, "of 1", one, 1.5));
    println!(
        "bench: the reset of 8 is {:.1} times the unit",
        ratio(eight, unit)
    );
    Ok(())
}

impl<'a> Bench<'a> {
    fn new(place: &Place, store: &'a Store, size: u64) -> Result<Self, Error> {
        let image = |seed: u64| {
            let path = place.path(&format!("os-{seed}.raw"));
            data::disk(&path, size, 16 << 20, seed)?;
            machine::image(store, &path)
        };
        let (os, newer) = (image(size | 1)?, image(size | 3)?);
        Ok(Self {
            store,
            size,
            os,
            newer,
        })
    }

    /// The shortest time of an operation.
    fn best(&self, layer: &str, dirty: u64, operation: Timed) -> Result<Duration, Error> {
        let mut best = Best::new();
        for _ in 0..RUNS {
            best.take(self.once(layer, dirty, operation)?);
        }
        Ok(best.get())
    }

    /// The time of an operation on a new machine that has run, with `dirty` bytes written to `layer`.
    fn once(&self, layer: &str, dirty: u64, operation: Timed) -> Result<Duration, Error> {
        let layers = [
            ("os", "os", from_image(&self.os)),
            ("cache", "cache", blank(self.size)),
            ("home", "user-data", blank(self.size)),
        ];
        let machine = machine::create(self.store, "bench", &layers, Family::Vmdk)?;
        machine::start(&machine)?;
        machine::dirty(&machine, layer, dirty)?;
        // Writing 500 MiB has emptied the processor's caches: what the operation reads is read once before.
        machine::warm(&machine)?;
        let time = operation(self, &machine)?;
        machine.delete().map_err(|error| failed(&error))?;
        Ok(time)
    }

    /// The resets of two machines of so many layers that all discard, run in turn.
    fn resets(&self, few: usize, many: usize) -> Result<(Duration, Duration), Error> {
        let machines = [self.discarding(few)?, self.discarding(many)?];
        let mut times = [Best::new(), Best::new()];
        for _ in 0..SHORT_RUNS {
            for (machine, best) in machines.iter().zip(&mut times) {
                best.take(machine::start(machine)?);
            }
        }
        for machine in machines {
            machine.delete().map_err(|error| failed(&error))?;
        }
        let [few, many] = times;
        Ok((few.get(), many.get()))
    }

    /// A machine of `count` layers that all discard, which has run.
    fn discarding(&self, count: usize) -> Result<Machine, Error> {
        let names: Vec<_> = (1..count).map(|n| format!("apps-{n}")).collect();
        let mut layers = vec![("os", "os", from_image(&self.os))];
        let apps = names
            .iter()
            .map(|name| (name.as_str(), "apps", from_image(&self.newer)));
        layers.extend(apps);
        let machine =
            machine::create(self.store, &format!("bench-{count}"), &layers, Family::Vmdk)?;
        machine::start(&machine)?;
        Ok(machine)
    }
}

fn timed<R>(work: impl FnOnce() -> stratavm::Result<R>) -> Result<Duration, Error> {
    let start = Instant::now();
    let done = work();
    let time = start.elapsed();
    done.map(|_| time).map_err(|error| failed(&error))
}

/// The least that replacing one small file costs when it is to outlive a crash.
fn replace(folder: &Path) -> Result<(), Error> {
    let replace = || {
        let new = folder.join("unit.new");
        let mut file = File::create(&new)?;
        file.write_all(&[7; 4096])?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, folder.join("unit"))?;
        File::open(folder)?.sync_all()
    };
    replace().map_err(|error: std::io::Error| Error::new(error.to_string()))
}

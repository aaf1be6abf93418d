//! `image add` beside `cp --sparse=always` and hashing the same bytes over the cores.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::thread;

use sha2::{Digest, Sha256};
use stratavm::Ctx;
use stratavm::image::{AddOptions, ImageRoot, add};
use stratavm_disk::Volume;

use super::data::{self, GOLDEN_DATA, GOLDEN_SIZE};
use super::measure::{Best, RUNS, show};
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::{Error, output};

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    let golden = place.path("golden.raw");
    data::disk(&golden, GOLDEN_SIZE, GOLDEN_DATA, 1)?;
    let copy = place.path("copy.raw");
    let packed = place.path("packed.raw");
    pack(&packed)?;
    let (mut ours, mut copied, mut hashed) = (Best::new(), Best::new(), Best::new());
    for run in 0..RUNS {
        let folder = place.path(&format!("images-{run}"));
        place.settle()?;
        ours.run(|| {
            let root = ImageRoot::create(&folder).map_err(failed)?;
            let (options, volume) = (AddOptions::default(), Volume::default());
            add::add(&root, &golden, &options, &volume, &Ctx::none()).map_err(failed)
        })?;
        fs::remove_dir_all(folder).map_err(|error| Error::new(error.to_string()))?;
        drop(fs::remove_file(&copy));
        place.settle()?;
        copied.run(|| {
            let mut cp = Command::new("cp");
            output(cp.arg("--sparse=always").arg(&golden).arg(&copy))?;
            if place.kind() == Kind::Disk {
                // Ours is on the disk when it returns; cp's copy is not.
                output(Command::new("sync").arg(&copy))?;
            }
            Ok(())
        })?;
        hashed.run(|| hash(&packed))?;
    }
    let (ours, copied, hashed) = (ours.get(), copied.get(), hashed.get());
    for path in [&golden, &copy, &packed] {
        fs::remove_file(path).map_err(|error| Error::new(error.to_string()))?;
    }
    let peer = copied.mul_f64(1.3) + hashed;
    let sync = if place.kind() == Kind::Disk {
        " + sync"
    } else {
        ""
    };
    report.push(Row::ratio(
        "image add, 4 GiB with 600 MiB of data",
        place,
        ours,
        &format!(
            "1.3 × cp --sparse=always{sync} ({}) + SHA-256 over the cores ({})",
            show(copied),
            show(hashed)
        ),
        peer,
        1.0,
    ));
    Ok(())
}

/// The data of the golden image without its holes.
fn pack(path: &Path) -> Result<(), Error> {
    data::disk(path, GOLDEN_DATA, GOLDEN_DATA, 1)
}

/// Hashes a file with one thread a core, each a part of its own.
fn hash(path: &Path) -> Result<(), Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = GOLDEN_DATA.div_ceil(threads);
    let hash_part = |n: u64| -> std::io::Result<()> {
        let mut file = File::open(path)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(n * part))?;
        let mut reader = file.take(part);
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        std::hint::black_box(hasher.finalize());
        Ok(())
    };
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || hash_part(n)))
            .collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(done) => done.map_err(|error| Error::new(error.to_string())),
            Err(_) => Err(Error::new("a thread of the hashing peer panicked")),
        })
    })
}

fn failed(error: stratavm::Error) -> Error {
    super::machine::failed(&error)
}

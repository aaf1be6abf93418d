//! Peak memory of each operation on disks of 1 TiB: each runs in a process of its own, which says at its end how much
//! memory it ever had.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stratavm::Ctx;
use stratavm::chain::Family;
use stratavm::image::ImageDigest;
use stratavm::machine::{Kept, Machine};

use super::data::{self, GIB, GOLDEN_DATA};
use super::machine::{self, blank, failed, name};
use super::many;
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::{Error, output};

const LIMIT: u64 = 32 << 20;
const SIZE: u64 = 1024 * GIB;
const MACHINE: &str = "bench";

/// In this order: each finds what the ones before it left.
const OPERATIONS: [&str; 9] = [
    "add",
    "verify",
    "create",
    "translate",
    "start",
    "snapshot",
    "rollback",
    "update",
    "rejuvenate",
];

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    if place.kind() == Kind::Disk {
        // The same code in the same memory.
        return Ok(());
    }
    for (file, seed) in [("os.raw", 1), ("newer.raw", 3)] {
        data::disk(&place.path(file), SIZE, GOLDEN_DATA, seed)?;
    }
    machine::store(&place.path("store"))?;
    let program = env::current_exe().map_err(|error| Error::new(error.to_string()))?;
    for operation in OPERATIONS {
        let what = format!("{operation}={}", place.folder().display());
        let mut child = Command::new(&program);
        let printed = output(child.args(["bench", "--memory", &what]))?;
        let kib: u64 = printed
            .trim()
            .parse()
            .map_err(|_| Error::new(format!("{operation} printed {printed:?}")))?;
        let what = format!("peak memory of {operation}, 1 TiB");
        report.push(Row::bytes(&what, place, kib << 10, LIMIT));
    }
    fs::remove_dir_all(place.path("store")).map_err(|error| Error::new(error.to_string()))
}

/// Does one operation and prints the most memory that this process ever had, in KiB.
pub(crate) fn child(what: &str) -> Result<(), Error> {
    let (operation, folder) = what
        .split_once('=')
        .ok_or_else(|| Error::new("--memory takes OPERATION=FOLDER"))?;
    let folder = Path::new(folder);
    let time = match operation.starts_with("many-") {
        true => Some(many::operate(operation, folder)?),
        false => operate(operation, folder).map(|()| None)?,
    };
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| Error::new(format!("/proc/self/status: {error}")))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or_else(|| Error::new("/proc/self/status has no VmHWM"))?;
    match time {
        Some(time) => println!("{peak} {}", time.as_micros()),
        None => println!("{peak}"),
    }
    Ok(())
}

/// What [`child`] printed, in bytes.
pub(crate) fn bytes(printed: u64) -> u64 {
    printed << 10
}

fn operate(operation: &str, folder: &Path) -> Result<(), Error> {
    let store = machine::store(&folder.join("store"))?;
    let listed = || -> Result<Vec<ImageDigest>, Error> {
        let images = store.images().list().map_err(|error| failed(&error))?;
        let digest = |image: stratavm::Result<stratavm::image::Image>| {
            image
                .map(|image| image.meta.digest)
                .map_err(|error| failed(&error))
        };
        images.into_iter().map(digest).collect()
    };
    let machine = || -> Result<Machine, Error> {
        store
            .machine(&name(MACHINE)?)
            .map_err(|error| failed(&error))
    };
    let (os, home) = (name("os")?, name("home")?);
    let done = match operation {
        "add" => {
            let add = |file: &str| -> Result<(), Error> {
                let path: PathBuf = folder.join(file);
                machine::image(&store, &path).map(drop)
            };
            return add("os.raw").and_then(|()| add("newer.raw"));
        }
        "verify" => {
            let found = store.images().verify(&listed()?[0], &Ctx::none());
            found.map(drop)
        }
        "create" => {
            let layers = [
                ("os", "os", format!("image = \"{}\"", listed()?[0])),
                ("cache", "cache", blank(SIZE)),
                ("home", "user-data", blank(SIZE)),
            ];
            return machine::create(&store, MACHINE, &layers, Family::Vmdk).map(drop);
        }
        "translate" => {
            let machine = machine()?;
            machine::products().iter().try_for_each(|backend| {
                let families = &backend.capabilities().families;
                if !families.contains(&Family::Vmdk) {
                    return Ok(());
                }
                let resolved = machine.resolve(backend.product())?;
                let plan = backend.translate(&resolved)?;
                plan.apply(store.volume(), &Ctx::none()).map(drop)
            })
        }
        "start" => {
            let machine = machine()?;
            return machine::start(&machine)
                .and_then(|_| machine::start(&machine))
                .map(drop);
        }
        "snapshot" => machine()?.snapshot(&home, None).map(drop),
        "rollback" => machine()?
            .rollback(&home, Some(1), Kept::Preserve)
            .map(drop),
        "update" => {
            let record = machine()?.record().map_err(|error| failed(&error))?;
            let layer = record.layer(&os).map_err(|error| failed(&error))?;
            let now = layer.current().map_err(|error| failed(&error))?.image;
            let size = |digest: &ImageDigest| {
                let image = store.image(digest).ok();
                image.is_some_and(|image| image.meta.size == SIZE && !image.meta.is_blank())
            };
            let other = listed()?
                .into_iter()
                .find(|digest| *digest != now && size(digest));
            let other = other.ok_or_else(|| Error::new("there is no other image"))?;
            machine()?.update(&os, &other, Kept::Preserve).map(drop)
        }
        "rejuvenate" => machine()?.rejuvenate().map(drop),
        other => return Err(Error::new(format!("no operation {other}"))),
    };
    done.map_err(|error| failed(&error))
}

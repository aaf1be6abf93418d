//! A new machine for every product beside what people do without layers: a converted copy of the golden image each.

use std::fs;
use std::process::Command;

use stratavm::chain::Family;
use stratavm::machine::Machine;
use stratavm::{Ctx, Hypervisor, Store};

use super::data::{self, GOLDEN_DATA, GOLDEN_SIZE};
use super::machine::{self, Layer, blank, failed, from_image};
use super::measure::{Best, RUNS, SHORT_RUNS};
use super::place::{Kind, Place};
use super::report::{Report, Row};
use crate::exec::{Error, output};

/// qemu-img's names of the formats that the four products take.
const FORMATS: [&str; 4] = ["qcow2", "vdi", "vmdk", "parallels"];
/// Most bytes that four machines may take: far below the golden's data.
const MAX_TAKEN: u64 = 4 << 20;

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<(), Error> {
    let golden = place.path("golden.raw");
    data::disk(&golden, GOLDEN_SIZE, GOLDEN_DATA, 1)?;
    let store = machine::store(&place.path("store"))?;
    let image = machine::image(&store, &golden)?;
    let layers = [
        ("os", "os", from_image(&image)),
        ("home", "user-data", blank(8 << 30)),
    ];
    // The first machine also makes the blank image: not counted, as adding the golden is not.
    let first = machine::create(&store, "first", &layers, Family::Vmdk)?;
    first.delete().map_err(|error| failed(&error))?;

    let products = machine::products();
    let folder = place.path("store/machines");
    let empty = data::allocated(&folder)?;
    let (mut ours, mut copies) = (Best::new(), Best::new());
    for run in 0..RUNS {
        place.settle()?;
        for turn in 0..SHORT_RUNS / RUNS {
            let name = format!("{run}-{turn}");
            let make = |backend: &_| one(&store, &name, backend, &layers);
            ours.run(|| {
                products
                    .iter()
                    .try_for_each(|backend| make(backend.as_ref()).map(drop))
            })?;
        }
        for format in FORMATS {
            drop(fs::remove_file(place.path(format)));
        }
        copies.run(|| {
            FORMATS.iter().try_for_each(|format| {
                let mut convert = Command::new("qemu-img");
                convert.args(["convert", "-f", "raw", "-O", format]);
                output(convert.arg(&golden).arg(place.path(format))).map(drop)
            })
        })?;
    }
    let (ours, copies) = (ours.get(), copies.get());
    let taken = (data::allocated(&folder)? - empty) / SHORT_RUNS as u64;
    let names: Vec<_> = products.iter().map(|b| b.product().to_string()).collect();
    let limit = match place.kind() {
        Kind::Ram => 1.0 / 100.0,
        Kind::Disk => 1.0 / 20.0,
    };
    report.push(Row::ratio(
        &format!("create + translate for {}", names.join(", ")),
        place,
        ours,
        &format!("qemu-img convert to {}", FORMATS.join(", ")),
        copies,
        limit,
    ));
    let what = "blocks that these machines take, of 600 MiB of golden data";
    report.push(Row::bytes(what, place, taken, MAX_TAKEN));
    let files = FORMATS.map(|format| place.path(format));
    for file in files.iter().chain([&golden]) {
        fs::remove_file(file).map_err(|error| Error::new(error.to_string()))?;
    }
    fs::remove_dir_all(place.path("store")).map_err(|error| Error::new(error.to_string()))
}

/// A machine for one product, ready to be opened by it.
fn one(
    store: &Store,
    run: &str,
    backend: &dyn Hypervisor,
    layers: &[Layer<'_>],
) -> Result<Machine, Error> {
    let product = backend.product();
    let family = backend.capabilities().families.first().copied();
    let name = format!("{product}-{run}");
    let machine = machine::create(store, &name, layers, family.unwrap_or(Family::Vmdk))?;
    let applied = machine
        .resolve(product)
        .and_then(|resolved| backend.translate(&resolved))
        .and_then(|plan| plan.apply(store.volume(), &Ctx::none()));
    applied.map_err(|error| failed(&error))?;
    Ok(machine)
}

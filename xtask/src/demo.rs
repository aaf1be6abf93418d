//! `cargo xtask demo`: makes a small Linux guest from Debian packages and shows each promise of the library by boots
//! under QEMU, driving it as a user would, through the launcher. What was made is kept under `target/demo`.

mod cache;
#[cfg(unix)]
mod crash;
mod disk;
mod guest;
mod images;
mod kernel;
mod launcher;
mod machine;
mod promises;
mod task;
#[cfg(unix)]
mod terminal;
mod tool;
mod tree;

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::exec::Error;
use crate::setup::{self, Package, Probe};
use crate::workspace;
use images::Images;
use launcher::Launcher;
use machine::Bench;
use promises::{ABOUT_THE_OS, Goods, PROMISES, Promise};
use tool::At;

/// What the demo makes and runs its guest with.
const PACKAGES: &[Package] = &[
    package(
        "qemu-system-x86",
        Probe::Program("qemu-system-x86_64"),
        "runs the guest",
    ),
    package(
        "busybox-static",
        Probe::Program("busybox"),
        "the guest's commands",
    ),
    package(
        "e2fsprogs",
        Probe::Program("mke2fs"),
        "the guest formats and checks its layers; makes an os that can be written to",
    ),
    package(
        "squashfs-tools",
        Probe::Program("mksquashfs"),
        "packs the os and the applications",
    ),
    package("syslinux", Probe::Program("syslinux"), "boots the os disk"),
    package(
        "syslinux-common",
        Probe::File("/usr/lib/syslinux/mbr/gptmbr.bin"),
        "boots from a GPT",
    ),
    package(
        "mtools",
        Probe::Program("mformat"),
        "fills the boot partition without a mount",
    ),
];

const fn package(name: &'static str, probe: Probe, why: &'static str) -> Package {
    Package { name, probe, why }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Shows only the promises whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Shows what becomes of machines when things are killed, moved and copied, in the launcher's own words.
    #[arg(long)]
    crash: bool,
    /// Makes the images, prints where they are, and stops.
    #[arg(long)]
    images: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let found = setup::ensure(PACKAGES);
    if let Some((name, why)) = found.missing.first() {
        let text = format!("the demo makes its guest on Debian or Ubuntu; no {name}: {why}");
        return Err(Error::new(text));
    }
    let folder = workspace::target().join("demo");
    let begun = Instant::now();
    let images = Images::make(&folder.join("cache"))?;
    println!(
        "demo: guest images ready after {} s",
        begun.elapsed().as_secs()
    );
    if args.images {
        for path in images.os.iter().chain(&images.application) {
            println!("{}", path.display());
        }
        return Ok(());
    }
    let mut tally = Tally {
        only: args.only.clone().unwrap_or_default(),
        passed: 0,
        failed: 0,
    };
    let launcher = launcher::build()?;
    let begun = Instant::now();
    let mut bench = bench(&folder, "store", &launcher)?;
    let goods = stock(&bench, &images)?;
    let promises = if args.crash {
        crash_promises()?
    } else {
        PROMISES
    };
    for promise in promises {
        tally.show(&mut bench, promise.name, |bench| {
            (promise.show)(bench, &goods)
        });
    }
    if !args.crash {
        let name = "os-promises-with-a-golden-of-3-extents";
        tally.show(&mut bench, name, |bench| {
            let (split, shown) = split_golden(&folder, &images, &launcher)?;
            bench.boots += split.boots;
            shown
        });
    }
    println!(
        "demo: {} boots in {} s",
        bench.boots,
        begun.elapsed().as_secs()
    );
    println!("{} passed, {} failed", tally.passed, tally.failed);
    match (tally.passed, tally.failed) {
        (0, 0) => Err(Error::new("no promise has such a name")),
        (_, 0) => Ok(()),
        (_, failed) => Err(Error::new(format!("{failed} promises were not kept"))),
    }
}

#[cfg(unix)]
fn crash_promises() -> Result<&'static [Promise], Error> {
    Ok(crash::PROMISES)
}

#[cfg(not(unix))]
fn crash_promises() -> Result<&'static [Promise], Error> {
    Err(Error::new(
        "--crash closes a terminal and kills processes, which is written for Unix",
    ))
}

struct Tally {
    only: String,
    passed: u32,
    failed: u32,
}

impl Tally {
    fn show(
        &mut self,
        bench: &mut Bench,
        name: &str,
        show: impl FnOnce(&mut Bench) -> Result<(), Error>,
    ) {
        if !name.contains(&self.only) {
            return;
        }
        let (begun, boots) = (Instant::now(), bench.boots);
        let shown = show(bench);
        let seconds = begun.elapsed().as_secs_f64();
        let boots = bench.boots - boots;
        match shown {
            Ok(()) => {
                self.passed += 1;
                println!("PASS {name} ({boots} boots, {seconds:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {name} ({boots} boots, {seconds:.1} s)\n  {error}");
            }
        }
    }
}

/// An empty store.
fn bench(folder: &Path, store: &str, launcher: &Path) -> Result<Bench, Error> {
    let home = folder.join(store);
    cache::remove(&home)?;
    let scratch = folder.join(format!("{store}-scratch"));
    cache::remove(&scratch)?;
    fs::create_dir_all(&scratch).at(scratch.display())?;
    Ok(Bench {
        launcher: Launcher::new(launcher.to_owned(), home),
        scratch,
        boots: 0,
    })
}

/// Puts the images into the store.
fn stock(bench: &Bench, images: &Images) -> Result<Goods, Error> {
    let [boot_sector, kernel_area] = images::fingerprints(&images.os[0])?;
    Ok(Goods {
        os: [
            bench.add_disk(&images.os[0])?,
            bench.add_disk(&images.os[1])?,
        ],
        writable_os: bench.add_disk(&images.writable_os)?,
        application: [
            bench.add_application(&images.application[0], "app")?,
            bench.add_application(&images.application[1], "app")?,
        ],
        boot_sector,
        kernel_area,
    })
}

/// The promises about the os once more, in a store whose goldens are lists of 3 extents.
fn split_golden(
    folder: &Path,
    images: &Images,
    launcher: &Path,
) -> Result<(Bench, Result<(), Error>), Error> {
    let mut bench = bench(folder, "split-store", launcher)?;
    for disk in &images.os {
        bench.add_disk_in_parts(disk, 3)?;
    }
    let goods = stock(&bench, images)?;
    let shown = ABOUT_THE_OS
        .iter()
        .try_for_each(|show| show(&mut bench, &goods));
    Ok((bench, shown))
}

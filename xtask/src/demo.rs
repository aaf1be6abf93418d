//! `cargo xtask demo`: makes a small Linux guest from Debian packages and shows each promise of the library by boots
//! under QEMU, driving it as a user would, through the launcher. What was made is kept under `target/demo`.

mod cache;
mod disk;
#[allow(dead_code, reason = "tasks come with the promises")]
mod guest;
#[allow(dead_code, reason = "tasks come with the promises")]
mod images;
mod kernel;
mod tool;
mod tree;

use std::time::Instant;

use crate::exec::Error;
use crate::setup::{self, Package, Probe};
use crate::workspace;
use images::Images;

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
        "the guest formats and checks its layers",
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
    /// Makes the images, prints where they are, and stops.
    #[arg(long)]
    images: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let begun = Instant::now();
    let found = setup::ensure(PACKAGES);
    if let Some((name, why)) = found.missing.first() {
        return Err(Error::new(format!(
            "the demo makes its guest on Debian or Ubuntu; no {name}: {why}"
        )));
    }
    let folder = workspace::target().join("demo");
    let images = Images::make(&folder.join("cache"))?;
    println!(
        "demo: images ready after {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    if args.images {
        for path in images.os.iter().chain(&images.application) {
            println!("{}", path.display());
        }
    }
    Ok(())
}

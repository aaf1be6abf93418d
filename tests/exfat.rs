//! Machines on a real exFAT volume: no holes, no links, no modes, folded case. A file is formatted and mounted through a
//! loop device, by the kernel or by FUSE; where neither can, the report says so.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/machine.rs"]
mod harness;
#[path = "common/report.rs"]
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Content, Harness, name};
use stratavm::Ctx;
use stratavm::machine::Kept;
use stratavm::store::FsckOptions;
use stratavm_disk::{Case, Holes, Links, Permissions, Volume};
use tempfile::TempDir;

/// A mounted volume, taken away again with the value.
struct Mounted {
    folder: PathBuf,
    device: String,
    _temporary: TempDir,
}

impl Mounted {
    /// An exFAT volume of 256 MiB, or why there is none.
    fn exfat() -> Result<Self, String> {
        let temporary = tempfile::tempdir().unwrap();
        let image = temporary.path().join("volume.img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        run("mkfs.exfat", &[&image])?;
        let found = run(
            "losetup",
            &[Path::new("--find"), Path::new("--show"), &image],
        )?;
        let mut mounted = Self {
            folder: PathBuf::new(),
            device: found.trim().to_owned(),
            _temporary: temporary,
        };
        let folder = mounted._temporary.path().join("volume");
        std::fs::create_dir(&folder).unwrap();
        let device = PathBuf::from(&mounted.device);
        let kernel = ["-t", "exfat"].map(Path::new);
        run("mount", &[kernel[0], kernel[1], &device, &folder])
            .or_else(|_| run("mount.exfat-fuse", &[&device, &folder]))?;
        mounted.folder = folder;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.folder != PathBuf::new() {
            let _ = run("umount", &[&self.folder]);
        }
        let _ = run("losetup", &[Path::new("--detach"), Path::new(&self.device)]);
    }
}

/// What a program that came to a good end said.
fn run(program: &str, arguments: &[&Path]) -> Result<String, String> {
    // Where those programs are that only root uses.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("timeout")
        .arg("30")
        .arg(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", said.trim()))
        }
    }
}

/// The life of a machine: writes, snapshots, going back, updates, what is gone and what is kept.
fn live(harness: &Harness) {
    let (machine, home) = (harness.machine(), name("home"));
    harness.run(&[("home", 2, 0x11), ("os", 1, 0x77)]);
    assert_eq!(harness.read("os", 1), Content::Byte(0x77));
    let first = machine.snapshot(&home, None).unwrap().revision;
    harness.run(&[("home", 2, 0x22), ("home", 7, 0x23)]);
    assert_eq!(harness.read("os", 1), Content::Byte(0x05));
    assert_eq!(harness.read("home", 7), Content::Byte(0x23));
    machine.snapshot(&home, None).unwrap();
    machine.rollback(&home, first, Kept::Preserve).unwrap();
    assert_eq!(harness.read("home", 2), Content::Byte(0x11));
    let newer = harness.image("apps2", 0x66);
    machine
        .update(&name("apps"), &newer, Kept::Preserve)
        .unwrap();
    machine.rejuvenate().unwrap();
    harness.run(&[("home", 3, 0x33)]);
    assert_eq!(harness.read("apps", 1), Content::Byte(0x66));
    assert_eq!(harness.read("home", 2), Content::Byte(0x11));
    assert_eq!(harness.read("home", 3), Content::Byte(0x33));
    machine.remove_layer(&name("apps"), Kept::Discard).unwrap();
    harness.run(&[]);
    assert_eq!(harness.read("home", 3), Content::Byte(0x33));
    let images = harness.store().images().list().unwrap();
    for image in images {
        let digest = image.unwrap().meta.digest;
        let images = harness.store().images();
        let found = images.verify(&digest, &Ctx::none()).unwrap();
        assert!(found.is_intact());
    }
    let options = FsckOptions::default();
    let checked = harness.store().fsck(&options, &Ctx::none()).unwrap();
    assert_eq!(checked.findings, []);
    machine.delete().unwrap();
    assert!(harness.store().machines().unwrap().is_empty());
}

#[test]
fn machines_live_on_exfat() {
    let volume = match Mounted::exfat() {
        Ok(volume) => volume,
        // Root, a loop device and a driver are the host's to have: no skip that could be put right.
        Err(why) => return report::blind("exFAT", "machines on a real volume", &why),
    };
    let found = stratavm::volume::probe(&volume.folder).unwrap();
    assert_eq!(found.holes, Holes::None);
    assert_eq!(found.links, Links::None);
    assert_eq!(found.permissions, Permissions::None);
    assert_eq!(found.case, Case::Insensitive);
    let whole = volume.folder.join("whole");
    live(&Harness::at(&whole).populated(None));
    // The same as if its files ended at 4 MiB: heads and images in extents.
    let mut small: Volume = found;
    small.max_file = Some((4 << 20) - 1);
    let cut = volume.folder.join("cut");
    live(&Harness::at(&cut).on_volume(small).populated(None));
    report::ran("exFAT", "machines on a real volume");
}

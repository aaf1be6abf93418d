//! `stratavm disk` on chains that the real VirtualBox made and that a guest wrote to under it: VBoxManage makes each
//! image on the one before, the boot-sector guest writes its name into it. `cargo xtask test --only virtualbox` brings
//! a VirtualBox.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../../../tests/common/program.rs"]
mod program;
#[path = "../../../tests/common/report.rs"]
mod report;
#[path = "../../../tests/common/rig.rs"]
mod rig;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use program::within_limit;
use rig::{Home, Product};
use serde_json::Value;
use stratavm::testkit::guest::BootSector;

const MIB: usize = 1 << 20;
/// Images on the base.
const LEVELS: usize = 3;
/// A disk whose size is no multiple of a block.
const SIZE: usize = 6 * MIB + 77 * 512;
/// A guest that is interpreted needs a second or two; a busy machine needs more.
const BOOT: Duration = Duration::from_secs(120);

/// A chain of VirtualBox's in a home of its own, and the machine that its guests run in.
struct Made {
    home: Home,
    format: &'static str,
}

impl Made {
    fn new(product: &Product, format: &'static str) -> Self {
        let made = Self {
            home: Home::new(product),
            format,
        };
        let home = &made.home;
        home.manage([
            "createvm",
            "--name",
            "guest",
            "--ostype",
            "Other",
            "--register",
        ]);
        let settings = [
            "--memory",
            "32",
            "--bios-logo-display-time",
            "0",
            "--audio-driver",
            "none",
        ];
        home.manage(["modifyvm", "guest"].iter().chain(&settings));
        home.manage(["storagectl", "guest", "--name", "ide", "--add", "ide"]);
        let disk: Vec<u8> = (0..SIZE).map(|at| (at >> 12) as u8 | 1).collect();
        made.convert("disk", &disk, &made.level(0));
        made
    }

    /// The file name of an image of the chain.
    fn level(&self, level: usize) -> String {
        format!("level {level}.{}", self.format.to_lowercase())
    }

    fn path(&self, file: &str) -> String {
        self.home.folder().join(file).to_str().unwrap().to_owned()
    }

    /// Has VirtualBox make an image of these bytes.
    fn convert(&self, name: &str, bytes: &[u8], file: &str) {
        let raw = self.path(&format!("{name}.raw"));
        fs::write(&raw, bytes).unwrap();
        self.home.manage([
            "convertfromraw",
            &raw,
            &self.path(file),
            "--format",
            self.format,
        ]);
    }

    fn attach(&self, device: &str, medium: &str) {
        let place = ["--storagectl", "ide", "--port", "0", "--device", device];
        let what = ["--type", "hdd", "--medium", medium];
        self.home
            .manage(["storageattach", "guest"].iter().chain(&place).chain(&what));
    }

    /// Has a guest write the name of image `level` into a new image of the chain.
    fn grow(&self, level: usize) {
        let file = self.path(&self.level(level));
        let parent = self.path(&self.level(level - 1));
        let what = [
            "createmedium",
            "disk",
            "--filename",
            &file,
            "--format",
            self.format,
        ];
        self.home
            .manage(what.iter().chain(&["--diffparent", &parent]));
        let (text, sector) = (name(level), sector(level) as u32);
        let guest = BootSector::new().write(1, sector, &text).write(1, 9, &text);
        let mut boot = guest.image_bytes().unwrap().to_vec();
        boot.resize(MIB, 0);
        let disk = format!("boot {level}.vdi");
        self.convert("boot", &boot, &disk);
        self.attach("0", &self.path(&disk));
        self.attach("1", &file);
        self.home.manage(["startvm", "guest", "--type", "headless"]);
        let ended = self.home.wait_for_power_off(BOOT);
        assert!(ended, "{} guest {level} does not power off", self.format);
        // VirtualBox makes no image on one that a machine has.
        self.attach("1", "none");
    }

    /// What VirtualBox reads in the chain up to `level`.
    fn read(&self, level: usize) -> Vec<u8> {
        let raw = self.path(&format!("theirs {level}.raw"));
        let file = self.path(&self.level(level));
        self.home
            .manage(["clonemedium", "disk", &file, &raw, "--format", "RAW"]);
        fs::read(raw).unwrap()
    }

    /// A command of `stratavm disk` on image `level`, which names no other: all that it lies on is said.
    fn disk(&self, command: &str, level: usize, on: &str, more: &[&str]) -> Value {
        let mut stratavm = Command::new(env!("CARGO_BIN_EXE_stratavm"));
        stratavm.current_dir(self.home.folder());
        stratavm.args(["--json", "disk", command, &self.level(level)]);
        stratavm.args(more);
        for below in 0..level {
            stratavm.args([on, &self.level(below)]);
        }
        let said = within_limit(&mut stratavm).unwrap_or_else(|error| panic!("{command}: {error}"));
        report::ran("VirtualBox", "stratavm disk on its chains");
        serde_json::from_str(&said).unwrap()
    }
}

fn name(level: usize) -> String {
    format!("guest of {level}")
}

/// The sector that the guest of an image alone writes to, in a block of its own.
fn sector(level: usize) -> usize {
    (level + 1) * 2048 - 1
}

fn has(disk: &[u8], sector: usize, text: &str) -> bool {
    disk[sector * 512..].starts_with(text.as_bytes())
}

fn chain_of(product: &Product, format: &'static str) {
    let made = Made::new(product, format);
    (1..=LEVELS).for_each(|level| made.grow(level));
    let theirs: Vec<Vec<u8>> = (0..=LEVELS).map(|level| made.read(level)).collect();
    for (level, disk) in theirs.iter().enumerate() {
        assert_eq!(disk.len(), SIZE, "{format}, level {level}");
        for other in 1..=LEVELS {
            let written = has(disk, sector(other), &name(other));
            assert_eq!(
                written,
                other <= level,
                "{format}, level {level}, guest of {other}"
            );
        }
        assert!(
            level == 0 || has(disk, 9, &name(level)),
            "{format}, {level}"
        );
    }

    let info = made.disk("info", LEVELS, "--on", &["--chain"]);
    let chain = info["chain"].as_array().unwrap();
    assert_eq!(chain.len(), LEVELS + 1, "{info:#}");
    for pair in chain.windows(2) {
        let uuid = &pair[1]["uuid"];
        assert!(
            uuid.is_string() && pair[0]["parent"]["uuid"] == *uuid,
            "{info:#}"
        );
    }
    assert_eq!(made.disk("check", LEVELS, "--on", &[])["sound"], true);

    let map = made.disk("map", LEVELS, "--on", &[]);
    for level in 1..=LEVELS {
        let at = (sector(level) * 512) as u64;
        let holds = |range: &&Value| {
            let start = range["start"].as_u64().unwrap();
            (start..start + range["length"].as_u64().unwrap()).contains(&at)
        };
        let range = map.as_array().unwrap().iter().find(holds).unwrap();
        assert_eq!(range["depth"], LEVELS - level, "{format}: {map:#}");
    }

    let to = if format == "VDI" { "vmdk" } else { "vdi" };
    let kept = format!("kept.{to}");
    let made_of_it = made.disk("convert", LEVELS, "--on", &[&kept, "--chain"]);
    assert_eq!(made_of_it["images"], LEVELS + 1);
    for (level, disk) in theirs.iter().enumerate() {
        let raw = format!("theirs {level}.raw");
        let same = made.disk("compare", level, "--on-a", &[&raw, "--strict"]);
        assert_eq!(same["equal"], true, "{format}, level {level}: {same}");
        let ours = format!("flat {level}.raw");
        made.disk("flatten", level, "--on", &[&ours]);
        let ours = fs::read(made.home.folder().join(ours)).unwrap();
        assert!(ours == *disk, "{format}: level {level} flattened");
    }
    same_as(
        &made,
        Path::new(&kept),
        made_of_it["files"].as_array().unwrap(),
    );
}

/// The chain that was made of it, kept image by image, reads as it does.
fn same_as(made: &Made, kept: &Path, files: &[Value]) {
    let mut stratavm = Command::new(env!("CARGO_BIN_EXE_stratavm"));
    stratavm.current_dir(made.home.folder());
    stratavm.args(["--json", "disk", "compare"]).arg(kept);
    stratavm.arg(format!("theirs {LEVELS}.raw")).arg("--strict");
    for below in files.iter().take(LEVELS) {
        stratavm.args(["--on-a", below.as_str().unwrap()]);
    }
    let said = within_limit(&mut stratavm).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["equal"], true, "{said}");
}

#[test]
fn a_chain_of_vdis_that_guests_wrote_to() {
    if let Some(product) = Product::find("stratavm disk on its chains") {
        chain_of(&product, "VDI");
    }
}

#[test]
fn a_chain_of_vmdks_that_guests_wrote_to() {
    if let Some(product) = Product::find("stratavm disk on its chains") {
        chain_of(&product, "VMDK");
    }
}

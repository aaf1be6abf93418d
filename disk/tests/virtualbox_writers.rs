//! What the real VirtualBox writes, read by this crate, and written to so that VirtualBox reads it back: images of all
//! variants, and differencing chains that it made. What guests write into such chains is tested with the launcher.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/common/program.rs"]
mod program;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "../../tests/common/rig.rs"]
mod rig;
#[path = "common/vbox.rs"]
mod vbox;

use rig::Home;
use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::vdi::ImageType;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Closed, Ctx, Durability, ErrorKind, Format, check, info,
};
use vbox::{MIB, SECTOR};

/// Disks in sectors: a block, more than that, with a tail. VirtualBox makes none below 1 MiB.
const SIZES: [u64; 4] = [2048, 2049, 3 * 2048, 9 * 2048 + 77];
/// A little above what VirtualBox splits: below 2 GiB a split image is one file.
const LARGE: u64 = SPLIT + 2047;
const SPLIT: u64 = (2 << 30) / SECTOR;

/// What VirtualBox can be told to write.
struct Variant {
    format: &'static str,
    variant: &'static str,
    /// The kind of VMDK, or nothing; of one that is to be split, once it is.
    create_type: &'static str,
    /// Whether there is room for all of the disk from the beginning.
    fixed: bool,
}

const fn variant(
    format: &'static str,
    variant: &'static str,
    create_type: &'static str,
    fixed: bool,
) -> Variant {
    Variant {
        format,
        variant,
        create_type,
        fixed,
    }
}

const VARIANTS: [Variant; 8] = [
    variant("VDI", "Standard", "", false),
    variant("VDI", "Fixed", "", true),
    variant("VMDK", "Standard", "monolithicSparse", false),
    variant("VMDK", "Fixed", "monolithicFlat", true),
    variant("VMDK", "Split2G", "twoGbMaxExtentSparse", false),
    variant("VMDK", "Fixed,Split2G", "twoGbMaxExtentFlat", true),
    variant("VMDK", "Fixed,ESX", "vmfs", true),
    variant("VMDK", "Stream", "streamOptimized", false),
];

impl Variant {
    fn name(&self) -> String {
        format!("{} {}", self.format, self.variant)
    }

    fn is_stream(&self) -> bool {
        self.create_type == "streamOptimized"
    }

    /// The kind of VMDK that a disk of this size is.
    fn create_type(&self, sectors: u64) -> &'static str {
        match (self.create_type, sectors < SPLIT) {
            ("twoGbMaxExtentSparse", true) => "monolithicSparse",
            ("twoGbMaxExtentFlat", true) => "monolithicFlat",
            (create_type, _) => create_type,
        }
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("theirs.{}", self.format.to_lowercase()))
    }

    /// Opens an image of this kind, of this size, that is as it should be.
    fn open(&self, path: &Path, sectors: u64, access: Access) -> Chain {
        let what = format!("{}, {sectors} sectors", self.name());
        let found = info(path).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found.size, sectors * SECTOR, "{what}");
        if let Some(vmdk) = &found.vmdk {
            assert_eq!(vmdk.create_type, self.create_type(sectors), "{what}");
            assert!(vmdk.uuid.is_some(), "{what}");
        }
        if let Some(vdi) = &found.vdi {
            let fixed = vdi.image_type == ImageType::Fixed;
            assert_eq!((fixed, vdi.parent_uuid), (self.fixed, None), "{what}");
        }
        let gate = Below::beside(path).unwrap();
        let checked = check(
            path,
            found.format,
            &gate,
            &CheckOptions::default(),
            &Ctx::none(),
        );
        let checked = checked.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(checked.is_sound(), "{what}: {checked:?}");
        vbox::open(path, found.format, access)
    }
}

/// Writes to an image at both ends and in between, and has VirtualBox read it.
fn written_to(home: &Home, variant: &Variant, path: &Path, sectors: u64) {
    let size = sectors * SECTOR;
    let chain = variant.open(path, sectors, Access::Write);
    chain.write_at(b"last", size - 4).unwrap();
    chain.write_at(b"middle", size / 2).unwrap();
    chain.zero(size / 4, (size / 4).min(3 * MIB)).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    let chain = variant.open(path, sectors, Access::Read);
    let mut last = [0; 4];
    chain.read_at(&mut last, size - 4).unwrap();
    assert_eq!(&last, b"last");
    let file = path.to_str().unwrap();
    vbox::same(&chain, &vbox::raw_of(home, file), &variant.name());
    home.manage(["closemedium", "disk", file]);
}

fn read(home: &Home, sectors: u64, variants: &[Variant]) {
    let raw = home.folder().join("disk.raw");
    vbox::raw_disk(&raw, sectors);
    for variant in variants {
        let what = format!("{}, {sectors} sectors", variant.name());
        let folder = home.folder().join("é of theirs");
        fs::create_dir(&folder).unwrap();
        let path = variant.path(&folder);
        let (from, to) = (raw.to_str().unwrap(), path.to_str().unwrap());
        let format = ["--format", variant.format, "--variant", variant.variant];
        home.manage(["convertfromraw", from, to].iter().chain(&format));
        let chain = variant.open(&path, sectors, Access::Read);
        vbox::same(&chain, &raw, &what);
        drop(chain);
        report::ran("VirtualBox", "image of theirs");
        if variant.is_stream() {
            let format = info(&path).unwrap().format;
            let refused = Chain::open_all(&[(&path, format)], Access::Write, &Closed);
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unsupported);
        } else {
            written_to(home, variant, &path, sectors);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn images_of_all_variants_and_sizes_are_read_and_written_to() {
    let Some(home) = vbox::home("image of theirs") else {
        return;
    };
    for sectors in SIZES {
        read(&home, sectors, &VARIANTS);
    }
    let [dynamic, _, sparse, _, split, split_flat, ..] = VARIANTS;
    read(&home, LARGE, &[dynamic, sparse, split]);
    // VirtualBox writes all 2 GiB of it.
    if report::slow() {
        read(&home, LARGE, &[split_flat]);
    }
}

#[test]
fn empty_images_are_read_and_written_to() {
    let Some(home) = vbox::home("empty image of theirs") else {
        return;
    };
    // What createmedium takes is rounded to whole MiB in places; a streamOptimized one cannot be made empty.
    for variant in VARIANTS.iter().filter(|variant| !variant.is_stream()) {
        let folder = home.folder().join("empty");
        fs::create_dir(&folder).unwrap();
        let path = variant.path(&folder);
        let sectors = 5 * 2048;
        let size = (sectors * SECTOR).to_string();
        let file = path.to_str().unwrap();
        let what = [
            "createmedium",
            "disk",
            "--filename",
            file,
            "--sizebyte",
            &size,
        ];
        let format = ["--format", variant.format, "--variant", variant.variant];
        home.manage(what.iter().chain(&format));
        let chain = variant.open(&path, sectors, Access::Read);
        let mut all = vec![1; (sectors * SECTOR) as usize];
        chain.read_at(&mut all, 0).unwrap();
        assert!(all.iter().all(|byte| *byte == 0), "{}", variant.name());
        drop(chain);
        home.manage(["closemedium", "disk", file]);
        written_to(&home, variant, &path, sectors);
        fs::remove_dir_all(folder).unwrap();
        report::ran("VirtualBox", "empty image of theirs");
    }
}

/// Four images that VirtualBox made one on the other, each written to here before the next was made.
fn differencing(home: &Home, format: &str) {
    let sectors = 6 * 2048 + 77;
    let folder = home.folder();
    let file = |level: u64| folder.join(format!("level {level}.{}", format.to_lowercase()));
    let raw = folder.join("disk.raw");
    vbox::raw_disk(&raw, sectors);
    let base = file(0);
    let (from, to) = (raw.to_str().unwrap(), base.to_str().unwrap());
    home.manage(["convertfromraw", from, to, "--format", format]);
    let mut list: Vec<(PathBuf, Format)> = vec![(base.clone(), info(&base).unwrap().format)];
    for level in 1..4 {
        let path = file(level);
        let (parent, child) = (file(level - 1), path.to_str().unwrap());
        let parent = parent.to_str().unwrap();
        let what = [
            "createmedium",
            "disk",
            "--filename",
            child,
            "--format",
            format,
        ];
        home.manage(what.iter().chain(&["--diffparent", parent]));
        let found = info(&path).unwrap();
        list.push((path.clone(), found.format));
        let opened: Vec<_> = list
            .iter()
            .map(|(path, format)| (path.as_path(), *format))
            .collect();
        let gate = Below::new(folder).unwrap();
        let chain = Chain::open_all(&opened, Access::Write, &gate).unwrap();
        let members: Vec<_> = chain.members().collect();
        let [.., below, top] = &members[..] else {
            panic!("{members:?}");
        };
        let said = top
            .link
            .unwrap_or_else(|| panic!("{format}: no link in {child}"));
        assert_eq!(said.uuid, below.identity.uuid, "{format}: {said:?}");
        drop(members);
        // An empty child changes nothing.
        vbox::same(&chain, &vbox::raw_of(home, child), child);
        let mark = 0xa0 | level as u8;
        chain
            .write_at(&vec![mark; 70_000], level * MIB - 300)
            .unwrap();
        chain.write_at(&[mark; 600], chain.size() - 600).unwrap();
        chain.close(Durability::Unsynced).unwrap();
        let chain = Chain::open_all(&opened, Access::Read, &gate).unwrap();
        vbox::same(&chain, &vbox::raw_of(home, child), child);
        report::ran("VirtualBox", "chain of theirs");
    }
    // Not over another one.
    let [bottom, _, top, ..] = &list[..] else {
        panic!("{list:?}");
    };
    let skipped = [(bottom.0.as_path(), bottom.1), (top.0.as_path(), top.1)];
    let refused = Chain::open_all(&skipped, Access::Read, &Below::new(folder).unwrap());
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Mismatch);
}

#[test]
fn differencing_chains_are_read_and_written_to() {
    for format in ["VDI", "VMDK"] {
        let Some(home) = vbox::home("chain of theirs") else {
            return;
        };
        differencing(&home, format);
    }
}

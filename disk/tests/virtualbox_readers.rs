//! What this crate writes, read by the real VirtualBox: images alone, and chains of VDIs, VMDKs and both, every prefix
//! of them. `cargo xtask test --only virtualbox` brings a VirtualBox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/families.rs"]
mod families;
#[path = "../../tests/common/program.rs"]
mod program;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "../../tests/common/rig.rs"]
mod rig;
#[path = "common/vbox.rs"]
mod vbox;

use families::{Family, Image};
use program::within_limit;
use rig::Home;
use std::fs;
use std::path::Path;
use stratavm_disk::vdi::Allocation;
use stratavm_disk::{
    Access, Chain, Closed, ConvertOptions, Ctx, Durability, Format, ImageSpec, Target,
    convert_chain, flatten,
};
use uuid::Uuid;
use vbox::{MIB, SECTOR};

/// Disks in sectors: one, around a block, with a tail.
const SIZES: [u64; 5] = [1, 2047, 2049, 3 * 2048, 9 * 2048 + 77];
const LARGE: u64 = (3 << 30) / SECTOR + 2047;
const IMAGES: [Target; 5] = [
    Target::Vdi,
    Target::Vmdk,
    Target::VmdkFlat,
    Target::VmdkSplit,
    Target::VmdkStream,
];

/// Has both of VirtualBox's programs read an image, and compares with `raw`.
fn read(home: &Home, path: &Path, raw: &Path, what: &str) {
    let raw = Chain::open(raw, Format::Raw, Access::Read, &Closed).unwrap();
    let file = path.to_str().unwrap();
    vbox::same(&raw, &vbox::raw_of(home, file), what);
    home.manage(["closemedium", "disk", file]);
    let other = home.folder().join("other.raw");
    let mut convert = home.command("vbox-img");
    convert.args(["convert", "--dstformat", "RAW", "--srcfilename"]);
    convert.arg(path).arg("--dstfilename").arg(&other);
    within_limit(&mut convert).unwrap_or_else(|error| panic!("vbox-img, {what}: {error}"));
    vbox::same(&raw, &other, what);
    fs::remove_file(other).unwrap();
    report::ran("VirtualBox", "image of ours");
}

fn images_of(home: &Home, sectors: u64, targets: &[Target]) {
    let folder = home.folder();
    let raw = folder.join("disk.raw");
    vbox::raw_disk(&raw, sectors);
    let source = Chain::open(&raw, Format::Raw, Access::Read, &Closed).unwrap();
    for target in targets {
        let what = format!("{target}, {sectors} sectors");
        let made = folder.join("made é");
        fs::create_dir(&made).unwrap();
        let path = made.join(if *target == Target::Vdi {
            "a.vdi"
        } else {
            "a.vmdk"
        });
        let options = ConvertOptions::new(Uuid::from_u128(7 + u128::from(sectors)));
        flatten(&source, &path, *target, &options, &Ctx::none()).unwrap();
        read(home, &path, &raw, &what);
        fs::remove_dir_all(made).unwrap();
    }
}

#[test]
fn images_of_all_formats_and_sizes_are_read() {
    let Some(home) = vbox::home("image of ours") else {
        return;
    };
    for sectors in SIZES {
        images_of(&home, sectors, &IMAGES);
    }
    images_of(&home, LARGE, &[Target::VmdkSplit, Target::Vdi]);
}

#[test]
fn fixed_vdis_are_read() {
    let Some(home) = vbox::home("image of ours") else {
        return;
    };
    for sectors in SIZES {
        let [path, raw] = ["fixed.vdi", "disk.raw"].map(|name| home.folder().join(name));
        vbox::raw_disk(&raw, sectors);
        let mut spec = common::vdi(sectors, 5 + u128::from(sectors), None);
        spec.allocation = Allocation::Fixed;
        common::make(&path, &ImageSpec::Vdi(spec)).unwrap();
        let chain = vbox::open(&path, Format::Vdi, Access::Write);
        chain.write_at(&fs::read(&raw).unwrap(), 0).unwrap();
        chain.close(Durability::Unsynced).unwrap();
        read(&home, &path, &raw, &format!("fixed VDI, {sectors} sectors"));
        fs::remove_file(path).unwrap();
    }
}

/// Makes a chain with heads of these numbers, each written to; the images, the base first.
fn written(family: &Family, folder: &Path, heads: &[usize]) -> Vec<Image> {
    let mut images = vec![(family.base)(folder, &common::pattern(family.size))];
    for (level, number) in heads.iter().enumerate() {
        let head = (family.head)(folder, *number, &images);
        images.push(head);
        let chain = families::open(family, folder, &images, Access::Write);
        let mark = 0x80 | level as u8;
        let at = (level as u64 + 1) * MIB / 2;
        chain.write_at(&vec![mark; 70_000], at - 700).unwrap();
        chain.write_at(&[mark; 3], chain.size() - 3).unwrap();
        if level == 1 && family.name != families::VMDK.name {
            // A range without data above one with data; in VMDKs a marker would not be portable.
            chain.zero(MIB, MIB).unwrap();
        }
        chain.close(Durability::Unsynced).unwrap();
    }
    images
}

/// Registers a chain and has VirtualBox read every prefix of it.
fn read_chain(home: &Home, images: &[Image], what: &str) {
    let media: Vec<_> = images
        .iter()
        .map(|image| {
            let format = if image.format == Format::Vdi {
                "VDI"
            } else {
                "VMDK"
            };
            (image.path.clone(), format, image.uuid.unwrap())
        })
        .collect();
    vbox::register(home, &media);
    for level in 0..images.len() {
        let what = format!("{what}, level {level}");
        let uuid = media[level].2.to_string();
        let parent = match level {
            0 => "base".to_owned(),
            _ => media[level - 1].2.to_string(),
        };
        assert_eq!(vbox::shown(home, &uuid, "Parent UUID:"), parent, "{what}");
        assert_eq!(vbox::shown(home, &uuid, "State:"), "created", "{what}");
        let list: Vec<_> = images[..=level]
            .iter()
            .map(|image| (image.path.as_path(), image.format))
            .collect();
        let gate = stratavm_disk::Below::new(home.folder()).unwrap();
        let chain = Chain::open_all(&list, Access::Read, &gate).unwrap();
        vbox::same(&chain, &vbox::raw_of(home, &uuid), &what);
        report::ran("VirtualBox", "chain of ours");
    }
    home.manage(["unregistervm", "media"]);
}

#[test]
fn every_prefix_of_a_chain_is_read() {
    // Of the mixed ones, numbers of heads that are VMDKs and VDIs.
    let chains: [(&Family, &[usize]); 4] = [
        (&families::VMDK, &[1, 2, 3, 4, 5]),
        (&families::VMDK_SPLIT, &[1, 2, 3]),
        (&families::VDI, &[1, 2, 3, 4, 5]),
        (&families::MIXED, &[2, 3, 5]),
    ];
    for (family, heads) in chains {
        let Some(home) = vbox::home("chain of ours") else {
            return;
        };
        let images = written(family, home.folder(), heads);
        read_chain(&home, &images, family.name);
    }
}

#[test]
fn chains_that_were_converted_are_read() {
    for (family, target) in [
        (&families::VMDK, Target::Vdi),
        (&families::VDI, Target::Vmdk),
    ] {
        let Some(home) = vbox::home("chain of ours") else {
            return;
        };
        let images = written(family, home.folder(), &[1, 2, 3]);
        let source = families::open(family, home.folder(), &images, Access::Read);
        let folder = home.folder().join("converted");
        fs::create_dir(&folder).unwrap();
        let path = folder.join(if target == Target::Vdi {
            "a.vdi"
        } else {
            "a.vmdk"
        });
        let options = ConvertOptions::new(Uuid::from_u128(9));
        let made = convert_chain(&source, &path, target, &options, &Ctx::none()).unwrap();
        let images: Vec<_> = made
            .files
            .iter()
            .map(|path| {
                let found = stratavm_disk::info(path).unwrap();
                let vmdk = found.vmdk.as_ref().and_then(|vmdk| vmdk.uuid);
                Image {
                    path: path.clone(),
                    format: found.format,
                    cid: None,
                    uuid: found.vdi.as_ref().map(|vdi| vdi.uuid).or(vmdk),
                }
            })
            .collect();
        assert_eq!(images.len(), 4);
        read_chain(&home, &images, &format!("{} as {target}", family.name));
    }
}

//! The committed seeds of the fuzz targets are accepted by the parsers they are for: a seed that is refused at the door
//! would leave everything behind it unfuzzed. The targets themselves are in `fuzz/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use stratavm::VmSpec;
use stratavm::image::ImageMeta;
use stratavm::machine::record::Record;
use stratavm_disk::hdd::{DiskDescriptor, HdsHeader};
use stratavm_disk::vmdk::{Descriptor, SparseHeader};
use stratavm_disk::{Access, Below, Chain, Format, probe};
use stratavm_virtualbox_sys::xpt::TypeLibrary;

#[path = "../fuzz/src/drawn.rs"]
#[allow(dead_code, unreachable_pub)]
mod drawn;
#[path = "../fuzz/src/files.rs"]
#[allow(unreachable_pub)]
mod files;

fn every_seed(target: &str, accepts: impl Fn(&[u8], &Path) -> Result<(), String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if let Err(error) = accepts(&fs::read(&path).unwrap(), &path) {
            panic!("{}: {error}", path.display());
        }
        seeds += 1;
    }
    assert!(seeds > 0, "no seed in {}", folder.display());
}

/// Opens an image that is in a file of this name, and reads all of it.
fn reads(bytes: &[u8], name: &str) -> stratavm_disk::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    reads_beside(&path)
}

/// Opens an image with what it names in its folder, and reads all of it.
fn reads_beside(path: &Path) -> stratavm_disk::Result<()> {
    let (format, gate) = (probe(path)?, Below::beside(path)?);
    let chain = Chain::open(path, format, Access::Read, &gate)?;
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0)
}

/// A descriptor, a NUL, and the content of all files that the descriptor names.
fn reads_bundle(bytes: &[u8]) -> stratavm_disk::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let nul = bytes.iter().position(|byte| *byte == 0).unwrap();
    let xml = folder.path().join("DiskDescriptor.xml");
    fs::write(&xml, &bytes[..nul]).unwrap();
    for storage in DiskDescriptor::parse(&bytes[..nul], &xml)?.storages {
        for image in storage.images {
            fs::write(folder.path().join(image.file), &bytes[nul + 1..]).unwrap();
        }
    }
    let gate = Below::new(folder.path())?;
    let chain = Chain::open(folder.path(), Format::Hdd, Access::Write, &gate)?;
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0)
}

#[test]
fn disk_seeds_are_accepted() {
    every_seed("vmdk_descriptor", |bytes, path| {
        Descriptor::parse(bytes, path)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    every_seed("vmdk_header", |bytes, path| {
        SparseHeader::parse(bytes, path)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    every_seed("vmdk_data", |bytes, _| {
        reads(bytes, "image.vmdk").map_err(|error| error.to_string())
    });
    every_seed("hdd_data", |bytes, _| {
        reads(bytes, "image.hds").map_err(|error| error.to_string())
    });
    every_seed("hdd_bundle", |bytes, _| {
        reads_bundle(bytes).map_err(|error| error.to_string())
    });
    every_seed("qcow2_data", |bytes, _| {
        reads(bytes, "image.qcow2").map_err(|error| error.to_string())
    });
    every_seed("vdi_data", |bytes, _| {
        reads(bytes, "image.vdi").map_err(|error| error.to_string())
    });
    every_seed("hdd_descriptor", |bytes, path| {
        DiskDescriptor::parse(bytes, path)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    every_seed("hdd_header", |bytes, path| {
        HdsHeader::parse(bytes, path)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

/// Whether one of several files opens, a raw one aside, with all that it lies on.
fn opens_one(bytes: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = String::new();
    let mut opened = false;
    for (name, content) in files::of(bytes) {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        match reads_beside(&path) {
            Ok(()) => opened |= name != "j.raw",
            Err(error) => refused += &format!("{error}; "),
        }
    }
    opened.then_some(()).ok_or(refused)
}

#[test]
fn chain_seeds_are_accepted() {
    every_seed("chain_open", |bytes, _| opens_one(bytes));
    every_seed("chain_convert", |bytes, _| {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = drawn::Bytes(bytes);
        bytes.one(&stratavm_disk::Target::ALL);
        let drawn = drawn::Drawn::new(&mut bytes, folder.path()).unwrap();
        let chain = drawn.open(Access::Read, folder.path()).unwrap();
        assert!(drawn::reads_as(&chain, drawn.contents.last().unwrap()).unwrap());
        match drawn.images.len() > 1 && bytes.0.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} images, {} bytes left",
                drawn.images.len(),
                bytes.0.len()
            )),
        }
    });
    every_seed("disk_writes", |bytes, _| {
        let mut bytes = drawn::Bytes(bytes);
        bytes.byte();
        let size = bytes.size();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.vmdk");
        let options = drawn::options(1);
        stratavm_disk::create_blank(&path, stratavm_disk::Target::Vmdk, size, &options).unwrap();
        let gate = Below::beside(&path).unwrap();
        let chain = Chain::open(&path, Format::VmdkSparse, Access::Write, &gate).unwrap();
        let mut content = vec![0; usize::try_from(size).unwrap()];
        for _ in 0..=bytes.byte() % 3 {
            drawn::change(&mut bytes, &chain, &mut content).unwrap();
        }
        assert!(drawn::reads_as(&chain, &content).unwrap());
        match content.iter().any(|byte| *byte != 0) && bytes.0.is_empty() {
            true => Ok(()),
            false => Err(format!("nothing written, or {} bytes left", bytes.0.len())),
        }
    });
}

#[test]
fn spec_seeds_are_accepted() {
    every_seed("spec", |bytes, path| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let read = if is_json {
            VmSpec::from_json
        } else {
            VmSpec::from_toml
        };
        read(text, "seed")
            .map(drop)
            .map_err(|faults| faults.to_string())
    });
}

#[test]
fn store_seeds_are_accepted() {
    every_seed("image_json", |bytes, _| {
        ImageMeta::parse(bytes)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

#[test]
fn machine_seeds_are_accepted() {
    every_seed("machine_json", |bytes, _| {
        Record::parse(bytes)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

#[test]
fn gpt_seeds_are_accepted() {
    every_seed("gpt", |bytes, _| {
        let mut disk = bytes.to_vec();
        disk.resize(1 << 20, 0);
        match stratavm::testkit::gpt::partitions(&disk, 2 << 20) {
            Ok(Some((partitions, _))) if !partitions.is_empty() => Ok(()),
            Ok(found) => Err(format!("no partition: {found:?}")),
            Err(error) => Err(error.to_string()),
        }
    });
}

#[test]
fn type_library_seeds_are_accepted() {
    every_seed("xpt", |bytes, _| {
        TypeLibrary::parse(bytes)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

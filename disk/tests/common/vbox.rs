//! VirtualBox as a reader and writer of disks: chains registered as a machine's media, and any medium as a raw file.
#![allow(dead_code, reason = "not every test uses every part")]

use crate::rig::{Home, Product};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use stratavm_disk::{Access, Below, Chain, Closed, Comparison, Ctx, Format, Sizes, compare};
use uuid::Uuid;

pub(crate) const SECTOR: u64 = 512;
pub(crate) const MIB: u64 = 1 << 20;

/// A home of VirtualBox's; `None` where there is no VirtualBox, which is reported as a skip of `what`.
pub(crate) fn home(what: &str) -> Option<Home> {
    Product::find(what).map(|product| Home::new(&product))
}

/// A raw file with data at both ends, over the edges of blocks and grains, and somewhere between.
pub(crate) fn raw_disk(path: &Path, sectors: u64) {
    let size = sectors * SECTOR;
    let mut file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let wanted = [
        (size / 2, 70_000, 0x31_u8),
        (size.saturating_sub(700), 700, 0x32),
        (MIB - 3, 10, 0x33),
        (0, 1, 0x34),
        (size / 3 * 2, 3_000_000, 0x35),
    ];
    for (at, len, with) in wanted {
        let len = usize::try_from(size.saturating_sub(at).min(len)).unwrap();
        let bytes: Vec<u8> = (0..len).map(|n| with ^ (n >> 9) as u8).collect();
        if len > 0 {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&bytes).unwrap();
        }
    }
}

/// What `medium`, a path or a UUID, reads as through VirtualBox: the raw file that it makes of it.
pub(crate) fn raw_of(home: &Home, medium: &str) -> PathBuf {
    let raw = home.folder().join("theirs.raw");
    let _ = fs::remove_file(&raw);
    let to = raw.to_str().unwrap();
    home.manage(["clonemedium", "disk", medium, to, "--format", "RAW"]);
    home.manage(["closemedium", "disk", to]);
    raw
}

/// Fails unless two disks are of one size and hold the same.
pub(crate) fn same(chain: &Chain, raw: &Path, what: &str) {
    let raw = Chain::open(raw, Format::Raw, Access::Read, &Closed).unwrap();
    let found = compare(chain, &raw, Sizes::MustAgree, &Ctx::none()).unwrap();
    assert_eq!(
        found,
        Comparison::Equal,
        "{what}: {} and {}",
        chain.size(),
        raw.size()
    );
}

/// An image alone, whatever files it has beside it.
pub(crate) fn open(path: &Path, format: Format, access: Access) -> Chain {
    let gate = Below::beside(path).unwrap();
    Chain::open_all(&[(path, format)], access, &gate).unwrap()
}

/// Makes a chain, the base first, known to VirtualBox: as media of a machine that uses none of them.
pub(crate) fn register(home: &Home, images: &[(PathBuf, &str, Uuid)]) {
    let mut media = String::new();
    for (path, format, uuid) in images {
        let path = path.to_str().unwrap();
        assert!(!path.contains(['&', '<', '"']), "{path}");
        write!(
            media,
            r#"<HardDisk uuid="{{{uuid}}}" location="{path}" format="{format}">"#
        )
        .unwrap();
    }
    media.push_str(&"</HardDisk>".repeat(images.len()));
    let machine = Uuid::from_u128(0xfeed);
    let settings = format!(
        r#"<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.15-linux">
<Machine uuid="{{{machine}}}" name="media" OSType="Other" snapshotFolder="Snapshots">
<MediaRegistry><HardDisks>{media}</HardDisks></MediaRegistry><Hardware><Memory RAMSize="32"/></Hardware><StorageControllers/>
</Machine></VirtualBox>"#
    );
    let path = home.folder().join("media.vbox");
    fs::write(&path, settings).unwrap();
    home.manage([Path::new("registervm"), &path]);
}

/// What `showmediuminfo` says under a heading.
pub(crate) fn shown(home: &Home, medium: &str, heading: &str) -> String {
    let info = home.manage(["showmediuminfo", "disk", medium]);
    let line = info.lines().find_map(|line| line.strip_prefix(heading));
    line.unwrap_or_else(|| panic!("no {heading:?}: {info}"))
        .trim()
        .to_owned()
}

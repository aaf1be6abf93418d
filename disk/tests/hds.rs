//! `.hds` images written by hand, both variants: what is read and written, and every field that is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, unused_crate_dependencies)]

use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::hdd::{HdsSpec, Magic};
use stratavm_disk::{
    Access, Chain, Closed, Durability, ErrorKind, Format, ImageSpec, Volume, create,
};

const SECTOR: usize = 512;
const DIRTY: u32 = 0x746F_6E59;
/// Offset of `in_use`, of the flags, of the extension's sector.
const IN_USE: usize = 44;
const FLAGS: usize = 52;
const EXTENSION: usize = 56;

/// An image as another program would make it.
#[derive(Clone)]
struct Image {
    magic: Magic,
    /// In sectors.
    cluster: u32,
    sectors: u64,
    /// In sectors, as in the header.
    data: u32,
    /// Which of the stored clusters each of the disk's clusters is, counted from 1; 0 for none.
    table: Vec<u32>,
}

impl Image {
    /// The byte at which stored cluster `n` lies.
    fn at(&self, n: u32) -> usize {
        let behind_table = (64 + 4 * self.table.len()).div_ceil(SECTOR);
        let data = match self.data {
            0 => behind_table,
            n => n as usize,
        };
        (data + (n as usize - 1) * self.cluster as usize) * SECTOR
    }

    /// The file; every sector holds the number of the stored cluster that it lies in.
    fn bytes(&self) -> Vec<u8> {
        let mut b = self.magic.as_bytes().to_vec();
        let heads_and_cylinders = [16, (self.sectors / 512) as u32];
        let fields = [2].into_iter().chain(heads_and_cylinders);
        for field in fields.chain([self.cluster, self.table.len() as u32]) {
            b.extend(field.to_le_bytes());
        }
        b.extend(self.sectors.to_le_bytes());
        for field in [0x312e_3276, self.data, 0, 0, 0] {
            b.extend(u32::to_le_bytes(field));
        }
        assert_eq!(b.len(), 64);
        let unit = match self.magic {
            Magic::WithoutFreeSpace => SECTOR,
            _ => SECTOR * self.cluster as usize,
        };
        for n in &self.table {
            let entry = n.checked_sub(1).map_or(0, |_| self.at(*n) / unit);
            b.extend((entry as u32).to_le_bytes());
        }
        let last = self.table.iter().copied().max().unwrap_or(0);
        b.resize(self.at(1), 0);
        for n in 1..=last {
            b.resize(self.at(n + 1), n as u8);
        }
        b
    }

    fn content(&self) -> Vec<u8> {
        let mut disk = Vec::new();
        for n in &self.table {
            disk.resize(disk.len() + self.cluster as usize * SECTOR, *n as u8);
        }
        disk.truncate(self.sectors as usize * SECTOR);
        disk
    }
}

/// Five clusters, stored in another order and with a hole; the disk ends inside the last one.
fn sample(magic: Magic, cluster: u32, data: u32) -> Image {
    Image {
        magic,
        cluster,
        sectors: u64::from(cluster) * 5 - 3,
        data,
        table: vec![3, 0, 1, 2, 4],
    }
}

fn samples() -> [Image; 5] {
    let (old, ext) = (Magic::WithoutFreeSpace, Magic::WithouFreSpacExt);
    [
        sample(old, 2048, 2048),
        // Clusters of older versions, with data right behind the table.
        sample(old, 63, 0),
        sample(old, 504, 1),
        sample(ext, 2048, 2048),
        sample(ext, 8, 16),
    ]
}

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(bytes: &[u8]) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.hds");
    fs::write(&path, bytes).unwrap();
    File { _dir: dir, path }
}

fn open(path: &Path, access: Access) -> stratavm_disk::Result<Chain> {
    Chain::open(path, Format::Hds, access, &Closed)
}

fn content(path: &Path) -> Vec<u8> {
    let chain = open(path, Access::Read).unwrap();
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

fn field(path: &Path, at: usize) -> u32 {
    let bytes = fs::read(path).unwrap();
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn both_variants_are_read_and_written_with_clusters_of_any_size() {
    for image in samples() {
        let file = file(&image.bytes());
        let mut want = image.content();
        assert!(content(&file.path) == want, "{:?}", image.magic);
        let chain = open(&file.path, Access::Write).unwrap();
        let cluster = image.cluster as usize * SECTOR;
        // Into a hole and the cluster behind it; then the disk's very end, and zeros over data.
        let end = want.len();
        for (range, with) in [
            (2 * cluster - 700..2 * cluster + 9, 0xaa),
            (end - 1..end, 0xbb),
            (10..20, 0),
        ] {
            match with {
                0 => chain.zero(10, 10).unwrap(),
                _ => chain
                    .write_at(&vec![with; range.len()], range.start as u64)
                    .unwrap(),
            }
            want[range].fill(with);
        }
        chain.close(Durability::Synced).unwrap();
        assert!(content(&file.path) == want, "{:?} written", image.magic);
        // One cluster came, whole, and nothing else moved.
        let len = fs::metadata(&file.path).unwrap().len();
        assert_eq!(len, image.at(6) as u64, "{:?}", image.magic);
        assert_eq!(field(&file.path, 48), image.data);
    }
}

#[test]
fn it_says_that_it_is_written_until_it_is_closed() {
    let mut bytes = samples()[0].bytes();
    bytes[FLAGS] = 1; // taken for empty by those who honour it
    let file = file(&bytes);
    let chain = open(&file.path, Access::Write).unwrap();
    assert_eq!(
        field(&file.path, IN_USE),
        0x312e_3276,
        "nothing was written"
    );
    chain.write_at(&[1], 0).unwrap();
    assert_eq!(field(&file.path, IN_USE), DIRTY);
    assert_eq!(field(&file.path, FLAGS), 0);
    let kind = open(&file.path, Access::Write).err().unwrap().kind();
    assert_eq!(kind, ErrorKind::Mismatch, "another writer is kept away");
    assert_eq!(content(&file.path)[1], 3, "a reader is not");
    chain.close(Durability::Unsynced).unwrap();
    assert_eq!(field(&file.path, IN_USE), 0);
    assert_eq!(content(&file.path)[..2], [1, 3]);
}

/// An extension in the last stored cluster, with one feature of these flags.
fn with_extension(flags: u8) -> Vec<u8> {
    let image = samples()[0].clone();
    let mut bytes = image.bytes();
    let at = bytes.len();
    bytes[EXTENSION..EXTENSION + 4].copy_from_slice(&((at / SECTOR) as u32).to_le_bytes());
    bytes.resize(image.at(6), 0);
    bytes[at..at + 8].copy_from_slice(&0xAB23_4CEF_23DC_EA87_u64.to_le_bytes());
    let plain = [0x4a, 0xb3, 0x2c, 0x25, 0xae, 0x5f, 0x38, 0x20];
    bytes[at + 24..at + 32].copy_from_slice(&plain);
    bytes[at + 40] = 5; // bytes of the first feature, rounded up to 8
    bytes[at + 56..at + 64].copy_from_slice(&[7; 8]);
    bytes[at + 64] = flags;
    bytes
}

#[test]
fn an_extension_is_dropped_by_a_writer_unless_it_must_stay() {
    let unchanged = with_extension(0);
    let kept = file(&unchanged);
    drop(open(&kept.path, Access::Write).unwrap());
    assert!(fs::read(&kept.path).unwrap() == unchanged, "not written to");
    let chain = open(&kept.path, Access::Write).unwrap();
    chain.write_at(&[9], 0).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    assert_eq!(field(&kept.path, EXTENSION), 0);

    for flags in [1, 2] {
        let file = file(&with_extension(flags));
        assert!(content(&file.path) == samples()[0].content());
        let error = open(&file.path, Access::Write).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("0x707070707070707"), "{error}");
    }
}

/// Clusters 2 and 3 of the disk at one place.
fn twice() -> Vec<u8> {
    let mut image = samples()[0].clone();
    image.table[3] = image.table[2];
    image.bytes()
}

/// A cluster that starts in the middle of another.
fn overlapping() -> Vec<u8> {
    let mut bytes = samples()[0].bytes();
    let half = (samples()[0].at(2) / SECTOR - 1024) as u32;
    bytes[64..68].copy_from_slice(&half.to_le_bytes());
    bytes
}

#[test]
fn what_breaks_a_rule_is_refused() {
    use ErrorKind::{Limit, Malformed, Mismatch, Unsupported};
    let good = samples()[0].bytes();
    let beyond = (good.len() / SECTOR) as u32;
    let set = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let mut many = with_extension(0);
    let mut at = samples()[0].at(5) + 24;
    for _ in 0..300 {
        many[at..at + 24].fill(0);
        many[at] = 1;
        at += 24;
    }
    let cut = good[..70].to_vec();
    // For reading already: what the header says, and what the table says once it is looked up.
    let cases: &[(&str, Vec<u8>, ErrorKind)] = &[
        ("version", set(16, 3), Unsupported),
        ("cluster of 0", set(28, 0), Malformed),
        ("table of 0 entries", set(32, 0), Malformed),
        ("larger than its table", set(36, 5 * 2048 + 1), Malformed),
        ("data behind every cluster", set(48, 0xffff_ffff), Malformed),
        ("a conversion", set(FLAGS, 2), Unsupported),
        ("a table that is cut off", cut, Malformed),
        ("a cluster in the table", set(64, 1), Malformed),
        ("a cluster behind the end", set(64, beyond), Malformed),
        ("a cluster far away", set(64, u32::MAX), Malformed),
    ];
    for (what, bytes, kind) in cases {
        let file = file(bytes);
        let read = open(&file.path, Access::Read).and_then(|c| c.read_at(&mut [0], 0));
        let error = read.expect_err(what);
        assert_eq!(error.kind(), *kind, "{what}: {error}");
        assert_eq!(error.path(), Some(file.path.as_path()), "{what}");
    }
    // For writing only.
    let cases: &[(&str, Vec<u8>, ErrorKind)] = &[
        ("a writer", set(IN_USE, DIRTY), Mismatch),
        ("flags", set(FLAGS, 0x10), Unsupported),
        ("no extension there", set(EXTENSION, 2048), Malformed),
        (
            "an extension behind the end",
            set(EXTENSION, beyond),
            Malformed,
        ),
        (
            "an extension far away",
            set(EXTENSION + 4, u32::MAX),
            Malformed,
        ),
        ("an extension without an end", many, Limit),
        ("a table with a place twice", twice(), Malformed),
        ("clusters that overlap", overlapping(), Malformed),
        // New ones would come to lie there.
        (
            "a cluster behind the end",
            set(64, beyond + 2048),
            Malformed,
        ),
    ];
    for (what, bytes, kind) in cases {
        let file = file(bytes);
        let error = open(&file.path, Access::Write).err().unwrap();
        assert_eq!(error.kind(), *kind, "{what}: {error}");
        assert!(fs::read(&file.path).unwrap() == *bytes, "{what}");
    }
}

#[test]
fn a_last_cluster_that_is_cut_short_reads_as_zeros_there_and_is_not_overlapped() {
    let image = samples()[0].clone();
    let mut bytes = image.bytes();
    let short = image.at(4) + 1000;
    bytes.truncate(short);
    let mut want = image.content();
    let fourth = 4 * image.cluster as usize * SECTOR;
    want[fourth + 1000..].fill(0);
    let whole = file(&bytes);
    assert!(content(&whole.path) == want);
    let chain = open(&whole.path, Access::Write).unwrap();
    chain.write_at(&[0xee], 1 << 20).unwrap();
    want[1 << 20] = 0xee;
    chain.close(Durability::Unsynced).unwrap();
    assert!(content(&whole.path) == want);

    // The same cluster half a cluster further: new room would begin inside it.
    let entry = (image.at(4) / SECTOR + 1024) as u32;
    bytes[64 + 4 * 4..64 + 5 * 4].copy_from_slice(&entry.to_le_bytes());
    bytes.resize(image.at(4) + 1025 * SECTOR, 5);
    let file = file(&bytes);
    assert_eq!(content(&file.path)[fourth], 5);
    let error = open(&file.path, Access::Write).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[test]
fn a_tebibyte_takes_room_for_what_is_written_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.hds");
    let spec = ImageSpec::Hds(HdsSpec {
        sectors: (1 << 31) + 1,
        patches: Vec::new(),
    });
    create(&path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    let end = chain.size();
    chain.write_at(b"start", 0).unwrap();
    chain.write_at(b"end", end - 3).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    let chain = open(&path, Access::Read).unwrap();
    let mut read = [0; 3];
    chain.read_at(&mut read, end - 3).unwrap();
    assert_eq!(&read, b"end");
    let mut stored = Vec::new();
    chain
        .map(0, end, &mut |range| {
            if range.at.is_some() {
                stored.push(range.offset >> 20);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    stored.dedup();
    assert_eq!(stored, [0, 1 << 20]);
    // 5 MiB of table, and two clusters.
    assert_eq!(fs::metadata(&path).unwrap().len(), 7 << 20);
}

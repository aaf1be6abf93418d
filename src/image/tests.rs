//! Images from the outside: added, found, verified, refused.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use stratavm_disk::{CancelToken, Ctx, Volume};
use tempfile::TempDir;
use uuid::Uuid;

use super::add::add;
use super::*;
use crate::error::ErrorKind;
use crate::linux::{FileSystem, PartitionName};
use crate::spec::{Name, Role};

const MIB: u64 = 1 << 20;

struct Store {
    dir: TempDir,
    root: ImageRoot,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = ImageRoot::create(dir.path().join("images")).unwrap();
        Self { dir, root }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn add(&self, path: &Path, options: &AddOptions) -> crate::Result<Added> {
        add(&self.root, path, options, &Volume::default(), &Ctx::none())
    }

    fn wrap(&self, bytes: &[u8]) -> Image {
        self.add(&self.file("fs", bytes), &wrap(Role::Apps))
            .unwrap()
            .image
    }

    /// The names in the folder of images, but for the lock of those that are being made.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.folder()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".staging.lock")
            .collect()
    }
}

fn content(image: &Image) -> Vec<u8> {
    image
        .extents()
        .iter()
        .flat_map(|(path, _)| fs::read(path).unwrap())
        .collect()
}

fn wrap(role: Role) -> AddOptions {
    let name = Name::new("office").unwrap();
    AddOptions {
        wrap: Some(Wrap {
            fs: FileSystem::Squashfs,
            role,
            name,
        }),
        ..Default::default()
    }
}

/// The first bytes of a squashfs that takes `len` bytes, then a pattern.
fn squashfs(len: usize) -> Vec<u8> {
    let mut bytes: Vec<_> = (0..len).map(|n| (n % 253) as u8).collect();
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28..30].copy_from_slice(&[4, 0]);
    bytes[40..48].copy_from_slice(&(len as u64).to_le_bytes());
    bytes
}

#[test]
fn an_added_disk_is_padded_and_found_by_its_digest() {
    let store = Store::new();
    let source = store.file("golden.raw", &vec![7; 1_500_000]);
    let added = store.add(&source, &AddOptions::default()).unwrap();
    assert_eq!(added.outcome, Outcome::New);
    let meta = &added.image.meta;
    assert_eq!(
        (meta.size, meta.provenance.source.as_deref()),
        (2 * MIB, Some("golden.raw"))
    );
    let mut expected = vec![7; 1_500_000];
    expected.resize(2 << 20, 0);
    assert_eq!(content(&added.image), expected);
    assert_eq!(store.root.find(&meta.digest).unwrap().unwrap(), added.image);
    let listed: Vec<_> = store
        .root
        .list()
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(listed.as_slice(), std::slice::from_ref(&added.image));
    assert!(
        store
            .root
            .verify(&meta.digest, &Ctx::none())
            .unwrap()
            .is_intact()
    );
    for (path, _) in added.image.extents() {
        assert!(fs::metadata(path).unwrap().permissions().readonly());
    }
    // The padded disk is the same content: stored once.
    let again = store
        .add(&store.file("padded.raw", &expected), &AddOptions::default())
        .unwrap();
    assert_eq!(
        (again.outcome, again.image),
        (Outcome::Existing, added.image)
    );
    assert_eq!(store.names().len(), 1);
}

#[test]
fn the_digest_does_not_depend_on_the_extents() {
    let store = Store::new();
    let bytes: Vec<_> = (0..5 << 20).map(|n: usize| (n >> 12) as u8).collect();
    let source = store.file("golden.raw", &bytes);
    let split = AddOptions {
        max_extent: Some(2 * MIB),
        ..Default::default()
    };
    let image = store.add(&source, &split).unwrap().image;
    let lengths: Vec<_> = image
        .extents()
        .iter()
        .map(|(_, sectors)| *sectors)
        .collect();
    assert_eq!(lengths, [4096, 4096, 2048]);
    assert_eq!(content(&image), bytes);
    let whole = Store::new();
    let other = whole.add(&source, &AddOptions::default()).unwrap().image;
    assert_eq!(other.meta.digest, image.meta.digest);
    assert_eq!(other.extents().len(), 1);
}

#[cfg(unix)]
#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let store = Store::new();
    let source = store.dir.path().join("sparse");
    let file = File::create(&source).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(&[1; 4096], 1 << 39).unwrap();
    file.sync_all().unwrap();
    let image = store.add(&source, &AddOptions::default()).unwrap().image;
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    assert!(blocks(&image.extents()[0].0) <= blocks(&source) + 16);
    assert!(
        store
            .root
            .verify(&image.meta.digest, &Ctx::none())
            .unwrap()
            .is_intact()
    );
}

#[test]
fn a_bare_file_system_becomes_a_layers_disk() {
    let store = Store::new();
    let bytes = squashfs(1_200_000);
    let image = store.wrap(&bytes);
    let [partition] = image.meta.partitions.as_slice() else {
        unreachable!("one partition")
    };
    let mut padded = bytes.clone();
    padded.resize(2 << 20, 0);
    let expected = store
        .add(&store.file("part", &padded), &AddOptions::default())
        .unwrap();
    assert_eq!(partition.digest, expected.image.meta.digest);
    let id = partition.digest.content_id();
    assert_eq!(
        partition.name,
        PartitionName {
            role: Role::Apps,
            id
        }
    );
    assert_eq!(
        (partition.fs, partition.offset, partition.length),
        (FileSystem::Squashfs, MIB, 2 * MIB)
    );
    assert_eq!(image.meta.size, 4 * MIB);
    assert_eq!(content(&image)[1 << 20..3 << 20], padded);
    // What was wrapped is recognised when it comes in as a disk, with the same digest.
    let elsewhere = Store::new();
    let disk = elsewhere.file("disk", &content(&image));
    let added = elsewhere.add(&disk, &AddOptions::default()).unwrap().image;
    assert_eq!(added.meta.digest, image.meta.digest);
    assert_eq!(added.meta.partitions, image.meta.partitions);
    let inspected = inspect(&disk, &Ctx::none()).unwrap();
    assert_eq!(inspected.digest, Some(image.meta.digest));
    assert_eq!(inspected.partitions, image.meta.partitions);
    assert_eq!((inspected.needs, inspected.bare), (None, None));
}

#[test]
fn an_id_that_is_not_the_contents_is_refused_with_both() {
    let store = Store::new();
    let image = store.wrap(&squashfs(4096));
    let mut bytes = content(&image);
    bytes[(1 << 20) + 3000] ^= 1;
    let path = store.file("tampered", &bytes);
    let found = inspect(&path, &Ctx::none()).unwrap_err();
    let error = store.add(&path, &AddOptions::default()).unwrap_err();
    for error in [error, found] {
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            text.contains(&image.meta.partitions[0].name.id.to_string()),
            "{text}"
        );
    }
    assert_eq!(store.names().len(), 1);
}

#[test]
fn a_disk_of_odd_size_gets_its_table_moved_or_is_refused() {
    let store = Store::new();
    let mut bytes = content(&store.wrap(&squashfs(4096)));
    bytes.extend([0; 1000]);
    let path = store.file("odd", &bytes);
    assert_eq!(
        inspect(&path, &Ctx::none()).unwrap().needs,
        Some(Need::MoveTable)
    );
    let image = store.add(&path, &AddOptions::default()).unwrap().image;
    assert_eq!((image.meta.size, image.meta.partitions.len()), (4 * MIB, 1));
    assert_eq!(&content(&image)[(4 << 20) - 512..][..8], b"EFI PART");
    let exact = AddOptions {
        size: OddSize::Refuse,
        ..Default::default()
    };
    assert_eq!(
        store.add(&path, &exact).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let store = Store::new();
    let add = |path: &Path, options: &AddOptions| store.add(path, options).unwrap_err().kind();
    let plain = AddOptions::default();
    assert_eq!(
        add(&store.dir.path().join("none"), &plain),
        ErrorKind::NotFound
    );
    assert_eq!(add(store.dir.path(), &plain), ErrorKind::Invalid);
    assert_eq!(add(&store.file("empty", b""), &plain), ErrorKind::Invalid);
    let huge = store.file("huge", b"");
    // Not every file system holds such a file, sparse as it is.
    if File::options()
        .write(true)
        .open(&huge)
        .unwrap()
        .set_len((2 << 40) + 1)
        .is_ok()
    {
        assert_eq!(add(&huge, &plain), ErrorKind::NoSpace);
    }
    let tiny = AddOptions {
        max_extent: Some(4096),
        ..Default::default()
    };
    assert_eq!(
        add(&store.file("disk", &vec![1; 2 << 20]), &tiny),
        ErrorKind::Invalid
    );
    // File systems that are not what they should be.
    assert_eq!(
        add(&store.file("text", &[b'x'; 9000]), &wrap(Role::Os)),
        ErrorKind::Invalid
    );
    let cut = store.file("cut", &squashfs(9000)[..8000]);
    assert_eq!(add(&cut, &wrap(Role::Os)), ErrorKind::Malformed);
    assert_eq!(store.names(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_it() {
    let store = Store::new();
    let path = store.dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let error = store.add(&path, &AddOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_source_that_changes_meanwhile_is_refused() {
    let store = Store::new();
    let source = store.file("golden", &vec![1; 3 << 20]);
    let path = source.clone();
    let ctx = Ctx::none().with_progress(move |_| fs::write(&path, vec![2; 3 << 20]).unwrap());
    let added = add(
        &store.root,
        &source,
        &AddOptions::default(),
        &Volume::default(),
        &ctx,
    );
    assert_eq!(added.unwrap_err().kind(), ErrorKind::Mismatch);
    assert!(store.names().is_empty());
}

#[test]
fn a_cancelled_add_leaves_nothing() {
    let store = Store::new();
    let source = store.file("golden", &vec![1; 3 << 20]);
    let token = CancelToken::new();
    token.cancel();
    let ctx = Ctx::none().with_cancel(token);
    let added = add(
        &store.root,
        &source,
        &AddOptions::default(),
        &Volume::default(),
        &ctx,
    );
    assert_eq!(added.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(store.names().is_empty());
}

#[test]
fn a_changed_extent_is_named() {
    let store = Store::new();
    let source = store.file("golden", &vec![1; 3 << 20]);
    let split = AddOptions {
        max_extent: Some(MIB),
        ..Default::default()
    };
    let image = store.add(&source, &split).unwrap().image;
    let verify = || {
        store
            .root
            .verify(&image.meta.digest, &Ctx::none())
            .unwrap()
            .changed
    };
    let (path, _) = &image.extents()[1];
    let mut bytes = fs::read(path).unwrap();
    bytes[5] = 9;
    fs::remove_file(path).unwrap();
    let changed = |change| {
        vec![ChangedExtent {
            path: path.clone(),
            change,
        }]
    };
    assert_eq!(verify(), changed(Change::Missing));
    let error = store.root.find(&image.meta.digest).unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::Mismatch, Some(path.as_path()))
    );
    fs::write(path, &bytes).unwrap();
    assert_eq!(verify(), changed(Change::Content));
    fs::write(path, &bytes[1..]).unwrap();
    assert_eq!(verify(), changed(Change::Length(MIB - 1)));
}

#[test]
fn an_image_whose_description_is_for_another_is_refused() {
    let store = Store::new();
    let image = store
        .add(&store.file("a", &[1; 4096]), &AddOptions::default())
        .unwrap()
        .image;
    let mut other = *image.meta.digest.as_bytes();
    other[0] ^= 1;
    let other = ImageDigest::from_bytes(other);
    let folder = store.root.folder().join(format!("sha256c-{}", other.hex()));
    fs::rename(&image.folder, folder).unwrap();
    assert_eq!(
        store.root.find(&other).unwrap_err().kind(),
        ErrorKind::Malformed
    );
    assert!(store.root.find(&image.meta.digest).unwrap().is_none());
    assert!(store.root.list().unwrap()[0].is_err());
}

#[test]
fn blank_images_are_what_they_say_and_are_shared() {
    let store = Store::new();
    let name = Name::new("home").unwrap();
    let blanks = [
        Blank::disk(5 * MIB).unwrap(),
        Blank::layer(Role::UserData, &name, 9 * MIB).unwrap(),
        Blank::layer(Role::Cache, &name, 9 * MIB).unwrap(),
        Blank::layer(Role::UserData, &name, 1 << 40).unwrap(),
    ];
    for blank in &blanks {
        let added = blank
            .store(&store.root, &Volume::default(), &Ctx::none())
            .unwrap();
        assert_eq!(added.image.meta.digest, blank.digest);
        assert!(added.image.meta.is_blank());
        assert_eq!(
            added.image.meta.partitions.first(),
            blank.partition.as_ref()
        );
        let again = blank
            .store(&store.root, &Volume::default(), &Ctx::none())
            .unwrap();
        assert_eq!(again.outcome, Outcome::Existing);
        // Such a disk from elsewhere is accepted, though its id is not that of its content.
        let inspected = inspect(&added.image.extents()[0].0, &Ctx::none()).unwrap();
        assert_eq!(inspected.partitions, added.image.meta.partitions);
    }
    assert_eq!(store.names().len(), blanks.len());
    assert!(Blank::disk(5).is_err() && Blank::layer(Role::Cache, &name, 2 * MIB).is_err());
}

#[test]
fn leases_are_kept_by_machine() {
    let store = Store::new();
    let image = store
        .add(&store.file("a", &[1; 4096]), &AddOptions::default())
        .unwrap()
        .image;
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(image.leases().unwrap().is_empty());
    for machine in [b, a, a] {
        image.add_lease(machine).unwrap();
    }
    assert_eq!(image.leases().unwrap(), [a, b]);
    image.remove_lease(a).unwrap();
    image.remove_lease(a).unwrap();
    assert_eq!(image.leases().unwrap(), [b]);
    assert!(store.root.find(&image.meta.digest).unwrap().is_some());
}

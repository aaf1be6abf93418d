//! Machines of a store under the real QEMU, where the store is on no ordinary volume: heads and session disks in
//! extents because files end early, golden images in a folder that can only be read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{ctx, qemu};
use serde_json::{Value, json};
use stratavm::image::{AddOptions, ImageRoot, Wrap, add};
use stratavm::linux::FileSystem;
use stratavm::machine::{Kept, Machine, RunEnd, RunOptions};
use stratavm::spec::Role;
use stratavm::testkit::guest::{Boot, BootSector, Outcome, parse_console};
use stratavm::{Ctx, Store, block_on};
use stratavm_qemu::{PRODUCT, Qemu};

const X86: &str = "qemu-system-x86_64";
const MIB: u64 = 1 << 20;
/// Files of at most 4 MiB less 1 byte: a head's extents hold 3 MiB each.
const MOST: u64 = 4 * MIB - 1;
/// The sectors that the guest uses, in the first extent of a disk and in the second.
const FIRST: u32 = 50;
const SECOND: u32 = 10_000;

/// Shows both sectors of every disk, then writes to both of the layers' and to the second of the session disk.
fn marking() -> BootSector {
    BootSector::new()
        .print(FIRST)
        .print(SECOND)
        .write(0, FIRST, "os 1")
        .write(0, SECOND, "os 2")
        .write(1, FIRST, "home 1")
        .write(1, SECOND, "home 2")
        .write(2, SECOND, "session 2")
}

/// A raw disk of 8 MiB, as a Linux composition wants one, that boots `marking` and holds `mark` in both sectors.
fn golden(store: &Store, folder: &Path, mark: &str) -> PathBuf {
    let scratch = tempfile::tempdir_in(folder).unwrap();
    let bare = scratch.path().join("os.squashfs");
    // Enough of a squashfs superblock to be taken for one: magic, version 4.0, bytes used.
    let mut head = [0; 96];
    head[..4].copy_from_slice(b"hsqs");
    head[28] = 4;
    head[40..48].copy_from_slice(&(6 * MIB).to_le_bytes());
    let mut file = fs::File::create(&bare).unwrap();
    file.write_all(&head).unwrap();
    // The partition, whose name says what it holds, begins at 1 MiB.
    let second = u64::from(SECOND) * 512 - MIB;
    file.seek(SeekFrom::Start(second)).unwrap();
    file.write_all(mark.as_bytes()).unwrap();
    file.set_len(6 * MIB).unwrap();
    let mut options = AddOptions::default();
    options.wrap = Some(Wrap {
        fs: FileSystem::Squashfs,
        role: Role::Os,
        name: "os".parse().unwrap(),
    });
    let root = ImageRoot::create(scratch.path().join("images")).unwrap();
    let added = add::add(&root, &bare, &options, store.volume(), &Ctx::none()).unwrap();

    let path = folder.join("os.raw");
    let mut file = fs::File::create(&path).unwrap();
    for (extent, _) in added.image.extents() {
        std::io::copy(&mut fs::File::open(extent).unwrap(), &mut file).unwrap();
    }
    assert_eq!(file.metadata().unwrap().len(), 8 * MIB);
    // The table of partitions is found without the sector before it.
    file.rewind().unwrap();
    file.write_all(&marking().image_bytes().unwrap()).unwrap();
    let first = u64::from(FIRST) * 512;
    file.seek(SeekFrom::Start(first)).unwrap();
    file.write_all(mark.as_bytes()).unwrap();
    path
}

fn machine(store: &Store, folder: &Path, guest: &Value, image: &str) -> Machine {
    let spec = serde_json::from_value(json!({
        "stratavm": 1, "name": "desk", "guest": guest,
        "hardware": {"memory": "64 MiB", "controller": "sata", "console": "log"},
        "layer": [
            {"name": "os", "role": "os", "image": image},
            {"name": "home", "role": "user-data", "size": "8 MiB"},
        ],
    }));
    store
        .create(&spec.unwrap(), folder, &Default::default(), &Ctx::none())
        .unwrap()
}

/// One run until the guest switches itself off, and what it said.
fn boot(machine: &Machine, qemu: &Qemu) -> Boot {
    let ctx = ctx();
    let run = machine.run(Arc::new(qemu.clone()), RunOptions::default(), &ctx);
    let report = block_on(run).unwrap();
    assert_eq!(report.end, RunEnd::PowerOff);
    let mut boots = parse_console(&fs::read(report.console.unwrap()).unwrap());
    let boot = boots.pop().unwrap();
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    assert!(boot.ended && !boot.events.iter().any(|event| failed(&event.outcome)));
    boot
}

/// Every file below `folder` with its length.
fn lengths(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
        match kind.is_dir() {
            true => files.extend(lengths(&path)),
            false => drop(files.insert(path.clone(), path.metadata().unwrap().len())),
        }
    }
    files
}

fn linux() -> Value {
    json!({"os": "linux", "composition": "linux", "session": "16 MiB"})
}

/// The descriptors of a machine's newest heads and session disk, each with its extents' number; all are split.
fn split_heads(machine: &Machine) -> Vec<(PathBuf, usize)> {
    let resolved = machine.resolve(&PRODUCT).unwrap();
    let members = resolved
        .disks
        .iter()
        .map(|disk| disk.chain.members.last().unwrap());
    let members = members.map(|member| (member.path().unwrap().to_owned(), member.extents.len()));
    members.collect()
}

#[test]
fn a_machine_on_split_heads_boots_discards_keeps_and_goes_back() {
    let Some(qemu) = qemu(X86) else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("home")).unwrap();
    let mut volume = store.volume().clone();
    volume.max_file = Some(MOST);
    let store = store.with_volume(volume);
    golden(&store, folder.path(), "golden");
    let desk = machine(&store, folder.path(), &linux(), "os.raw");
    let home = "home".parse().unwrap();

    let first = boot(&desk, &qemu);
    assert_eq!(first.texts(FIRST)[..2], ["golden", ""]);
    assert_eq!(first.texts(SECOND), ["golden", "", ""]);
    // Layers of 8 MiB and a session disk of 16 MiB, 3 MiB an extent.
    let heads = split_heads(&desk);
    let extents: Vec<_> = heads.iter().map(|(_, extents)| *extents).collect();
    assert_eq!(extents, [3, 3, 6]);
    for (descriptor, _) in &heads {
        let text = fs::read(descriptor).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(
            text.contains("createType=\"twoGbMaxExtentSparse\""),
            "{text}"
        );
    }

    // What the first boot wrote: gone from the os and the session disk, kept on the home.
    let kept = ["golden", "home 2", ""];
    let second = boot(&desk, &qemu);
    assert_eq!(second.texts(FIRST)[..2], ["golden", "home 1"]);
    assert_eq!(second.texts(SECOND), kept);

    // Frozen, and read through the new head; then back to the golden image, and forward again.
    let written = desk.snapshot(&home, None).unwrap().revision;
    assert_eq!(boot(&desk, &qemu).texts(SECOND), kept);
    desk.rollback(&home, Some(1), Kept::Discard).unwrap();
    let back = boot(&desk, &qemu);
    assert_eq!(back.texts(FIRST)[..2], ["golden", ""]);
    assert_eq!(back.texts(SECOND), ["golden", "", ""]);
    desk.rollback(&home, written, Kept::Discard).unwrap();
    let forward = boot(&desk, &qemu);
    assert_eq!(forward.texts(FIRST)[..2], ["golden", "home 1"]);
    assert_eq!(forward.texts(SECOND), kept);

    let too_long: Vec<_> = lengths(store.home())
        .into_iter()
        .filter(|(_, len)| *len > MOST)
        .collect();
    assert!(too_long.is_empty(), "{too_long:?}");
    for image in store.images().list().unwrap() {
        let digest = image.unwrap().meta.digest;
        let verified = store.images().verify(&digest, &Ctx::none()).unwrap();
        assert!(verified.is_intact());
    }
}

/// A folder that nobody may write to, all the way down, while this lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(folder: &Path) -> Self {
        set_writable(folder, Writable::No);
        Self(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        set_writable(&self.0, Writable::Yes);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writable {
    Yes,
    No,
}

/// Files of images are read-only anyway; it is the folders that this is about.
fn set_writable(folder: &Path, writable: Writable) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = match writable {
            Writable::Yes => 0o755,
            Writable::No => 0o555,
        };
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = writable;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            set_writable(&entry.path(), writable);
        }
    }
}

#[test]
fn a_machine_boots_from_a_golden_image_in_a_folder_that_is_only_read() {
    let Some(qemu) = qemu(X86) else { return };
    // On another volume where the host has one.
    let memory = Path::new("/dev/shm");
    let elsewhere = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let images = ImageRoot::create(elsewhere.path().join("golden é, images")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("home")).unwrap();
    let file = golden(&store, folder.path(), "golden");
    let (options, ctx) = (AddOptions::default(), Ctx::none());
    let added = add::add(&images, &file, &options, store.volume(), &ctx).unwrap();
    let digest = added.image.meta.digest;
    let read_only = ReadOnly::new(images.folder());
    let before = contents(images.folder());

    let store = store.with_image_root(images.folder());
    let desk = machine(&store, folder.path(), &linux(), &digest.to_string());
    assert!(store.image(&digest).unwrap().is_elsewhere());
    let first = boot(&desk, &qemu);
    assert_eq!(first.texts(SECOND), ["golden", "", ""]);
    let second = boot(&desk, &qemu);
    assert_eq!(second.texts(FIRST)[..2], ["golden", "home 1"]);
    assert_eq!(second.texts(SECOND), ["golden", "home 2", ""]);
    desk.snapshot(&"os".parse().unwrap(), None).unwrap();
    assert_eq!(boot(&desk, &qemu).text(0, SECOND), Some("os 2"));

    assert_eq!(
        before,
        contents(images.folder()),
        "nothing is written there"
    );
    drop(read_only);
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = lengths(folder).into_keys();
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

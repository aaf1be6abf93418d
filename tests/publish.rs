//! A layer becomes an image that other machines take: what is in it is what the guest saw, the machine it comes from
//! stays byte for byte what it was, and nothing stays of what fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/machine.rs"]
mod machine;
#[path = "common/tree.rs"]
mod tree;

use std::path::Path;

use machine::{Content, Harness, name};
use stratavm::chain::{Chain, Family, Member};
use stratavm::image::{AddOptions, Image, Origin, Outcome, Wrap, add};
use stratavm::linux::FileSystem;
use stratavm::machine::{CreateOptions, Kept, Machine, PublishOptions, Published};
use stratavm::spec::Role;
use stratavm::{CancelToken, Ctx, ErrorKind, Result, VmSpec};
use stratavm_disk::{Access, Closed, Durability, Format, Volume};

const MIB: u64 = 1 << 20;

fn publish(machine: &Machine, layer: &str, revision: Option<u64>) -> Result<Published> {
    let options = PublishOptions::default().revision(revision);
    machine.publish(&name(layer), &options, &Ctx::none())
}

/// The bytes of an image.
fn bytes(image: &Image) -> Vec<u8> {
    let extents = image.extents().into_iter();
    extents
        .flat_map(|(path, _)| std::fs::read(path).unwrap())
        .collect()
}

/// What each MiB of 8 holds, if it holds one byte.
fn mibs(bytes: &[u8]) -> Vec<u8> {
    assert_eq!(bytes.len() as u64, 8 * MIB);
    let one = |part: &[u8]| {
        assert!(part.iter().all(|byte| *byte == part[0]), "it is mixed");
        part[0]
    };
    bytes.chunks(MIB as usize).map(one).collect()
}

/// A machine whose os was written to and frozen twice, so that its revisions 2 and 3 have deltas.
fn edited(harness: &Harness) -> Machine {
    let machine = harness.machine();
    harness.run(&[("os", 1, 0x11), ("os", 7, 0x77), ("apps", 0, 9)]);
    machine.snapshot(&name("os"), None).unwrap();
    // What was data becomes zeros, and what was zeros data.
    harness.run(&[
        ("os", 2, 0),
        ("os", 1, 0x22),
        ("os", 6, 0x66),
        ("home", 0, 7),
    ]);
    machine.snapshot(&name("os"), None).unwrap();
    machine
}

fn check_published(harness: &Harness) {
    let machine = edited(harness);
    let before = tree::snapshot_but_locks(harness.store().home());
    let golden = machine.record().unwrap().layers[0].current().unwrap().image;
    let options = PublishOptions::default().label(Some("May".to_owned()));
    let done = machine
        .publish(&name("os"), &options, &Ctx::none())
        .unwrap();
    assert_eq!(
        (done.outcome, done.revision, done.parent),
        (Outcome::New, 3, golden)
    );
    assert_eq!(mibs(&bytes(&done.image)), [5, 0x22, 0, 5, 5, 5, 0x66, 0x77]);
    let told = &done.image.meta.provenance;
    assert_eq!(
        (told.origin, told.parent),
        (Origin::Published, Some(golden))
    );
    assert_eq!(told.machine, Some(name("desk")));
    assert_eq!(told.label.as_deref(), Some("May"));

    let older = publish(&machine, "os", Some(2)).unwrap();
    assert_eq!(mibs(&bytes(&older.image)), [5, 0x11, 5, 5, 5, 5, 0, 0x77]);
    // The image itself is what its first revision shows: there is nothing to make.
    let first = publish(&machine, "os", Some(1)).unwrap();
    assert_eq!(
        (first.outcome, first.image.meta.digest),
        (Outcome::Existing, golden)
    );
    let again = publish(&machine, "os", None).unwrap();
    assert_eq!(
        (again.outcome, &again.image),
        (Outcome::Existing, &done.image)
    );

    let mut after = tree::snapshot_but_locks(harness.store().home());
    let new = [&done.image.folder, &older.image.folder];
    after.retain(|path, _| !new.iter().any(|folder| path.starts_with(folder)));
    assert!(before == after, "something else changed");
    harness.check_images();
}

#[test]
fn an_image_holds_what_a_revision_shows_and_the_machine_stays_as_it_was() {
    check_published(&Harness::new());
}

/// A guest's write to a delta in the `hds` family: MiB `mib` of a disk that is cut into extents of `extent` MiB.
fn write_hds(chain: &Chain, extent: u64, mib: u64, byte: u8) {
    let part = (mib / extent) as usize;
    let level = |member: &Member| member.files[part].path.clone();
    let paths: Vec<_> = chain.levels().map(level).collect();
    let format = |n| if n == 0 { Format::Raw } else { Format::Hds };
    let images = paths.iter().enumerate();
    let images: Vec<_> = images
        .map(|(n, path)| (path.as_path(), format(n)))
        .collect();
    let disk = stratavm_disk::Chain::open_all(&images, Access::Write, &Closed).unwrap();
    disk.write_at(&[byte; MIB as usize], mib % extent * MIB)
        .unwrap();
    disk.close(Durability::Unsynced).unwrap();
}

#[test]
fn deltas_of_the_other_family_are_flattened_extent_by_extent() {
    let harness = Harness::with_extents(3);
    let options = CreateOptions::default().family(Family::Hds);
    let machine = on_golden(&harness, "lamp", &harness.machine(), &options);
    for (mib, byte) in [(1, 0x11), (4, 0x44), (7, 0x77), (1, 0x22)] {
        harness.run_in(Family::Hds, &machine, move |disk| {
            write_hds(disk, 3, mib, byte)
        });
        machine.snapshot(&name("os"), None).unwrap();
    }
    let done = publish(&machine, "os", None).unwrap();
    assert_eq!(mibs(&bytes(&done.image)), [5, 0x22, 5, 5, 0x44, 5, 0, 0x77]);
    let older = publish(&machine, "os", Some(3)).unwrap();
    assert_eq!(mibs(&bytes(&older.image)), [5, 0x11, 5, 5, 0x44, 5, 0, 0]);
    harness.check_images();
}

#[test]
fn images_of_several_extents_and_split_deltas_are_flattened_too() {
    check_published(&Harness::with_extents(3));
    let mut small = Volume::default();
    small.max_file = Some(4 << 20);
    check_published(&Harness::made_on(small));
}

/// An ext4 as far as its superblock tells, of 4 MiB; `incompat` are its features.
fn ext4(incompat: u32) -> Vec<u8> {
    let mut bytes = vec![0xe4; 4 << 20];
    bytes[1024..2048].fill(0);
    for (at, value) in [
        (0x04, 1024_u32),
        (0x18, 2),
        (0x38, 0x1_ef53),
        (0x60, incompat),
    ] {
        bytes[1024 + at..][..4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The image of a disk around this file system.
fn wrapped(harness: &Harness, bytes: &[u8]) -> Image {
    let file = harness.folder().join("fs");
    std::fs::write(&file, bytes).unwrap();
    let mut options = AddOptions::default();
    options.wrap = Some(Wrap {
        fs: FileSystem::Ext4,
        role: Role::Os,
        name: name("os"),
    });
    let store = harness.store();
    let added = add::add(
        store.images(),
        &file,
        &options,
        store.volume(),
        &Ctx::none(),
    );
    added.unwrap().image
}

/// A machine whose os starts from this image.
fn on_image(harness: &Harness, called: &str, image: &Image) -> Machine {
    create(harness, called, image, &CreateOptions::default())
}

fn create(harness: &Harness, called: &str, image: &Image, options: &CreateOptions) -> Machine {
    let spec: VmSpec = serde_json::from_value(serde_json::json!({
        "stratavm": 1, "name": called,
        "guest": {"os": "other", "composition": "disks"},
        "layer": [{"name": "os", "role": "os", "image": image.meta.digest.to_string()}],
    }))
    .unwrap();
    let made = harness
        .store()
        .create(&spec, Path::new(""), options, &Ctx::none());
    made.unwrap()
}

/// A machine of the family that `options` say, on the os of another one.
fn on_golden(harness: &Harness, called: &str, of: &Machine, options: &CreateOptions) -> Machine {
    let digest = of.record().unwrap().layers[0].current().unwrap().image;
    let image = harness.store().image(&digest).unwrap();
    create(harness, called, &image, options)
}

#[test]
fn partitions_are_named_by_what_they_hold_now() {
    let harness = Harness::new();
    let golden = wrapped(&harness, &ext4(0));
    let machine = on_image(&harness, "lamp", &golden);
    harness.run_of(&machine, &[("os", 3, 0x33)]);
    machine.snapshot(&name("os"), None).unwrap();
    let done = publish(&machine, "os", None).unwrap();
    let [partition] = done.image.meta.partitions.as_slice() else {
        panic!("{:?}", done.image.meta)
    };
    assert_ne!(partition.name, golden.meta.partitions[0].name);
    assert_eq!(partition.name.id, partition.digest.content_id());
    assert_eq!(done.image.meta.provenance.name, Some(name("os")));
    // The same file system, wrapped from outside, is the same disk: both tables and all checksums.
    let disk = bytes(&done.image);
    let fs = &disk[partition.offset as usize..][..partition.length as usize];
    assert!(fs[2 << 20..3 << 20].iter().all(|byte| *byte == 0x33));
    assert_eq!(wrapped(&harness, fs), done.image);

    // A second machine takes it, and goes back.
    let other = on_image(&harness, "lamp-2", &golden);
    let (layer, digest) = (name("os"), done.image.meta.digest);
    other.update(&layer, &digest, Kept::Preserve).unwrap();
    assert_eq!(harness.read_of(&other, "os", 3), Content::Byte(0x33));
    other.rollback(&layer, None, Kept::Preserve).unwrap();
    assert_eq!(harness.read_of(&other, "os", 3), Content::Byte(0xe4));
    harness.check_images();
}

#[test]
fn a_file_system_that_is_still_mounted_is_refused() {
    let harness = Harness::new();
    // EXT4_FEATURE_INCOMPAT_RECOVER: the journal is to be replayed.
    let machine = on_image(&harness, "lamp", &wrapped(&harness, &ext4(4)));
    harness.run_of(&machine, &[("os", 3, 0x33)]);
    machine.snapshot(&name("os"), None).unwrap();
    let before = tree::snapshot_but_locks(harness.store().home());
    let error = publish(&machine, "os", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.next_step().unwrap().contains("golden edit"));
    assert!(before == tree::snapshot_but_locks(harness.store().home()));
}

#[test]
fn what_is_in_no_revision_is_not_published_unasked() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 1)]);
    let error = publish(&machine, "home", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let next = error.next_step().unwrap();
    assert!(
        next.contains("snapshot desk home") && next.contains("--rev 1"),
        "{next}"
    );
    machine.snapshot(&name("home"), None).unwrap();
    let done = publish(&machine, "home", None).unwrap();
    assert_eq!(mibs(&bytes(&done.image)), [0, 1, 0, 0, 0, 0, 0, 0]);
    for (layer, revision) in [("home", Some(9)), ("attic", None)] {
        let error = publish(&machine, layer, revision).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn cancelled_or_over_a_damaged_delta_it_leaves_nothing() {
    let harness = Harness::new();
    let machine = edited(&harness);
    let before = tree::snapshot_but_locks(harness.store().home());
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = Ctx::none().with_cancel(cancel);
    let tried = machine.publish(&name("os"), &PublishOptions::default(), &cancelled);
    assert_eq!(tried.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(before == tree::snapshot_but_locks(harness.store().home()));

    // Another delta in the place of the lower one, so that the upper one does not lie on it.
    let [lower, upper] = harness.frozen("os").try_into().unwrap();
    stratavm_disk::fs::set_access(&lower, stratavm_disk::fs::Access::Private).unwrap();
    std::fs::copy(&upper, &lower).unwrap();
    let error = publish(&machine, "os", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    assert_eq!(harness.store().images().list().unwrap().len(), 3);
}

#[cfg(unix)]
#[test]
fn holes_stay_holes_and_zeros_become_some() {
    use std::os::unix::fs::MetadataExt as _;
    let harness = Harness::new();
    let machine = edited(&harness);
    let done = publish(&machine, "os", None).unwrap();
    let [(path, _)] = done.image.extents().try_into().unwrap();
    let taken = std::fs::metadata(path).unwrap().blocks() * 512;
    // Of 8 MiB one was zeroed; none was written but what was there.
    assert!(taken <= 7 * MIB, "{taken}");
}

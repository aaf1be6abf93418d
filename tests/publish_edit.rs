//! A golden is edited by hand: one layer that discards keeps what its guest writes, through reboots, crashes and kills,
//! until the guest switches itself off; every other layer stays byte for byte what it was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/machine.rs"]
mod machine;
#[path = "common/report.rs"]
mod report;
#[path = "common/tree.rs"]
mod tree;

use std::path::Path;
use std::sync::{Arc, Mutex};

use machine::{Content, Ends, Harness, Write, name};
use stratavm::image::{AddOptions, Image, Wrap, add};
use stratavm::linux::FileSystem;
use stratavm::machine::revision::Reason;
use stratavm::machine::{EditEnd, Kept, Machine, PublishOptions, RunOptions, RunReport};
use stratavm::spec::Role;
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm::{Ctx, ErrorKind, Result, VmSpec};

fn edit(layer: &str) -> RunOptions {
    RunOptions::default().edit(name(layer))
}

/// Edits the os of the harness's machine: each boot does `writes` and ends as the next of `ends` says. Answers what it
/// was, and the generation of the os's head in each boot.
fn edit_os(harness: &Harness, writes: &[Write], ends: &[Ends]) -> (RunReport, Vec<u64>) {
    let (seen, machine) = (Arc::<Mutex<Vec<u64>>>::default(), harness.machine());
    let heads = Arc::clone(&seen);
    let during = move || {
        let record = machine.record().unwrap();
        heads.lock().unwrap().push(record.layers[0].head.generation);
    };
    let report = harness
        .run_during(edit("os"), writes, ends, during)
        .unwrap();
    let seen = seen.lock().unwrap().clone();
    (report, seen)
}

fn reasons(machine: &Machine, layer: usize) -> Vec<Reason> {
    let record = machine.record().unwrap();
    let revisions = record.layers[layer].history.revisions.iter();
    revisions.map(|revision| revision.reason).collect()
}

#[test]
fn what_is_written_stays_through_reboots_and_becomes_a_revision() {
    let harness = Harness::new();
    let machine = harness.machine();
    let writes = [("os", 1, 0x11), ("apps", 1, 0x22), ("home", 1, 0x33)];
    let (report, heads) = edit_os(&harness, &writes, &[Ends::Reboot, Ends::PowerOff]);
    assert_eq!(report.edit, Some(EditEnd::Frozen(2)));
    assert_eq!((report.boots, heads[0]), (2, heads[1]), "the head stayed");
    assert_eq!(reasons(&machine, 0), [Reason::Create, Reason::Edit]);
    assert_eq!(machine.record().unwrap().run, None);
    harness.check_images();

    // The others are what any run leaves.
    assert_eq!(reasons(&machine, 1), [Reason::Create]);
    harness.run(&[]);
    assert_eq!(harness.read("os", 1), Content::Byte(0x11));
    assert_eq!(harness.read("apps", 1), Content::Byte(0x06));
    assert_eq!(harness.read("home", 1), Content::Byte(0x33));

    // It can be taken back, as any operation; what is published is what was written.
    let done = machine.publish(&name("os"), &PublishOptions::default(), &Ctx::none());
    assert_eq!(done.unwrap().revision, 2);
    machine.undo().unwrap();
    assert_eq!(harness.read("os", 1), Content::Byte(0x05));
    machine
        .rollback(&name("os"), Some(2), Kept::Preserve)
        .unwrap();
    assert_eq!(harness.read("os", 1), Content::Byte(0x11));
}

#[test]
fn an_edit_that_is_cut_short_goes_on() {
    let harness = Harness::new();
    let machine = harness.machine();
    let (report, first) = edit_os(&harness, &[("os", 1, 0x11)], &[Ends::Crash]);
    let Some(EditEnd::Unfinished(why)) = report.edit else {
        panic!("{report:?}")
    };
    assert!(why.contains("switch itself off"), "{why}");
    assert!(machine.record().unwrap().layers[0].holds_edit());
    let error = machine.publish(&name("os"), &PublishOptions::default(), &Ctx::none());
    let error = error.unwrap_err();
    assert!(
        error.next_step().unwrap().contains("golden edit desk os"),
        "{error:?}"
    );
    let busy = harness
        .run_during(edit("apps"), &[], &[], || {})
        .unwrap_err();
    assert!(
        busy.next_step().unwrap().contains("golden edit desk os"),
        "{busy:?}"
    );

    let (report, second) = edit_os(&harness, &[("os", 2, 0x22)], &[Ends::PowerOff]);
    assert_eq!((report.edit, first), (Some(EditEnd::Frozen(2)), second));
    assert_eq!(harness.read("os", 1), Content::Byte(0x11));
    assert_eq!(harness.read("os", 2), Content::Byte(0x22));
}

#[test]
fn a_start_sets_an_edit_aside_that_was_cut_short() {
    let harness = Harness::new();
    let machine = harness.machine();
    edit_os(&harness, &[("os", 1, 0x11)], &[Ends::Crash]);
    harness.run(&[]);
    assert_eq!(reasons(&machine, 0), [Reason::Create, Reason::Edit]);
    assert_eq!(
        harness.read("os", 1),
        Content::Byte(0x05),
        "the guest sees the golden"
    );
    machine
        .rollback(&name("os"), Some(2), Kept::Preserve)
        .unwrap();
    assert_eq!(
        harness.read("os", 1),
        Content::Byte(0x11),
        "nothing is lost"
    );
    // So do operations on the layer.
    edit_os(&harness, &[("os", 2, 0x22)], &[Ends::Crash]);
    let moved = machine
        .rollback(&name("os"), Some(1), Kept::Preserve)
        .unwrap();
    assert_eq!(moved.preserved, Some(3));
    assert!(!machine.record().unwrap().layers[0].holds_edit());
}

/// Edits the os; from when its guest is about to switch itself off, `fault` holds. Answers how many changes of files the end
/// of the edit takes.
fn end_under(harness: &Harness, fault: Fault) -> usize {
    let (faults, machine) = (Arc::<Mutex<Option<Faults>>>::default(), harness.machine());
    let (begun, home) = (Arc::clone(&faults), harness.store().home().to_owned());
    let during = move || {
        *begun.lock().unwrap() = Some(Faults::below(&home, fault).unwrap());
    };
    let ran = harness.run_during(edit("os"), &[("os", 1, 0x11)], &[Ends::PowerOff], during);
    let faults = faults.lock().unwrap().take().unwrap();
    let points = faults.points().len();
    match fault {
        Fault::PowerCut { .. } => faults.crash(Lost::Unflushed).unwrap(),
        _ => drop(faults),
    }
    if let Ok(report) = ran
        && matches!(report.edit, Some(EditEnd::Frozen(_)))
    {
        assert_eq!(reasons(&machine, 0), [Reason::Create, Reason::Edit]);
    }
    points
}

#[test]
fn at_no_change_of_files_does_its_end_lose_an_edit() {
    let points = end_under(&Harness::new(), Fault::None);
    assert!(points > 3, "{points}");
    for at in 0..=points {
        let failure = Failure::NoSpace;
        let faults = [
            Fault::Error {
                at,
                failure,
                then: Then::Recovers,
            },
            Fault::Error {
                at,
                failure: Failure::Io,
                then: Then::StaysBroken,
            },
            Fault::PowerCut { at },
        ];
        // A third of them in the usual run, so that each kind meets each part of the end.
        let chosen = faults.iter().enumerate();
        for (_, fault) in chosen.filter(|(n, _)| report::slow() || n % 3 == at % 3) {
            let harness = Harness::new();
            end_under(&harness, *fault);
            let harness = harness.reopened();
            let machine = harness.machine();
            if !reasons(&machine, 0).contains(&Reason::Edit) {
                assert!(
                    machine.record().unwrap().layers[0].holds_edit(),
                    "{fault:?}"
                );
                let (report, _) = edit_os(&harness, &[], &[Ends::PowerOff]);
                assert_eq!(report.edit, Some(EditEnd::Frozen(2)), "{fault:?}");
            }
            // The new head on it is one that discards, and is not flushed: a start makes it anew.
            harness.run(&[]);
            assert_eq!(harness.read("os", 1), Content::Byte(0x11), "{fault:?}");
            harness.check_images();
        }
    }
    report::counted("edits", "points of their ends", points as u64, None);
}

#[test]
fn what_is_decided_or_staged_meanwhile_is_done_after_it() {
    let harness = Harness::new();
    let (machine, other) = (harness.machine(), harness.image("os-2", 0x55));
    let during = {
        let machine = machine.clone();
        move || {
            if machine.record().unwrap().next.is_empty() {
                machine.update(&name("os"), &other, Kept::Preserve).unwrap();
                let kept = machine.decide(&[name("os")], &[]).unwrap_err();
                assert!(kept.to_string().contains("keeps"), "{kept}");
                machine.decide(&[], &[name("os")]).unwrap();
            }
        }
    };
    let ends = [Ends::Reboot, Ends::PowerOff];
    let report = harness
        .run_during(edit("os"), &[("os", 1, 0x11)], &ends, during)
        .unwrap();
    assert_eq!(report.edit, Some(EditEnd::Dropped));
    assert_eq!(reasons(&machine, 0), [Reason::Create]);
    harness.run(&[]);
    assert_eq!(reasons(&machine, 0), [Reason::Create, Reason::Update]);
    assert_eq!(harness.read("os", 1), Content::Byte(0x55));
}

/// The image of a disk around a file system that is one as far as its superblock tells.
fn golden(harness: &Harness, fs: FileSystem, role: Role) -> Image {
    let fill = if role == Role::Os { 0xe4 } else { 0xa5 };
    let mut bytes = vec![fill; 4 << 20];
    bytes[..2048].fill(0);
    let (fields, base): (&[(usize, u32)], usize) = match fs {
        FileSystem::Ext4 => (&[(0x04, 1024), (0x18, 2), (0x38, 0x1_ef53)], 1024),
        _ => (&[(0, 0x7371_7368), (28, 4), (40, 4 << 20)], 0),
    };
    for (at, value) in fields {
        bytes[base + at..][..4].copy_from_slice(&value.to_le_bytes());
    }
    let file = harness.folder().join("fs");
    std::fs::write(&file, bytes).unwrap();
    let mut options = AddOptions::default();
    options.wrap = Some(Wrap {
        fs,
        role,
        name: name("content"),
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

/// A machine `lamp` of layers that come together in a Linux guest.
fn linux(harness: &Harness, os: FileSystem) -> Machine {
    let image = |fs, role| golden(harness, fs, role).meta.digest.to_string();
    let spec: VmSpec = serde_json::from_value(serde_json::json!({
        "stratavm": 1, "name": "lamp",
        "guest": {"os": "linux", "composition": "linux", "session": "32 MiB"},
        "layer": [
            {"name": "os", "role": "os", "image": image(os, Role::Os)},
            {"name": "apps", "role": "apps", "image": image(FileSystem::Squashfs, Role::Apps)},
            {"name": "home", "role": "user-data", "size": "8 MiB"},
        ],
    }))
    .unwrap();
    let made = harness
        .store()
        .create(&spec, Path::new(""), &Default::default(), &Ctx::none());
    made.unwrap()
}

fn edit_linux(harness: &Harness, machine: &Machine, writes: &[Write]) -> Result<RunReport> {
    let ends = [Ends::Reboot, Ends::PowerOff];
    harness.run_of_during(machine, edit("os"), writes, &ends, || {})
}

#[test]
fn under_linux_the_os_stands_alone() {
    let harness = Harness::new();
    let machine = linux(&harness, FileSystem::Ext4);
    harness.run_of(&machine, &[("home", 1, 1)]);
    let layers = machine.folder().join("layers");
    let others = |layer: &Path| !layer.starts_with(layers.join("os"));
    let before: Vec<_> = tree::snapshot(&layers)
        .into_iter()
        .filter(|(p, _)| others(p))
        .collect();
    let manifest = Arc::<Mutex<Vec<String>>>::default();
    let (seen, of) = (Arc::clone(&manifest), machine.clone());
    let during = move || {
        let resolved = of.resolve(&stratavm::Product::new("stand-in")).unwrap();
        let disks = resolved.disks.iter().map(|disk| disk.name.to_string());
        assert_eq!(disks.collect::<Vec<_>>(), ["os", "session"]);
        let session = resolved.disks[1]
            .chain
            .head()
            .unwrap()
            .path()
            .unwrap()
            .to_owned();
        let bytes = std::fs::read(session).unwrap();
        let at = bytes
            .windows(9)
            .position(|text| text == b"strata 1\n")
            .unwrap();
        let text = String::from_utf8_lossy(&bytes[at..at + 200]).into_owned();
        seen.lock()
            .unwrap()
            .push(text.split('\0').next().unwrap().to_owned());
        let run = of.record().unwrap().run.unwrap();
        assert_eq!(run.heads.len(), 1);
    };
    let ends = [Ends::Reboot, Ends::PowerOff];
    let writes = [("os", 3, 0x33)];
    let report = harness
        .run_of_during(&machine, edit("os"), &writes, &ends, during)
        .unwrap();
    assert_eq!(report.edit, Some(EditEnd::Frozen(2)));
    let image = harness
        .store()
        .image(&machine.record().unwrap().layers[0].current().unwrap().image);
    let id = image.unwrap().meta.partitions[0].name.id;
    let expected = format!("strata 1\nos {id} ext4 os edit\nend\n");
    assert_eq!(*manifest.lock().unwrap(), [expected.clone(), expected]);
    let session = layers.join("session");
    let mut after: Vec<_> = tree::snapshot(&layers)
        .into_iter()
        .filter(|(p, _)| others(p))
        .collect();
    after.retain(|(path, _)| !path.starts_with(&session));
    let mut kept = before;
    kept.retain(|(path, _)| !path.starts_with(&session));
    assert!(kept == after, "another layer was changed");

    let done = machine
        .publish(&name("os"), &PublishOptions::default(), &Ctx::none())
        .unwrap();
    assert_ne!(done.image.meta.partitions[0].name.id, id);
    harness.check_images();
}

#[test]
fn a_file_system_that_was_not_unmounted_is_no_end_of_an_edit() {
    let harness = Harness::new();
    let machine = linux(&harness, FileSystem::Ext4);
    // s_state and s_feature_incompat in a sector of bytes that say that nothing was unmounted.
    let report = edit_linux(&harness, &machine, &[("os", 1, 0x0f)]).unwrap();
    let Some(EditEnd::Unfinished(why)) = report.edit else {
        panic!("{report:?}")
    };
    assert!(why.contains("file system"), "{why}");
    assert!(machine.record().unwrap().layers[0].holds_edit());
    assert_eq!(machine.record().unwrap().run, None);
}

#[test]
fn what_cannot_be_edited_is_refused_by_name_and_stays_as_it_was() {
    let harness = Harness::new();
    let squashed = linux(&harness, FileSystem::Squashfs);
    let refused = |machine: &Machine, layer: &str| {
        let before = machine.record().unwrap();
        let error = harness
            .run_of_during(machine, edit(layer), &[], &[], || {})
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(machine.record().unwrap(), before);
        (error.to_string(), error.next_step().unwrap().to_owned())
    };
    // What keeping a session is refused for leads to what can be done.
    harness.run_of(&squashed, &[]);
    for (layer, says) in [("os", "golden edit lamp os"), ("apps", "build a new image")] {
        let kept = squashed.decide(&[name(layer)], &[]).unwrap_err();
        assert!(kept.next_step().unwrap().contains(says), "{kept:?}");
    }
    let (what, next) = refused(&squashed, "os");
    assert!(
        what.contains("squashfs") && next.contains("build a new image"),
        "{what}: {next}"
    );
    let (what, next) = refused(&squashed, "apps");
    assert!(
        what.contains("apps") && next.contains("build a new image"),
        "{what}: {next}"
    );
    let (what, next) = refused(&harness.machine(), "home");
    assert!(
        what.contains("keeps") && next.contains("publish desk home"),
        "{what}: {next}"
    );
    let missing = harness
        .run_during(edit("attic"), &[], &[], || {})
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

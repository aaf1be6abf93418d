//! Going back and forth with what a guest wrote: undo, staged changes, points, sessions, removed
//! layers, ids that stay. Heads hold patterns, and every content is read through the whole chain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/machine.rs"]
mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use harness::{Content, Ends, Harness, name};
use stratavm::ErrorKind;
use stratavm::machine::revision::Reason;
use stratavm::machine::{Kept, Operation, RunOptions, When};
use stratavm::spec::LayerSpec;

/// The first MiBs of a layer.
fn content(harness: &Harness, layer: &str) -> Vec<Content> {
    (0..4).map(|mib| harness.read(layer, mib)).collect()
}

/// The reasons of a layer's revisions.
fn reasons(harness: &Harness, layer: &str) -> Vec<Reason> {
    let record = harness.machine().record().unwrap();
    let history = &record.layer(&name(layer)).unwrap().history;
    history.revisions.iter().map(|r| r.reason).collect()
}

/// The files of all layers but these, with their bytes.
fn others(harness: &Harness, layers: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = harness.machine().folder().join("layers");
    let mut files = BTreeMap::new();
    for layer in std::fs::read_dir(folder).unwrap() {
        let layer = layer.unwrap();
        if !layers.contains(&layer.file_name().to_str().unwrap()) {
            for file in std::fs::read_dir(layer.path()).unwrap() {
                let path = file.unwrap().path();
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Does something while the machine runs, after its guest wrote, and answers what it said. Boots end
/// as `ends` says.
fn while_running<T: Send + 'static>(
    harness: &Harness,
    writes: &[harness::Write],
    ends: &[Ends],
    what: impl Fn(&stratavm::machine::Machine) -> T + Send + Sync + 'static,
) -> T {
    let (machine, said) = (harness.machine(), Arc::new(Mutex::new(None)));
    let told = Arc::clone(&said);
    let options = RunOptions::default();
    harness
        .run_during(options, writes, ends, move || {
            let mut told = told.lock().unwrap();
            if told.is_none() {
                *told = Some(what(&machine));
            }
        })
        .unwrap();
    said.lock().unwrap().take().unwrap()
}

#[test]
fn undo_shows_the_guest_what_it_saw_and_loses_nothing_it_wrote_since() {
    let harness = Harness::new();
    let machine = harness.machine();
    let home = name("home");
    harness.run(&[("home", 0, 0x11)]);
    machine.snapshot(&home, None).unwrap();
    harness.run(&[("home", 1, 0x22)]);
    let seen = content(&harness, "home");
    let rest = others(&harness, &["home"]);
    machine.rollback(&home, Some(1), Kept::Preserve).unwrap();
    assert_eq!(content(&harness, "home")[0], Content::Byte(0));
    // The guest goes on writing before anybody thinks of undo.
    assert_eq!(rest, others(&harness, &["home"]));
    harness.run(&[("home", 2, 0x33)]);
    let late = content(&harness, "home");
    let rest = others(&harness, &["home"]);
    let done = machine.undo().unwrap();
    assert_eq!(content(&harness, "home"), seen);
    assert!(done.preserved.is_some());
    assert_eq!(reasons(&harness, "home").last(), Some(&Reason::BeforeUndo));
    // Back and forth, each time with what was written in between.
    machine.undo().unwrap();
    assert_eq!(content(&harness, "home"), late);
    machine.undo().unwrap();
    assert_eq!(content(&harness, "home"), seen);
    assert_eq!(rest, others(&harness, &["home"]));
    harness.check_images();
}

#[test]
fn undo_of_an_update_brings_the_image_and_the_spec_back() {
    let harness = Harness::new();
    let machine = harness.machine();
    let v2 = harness.image("home-v2", 0x62);
    harness.run(&[("home", 0, 0x11)]);
    machine.snapshot(&name("home"), None).unwrap();
    let before = machine.record().unwrap().full_spec();
    let seen = content(&harness, "home");
    harness.run(&[("home", 1, 0x12)]);
    machine.update(&name("home"), &v2, Kept::Discard).unwrap();
    assert_eq!(content(&harness, "home")[0], Content::Byte(0x62));
    let done = machine.undo().unwrap();
    assert_eq!(machine.record().unwrap().full_spec(), before);
    assert_eq!(content(&harness, "home"), seen, "as of the last revision");
    assert!(
        done.notes
            .iter()
            .any(|note| note.contains("does not come back")),
        "{done:?}"
    );
    machine.undo().unwrap();
    assert_eq!(content(&harness, "home")[0], Content::Byte(0x62));
}

#[test]
fn removed_layers_come_back_with_everything() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 1, 0x44)]);
    let seen = content(&harness, "home");
    let port = |of: &str| {
        let record = machine.record().unwrap();
        let mut ports = record.hardware.ports.iter();
        ports.find(|p| p.disk.as_str() == of).map(|p| p.port)
    };
    let had = port("home");
    machine.remove_layer(&name("home"), Kept::Preserve).unwrap();
    machine.undo().unwrap();
    assert_eq!((content(&harness, "home"), port("home")), (seen, had));
    // Written, removed, and another layer on its port: the lowest free one then.
    harness.run(&[("home", 2, 0x45)]);
    let seen = content(&harness, "home");
    machine.remove_layer(&name("home"), Kept::Preserve).unwrap();
    let image = harness.image("tool", 0x55);
    let tool: LayerSpec = serde_json::from_value(serde_json::json!({
        "name": "tool", "role": "apps", "image": image.to_string()
    }))
    .unwrap();
    machine.add_layer(&tool, &image).unwrap();
    assert_eq!(port("tool"), had);
    machine.take_back_layer(&name("home")).unwrap();
    assert_eq!(content(&harness, "home"), seen);
    assert_ne!(port("home"), had);
    machine.undo().unwrap();
    assert!(machine.record().unwrap().layer(&name("home")).is_err());
    machine.undo().unwrap();
    assert_eq!(content(&harness, "home"), seen);
    // A layer that held nothing is not kept longer than undo needs it.
    machine.remove_layer(&name("tool"), Kept::Preserve).unwrap();
    machine.undo().unwrap();
    assert_eq!(harness.read("tool", 1), Content::Byte(0x55));
}

#[test]
fn what_a_removal_was_told_to_drop_is_gone_and_said_to_be() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 0, 0x11)]);
    machine.snapshot(&name("home"), None).unwrap();
    harness.run(&[("home", 1, 0x12)]);
    machine.remove_layer(&name("home"), Kept::Discard).unwrap();
    let done = machine.undo().unwrap();
    assert!(
        done.notes
            .iter()
            .any(|note| note.contains("does not come back"))
    );
    assert_eq!(content(&harness, "home"), [0, 0, 0, 0].map(Content::Byte));
    assert_eq!(reasons(&harness, "home"), [Reason::Create]);
}

#[test]
fn rejuvenate_is_taken_back_as_far_as_it_can_be() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("os", 0, 0x66)]);
    machine.snapshot(&name("os"), None).unwrap();
    machine.rejuvenate().unwrap();
    assert_eq!(harness.read("os", 0), Content::Byte(0x05));
    machine.undo().unwrap();
    assert_eq!(harness.read("os", 0), Content::Byte(0x66));
    machine.undo().unwrap();
    assert_eq!(harness.read("os", 0), Content::Byte(0x05));
}

#[test]
fn changes_of_a_running_machine_are_made_by_its_next_boot_in_order() {
    let harness = Harness::new();
    let (v2, v3) = (
        harness.image("apps-v2", 0x62),
        harness.image("apps-v3", 0x63),
    );
    let leases = harness.leases();
    let said = while_running(
        &harness,
        &[("home", 1, 0x21)],
        &[Ends::Reboot, Ends::PowerOff],
        move |m| {
            let first = m.update(&name("apps"), &v2, Kept::Preserve).unwrap();
            let back = m.rollback(&name("home"), Some(1), Kept::Preserve).unwrap();
            let last = m.update(&name("apps"), &v3, Kept::Preserve).unwrap();
            assert_eq!([first.when, back.when, last.when], [When::NextStart; 3]);
            assert_eq!(
                m.undo().unwrap().layers,
                [name("apps")],
                "the last staged one"
            );
            // Nothing that cannot be done is staged.
            let wrong = [
                m.rollback(&name("home"), Some(9), Kept::Preserve)
                    .unwrap_err()
                    .kind(),
                m.remove_layer(&name("os"), Kept::Preserve)
                    .unwrap_err()
                    .kind(),
                m.snapshot(&name("home"), None).unwrap_err().kind(),
            ];
            (m.record().unwrap(), wrong)
        },
    );
    let (during, wrong) = said;
    assert_eq!(
        wrong,
        [ErrorKind::NotFound, ErrorKind::Invalid, ErrorKind::Busy]
    );
    assert_eq!(during.next.len(), 2);
    assert_eq!(during.layer(&name("apps")).unwrap().history.current, 1);
    assert_eq!(harness.leases(), leases + 1, "v2 is used, v3 is not");
    // The second boot was on the new image, and on an empty home that it wrote to again.
    let record = harness.machine().record().unwrap();
    assert!(record.next.is_empty());
    assert_eq!(harness.read("apps", 1), Content::Byte(0x62));
    let home = &record.layer(&name("home")).unwrap().history;
    assert_eq!((home.current, home.revisions.len()), (1, 2));
    assert_eq!(
        reasons(&harness, "home"),
        [Reason::Create, Reason::BeforeRollback]
    );
    // It is the last operation: what the guest wrote before the reboot comes back.
    harness.machine().undo().unwrap();
    assert_eq!(harness.read("home", 1), Content::Byte(0x21));
}

#[test]
fn what_is_staged_waits_while_the_machine_is_off_and_goes_first() {
    let harness = Harness::new();
    let machine = harness.machine();
    while_running(&harness, &[("home", 1, 0x21)], &[Ends::PowerOff], |m| {
        m.rollback(&name("home"), Some(1), Kept::Preserve).unwrap();
    });
    assert_eq!(machine.record().unwrap().next.len(), 1);
    assert_eq!(harness.read("home", 1), Content::Byte(0x21), "not yet");
    let done = machine.snapshot(&name("os"), None).unwrap();
    assert!(
        done.notes.iter().any(|note| note.contains("done first")),
        "{done:?}"
    );
    assert_eq!(harness.read("home", 1), Content::Byte(0));
    assert!(machine.record().unwrap().next.is_empty());
}

#[test]
fn a_staged_change_that_cannot_be_made_is_named_and_can_be_dropped() {
    let harness = Harness::new();
    let machine = harness.machine();
    let v2 = harness.image("apps-v2", 0x62);
    while_running(&harness, &[], &[Ends::PowerOff], move |m| {
        m.update(&name("apps"), &v2, Kept::Preserve).unwrap();
    });
    let image = harness.store().image(&v2).unwrap().folder;
    let away = image.with_file_name("away");
    std::fs::rename(&image, &away).unwrap();
    let before = others(&harness, &[]);
    let options = RunOptions::default();
    let refused = harness.run_during(options, &[], &[], || {}).unwrap_err();
    assert!(refused.to_string().contains("update of apps"), "{refused}");
    assert!(refused.next_step().unwrap().contains("stratavm undo desk"));
    assert_eq!(before, others(&harness, &[]));
    machine.undo().unwrap();
    harness.run(&[]);
    std::fs::rename(&away, &image).unwrap();
}

#[test]
fn a_point_holds_several_layers_and_brings_them_back_at_once() {
    let harness = Harness::new();
    let machine = harness.machine();
    harness.run(&[("home", 0, 0x11), ("apps", 0, 0x12)]);
    let made = machine.create_point(&name("good"), None, &[]).unwrap();
    assert_eq!(made.layers.len(), 3);
    let seen = content(&harness, "home");
    let v2 = harness.image("apps-v2", 0x62);
    machine.update(&name("apps"), &v2, Kept::Preserve).unwrap();
    harness.run(&[("home", 0, 0x13)]);
    let late = content(&harness, "home");
    let back = machine
        .rollback_to_point(&name("good"), Kept::Preserve)
        .unwrap();
    assert_eq!(back.layers, [name("apps"), name("home")]);
    assert_eq!(content(&harness, "home"), seen);
    assert_eq!(harness.read("apps", 0), Content::Byte(0x06));
    assert_eq!(
        reasons(&harness, "home"),
        [Reason::Create, Reason::Point, Reason::BeforeRollback]
    );
    machine.undo().unwrap();
    assert_eq!(content(&harness, "home"), late);
    assert_eq!(harness.read("apps", 0), Content::Byte(0x62));
    // A layer of it that was removed has to come back first.
    machine.remove_layer(&name("apps"), Kept::Preserve).unwrap();
    machine.snapshot(&name("home"), None).unwrap();
    let error = machine
        .rollback_to_point(&name("good"), Kept::Preserve)
        .unwrap_err();
    assert!(
        error.next_step().unwrap().contains("--back apps"),
        "{error}"
    );
    machine.take_back_layer(&name("apps")).unwrap();
    machine
        .rollback_to_point(&name("good"), Kept::Preserve)
        .unwrap();
    assert_eq!(content(&harness, "home"), seen);
}

#[test]
fn an_accepted_session_is_current_but_not_clean() {
    let harness = Harness::new();
    let machine = harness.machine();
    let said = while_running(&harness, &[("os", 0, 0x71)], &[Ends::PowerOff], |m| {
        m.decide(&[name("os")], &[]).unwrap()
    });
    assert_eq!(said.when, When::NextStart);
    let record = machine.record().unwrap();
    assert!(record.next.is_empty(), "taken as soon as it was off");
    assert_eq!(reasons(&harness, "os"), [Reason::Create, Reason::Accept]);
    harness.run(&[]);
    assert_eq!(
        harness.read("os", 0),
        Content::Byte(0x71),
        "it survives a start"
    );
    machine.rejuvenate().unwrap();
    assert_eq!(harness.read("os", 0), Content::Byte(0x05));
    // Off, until the next start: the head is still there.
    harness.run(&[("os", 0, 0x72)]);
    machine.decide(&[name("os")], &[]).unwrap();
    harness.run(&[]);
    assert_eq!(harness.read("os", 0), Content::Byte(0x72));
    machine.undo().unwrap();
    assert_eq!(harness.read("os", 0), Content::Byte(0x05));
}

#[test]
fn a_session_can_be_dropped_only_where_nothing_older_goes_with_it() {
    let harness = Harness::new();
    let machine = harness.machine();
    let home = || name("home");
    harness.run(&[("home", 0, 0x11)]);
    harness.run(&[("home", 1, 0x12)]);
    let refused = machine.decide(&[], &[home()]).unwrap_err();
    assert!(
        refused.next_step().unwrap().contains("--revertible"),
        "{refused}"
    );
    assert_eq!(harness.read("home", 1), Content::Byte(0x12));

    let before = content(&harness, "home");
    let options = RunOptions::default().revertible([home()]);
    let inner = machine.clone();
    let ends = [Ends::Reboot, Ends::PowerOff];
    harness
        .run_during(options, &[("home", 2, 0x13)], &ends, move || {
            // Asked for in each boot: the second one is the same session.
            if inner.record().unwrap().run.unwrap().boots == 2 {
                inner.decide(&[], &[name("home")]).unwrap();
            }
        })
        .unwrap();
    assert_eq!(
        content(&harness, "home"),
        before,
        "both boots are gone, nothing else"
    );
    assert_eq!(
        reasons(&harness, "home"),
        [Reason::Create, Reason::BeforeSession]
    );
    assert_eq!(machine.undo().unwrap_err().kind(), ErrorKind::Invalid);
    // The first session of a head can always be dropped.
    harness.run(&[("home", 3, 0x14)]);
    machine.decide(&[], &[home()]).unwrap();
    assert_eq!(content(&harness, "home"), before);
}

/// What the guest sees of the machine, and the ids of its files.
#[derive(Debug, PartialEq, Eq)]
struct Ids {
    machine: uuid::Uuid,
    mac: [u8; 6],
    ports: BTreeSet<String>,
    /// By generation: the UUID of the disk and its content id.
    disks: BTreeMap<(String, u64), (uuid::Uuid, String)>,
}

fn ids(harness: &Harness) -> Ids {
    let record = harness.machine().record().unwrap();
    let identity = record.identity();
    let mut disks = BTreeMap::new();
    for layer in &record.layers {
        for (_, delta) in layer.history.deltas() {
            let file = harness.layer_folder(layer.name().as_str());
            let info = stratavm_disk::info(&file.join(format!("head-{}.vmdk", delta.generation)));
            let vmdk = info.unwrap().vmdk.unwrap();
            let key = (layer.name().to_string(), delta.generation);
            disks.insert(key, (vmdk.uuid.unwrap(), vmdk.cid));
        }
    }
    let ports = record.hardware.ports.iter();
    let network = serde_json::from_value(serde_json::json!({"mode": "nat"})).unwrap();
    Ids {
        machine: record.id,
        mac: identity.mac(0, &network),
        ports: ports
            .map(|p| format!("{}={:?}", p.disk.as_str(), p.port))
            .collect(),
        disks,
    }
}

#[test]
fn ids_stay_through_every_operation() {
    let harness = Harness::new();
    let machine = harness.machine();
    let v2 = harness.image("apps-v2", 0x62);
    let home = name("home");
    type Step<'a> = Box<dyn Fn() -> stratavm::Result<Operation> + 'a>;
    let steps: Vec<Step<'_>> = vec![
        Box::new(|| machine.snapshot(&home, None)),
        Box::new(|| machine.rollback(&home, Some(1), Kept::Preserve)),
        Box::new(|| machine.undo()),
        Box::new(|| machine.update(&name("apps"), &v2, Kept::Preserve)),
        Box::new(|| machine.create_point(&name("p"), None, &[])),
        Box::new(|| machine.rollback_to_point(&name("p"), Kept::Preserve)),
        Box::new(|| machine.rejuvenate()),
        Box::new(|| machine.remove_layer(&home, Kept::Preserve)),
        Box::new(|| machine.take_back_layer(&home)),
        Box::new(|| machine.undo()),
        Box::new(|| machine.undo()),
        Box::new(|| machine.decide(&[name("os")], &[])),
    ];
    let mut known = ids(&harness);
    for (index, step) in steps.iter().enumerate() {
        let there = machine.record().unwrap().layer(&home).is_ok();
        let write = there.then_some(("home", 1, 0x10 + index as u8));
        let writes: Vec<_> = write.into_iter().chain([("os", 1, 0x10)]).collect();
        harness.run(&writes);
        step().unwrap();
        let now = ids(&harness);
        assert_eq!((now.machine, now.mac), (known.machine, known.mac));
        if machine.record().unwrap().layers.len() == 3 {
            assert_eq!(now.ports, known.ports, "step {index}");
            for (key, id) in &known.disks {
                assert_eq!(now.disks.get(key), Some(id), "step {index}: {key:?}");
            }
            known = now;
        }
    }
    assert!(known.disks.len() > 6, "{known:?}");
    let uuids: BTreeSet<_> = known.disks.values().map(|(uuid, _)| uuid).collect();
    assert_eq!(uuids.len(), known.disks.len());
}

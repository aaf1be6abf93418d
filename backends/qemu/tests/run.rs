//! The boot-sector guest under the real QEMU: what it sees of its disks on every controller, and
//! how every kind of end is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod common;

use common::{Bench, ctx, qemu};
use futures_lite::future::block_on;
use stratavm::hypervisor::{Ended, State, Stop};
use stratavm::spec::{BootDevice, Cdrom, Controller, Role};
use stratavm::testkit::Sample;
use stratavm::testkit::guest::{BootSector, End};
use stratavm::{ErrorKind, Hypervisor as _};

const X86: &str = "qemu-system-x86_64";

/// Four layers; the os image is cut in three, the data has a frozen delta below its head.
fn four_layers() -> Sample {
    let sample = Sample::new("finance").unwrap().extents(3);
    let sample = sample.layer("office", Role::Apps, 4).unwrap();
    let sample = sample.layer("scratch", Role::Cache, 4).unwrap();
    sample.layer("home", Role::UserData, 16).unwrap().frozen(1)
}

/// Shows what was there before, then marks every disk.
fn marking() -> BootSector {
    (0..4).fold(BootSector::new().print(7), |guest, disk| {
        guest.write(disk, 7, &format!("mark {disk}"))
    })
}

#[test]
fn discard_and_keep_on_every_controller() {
    let Some(qemu) = qemu(X86) else { return };
    for kind in [
        Controller::Ide,
        Controller::Sata,
        Controller::Scsi,
        Controller::Nvme,
        Controller::Virtio,
    ] {
        let mut sample = four_layers();
        sample.spec.hardware.controller = kind;
        let bench = Bench::new(sample, &marking());
        let images = images(&bench);
        for start in 1..=3 {
            assert_eq!(bench.run(&qemu, start), Ended::PowerOff, "{kind}");
        }
        let boots = bench.boots();
        assert_eq!(boots.len(), 3, "{kind}");
        assert_eq!(boots[0].texts(7), ["", "", "", ""], "{kind}");
        for boot in &boots[1..] {
            assert!(boot.ended);
            assert_eq!(boot.texts(7), ["", "", "mark 2", "mark 3"], "{kind}");
        }
        assert_eq!(
            images,
            self::images(&bench),
            "{kind}: a golden image changed"
        );
    }
}

fn images(bench: &Bench) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let folder = bench.dir.path().join("images");
    let mut images: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect();
    images.sort();
    images
}

#[test]
fn controllers_can_be_mixed_with_gaps_between_slots() {
    let Some(qemu) = qemu(X86) else { return };
    let mut sample = four_layers();
    let places = [
        (Controller::Nvme, 0),
        (Controller::Virtio, 11), // behind the bridge
        (Controller::Scsi, 4),
        (Controller::Sata, 9), // on the second AHCI controller
    ];
    for (layer, (kind, slot)) in sample.spec.layers.iter_mut().zip(places) {
        (layer.controller, layer.slot) = (Some(kind), Some(slot));
    }
    // A CD-ROM drive takes no disk's number and is not booted from.
    sample.spec.hardware.cdrom = vec![Cdrom {
        image: "a, b.iso".to_owned(),
    }];
    sample.spec.hardware.boot = vec![BootDevice::Cdrom, BootDevice::Disk];
    let bench = Bench::new(sample, &marking());
    std::fs::write(bench.dir.path().join("a, b.iso"), vec![0; 1 << 20]).unwrap();
    assert_eq!(bench.run(&qemu, 1), Ended::PowerOff);
    assert_eq!(bench.run(&qemu, 2), Ended::PowerOff);
    assert_eq!(bench.boots()[1].texts(7), ["", "", "mark 2", "mark 3"]);
}

#[test]
fn ends_are_told_apart() {
    let Some(qemu) = qemu(X86) else { return };
    let end = |end| {
        let bench = Bench::new(Sample::new("one").unwrap(), &BootSector::new().end(end));
        bench.run(&qemu, 1)
    };
    assert_eq!(end(End::PowerOff), Ended::PowerOff);
    assert_eq!(end(End::Reset), Ended::Reboot);
    let panic = end(End::Panic);
    assert!(
        matches!(&panic, Ended::Crash(what) if what.contains("panicked")),
        "{panic:?}"
    );
}

#[test]
fn a_machine_is_stopped_from_outside() {
    let Some(qemu) = qemu(X86) else { return };
    for (end, how) in [
        (End::PowerButton, Stop::Shutdown),
        (End::Hang, Stop::PowerOff),
    ] {
        let bench = Bench::new(Sample::new("one").unwrap(), &BootSector::new().end(end));
        let mut running = bench.start(&qemu, 1).unwrap();
        let endpoint = running.endpoint().clone();
        assert_eq!(
            block_on(qemu.state(&endpoint, &ctx())).unwrap(),
            State::Running
        );
        bench.guest_has_ended();
        // As another process would: through the recorded endpoint alone.
        block_on(qemu.stop(&endpoint, how, &ctx())).unwrap();
        assert_eq!(
            block_on(running.wait(&ctx())).unwrap(),
            Ended::PowerOff,
            "{how:?}"
        );
        assert_eq!(
            block_on(running.wait(&ctx())).unwrap(),
            Ended::PowerOff,
            "asked again"
        );
        assert_eq!(block_on(qemu.state(&endpoint, &ctx())).unwrap(), State::Off);
        block_on(qemu.stop(&endpoint, how, &ctx())).unwrap();
        block_on(running.stop(how, &ctx())).unwrap();
    }
}

#[test]
fn a_guest_that_ignores_the_button_runs_until_the_plug() {
    let Some(qemu) = qemu(X86) else { return };
    let bench = Bench::new(
        Sample::new("one").unwrap(),
        &BootSector::new().end(End::Hang),
    );
    let mut running = bench.start(&qemu, 1).unwrap();
    bench.guest_has_ended();
    block_on(running.stop(Stop::Shutdown, &ctx())).unwrap();
    let soon = std::time::Instant::now() + std::time::Duration::from_millis(300);
    let waited = block_on(running.wait(&stratavm::Ctx::none().with_deadline(soon)));
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Timeout);
    block_on(running.stop(Stop::PowerOff, &ctx())).unwrap();
    assert_eq!(block_on(running.wait(&ctx())).unwrap(), Ended::PowerOff);
}

#[test]
fn a_disk_in_use_is_busy() {
    let Some(qemu) = qemu(X86) else { return };
    let bench = Bench::new(four_layers(), &marking().end(End::Hang));
    let plan = bench.plan(&qemu, 1);
    let mut running = bench.launch(&qemu, plan.clone(), "run").unwrap();
    bench.guest_has_ended();
    // The same run-time folder: its sockets are in use.
    let error = bench.launch(&qemu, plan.clone(), "run").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    // Another one: QEMU itself refuses the head.
    let error = bench.launch(&qemu, plan, "run2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    assert!(
        error
            .path()
            .is_some_and(|path| path.ends_with("os/delta-1.vmdk")),
        "{error}"
    );
    // Neither did the first any harm.
    let endpoint = running.endpoint().clone();
    assert_eq!(
        block_on(qemu.state(&endpoint, &ctx())).unwrap(),
        State::Running
    );
    block_on(running.stop(Stop::PowerOff, &ctx())).unwrap();
    assert_eq!(block_on(running.wait(&ctx())).unwrap(), Ended::PowerOff);
}

#[test]
fn a_guest_too_short_to_connect_to_is_still_told() {
    let Some(qemu) = qemu(X86) else { return };
    for round in 0..10 {
        let bench = Bench::new(
            Sample::new("one").unwrap(),
            &BootSector::new().end(End::Reset),
        );
        assert_eq!(bench.run(&qemu, 1), Ended::Reboot, "round {round}");
    }
}

#[test]
fn dropping_a_run_ends_it() {
    let Some(qemu) = qemu(X86) else { return };
    let bench = Bench::new(
        Sample::new("one").unwrap(),
        &BootSector::new().end(End::Hang),
    );
    let running = bench.start(&qemu, 1).unwrap();
    let endpoint = running.endpoint().clone();
    drop(running);
    assert_eq!(block_on(qemu.state(&endpoint, &ctx())).unwrap(), State::Off);
    // The disks are free again.
    let running = bench.start(&qemu, 1).unwrap();
    drop(running);
}

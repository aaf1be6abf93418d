//! The real QEMU takes every board with everything plugged in, and reads chains from folders with
//! awkward names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod common;

use common::{Bench, ctx, qemu, skip};
use futures_lite::future::block_on;
use stratavm::hypervisor::{Ended, State, Stop};
use stratavm::spec::{
    Arch, Audio, Cdrom, Composition, Controller, Direction, Firmware, MacAddress, Network,
    NetworkMode, Role, Size, Switch,
};
use stratavm::testkit::Sample;
use stratavm::testkit::guest::{BootSector, End};
use stratavm::{Hypervisor as _, Result};
use stratavm_qemu::Qemu;

/// Everything that a spec can plug in, and a disk on each kind of controller.
fn everything(arch: Arch, firmware: Firmware) -> Sample {
    let mut sample = Sample::new("finance").unwrap();
    let mut kinds = vec![
        Controller::Virtio,
        Controller::Sata,
        Controller::Scsi,
        Controller::Nvme,
    ];
    if firmware == Firmware::Bios {
        kinds.push(Controller::Ide);
    }
    for (index, kind) in kinds.into_iter().enumerate() {
        sample = sample
            .layer(&format!("data-{index}"), Role::UserData, 4)
            .unwrap();
        sample.spec.layers[index + 1].controller = Some(kind);
        sample.spec.layers[index + 1].slot = Some(3 - u32::from(kind == Controller::Ide));
    }
    for index in 8..11 {
        // Behind the bridges.
        for kind in [Controller::Virtio, Controller::Nvme] {
            sample = sample
                .layer(&format!("more-{kind}-{index}"), Role::UserData, 4)
                .unwrap();
            let layer = sample.spec.layers.last_mut().unwrap();
            (layer.controller, layer.slot) = (Some(kind), Some(index));
        }
    }
    sample.spec.title = Some("Finance, \"desktop\"".into());
    sample.spec.guest.arch = arch;
    sample.spec.guest.composition = Composition::Linux;
    let hardware = &mut sample.spec.hardware;
    hardware.firmware = firmware;
    hardware.cpus = 2;
    hardware.memory = Size::from_mib(256);
    hardware.audio = Audio::On;
    hardware.cdrom = vec![Cdrom {
        image: "a, b.iso".into(),
    }];
    let modes = [
        NetworkMode::Nat,
        NetworkMode::HostOnly,
        NetworkMode::Bridged,
        NetworkMode::None,
    ];
    let network = modes.into_iter().cycle().take(5);
    hardware.network = network
        .map(|mode| Network {
            mode,
            mac: MacAddress::Auto,
        })
        .collect();
    sample.spec.policy.usb = Switch::On;
    sample.spec.policy.suspend = Switch::On;
    sample.spec.policy.clipboard = Direction::Both;
    sample
}

/// Starts it and asks what it does; the guest is none of these boards' affair here.
fn runs(qemu: &Qemu, sample: Sample) -> Result<State> {
    let bench = Bench::new(sample, &BootSector::new().end(End::Hang));
    std::fs::write(bench.dir.path().join("a, b.iso"), vec![0; 1 << 20]).unwrap();
    let mut running = bench.start(qemu, 1)?;
    let state = block_on(qemu.state(running.endpoint(), &ctx()))?;
    block_on(running.stop(Stop::PowerOff, &ctx()))?;
    assert_eq!(block_on(running.wait(&ctx()))?, Ended::PowerOff);
    Ok(state)
}

#[test]
fn a_pc_takes_everything() {
    let Some(qemu) = qemu("qemu-system-x86_64") else {
        return;
    };
    let state = runs(&qemu, everything(Arch::X86_64, Firmware::Bios)).unwrap();
    assert_eq!(state, State::Running);
}

#[test]
fn uefi_boards_take_everything() {
    for (arch, program) in [
        (Arch::X86_64, "qemu-system-x86_64"),
        (Arch::Aarch64, "qemu-system-aarch64"),
    ] {
        let Some(qemu) = qemu(program) else { continue };
        match runs(&qemu, everything(arch, Firmware::Uefi)) {
            Ok(state) => assert_eq!(state, State::Running, "{arch:?}"),
            Err(error) if error.to_string().contains("no UEFI firmware") => {
                skip(&format!("{arch:?}: {error}"));
            }
            Err(error) => panic!("{arch:?}: {error:?}"),
        }
    }
}

#[test]
fn chains_in_folders_with_awkward_names_are_read() {
    let Some(qemu) = qemu("qemu-system-x86_64") else {
        return;
    };
    let guest = BootSector::new()
        .print(7)
        .write(0, 7, "os")
        .write(1, 7, "home");
    let sample = Sample::new("one")
        .unwrap()
        .layer("home", Role::UserData, 4)
        .unwrap();
    let mut bench = Bench::new(sample, &guest);
    let outer = std::mem::replace(&mut bench.dir, tempfile::tempdir().unwrap());
    let awkward = outer.path().join("a, b=c ,,d'é{}");
    std::fs::create_dir(&awkward).unwrap();
    bench.dir = tempfile::tempdir_in(&awkward).unwrap();
    bench.sample.write_images(bench.dir.path()).unwrap();
    assert_eq!(bench.run(&qemu, 1), Ended::PowerOff);
    assert_eq!(bench.run(&qemu, 2), Ended::PowerOff);
    assert_eq!(bench.boots()[1].texts(7), ["", "home"]);
}

#[test]
fn a_probed_accelerator_runs_the_guest() {
    if qemu("qemu-system-x86_64").is_none() {
        return;
    }
    // Whatever this host offers, or emulation where that does not work.
    let qemu = Qemu::new();
    let guest = BootSector::new().end(End::Reset);
    let bench = Bench::new(Sample::new("one").unwrap(), &guest);
    assert_eq!(bench.run(&qemu, 1), Ended::Reboot);
    let found = block_on(qemu.detect(&ctx())).unwrap().found.unwrap();
    assert!(
        found
            .facts
            .iter()
            .any(|fact| fact.contains("accelerator: ")),
        "{found:?}"
    );
    eprintln!(
        "{} {}: {:?}",
        found.program.display(),
        found.version,
        found.facts
    );
}

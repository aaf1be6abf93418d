//! What VirtualBox cannot do is refused, by the spec's key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use stratavm::chain::Family;
use stratavm::spec::{
    Arch, Cdrom, Controller, Firmware, MacAddress, Network, NetworkMode, Role, SecureBoot, Size,
};
use stratavm::testkit::Sample;
use stratavm::{ErrorKind, Hypervisor};
use stratavm_virtualbox::VirtualBox;

fn sample() -> Sample {
    let sample = Sample::new("finance").unwrap();
    sample.layer("home", Role::UserData, 16).unwrap()
}

fn refusal(sample: &Sample) -> (ErrorKind, String) {
    let machine = sample.resolve(Path::new("/store/machines/finance"));
    let error = VirtualBox::new().translate(&machine).unwrap_err();
    (error.kind(), error.to_string())
}

/// A change to the sample, and what the refusal is.
type Refusal = (fn(&mut Sample), ErrorKind, &'static str);

#[test]
fn what_virtualbox_cannot_do_is_refused_by_key() {
    let cases: [Refusal; 12] = [
        (
            |s| s.spec.guest.arch = Arch::Aarch64,
            ErrorKind::Unsupported,
            "guest.arch",
        ),
        (
            |s| s.spec.hardware.secure_boot = SecureBoot::On,
            ErrorKind::Unsupported,
            "hardware.secure-boot",
        ),
        (
            |s| s.spec.hardware.video_memory = Size::from_mib(300),
            ErrorKind::Unsupported,
            "hardware.video-memory",
        ),
        (
            |s| s.spec.hardware.controller = Controller::Nvme,
            ErrorKind::Unsupported,
            "layer.os.controller: bios does not boot from nvme",
        ),
        (
            |s| {
                s.spec.hardware.firmware = Firmware::Uefi;
                s.spec.layers[0].controller = Some(Controller::Scsi);
            },
            ErrorKind::Unsupported,
            "layer.os.controller: uefi does not boot from scsi",
        ),
        (
            |s| {
                s.spec.layers[0].controller = Some(Controller::Scsi);
                s.spec.layers[1].controller = Some(Controller::Sata);
            },
            ErrorKind::Unsupported,
            "layer.os.controller: bios boots from its first disk, which is home at AHCI port 0",
        ),
        (
            |s| s.spec.layers[1].slot = Some(30),
            ErrorKind::Unsupported,
            "layer.home.slot",
        ),
        (
            |s| {
                s.spec.layers[1].controller = Some(Controller::Scsi);
                s.spec.layers[1].slot = Some(7);
            },
            ErrorKind::Unsupported,
            "layer.home.slot",
        ),
        (
            |s| s.spec.layers[1].slot = Some(0),
            ErrorKind::Invalid,
            "layer.home.slot",
        ),
        (
            |s| {
                let network = Network {
                    mode: NetworkMode::Nat,
                    mac: MacAddress::Auto,
                };
                s.spec.hardware.network = vec![network; 9];
            },
            ErrorKind::Unsupported,
            "hardware.network",
        ),
        (
            |s| {
                s.spec.hardware.controller = Controller::Ide;
                s.spec.hardware.cdrom = vec![
                    Cdrom {
                        image: "x.iso".to_owned()
                    };
                    3
                ];
            },
            ErrorKind::Unsupported,
            "hardware.cdrom",
        ),
        (
            |s| *s = s.clone().family(Family::Hds),
            ErrorKind::NeedsSwitch,
            "layer os is kept in the hds family",
        ),
    ];
    for (change, kind, message) in cases {
        let mut sample = sample();
        change(&mut sample);
        let (found, said) = refusal(&sample);
        assert_eq!(found, kind, "{said}");
        assert!(
            said.starts_with(&format!("virtualbox: {message}")),
            "{said}"
        );
    }
}

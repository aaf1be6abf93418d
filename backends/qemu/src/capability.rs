//! What QEMU can do through this backend, as data.

use stratavm::capability::{Capabilities, ControllerCapability, Feature};
use stratavm::chain::Family;
use stratavm::plan::Grade;
use stratavm::spec::{Arch, Controller, Firmware, NetworkMode};

use crate::disks::CAPACITY;

/// The table. Features that are missing are not there: see [`crate::gaps`] for the reasons.
pub(crate) fn capabilities() -> Capabilities {
    let mut table = Capabilities::new(vec![Family::Vmdk], Controller::Virtio, Controller::Sata);
    table.arches = vec![Arch::X86_64, Arch::Aarch64];
    table.firmware = vec![Firmware::Bios, Firmware::Uefi];
    table.controllers = CAPACITY
        .iter()
        .map(|(kind, disks)| {
            let boots: &[Firmware] = match kind {
                Controller::Ide => &[Firmware::Bios],
                _ => &[Firmware::Bios, Firmware::Uefi],
            };
            ControllerCapability::new(*kind, *disks, boots)
        })
        .collect();
    table.networks = vec![NetworkMode::Nat];
    table.features = [
        Feature::Control,
        Feature::RebootEndsRun,
        Feature::AcpiShutdown,
        Feature::ConsoleLog,
        Feature::Window,
        Feature::Audio,
        Feature::Cdrom,
        Feature::LocalClock,
        Feature::Pause,
        Feature::SharedFoldersPolicy,
        Feature::UsbPolicy,
        Feature::SnapshotPolicy,
        Feature::SuspendPolicy,
    ]
    .map(|feature| (feature, Grade::Hard))
    .to_vec();
    table
}

//! What VMware's hosted products can do, as data.

use stratavm::capability::{Capabilities, ControllerCapability, Feature};
use stratavm::chain::Family;
use stratavm::plan::Grade;
use stratavm::spec::{Arch, Controller, Firmware, NetworkMode};

use crate::facts;

/// The capabilities of Workstation, Player and Fusion together.
pub(crate) fn capabilities() -> Capabilities {
    let both = [Firmware::Bios, Firmware::Uefi];
    let mut all = Capabilities::new(vec![Family::Vmdk], Controller::Sata, Controller::Sata);
    all.arches = vec![Arch::X86_64, Arch::Aarch64];
    all.firmware = both.to_vec();
    all.controllers = vec![
        ControllerCapability::new(Controller::Ide, facts::IDE_UNITS, &[Firmware::Bios]),
        ControllerCapability::new(Controller::Sata, facts::SATA_PORTS, &both),
        ControllerCapability::new(Controller::Scsi, facts::SCSI_UNITS, &both),
        ControllerCapability::new(Controller::Nvme, facts::NVME_UNITS, &facts::NVME_BOOTS),
    ];
    all.networks = vec![
        NetworkMode::Nat,
        NetworkMode::HostOnly,
        NetworkMode::Bridged,
        NetworkMode::None,
    ];
    all.features = vec![
        (Feature::ConsoleLog, Grade::Hard),
        (Feature::Window, Grade::Hard),
        (Feature::Audio, Grade::Hard),
        (Feature::SecureBoot, Grade::Hard),
        (Feature::Cdrom, Grade::Hard),
        (Feature::LocalClock, Grade::Hard),
        (Feature::ClipboardPolicy, Grade::AccidentOnly),
        (Feature::DragAndDropPolicy, Grade::AccidentOnly),
        (Feature::SharedFoldersPolicy, Grade::AccidentOnly),
        (Feature::UsbPolicy, Grade::AccidentOnly),
        (Feature::SnapshotPolicy, Grade::UiOnly),
        (Feature::SuspendPolicy, Grade::UiOnly),
    ];
    all
}

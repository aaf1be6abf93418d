//! What VirtualBox can do, as data.
//!
//! Evidence: machines of this backend booted by BIOS from IDE, SATA, SCSI and virtio on 7.2.22, with
//! a golden of three extents under a frozen delta, and a reset ended the run; UEFI and NVMe are
//! unproved. (That BIOS does not read back what a guest writes to virtio-scsi through it.) The grades
//! follow its user manual, "Locking Down the VirtualBox GUI".

use stratavm::capability::{Capabilities, ControllerCapability, Feature};
use stratavm::chain::Family;
use stratavm::plan::Grade;
use stratavm::spec::{Controller, Firmware, NetworkMode};

/// Disks that an AHCI controller takes (`SchemaDefs`, 30 ports).
pub(crate) const SATA_PORTS: u32 = 30;
/// Ids of the LsiLogic adapter's bus; the adapter itself has 7.
pub(crate) const SCSI_IDS: u32 = 16;
/// Ports of an NVMe controller.
pub(crate) const NVME_PORTS: u32 = 255;
/// Ports of a virtio-scsi controller.
pub(crate) const VIRTIO_PORTS: u32 = 256;
/// Network adapters of the PIIX3 chipset.
pub(crate) const NETWORK_ADAPTERS: usize = 8;

pub(crate) fn capabilities() -> Capabilities {
    let mut can = Capabilities::new(vec![Family::Vmdk], Controller::Sata, Controller::Sata);
    can.firmware = vec![Firmware::Bios, Firmware::Uefi];
    can.controllers = vec![
        ControllerCapability::new(Controller::Ide, 4, &[Firmware::Bios]),
        ControllerCapability::new(
            Controller::Sata,
            SATA_PORTS,
            &[Firmware::Bios, Firmware::Uefi],
        ),
        ControllerCapability::new(Controller::Scsi, SCSI_IDS - 1, &[Firmware::Bios]),
        ControllerCapability::new(Controller::Nvme, NVME_PORTS, &[Firmware::Uefi]),
        ControllerCapability::new(Controller::Virtio, VIRTIO_PORTS, &[Firmware::Bios]),
    ];
    can.networks = vec![
        NetworkMode::Nat,
        NetworkMode::HostOnly,
        NetworkMode::Bridged,
        NetworkMode::None,
    ];
    can.features = vec![
        (Feature::RebootEndsRun, Grade::Hard),
        (Feature::ConsoleLog, Grade::Hard),
        (Feature::Window, Grade::Hard),
        (Feature::Audio, Grade::Hard),
        (Feature::Tpm, Grade::Hard),
        (Feature::Cdrom, Grade::Hard),
        (Feature::LocalClock, Grade::Hard),
        (Feature::ClipboardPolicy, Grade::UiOnly),
        (Feature::DragAndDropPolicy, Grade::UiOnly),
        (Feature::SharedFoldersPolicy, Grade::UiOnly),
        (Feature::UsbPolicy, Grade::UiOnly),
        (Feature::SnapshotPolicy, Grade::UiOnly),
        (Feature::SuspendPolicy, Grade::UiOnly),
    ];
    can
}

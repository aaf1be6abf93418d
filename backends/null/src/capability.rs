//! What the null product can do, as data. It is less than a PC on purpose, so that every way of
//! lacking something occurs: a controller, a firmware, a network, a policy.

use stratavm::capability::{Capabilities, ControllerCapability, Feature, Lifetime};
use stratavm::chain::Family;
use stratavm::plan::Grade;
use stratavm::spec::{Controller, Firmware, NetworkMode};

pub(crate) fn capabilities() -> Capabilities {
    let bios = [Firmware::Bios];
    let mut can = Capabilities::new(vec![Family::Vmdk], Controller::Sata, Controller::Sata);
    can.controllers = vec![
        ControllerCapability::new(Controller::Ide, 4, &bios),
        ControllerCapability::new(Controller::Sata, 30, &bios),
        ControllerCapability::new(Controller::Scsi, 15, &bios),
    ];
    can.networks = vec![NetworkMode::Nat, NetworkMode::None];
    can.features = vec![
        (Feature::Control, Grade::Hard),
        (Feature::RebootEndsRun, Grade::Hard),
        (Feature::AcpiShutdown, Grade::Hard),
        (Feature::ConsoleLog, Grade::Hard),
        (Feature::Cdrom, Grade::Hard),
        (Feature::LocalClock, Grade::Hard),
        (Feature::Pause, Grade::Hard),
        (Feature::ClipboardPolicy, Grade::Hard),
        (Feature::DragAndDropPolicy, Grade::UiOnly),
        (Feature::SharedFoldersPolicy, Grade::AccidentOnly),
        (Feature::UsbPolicy, Grade::Hard),
        (Feature::SnapshotPolicy, Grade::Hard),
        (Feature::SuspendPolicy, Grade::Player),
    ];
    can
}

/// The same for machines that are kept in a folder, and so outlive their supervisor.
pub(crate) fn outliving() -> Capabilities {
    let mut can = capabilities();
    can.features.push((Feature::Suspend, Grade::Hard));
    can.lifetime = Lifetime::Independent;
    can
}

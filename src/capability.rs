//! What a product can do, as data.
//!
//! The conformance suite chooses its trials by it and the documentation's support table is printed
//! from it; a backend's code must not know more than it says here.

use serde::{Deserialize, Serialize};

use crate::chain::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Grade;
use crate::spec::{Arch, Controller, Firmware, GuestOs, NetworkMode};

/// What a product can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Families of chains that it runs from; new heads are made in the first.
    pub families: Vec<Family>,
    /// Guest architectures.
    pub arches: Vec<Arch>,
    /// Firmwares.
    pub firmware: Vec<Firmware>,
    /// Disk controllers. Kinds that are not listed are refused.
    pub controllers: Vec<ControllerCapability>,
    /// What [`Controller::Auto`] means for a Linux guest.
    pub auto_linux: Controller,
    /// What [`Controller::Auto`] means for any other guest.
    pub auto_other: Controller,
    /// What network adapters can be connected to.
    pub networks: Vec<NetworkMode>,
    /// Everything else, with how far it goes. A feature that is not listed is [`Grade::None`].
    pub features: Vec<(Feature, Grade)>,
    /// How long its machines may live.
    pub lifetime: Lifetime,
}

/// How long a product's machines may live, compared with the process that watches over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Lifetime {
    /// As long as that process and no longer, however it ends; and no state is saved to disk. That
    /// the process is gone proves that the machine is off.
    #[default]
    Supervised,
    /// Longer, or saved to disk: only the product knows what has become of one.
    Independent,
}

/// One kind of controller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControllerCapability {
    /// The kind.
    pub kind: Controller,
    /// How many disks it takes.
    pub disks: u32,
    /// The firmwares that boot from it.
    pub boots: Vec<Firmware>,
}

impl ControllerCapability {
    /// A capability from its parts.
    #[must_use]
    pub fn new(kind: Controller, disks: u32, boots: &[Firmware]) -> Self {
        Self {
            kind,
            disks,
            boots: boots.to_vec(),
        }
    }
}

/// A thing that some products can do and others cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Machines are started, watched and stopped by this library.
    Control,
    /// A reboot inside the guest ends the run, so the heads can be made anew.
    RebootEndsRun,
    /// The power button reaches the guest.
    AcpiShutdown,
    /// The first serial port is written to a file.
    ConsoleLog,
    /// The guest's screen in a window.
    Window,
    /// Sound.
    Audio,
    /// TPM 2.0.
    Tpm,
    /// Secure boot.
    SecureBoot,
    /// CD-ROM drives.
    Cdrom,
    /// A clock in local time.
    LocalClock,
    /// Stopping the processors for a while.
    Pause,
    /// Saving the machine's state to disk.
    Suspend,
    /// The clipboard can be closed, and opened each way.
    ClipboardPolicy,
    /// Drag and drop can be closed, and opened each way.
    DragAndDropPolicy,
    /// Shared folders can be closed.
    SharedFoldersPolicy,
    /// USB devices of the host can be kept out.
    UsbPolicy,
    /// The product's own snapshots can be forbidden.
    SnapshotPolicy,
    /// Suspending can be forbidden.
    SuspendPolicy,
}

impl Feature {
    /// Every feature, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::Control,
        Self::RebootEndsRun,
        Self::AcpiShutdown,
        Self::ConsoleLog,
        Self::Window,
        Self::Audio,
        Self::Tpm,
        Self::SecureBoot,
        Self::Cdrom,
        Self::LocalClock,
        Self::Pause,
        Self::Suspend,
        Self::ClipboardPolicy,
        Self::DragAndDropPolicy,
        Self::SharedFoldersPolicy,
        Self::UsbPolicy,
        Self::SnapshotPolicy,
        Self::SuspendPolicy,
    ];

    /// The feature as the support table writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "start, watch and stop",
            Self::RebootEndsRun => "a reboot ends the run",
            Self::AcpiShutdown => "power button",
            Self::ConsoleLog => "console into a file",
            Self::Window => "window",
            Self::Audio => "sound",
            Self::Tpm => "TPM 2.0",
            Self::SecureBoot => "secure boot",
            Self::Cdrom => "CD-ROM",
            Self::LocalClock => "local clock",
            Self::Pause => "pause",
            Self::Suspend => "suspend",
            Self::ClipboardPolicy => "policy: clipboard",
            Self::DragAndDropPolicy => "policy: drag and drop",
            Self::SharedFoldersPolicy => "policy: shared folders",
            Self::UsbPolicy => "policy: USB",
            Self::SnapshotPolicy => "policy: snapshots",
            Self::SuspendPolicy => "policy: suspend",
        }
    }
}

impl Capabilities {
    /// What a product can do that reads chains of these families and is otherwise as able as the
    /// simplest one: x86 with BIOS, no controllers, networks or features.
    #[must_use]
    pub fn new(families: Vec<Family>, auto_linux: Controller, auto_other: Controller) -> Self {
        Self {
            families,
            arches: vec![Arch::X86_64],
            firmware: vec![Firmware::Bios],
            controllers: Vec::new(),
            auto_linux,
            auto_other,
            networks: Vec::new(),
            features: Vec::new(),
            lifetime: Lifetime::default(),
        }
    }

    /// How far `feature` goes.
    #[must_use]
    pub fn feature(&self, feature: Feature) -> Grade {
        self.features
            .iter()
            .find(|(f, _)| *f == feature)
            .map_or(Grade::None, |(_, grade)| *grade)
    }

    /// What is known of a kind of controller; `None` if the product lacks it.
    #[must_use]
    pub fn controller(&self, kind: Controller) -> Option<&ControllerCapability> {
        self.controllers
            .iter()
            .find(|controller| controller.kind == kind)
    }

    /// The kind that `wanted` means for a guest of this `os`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming the kinds that the product has, if it lacks this one.
    pub fn resolve_controller(&self, wanted: Controller, os: GuestOs) -> Result<Controller> {
        let kind = match (wanted, os) {
            (Controller::Auto, GuestOs::Linux) => self.auto_linux,
            (Controller::Auto, _) => self.auto_other,
            (kind, _) => kind,
        };
        if self.controller(kind).is_some() {
            return Ok(kind);
        }
        let known: Vec<_> = self.controllers.iter().map(|c| c.kind.as_str()).collect();
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("there is no {kind} controller"),
        )
        .next(format!("use one of: {}", known.join(", "))))
    }
}

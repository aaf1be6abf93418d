//! What runs inside the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Size;
use super::choice::choice;

/// The `[guest]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Guest {
    /// The kind of operating system.
    pub os: GuestOs,
    /// Which one, such as `debian12`; each product's guest identifier is looked up by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The processor's architecture.
    #[serde(default)]
    pub arch: Arch,
    /// How the layers come together.
    #[serde(default)]
    pub composition: Composition,
    /// Size of the area on the session disk that takes the operating system's writes. Only, and
    /// always, with `composition = "linux"`; 4 GiB where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Size>,
}

impl Guest {
    /// The session area where the spec does not say: 4 GiB.
    pub const DEFAULT_SESSION: Size = Size::from_mib(4096);

    /// A guest of this kind with everything else as it is where a spec does not say.
    #[must_use]
    pub fn new(os: GuestOs) -> Self {
        Self {
            os,
            id: None,
            arch: Arch::default(),
            composition: Composition::default(),
            session: None,
        }
    }

    /// The session area's size, or `None` where the composition has no session disk.
    #[must_use]
    pub fn session_size(&self) -> Option<Size> {
        match self.composition {
            Composition::Linux => Some(self.session.unwrap_or(Self::DEFAULT_SESSION)),
            Composition::Disks => None,
        }
    }
}

choice! {
    /// The kind of operating system.
    GuestOs {
        Linux = "linux" "Any Linux.",
        Windows = "windows" "Any Windows.",
        Other = "other" "Anything else.",
    }
}
choice! {
    /// The processor's architecture.
    Arch {
        @default X86_64 = "x86_64" "64-bit x86.",
        Aarch64 = "aarch64" "64-bit Arm.",
    }
}
choice! {
    /// How the layers come together in the guest.
    Composition {
        @default Disks = "disks"
            "Every layer is simply a disk; what the guest does with it is its own affair.",
        Linux = "linux"
            "The guest follows the project's contract for Linux: a manifest on a session disk says which layers there are, and the guest overlays them.",
    }
}

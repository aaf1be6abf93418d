//! What the user of a machine may do: the `[policy]` table.
//!
//! A policy that a product does not enforce by itself is reported as a gap in its plan.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::choice;

/// The `[policy]` table. Everything is off unless the spec says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// Copy and paste between host and guest.
    pub clipboard: Direction,
    /// Dragging files between host and guest.
    pub drag_and_drop: Direction,
    /// Folders of the host that the guest sees.
    pub shared_folders: Switch,
    /// USB devices of the host.
    pub usb: Switch,
    /// Whether the user may take the product's own snapshots.
    pub snapshots: Switch,
    /// Whether the user may suspend the machine.
    pub suspend: Switch,
}

choice! {
    /// Which way something may be carried.
    Direction {
        @default Off = "off" "Neither way.",
        HostToGuest = "host-to-guest" "From the host into the guest.",
        GuestToHost = "guest-to-host" "From the guest to the host.",
        Both = "both" "Both ways.",
    }
}
choice! {
    /// On or off.
    Switch {
        @default Off = "off" "Not allowed.",
        On = "on" "Allowed.",
    }
}

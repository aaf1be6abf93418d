//! Policies: what the settings say about them, what hides them in VirtualBox's windows, and how
//! far that holds.
//!
//! Every policy ends up `ui-only`: the settings close the thing and the windows no longer offer it,
//! but whoever may run VBoxManage as the same user can open it again.

use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Direction, Policy, Switch};

/// `Clipboard/@mode` and `DragAndDrop/@mode`.
///
/// `None` for a direction that this library does not know yet.
pub(crate) fn mode(direction: Direction) -> Option<&'static str> {
    match direction {
        Direction::Off => Some("Disabled"),
        Direction::HostToGuest => Some("HostToGuest"),
        Direction::GuestToHost => Some("GuestToHost"),
        Direction::Both => Some("Bidirectional"),
        _ => None,
    }
}

/// A gap for every policy that forbids something.
pub(crate) fn gaps(policy: &Policy) -> Vec<Gap> {
    let direction = |key: &str, direction: Direction, command: &str| {
        (direction != Direction::Both).then(|| {
            Gap::new(
                format!("policy.{key}"),
                match direction {
                    Direction::HostToGuest => "host-to-guest",
                    Direction::GuestToHost => "guest-to-host",
                    _ => "off",
                },
                Grade::UiOnly,
                format!("the settings and windows of VirtualBox hold to it; VBoxManage {command} changes it"),
            )
        })
    };
    let switch = |key: &str, switch: Switch, reason: &str| {
        (switch == Switch::Off)
            .then(|| Gap::new(format!("policy.{key}"), "off", Grade::UiOnly, reason))
    };
    [
        direction("clipboard", policy.clipboard, "controlvm clipboard mode"),
        direction(
            "drag-and-drop",
            policy.drag_and_drop,
            "controlvm draganddrop",
        ),
        switch(
            "shared-folders",
            policy.shared_folders,
            "no folder is shared and the windows offer none; VBoxManage sharedfolder add does",
        ),
        switch(
            "usb",
            policy.usb,
            "there is no USB controller and none can be added to a running machine; VBoxManage \
             modifyvm can add one while it is off",
        ),
        switch(
            "snapshots",
            policy.snapshots,
            "the windows offer none; VBoxManage snapshot takes them",
        ),
        switch(
            "suspend",
            policy.suspend,
            "the windows do not offer it; VBoxManage controlvm savestate does it",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Extra data that takes the forbidden things out of VirtualBox's windows (user manual, "Locking
/// Down the VirtualBox GUI").
pub(crate) fn window_restrictions(policy: &Policy) -> Vec<(&'static str, String)> {
    let mut devices = Vec::new();
    let mut machine = Vec::new();
    let mut close = Vec::new();
    if policy.clipboard != Direction::Both {
        devices.push("SharedClipboard");
    }
    if policy.drag_and_drop != Direction::Both {
        devices.push("DragAndDrop");
    }
    if policy.shared_folders == Switch::Off {
        devices.extend(["SharedFolders", "SharedFoldersSettings"]);
    }
    if policy.usb == Switch::Off {
        devices.extend(["USBDevices", "USBDevicesSettings"]);
    }
    if policy.snapshots == Switch::Off {
        machine.push("TakeSnapshot");
        close.push("PowerOffRestoringSnapshot");
    }
    if policy.suspend == Switch::Off {
        machine.push("SaveState");
        close.push("SaveState");
    }
    let mut items = Vec::new();
    // The settings window could change disks and policies alike; without it nothing is lost, since
    // the settings are written anew before every start.
    items.push(("GUI/PreventReconfiguration", "true".to_owned()));
    if policy.snapshots == Switch::Off {
        items.push(("GUI/PreventSnapshotOperations", "true".to_owned()));
    }
    for (name, words) in [
        ("GUI/RestrictedCloseActions", close),
        ("GUI/RestrictedRuntimeDevicesMenuActions", devices),
        ("GUI/RestrictedRuntimeMachineMenuActions", machine),
    ] {
        if !words.is_empty() {
            items.push((name, words.join(",")));
        }
    }
    items
}

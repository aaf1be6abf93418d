//! What the user may do, and what becomes of the promise of a clean boot.
//!
//! Each policy is written as far as `config.pvs` has a place for it, and every way in which
//! Parallels does less than the spec says becomes a gap.

use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Composition, Direction, Policy, Switch, VmSpec, Writes};

use crate::devices::Usb;
use crate::xml::{Element, value};

/// The settings of the integration with the host.
pub(crate) fn tools(policy: &Policy) -> Element {
    let shared = on(policy.shared_folders == Switch::On);
    let host = Element::group(
        "HostSharing",
        "SharedFolder 0",
        vec![
            value("Enabled", shared),
            value("ShareAllMacDisks", 0),
            value("ShareUserHomeDir", 0),
            value("UserDefinedFoldersEnabled", shared),
            value("SharedCloud", 0),
        ],
    );
    let guest = Element::group(
        "GuestSharing",
        "",
        vec![value("Enabled", 0), value("AutoMount", 0)],
    );
    let applications = Element::group(
        "SharedApplications",
        "",
        vec![value("FromWinToMac", 0), value("FromMacToWin", 0)],
    );
    // One setting for both ways, so one way alone stays closed: what is forbidden stays so.
    let clipboard = on(policy.clipboard == Direction::Both);
    let drag = on(policy.drag_and_drop == Direction::Both);
    let isolated = clipboard == 0 && drag == 0 && shared == 0;
    Element::group(
        "Tools",
        "",
        vec![
            value("IsolatedVm", on(isolated)),
            Element::group("SharedFolders", "", vec![host, guest]),
            switch("SharedProfile", 0),
            applications,
            switch("AutoUpdate", 0),
            switch("ClipboardSync", clipboard).migrated(&[("Enabled_patch", "1")]),
            switch("DragAndDrop", drag).migrated(&[("Enabled_patch", "1")]),
            switch("SharedVolumes", 0),
            switch("RemoteControl", 0),
            switch("LocationProvider", 0),
        ],
    )
}

/// The host's devices that a guest could be given beside its own.
pub(crate) fn shared_devices(spec: &VmSpec) -> Vec<Element> {
    let controllers = on(Usb::of(spec) != Usb::Absent);
    let open = on(Usb::of(spec) == Usb::Open);
    let kinds = [
        "Disks",
        "HumanInterfaces",
        "Communication",
        "Audio",
        "Video",
        "SmartCards",
        "Printers",
        "SmartPhones",
        "Other",
    ];
    let kinds = kinds.into_iter().map(|kind| value(kind, open)).collect();
    let usb = Element::group(
        "UsbController",
        "",
        vec![
            value("UhcEnabled", 0),
            value("EhcEnabled", controllers),
            value("XhcEnabled", controllers),
            Element::group("ExternalDevices", "", kinds),
        ],
    );
    vec![
        switch("SharedCamera", 0).migrated(&[("Enabled_patch", "1")]),
        switch("SharedCCID", 0).migrated(&[("Enabled_patch", "")]),
        Element::group("VirtualPrintersInfo", "", vec![value("UseHostPrinters", 0)])
            .migrated(&[("UseHostPrinters_patch", "1")]),
        switch("SharedBluetooth", 0).migrated(&[("Enabled_patch", "")]),
        switch("SharedGamepad", 0),
        usb.migrated(&[("UhcEnabled_patch", "1")]),
    ]
}

fn switch(name: &'static str, enabled: u32) -> Element {
    Element::group(name, "", vec![value("Enabled", enabled)])
}

/// Switches are 0 or 1.
pub(crate) fn on(condition: bool) -> u32 {
    u32::from(condition)
}

const SETTINGS: &str =
    "the settings window of Parallels offers to open it until the next start writes it anew";

/// Reports how far the policies go.
pub(crate) fn gaps(spec: &VmSpec) -> Vec<Gap> {
    let policy = &spec.policy;
    let way = |key: &str, wanted: Direction| {
        let (text, grade, reason) = match wanted {
            Direction::Both => return None,
            Direction::HostToGuest => ("host-to-guest", Grade::None, ONE_WAY),
            Direction::GuestToHost => ("guest-to-host", Grade::None, ONE_WAY),
            _ => ("off", Grade::AccidentOnly, SETTINGS),
        };
        Some(Gap::new(key, text, grade, reason))
    };
    let off = |key: &str, wanted: Switch, grade, reason: &str| {
        (wanted != Switch::On).then(|| Gap::new(key, "off", grade, reason))
    };
    let usb = match Usb::of(spec) {
        Usb::Input => {
            "the virtual keyboard and mouse need the USB controller; Parallels' Devices menu offers \
             the host's devices too"
        }
        _ => "there is no USB controller; the settings window can add one until the next start",
    };
    let snapshots =
        "config.pvs has no setting for it; only a password that prlctl sets keeps the user off";
    let suspend =
        "closing the window or shutting the Mac down does not suspend; the menu still does";
    [
        way("policy.clipboard", policy.clipboard),
        way("policy.drag-and-drop", policy.drag_and_drop),
        off(
            "policy.shared-folders",
            policy.shared_folders,
            Grade::AccidentOnly,
            SETTINGS,
        ),
        off("policy.usb", policy.usb, Grade::AccidentOnly, usb),
        off("policy.snapshots", policy.snapshots, Grade::None, snapshots),
        off(
            "policy.suspend",
            policy.suspend,
            Grade::AccidentOnly,
            suspend,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const ONE_WAY: &str = "Parallels opens both ways or none: none is open";

/// Reports what a reboot inside the guest leaves on layers that are clean at every boot: Parallels
/// does not end the run then, so heads are made anew at the next start only.
pub(crate) fn clean_boots(spec: &VmSpec) -> Vec<Gap> {
    let (grade, reason) = match spec.guest.composition {
        Composition::Linux => (
            Grade::AccidentOnly,
            "a reboot inside the guest does not end the run: the session's writes are dropped by \
             the guest, but a raw write to the disk lasts until the next start",
        ),
        _ => (
            Grade::None,
            "a reboot inside the guest does not end the run: what was written lasts until the next \
             start, which makes the disk anew",
        ),
    };
    spec.layers
        .iter()
        .filter(|layer| layer.effective_writes() == Writes::Discard)
        .map(|layer| {
            Gap::new(
                format!("layer.{}.writes", layer.name),
                "discard",
                grade,
                reason,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use stratavm::spec::{Controller, Display};

    use super::*;
    use crate::testing::{Read, machine, parse_xml};

    fn written(policy: &Policy) -> Read {
        parse_xml(&tools(policy).document().unwrap())
    }

    fn keys(gaps: &[Gap]) -> Vec<(&str, Grade)> {
        gaps.iter()
            .map(|gap| (gap.key.as_str(), gap.grade))
            .collect()
    }

    #[test]
    fn everything_off_is_isolated_and_said() {
        let spec = machine(Controller::Sata).spec;
        let read = written(&spec.policy);
        assert_eq!(read.get("IsolatedVm"), "1");
        for path in [
            "SharedFolders/HostSharing",
            "SharedFolders/GuestSharing",
            "ClipboardSync",
            "DragAndDrop",
        ] {
            assert_eq!(read.get(&format!("{path}/Enabled")), "0", "{path}");
        }
        assert_eq!(
            keys(&gaps(&spec)),
            [
                ("policy.clipboard", Grade::AccidentOnly),
                ("policy.drag-and-drop", Grade::AccidentOnly),
                ("policy.shared-folders", Grade::AccidentOnly),
                ("policy.usb", Grade::AccidentOnly),
                ("policy.snapshots", Grade::None),
                ("policy.suspend", Grade::AccidentOnly),
            ]
        );
    }

    #[test]
    fn one_way_stays_closed_and_both_is_open() {
        let mut spec = machine(Controller::Sata).spec;
        spec.policy.clipboard = Direction::GuestToHost;
        spec.policy.drag_and_drop = Direction::Both;
        spec.policy.shared_folders = Switch::On;
        spec.policy.snapshots = Switch::On;
        spec.policy.suspend = Switch::On;
        spec.policy.usb = Switch::On;
        let read = written(&spec.policy);
        assert_eq!(read.get("IsolatedVm"), "0");
        assert_eq!(read.get("ClipboardSync/Enabled"), "0");
        assert_eq!(read.get("DragAndDrop/Enabled"), "1");
        assert_eq!(read.get("SharedFolders/HostSharing/Enabled"), "1");
        assert_eq!(keys(&gaps(&spec)), [("policy.clipboard", Grade::None)]);
    }

    #[test]
    fn usb_controllers_are_there_for_devices_or_for_a_keyboard() {
        let mut spec = machine(Controller::Sata).spec;
        let state = |spec: &VmSpec| {
            let shared = Element::group("Settings", "", shared_devices(spec))
                .document()
                .unwrap();
            let read = parse_xml(&shared);
            let usb = read.at("UsbController");
            (
                usb.get("XhcEnabled").to_owned(),
                usb.get("ExternalDevices/Disks").to_owned(),
            )
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(state(&spec), pair("0", "0"));
        spec.hardware.display = Display::Window;
        assert_eq!(state(&spec), pair("1", "0"));
        spec.policy.usb = Switch::On;
        assert_eq!(state(&spec), pair("1", "1"));
    }

    #[test]
    fn a_reboot_is_reported_for_each_discarded_layer() {
        let mut spec = machine(Controller::Sata).spec;
        let seen = clean_boots(&spec);
        assert_eq!(
            keys(&seen),
            [
                ("layer.os.writes", Grade::AccidentOnly),
                ("layer.office.writes", Grade::AccidentOnly)
            ]
        );
        spec.guest.composition = Composition::Disks;
        assert!(
            clean_boots(&spec)
                .iter()
                .all(|gap| gap.grade == Grade::None)
        );
    }
}

//! What the user may do, and what becomes of the promise of a clean boot.
//!
//! Each policy is written as far as VMware has a key for it, and every way in which it does less
//! than the spec says becomes a gap.

use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Composition, Direction, Switch, VmSpec, Writes};

use crate::devices::Usb;
use crate::facts::key;
use crate::vmx::{FALSE, TRUE, Vmx};

/// Writes the policies and reports how far they go.
pub(crate) fn write(spec: &VmSpec, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    clipboard(spec.policy.clipboard, vmx, gaps);
    drag_and_drop(spec.policy.drag_and_drop, vmx, gaps);
    shared_folders(spec.policy.shared_folders, vmx, gaps);
    usb(spec, gaps);
    snapshots(spec.policy.snapshots, vmx, gaps);
    suspend(spec.policy.suspend, vmx, gaps);
    // Nothing of a spec, but a guest could otherwise rewrite the heads' grains or plug devices in.
    vmx.set("isolation.tools.diskShrink.disable", TRUE);
    vmx.set("isolation.tools.diskWiper.disable", TRUE);
    vmx.set("isolation.device.connectable.disable", TRUE);
    vmx.set("isolation.tools.unity.disable", TRUE);
    vmx.set("isolation.tools.setGUIOptions.enable", FALSE);
    vmx.set("RemoteDisplay.vnc.enabled", FALSE);
}

const SETTINGS: &str = "the settings window of Workstation and Fusion offers to open it until the \
                        next start writes it anew";

fn clipboard(wanted: Direction, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    let (out, into, reason) = match wanted {
        Direction::Both => (FALSE, FALSE, None),
        Direction::HostToGuest => (TRUE, FALSE, Some(ONE_WAY)),
        Direction::GuestToHost => (FALSE, TRUE, Some(ONE_WAY)),
        _ => (TRUE, TRUE, Some(SETTINGS)),
    };
    vmx.set(key::CLIPBOARD_OUT_DISABLE, out);
    vmx.set(key::CLIPBOARD_IN_DISABLE, into);
    if let Some(reason) = reason {
        gaps.push(Gap::new(
            "policy.clipboard",
            direction(wanted),
            Grade::AccidentOnly,
            reason,
        ));
    }
}

const ONE_WAY: &str = "there is one key for each way, but that products keep the ways apart is not \
                       proved here, and their settings window can change both";

fn drag_and_drop(wanted: Direction, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    // There is one key for both ways, so one way alone is closed: what is forbidden stays so.
    let closed = if wanted == Direction::Both {
        FALSE
    } else {
        TRUE
    };
    vmx.set("isolation.tools.dnd.disable", closed);
    let (grade, reason) = match wanted {
        Direction::Both => return,
        Direction::Off => (Grade::AccidentOnly, SETTINGS),
        _ => (Grade::None, "VMware opens both ways or none: none is open"),
    };
    gaps.push(Gap::new(
        "policy.drag-and-drop",
        direction(wanted),
        grade,
        reason,
    ));
}

fn shared_folders(wanted: Switch, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    let closed = if wanted == Switch::On { FALSE } else { TRUE };
    vmx.set("isolation.tools.hgfs.disable", closed);
    vmx.set("isolation.tools.hgfsServerSet.disable", closed);
    vmx.set(
        "hgfs.mapRootShare",
        if wanted == Switch::On { TRUE } else { FALSE },
    );
    vmx.set("sharedFolder.maxNum", "0");
    if wanted != Switch::On {
        gaps.push(Gap::new(
            "policy.shared-folders",
            "off",
            Grade::AccidentOnly,
            SETTINGS,
        ));
    }
}

fn usb(spec: &VmSpec, gaps: &mut Vec<Gap>) {
    let reason = match Usb::of(spec) {
        Usb::Open => return,
        Usb::Absent => {
            "there is no USB controller; the settings window can add one until the next start"
        }
        Usb::Input => {
            "keyboard and mouse of an Arm guest need the USB controller; its devices are \
                       restricted by a key that the settings window can change"
        }
    };
    gaps.push(Gap::new("policy.usb", "off", Grade::AccidentOnly, reason));
}

fn snapshots(wanted: Switch, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    let (value, text, grade, reason) = if wanted == Switch::On {
        (
            FALSE,
            "on",
            Grade::None,
            "Player takes no snapshots; Workstation and Fusion put theirs over the heads",
        )
    } else {
        (
            TRUE,
            "off",
            Grade::UiOnly,
            "snapshot.disabled takes the commands away; files can still be changed by hand",
        )
    };
    vmx.set(key::SNAPSHOT_DISABLED, value);
    gaps.push(Gap::new("policy.snapshots", text, grade, reason));
}

fn suspend(wanted: Switch, vmx: &mut Vmx, gaps: &mut Vec<Gap>) {
    if wanted == Switch::On {
        vmx.set(key::SUSPEND_DISABLED, FALSE);
        return;
    }
    vmx.set(key::SUSPEND_DISABLED, TRUE);
    let reason = "suspend.disabled takes the command away; vmrun may still do it";
    gaps.push(Gap::new("policy.suspend", "off", Grade::UiOnly, reason));
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::HostToGuest => "host-to-guest",
        Direction::GuestToHost => "guest-to-host",
        Direction::Both => "both",
        _ => "off",
    }
}

/// Reports what a reboot inside the guest leaves on layers that are clean at every boot: VMware
/// does not end the run then, so heads are made anew at the next start only.
pub(crate) fn clean_boots(spec: &VmSpec, gaps: &mut Vec<Gap>) {
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
    for layer in spec
        .layers
        .iter()
        .filter(|layer| layer.effective_writes() == Writes::Discard)
    {
        gaps.push(Gap::new(
            format!("layer.{}.writes", layer.name),
            "discard",
            grade,
            reason,
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use stratavm::spec::{Controller, Policy};

    use super::*;
    use crate::testing::{machine, parse_vmx};

    fn written(policy: Policy) -> (BTreeMap<String, String>, Vec<Gap>) {
        let mut spec = machine(Controller::Sata).spec;
        spec.policy = policy;
        let (mut vmx, mut gaps) = (Vmx::new(), Vec::new());
        write(&spec, &mut vmx, &mut gaps);
        (parse_vmx(&vmx.finish().unwrap()), gaps)
    }

    #[test]
    fn everything_off_is_closed_and_said() {
        let (read, gaps) = written(Policy::default());
        for key in [
            "isolation.tools.copy.disable",
            "isolation.tools.paste.disable",
            "isolation.tools.dnd.disable",
            "isolation.tools.hgfs.disable",
            "snapshot.disabled",
            "suspend.disabled",
        ] {
            assert_eq!(read[key], "TRUE", "{key}");
        }
        let keys: Vec<_> = gaps.iter().map(|gap| gap.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "policy.clipboard",
                "policy.drag-and-drop",
                "policy.shared-folders",
                "policy.usb",
                "policy.snapshots",
                "policy.suspend"
            ]
        );
    }

    #[test]
    fn one_way_never_opens_the_other() {
        for (way, copy, paste) in [
            (Direction::HostToGuest, "TRUE", "FALSE"),
            (Direction::GuestToHost, "FALSE", "TRUE"),
        ] {
            let policy = Policy {
                clipboard: way,
                drag_and_drop: way,
                ..Policy::default()
            };
            let (read, gaps) = written(policy);
            assert_eq!(read["isolation.tools.copy.disable"], copy);
            assert_eq!(read["isolation.tools.paste.disable"], paste);
            assert_eq!(read["isolation.tools.dnd.disable"], "TRUE");
            let dnd = gaps
                .iter()
                .find(|gap| gap.key == "policy.drag-and-drop")
                .unwrap();
            assert_eq!(dnd.grade, Grade::None);
        }
    }

    #[test]
    fn everything_on_is_open() {
        let policy = Policy {
            clipboard: Direction::Both,
            drag_and_drop: Direction::Both,
            shared_folders: Switch::On,
            usb: Switch::On,
            snapshots: Switch::On,
            suspend: Switch::On,
        };
        let (read, gaps) = written(policy);
        let closed: Vec<_> = ["copy", "paste", "dnd", "hgfs", "hgfsserverset"]
            .iter()
            .filter(|tool| read[&format!("isolation.tools.{tool}.disable")] != "FALSE")
            .collect();
        assert!(closed.is_empty(), "{closed:?}");
        assert_eq!(read["suspend.disabled"], "FALSE");
        assert_eq!(gaps.len(), 1, "{gaps:?}");
    }

    #[test]
    fn a_reboot_is_reported_for_each_discarded_layer() {
        let mut spec = machine(Controller::Sata).spec;
        let mut gaps = Vec::new();
        clean_boots(&spec, &mut gaps);
        let seen: Vec<_> = gaps
            .iter()
            .map(|gap| (gap.key.as_str(), gap.grade))
            .collect();
        assert_eq!(
            seen,
            [
                ("layer.os.writes", Grade::AccidentOnly),
                ("layer.office.writes", Grade::AccidentOnly)
            ]
        );
        spec.guest.composition = Composition::Disks;
        gaps.clear();
        clean_boots(&spec, &mut gaps);
        assert!(gaps.iter().all(|gap| gap.grade == Grade::None));
    }
}

//! What of a spec QEMU does not do, or not by itself, and how far it goes.

use stratavm::Resolved;
use stratavm::plan::{Gap, Grade};
use stratavm::spec::{Direction, NetworkMode, SecureBoot, Size, Switch, Tpm};

use crate::board::Board;

/// Largest frame buffer of QEMU's standard VGA, in MiB.
const VGA_MOST: u64 = 512;

/// The frame buffer that QEMU's VGA gets for `wanted`, in MiB: it takes powers of two alone.
pub(crate) fn vga_memory(wanted: Size) -> u64 {
    wanted.mib().clamp(1, VGA_MOST).next_power_of_two()
}

/// Everything that is not done as asked. What is off by having no device, channel or menu for it
/// is no gap.
pub(crate) fn gaps(machine: &Resolved, board: Board) -> Vec<Gap> {
    let (hardware, policy) = (&machine.spec.hardware, &machine.spec.policy);
    let mut gaps = Vec::new();
    let mut gap = |key: &str, wanted: &str, grade: Grade, reason: &str| {
        gaps.push(Gap::new(key, wanted, grade, reason));
    };

    if hardware.secure_boot == SecureBoot::On {
        let reason =
            "the firmware starts unsigned boot loaders too: enrolled keys are not set up yet";
        gap("hardware.secure-boot", "true", Grade::None, reason);
    }
    if hardware.tpm != Tpm::Off {
        let reason = "there is no TPM: QEMU needs swtpm beside it, which is not driven yet";
        gap("hardware.tpm", hardware.tpm.as_str(), Grade::None, reason);
    }
    let video = hardware.video_memory.to_string();
    match board {
        Board::Virt => {
            let reason = "virtio-gpu takes what the guest's screen needs";
            gap("hardware.video-memory", &video, Grade::None, reason);
        }
        Board::Pc | Board::Q35 => {
            let given = Size::from_mib(vga_memory(hardware.video_memory));
            if given != hardware.video_memory {
                let reason =
                    format!("the adapter has {given}: it takes powers of two up to 512 MiB");
                gap("hardware.video-memory", &video, Grade::None, &reason);
            }
        }
    }
    for (index, adapter) in hardware.network.iter().enumerate() {
        let reason = match adapter.mode {
            NetworkMode::HostOnly => {
                "the adapter reaches nothing, the host included: QEMU needs a tap device for that, \
                 which an administrator sets up"
            }
            NetworkMode::Bridged => {
                "the adapter is connected by address translation: QEMU needs a bridge for that, \
                 which an administrator sets up"
            }
            NetworkMode::None => "the guest sees a cable, with nothing at its other end",
            _ => continue,
        };
        let key = format!("hardware.network.{index}.mode");
        gap(&key, adapter.mode.as_str(), Grade::None, reason);
    }

    for (key, direction, what) in [
        ("policy.clipboard", policy.clipboard, "clipboard"),
        (
            "policy.drag-and-drop",
            policy.drag_and_drop,
            "drag and drop",
        ),
    ] {
        if direction != Direction::Off {
            let reason =
                format!("{what} stays closed: there is no channel to an agent in the guest");
            gap(key, direction_text(direction), Grade::None, &reason);
        }
    }
    for (key, switch, grade, reason) in [
        (
            "policy.shared-folders",
            policy.shared_folders,
            Grade::None,
            "no folder is shared: QEMU needs virtiofsd beside it, which is not driven",
        ),
        (
            "policy.usb",
            policy.usb,
            Grade::Player,
            "there is a controller; the player passes devices on by QMP device_add",
        ),
        (
            "policy.snapshots",
            policy.snapshots,
            Grade::None,
            "QEMU offers the user none of its own over VMDK chains",
        ),
        (
            "policy.suspend",
            policy.suspend,
            Grade::None,
            "QEMU keeps no saved state over VMDK chains; the guest itself may sleep",
        ),
    ] {
        if switch == Switch::On {
            gap(key, "on", grade, reason);
        }
    }
    gaps
}

fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::HostToGuest => "host-to-guest",
        Direction::GuestToHost => "guest-to-host",
        Direction::Both => "both",
        _ => "off",
    }
}

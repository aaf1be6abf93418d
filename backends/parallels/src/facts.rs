//! What is known of the product, as data, with how well it is known.
//!
//! Marks: `[S]` public source or documentation of the vendor (some of it of Virtuozzo, which shares
//! the lineage), `[P]` a public configuration that Parallels Desktop is known to take, `[K]` one
//! user's note, from memory or inferred. Nothing was tried on a real product here; everything
//! marked `[K]` is a hypothesis that a run on a real host has to confirm.

use stratavm::spec::{Arch, GuestOs};

/// The version whose layout of `config.pvs` is followed: AlmaLinux's Vagrant box for Apple silicon.
/// `[P]`
pub(crate) const APP_VERSION: &str = "26.3.2-57398";
/// The product that this layout is known of. Older ones probably take it too. `[K]`
pub(crate) const NEEDS: &str = "Parallels Desktop 26.3";

/// The date that stands for "never". `[S]`
pub(crate) const NEVER: &str = "1752-01-01 00:00:00";

/// Devices on each bus: SATA 6 and IDE 4 `[S]` (Virtuozzo), SCSI 15 beside the adapter `[S]`. How
/// many NVMe takes is not known; as many as VMware's `[K]`, so that no guess refuses a machine.
pub(crate) const SATA_PORTS: u32 = 6;
/// See [`SATA_PORTS`]. Unit 7 is the adapter, so the highest is 15.
pub(crate) const SCSI_UNITS: u32 = 15;
/// See [`SATA_PORTS`].
pub(crate) const IDE_UNITS: u32 = 4;
/// See [`SATA_PORTS`].
pub(crate) const NVME_UNITS: u32 = 15;

/// `InterfaceType`: 0 to 2 `[S]`, 3 `[K]` (virtio on Virtuozzo).
pub(crate) const INTERFACE_IDE: u32 = 0;
/// See [`INTERFACE_IDE`].
pub(crate) const INTERFACE_SCSI: u32 = 1;
/// See [`INTERFACE_IDE`].
pub(crate) const INTERFACE_SATA: u32 = 2;
/// See [`INTERFACE_IDE`].
pub(crate) const INTERFACE_NVME: u32 = 3;

/// `SubType` of what is attached by SCSI, the same for all of a machine; 0 is BusLogic, which UEFI
/// and 64-bit Windows cannot use. `[S]`
pub(crate) const SCSI_LSI_SPI: u32 = 1;
/// See [`SCSI_LSI_SPI`].
pub(crate) const SCSI_LSI_SAS: u32 = 2;

/// `BootDevice/Type`. `[S]`
pub(crate) const BOOT_CDROM: u32 = 5;
/// See [`BOOT_CDROM`].
pub(crate) const BOOT_DISK: u32 = 6;

/// `Bios/EfiEnabled`: 0 and 1 `[S]`, 5 on Apple silicon `[P]`.
pub(crate) const EFI_OFF: u32 = 0;
/// See [`EFI_OFF`].
pub(crate) const EFI_X86: u32 = 1;
/// See [`EFI_OFF`].
pub(crate) const EFI_ARM: u32 = 5;

/// `Startup/WindowMode`: as it was left `[S]`; without a window `[K]`.
pub(crate) const WINDOW_DEFAULT: u32 = 0;
/// See [`WINDOW_DEFAULT`].
pub(crate) const WINDOW_HEADLESS: u32 = 5;

/// `Shutdown/AutoStop`, when the Mac shuts down. `[S]`
pub(crate) const AUTO_STOP_SUSPEND: u32 = 1;
/// See [`AUTO_STOP_SUSPEND`].
pub(crate) const AUTO_STOP_SHUTDOWN: u32 = 2;

/// `Shutdown/OnVmWindowClose`. `[S]`
pub(crate) const CLOSE_SUSPEND: u32 = 1;
/// See [`CLOSE_SUSPEND`].
pub(crate) const CLOSE_SHUTDOWN: u32 = 4;
/// See [`CLOSE_SUSPEND`].
pub(crate) const CLOSE_NOTHING: u32 = 5;

/// `NetworkAdapter/EmulatedType`. `[S]`
pub(crate) const NET_HOST_ONLY: u32 = 0;
/// See [`NET_HOST_ONLY`].
pub(crate) const NET_SHARED: u32 = 1;
/// See [`NET_HOST_ONLY`].
pub(crate) const NET_BRIDGED: u32 = 2;

/// Network adapters of one machine. `[K]`
pub(crate) const MOST_ADAPTERS: usize = 16;

/// `NetworkAdapter/AdapterType`. `[S]`
pub(crate) const ADAPTER_E1000: u32 = 2;
/// See [`ADAPTER_E1000`].
pub(crate) const ADAPTER_VIRTIO: u32 = 3;
/// See [`ADAPTER_E1000`].
pub(crate) const ADAPTER_E1000E: u32 = 4;

/// `Runtime/HypervisorType` on Apple silicon. `[P]`
pub(crate) const HYPERVISOR_ARM: u32 = 1;

/// `Sound/AdvancedType`: HD audio. `[P]`
pub(crate) const SOUND_HDA: u32 = 2;

/// `Serial/EmulatedType`: into a file. `[S]`
pub(crate) const SERIAL_FILE: u32 = 2;

/// `OsNumber` by the beginning of the spec's `guest.id`, in lower case and without anything but
/// letters and digits; its high byte is `OsType`. `[S]` (`PrlOses.h` of Virtuozzo's SDK).
const OS_NUMBERS: [(&str, u16); 20] = [
    ("debian", 0x0906),
    ("ubuntu", 0x090a),
    ("fedora", 0x0907),
    ("rhel", 0x0901),
    ("centos", 0x090d),
    ("rocky", 0x090d),
    ("alma", 0x090d),
    ("sles", 0x0902),
    ("opensuse", 0x090f),
    ("mageia", 0x0911),
    ("mint", 0x0912),
    ("linux", 0x0905),
    ("freebsd", 0x0aff),
    ("windows7", 0x080b),
    ("windows8", 0x080c),
    ("windows10", 0x080f),
    ("windows2012", 0x080d),
    ("windows2016", 0x0810),
    ("windows2019", 0x0811),
    ("solaris", 0x0eff),
];

/// What kind of guest a configuration says it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestChoice {
    /// The value of `OsNumber`.
    pub(crate) number: u16,
    /// Whether it is what the spec names.
    pub(crate) fit: Fit,
}

impl GuestChoice {
    /// The value of `OsType`.
    pub(crate) const fn kind(self) -> u16 {
        self.number >> 8
    }
}

/// How well a guest identifier fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The spec's id is in the table, or the spec has none.
    Known,
    /// The table lacks the spec's id: only the kind of operating system is right.
    KindOnly,
}

/// The guest identifier for what the spec says.
pub(crate) fn guest(guest_id: Option<&str>, os: GuestOs) -> GuestChoice {
    let plain: String = guest_id
        .unwrap_or_default()
        .to_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let plain = plain.replacen("windowsserver", "windows", 1);
    let known = OS_NUMBERS
        .iter()
        .find(|(start, _)| starts_as_word(&plain, start));
    match (known, os) {
        (Some((_, number)), _) => GuestChoice {
            number: *number,
            fit: Fit::Known,
        },
        (None, os) => GuestChoice {
            number: match os {
                GuestOs::Linux => 0x0905,
                GuestOs::Windows => 0x080f,
                _ => 0xffff,
            },
            fit: if guest_id.is_none() {
                Fit::Known
            } else {
                Fit::KindOnly
            },
        },
    }
}

/// `windows1` does not start `windows10`.
fn starts_as_word(text: &str, start: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.strip_prefix(start)
        .is_some_and(|rest| !(digit(start.chars().last()) && digit(rest.chars().next())))
}

/// `Cpu/Mode` and `Cpu/Type`, `Chipset/Type` and `Chipset/Version`, `Video/Type` of an architecture:
/// Arm `[P]`, x86 the chipset `[P]`, mode and type `[S]`, the graphics `[K]`.
pub(crate) const fn processor(arch: Arch) -> Processor {
    match arch {
        Arch::Aarch64 => Processor {
            mode: 0,
            kind: 1,
            chipset: 2,
            chipset_version: 2,
            video: 1,
        },
        _ => Processor {
            mode: 1,
            kind: 0,
            chipset: 1,
            chipset_version: 3,
            video: 0,
        },
    }
}

/// See [`processor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processor {
    pub(crate) mode: u32,
    pub(crate) kind: u32,
    pub(crate) chipset: u32,
    pub(crate) chipset_version: u32,
    pub(crate) video: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_found_by_their_beginning() {
        let number = |id, os| guest(Some(id), os).number;
        assert_eq!(number("debian12", GuestOs::Linux), 2310);
        assert_eq!(number("AlmaLinux 9", GuestOs::Linux), 2317);
        assert_eq!(number("windows-server-2019", GuestOs::Windows), 0x0811);
        assert_eq!(guest(Some("debian12"), GuestOs::Linux).kind(), 9);
        assert_eq!(guest(None, GuestOs::Linux).fit, Fit::Known);
        let eleven = guest(Some("windows11"), GuestOs::Windows);
        assert_eq!(
            (eleven.number, eleven.kind(), eleven.fit),
            (0x080f, 8, Fit::KindOnly)
        );
        assert_eq!(guest(Some("windows100"), GuestOs::Other).kind(), 255);
    }
}

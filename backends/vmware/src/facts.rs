//! What is known of the products, as data, with how well it is known.
//!
//! Marks: `[S]` public source or documentation of the vendor, `[P]` several independent public
//! files that are in use, `[K]` from memory or inferred. None was tried on a real product here;
//! everything marked `[K]` is a hypothesis that a run on a real host has to confirm.

use stratavm::spec::{Arch, Firmware, GuestOs};

/// Virtual hardware versions that we choose from, lowest first, and the first products that take
/// them. Later products take every earlier version. 20: `[S]` for Fusion, `[K]` for Workstation;
/// 21: `[K]`.
pub(crate) const HARDWARE_VERSIONS: [HardwareVersion; 2] = [
    HardwareVersion {
        number: 20,
        x86: "Workstation/Player 17.0, Fusion 13.0",
        arm: "Fusion 13.0",
    },
    HardwareVersion {
        number: 21,
        x86: "Workstation/Player 17.5, Fusion 13.5",
        arm: "Fusion 13.5",
    },
];

/// One virtual hardware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HardwareVersion {
    pub(crate) number: u32,
    x86: &'static str,
    arm: &'static str,
}

impl HardwareVersion {
    /// The lowest version of [`HARDWARE_VERSIONS`] that is at least `number`.
    pub(crate) fn at_least(number: u32) -> Self {
        let [lowest, highest] = HARDWARE_VERSIONS;
        if number <= lowest.number {
            lowest
        } else {
            highest
        }
    }

    /// The first products that take it.
    pub(crate) fn products(self, arch: Arch) -> &'static str {
        if arch == Arch::Aarch64 {
            self.arm
        } else {
            self.x86
        }
    }
}

/// Virtual processors and memory (MiB) that the products of [`HARDWARE_VERSIONS`] are documented to
/// run at most. `[K]`
pub(crate) const MOST_CPUS: u32 = 32;
/// See [`MOST_CPUS`].
pub(crate) const MOST_MEMORY_MIB: u64 = 128 * 1024;

/// Devices that one adapter takes: `[K]` for SATA and NVMe, `[S]` for SCSI (unit 7 is the adapter)
/// and IDE.
pub(crate) const SATA_PORTS: u32 = 30;
/// See [`SATA_PORTS`]. The highest unit is 15.
pub(crate) const SCSI_UNITS: u32 = 15;
/// See [`SATA_PORTS`].
pub(crate) const NVME_UNITS: u32 = 15;
/// See [`SATA_PORTS`].
pub(crate) const IDE_UNITS: u32 = 4;

/// The firmwares that boot from NVMe: Workstation's wizard offers it with both. `[K]`
pub(crate) const NVME_BOOTS: [Firmware; 2] = [Firmware::Bios, Firmware::Uefi];

/// Network adapters of one machine, `ethernet0` to `ethernet9`. `[K]`
pub(crate) const MOST_ADAPTERS: usize = 10;

/// The last address of the static range 00:50:56:00:00:00 to 00:50:56:3f:ff:ff, which VMware takes
/// without `checkMACAddress = "FALSE"`. `[P]`
pub(crate) const STATIC_MAC_PREFIX: [u8; 3] = [0x00, 0x50, 0x56];
/// See [`STATIC_MAC_PREFIX`].
pub(crate) const STATIC_MAC_LAST_FOURTH: u8 = 0x3f;

/// Keys whose effect rests on public use or memory alone, and what they are believed to do.
pub(crate) mod key {
    /// 0: the real-time clock holds universal time. Without it, the host's local time. `[P]`
    pub(crate) const RTC_FROM_UTC: &str = "rtc.diffFromUTC";
    /// Takes suspending away in the products' windows. `[S]` Broadcom KB 341099 asks for it.
    pub(crate) const SUSPEND_DISABLED: &str = "suspend.disabled";
    /// Takes snapshots away in the products' windows. `[K]`
    pub(crate) const SNAPSHOT_DISABLED: &str = "snapshot.disabled";
    /// What to answer when a serial port's file is there already. `[P]`
    pub(crate) const SERIAL_ANSWER: &str = "answer.msg.serial.file.open";
    /// TRUE: nothing is copied out of the guest. That the ways are kept apart is `[K]`.
    pub(crate) const CLIPBOARD_OUT_DISABLE: &str = "isolation.tools.copy.disable";
    /// TRUE: nothing is pasted into the guest. See [`CLIPBOARD_OUT_DISABLE`].
    pub(crate) const CLIPBOARD_IN_DISABLE: &str = "isolation.tools.paste.disable";
    /// Keeps the host's USB devices out. `[P]`
    pub(crate) const USB_ALLOW: &str = "usb.restrictions.defaultAllow";
    /// Which disk a BIOS boots from. `[P]`
    pub(crate) const BIOS_DISK_ORDER: &str = "bios.hddOrder";
    /// What is tried for booting, in order; whether UEFI follows it is `[K]`.
    pub(crate) const BOOT_ORDER: &str = "bios.bootOrder";
}

/// A guest identifier, by the beginning of the spec's `guest.id`.
struct GuestId {
    /// What the id starts with, in lower case and without anything but letters and digits.
    starts: &'static str,
    /// The value of `guestOS` on x86.
    x86: &'static str,
    /// The value on Arm, where there is one.
    arm: Option<&'static str>,
    /// The virtual hardware version that came with it. `[K]` where it is not 20.
    hardware: u32,
}

const fn id(starts: &'static str, x86: &'static str, arm: Option<&'static str>) -> GuestId {
    GuestId {
        starts,
        x86,
        arm,
        hardware: 20,
    }
}

const fn late(starts: &'static str, x86: &'static str) -> GuestId {
    GuestId {
        starts,
        x86,
        arm: None,
        hardware: 21,
    }
}

const ARM_LINUX: Option<&str> = Some("arm-other5xlinux-64");

/// Values of `guestOS`: open-vm-tools, `lib/include/guest_os_tables.h`. `[S]`; the Arm ones of
/// Fedora `[K]`.
const GUEST_IDS: [GuestId; 42] = [
    id("debian10", "debian10-64", Some("arm-debian-64")),
    id("debian11", "debian11-64", Some("arm-debian-64")),
    id("debian12", "debian12-64", Some("arm-debian-64")),
    late("debian13", "debian13-64"),
    id("debian", "debian12-64", Some("arm-debian-64")),
    id("ubuntu", "ubuntu-64", Some("arm-ubuntu-64")),
    id("fedora", "fedora-64", Some("arm-fedora-64")),
    id("rhel7", "rhel7-64", None),
    id("rhel8", "rhel8-64", ARM_LINUX),
    id("rhel9", "rhel9-64", Some("arm-rhel9-64")),
    id("rhel", "rhel9-64", Some("arm-rhel9-64")),
    id("centos7", "centos7-64", None),
    id("centos8", "centos8-64", ARM_LINUX),
    id("centos", "centos9-64", ARM_LINUX),
    id("rocky", "rockylinux-64", ARM_LINUX),
    id("alma", "almalinux-64", ARM_LINUX),
    id("oracle7", "oraclelinux7-64", None),
    id("oracle8", "oraclelinux8-64", ARM_LINUX),
    id("oracle", "oraclelinux9-64", ARM_LINUX),
    id("sles12", "sles12-64", None),
    id("sles", "sles15-64", ARM_LINUX),
    id("opensuse", "opensuse-64", ARM_LINUX),
    id("amazon", "amazonlinux2-64", ARM_LINUX),
    id("photon", "vmware-photon-64", Some("arm-vmware-photon-64")),
    id("arch", "other5xlinux-64", ARM_LINUX),
    id("alpine", "other5xlinux-64", ARM_LINUX),
    id("nixos", "other5xlinux-64", ARM_LINUX),
    id("linux", "other5xlinux-64", ARM_LINUX),
    id("freebsd12", "freeBSD12-64", None),
    id("freebsd13", "freeBSD13-64", Some("arm-freebsd13-64")),
    id("freebsd14", "freeBSD14-64", Some("arm-freebsd14-64")),
    id("freebsd", "freeBSD-64", None),
    id("windows7", "windows7-64", None),
    id("windows8", "windows8-64", None),
    id("windows10", "windows9-64", Some("arm-windows9-64")),
    id("windows11", "windows11-64", Some("arm-windows11-64")),
    id("windows2012", "windows8srv-64", None),
    id("windows2016", "windows9srv-64", None),
    id("windows2019", "windows2019srv-64", None),
    id("windows2022", "windows2019srvNext-64", None),
    late("windows2025", "windows2022srvNext-64"),
    id("solaris11", "solaris11-64", None),
];

/// The guest identifier of a spec, and the virtual hardware version that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestChoice {
    /// The value of `guestOS`.
    pub(crate) value: &'static str,
    /// The lowest virtual hardware version that knows it.
    pub(crate) hardware: u32,
    /// Whether it is what the spec names, or only the kind of system.
    pub(crate) fit: Fit,
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
pub(crate) fn guest_id(guest_id: Option<&str>, os: GuestOs, arch: Arch) -> GuestChoice {
    let plain: String = guest_id
        .unwrap_or_default()
        .to_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let plain = plain.replacen("windowsserver", "windows", 1);
    let entry = GUEST_IDS
        .iter()
        .filter(|entry| starts_as_word(&plain, entry.starts))
        .max_by_key(|entry| entry.starts.len());
    let known = entry.and_then(|entry| {
        let value = if arch == Arch::Aarch64 {
            entry.arm
        } else {
            Some(entry.x86)
        };
        value.map(|value| GuestChoice {
            value,
            hardware: entry.hardware,
            fit: Fit::Known,
        })
    });
    known.unwrap_or_else(|| GuestChoice {
        value: kind_id(os, arch),
        hardware: 0,
        fit: if guest_id.is_none() {
            Fit::Known
        } else {
            Fit::KindOnly
        },
    })
}

/// `debian1` does not start `debian12`.
fn starts_as_word(text: &str, start: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.strip_prefix(start)
        .is_some_and(|rest| !(digit(start.chars().last()) && digit(rest.chars().next())))
}

const fn kind_id(os: GuestOs, arch: Arch) -> &'static str {
    match (os, arch) {
        (GuestOs::Linux, Arch::Aarch64) => "arm-other5xlinux-64",
        (GuestOs::Linux, _) => "other5xlinux-64",
        (GuestOs::Windows, Arch::Aarch64) => "arm-windows11-64",
        (GuestOs::Windows, _) => "windows9-64",
        (_, Arch::Aarch64) => "arm-other-64",
        _ => "other-64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ids_follow_the_longest_known_beginning() {
        let value = |id: &str, os, arch| guest_id(Some(id), os, arch).value;
        for (id, x86, arm) in [
            ("debian12", "debian12-64", "arm-debian-64"),
            ("Ubuntu-24.04", "ubuntu-64", "arm-ubuntu-64"),
            ("rhel10", "rhel9-64", "arm-rhel9-64"),
            ("centos7", "centos7-64", "arm-other5xlinux-64"),
        ] {
            assert_eq!(value(id, GuestOs::Linux, Arch::X86_64), x86);
            assert_eq!(value(id, GuestOs::Linux, Arch::Aarch64), arm);
        }
        assert_eq!(
            value("windows-server-2022", GuestOs::Windows, Arch::X86_64),
            "windows2019srvNext-64"
        );
        assert_eq!(
            value("windows11", GuestOs::Windows, Arch::Aarch64),
            "arm-windows11-64"
        );
    }

    #[test]
    fn an_unknown_id_is_said_to_be_unknown() {
        let unknown = guest_id(Some("temple"), GuestOs::Other, Arch::X86_64);
        assert_eq!((unknown.value, unknown.fit), ("other-64", Fit::KindOnly));
        assert_eq!(guest_id(None, GuestOs::Linux, Arch::X86_64).fit, Fit::Known);
        assert_eq!(
            guest_id(Some("windows7"), GuestOs::Windows, Arch::Aarch64).fit,
            Fit::KindOnly
        );
    }

    #[test]
    fn a_late_guest_needs_later_hardware() {
        let late = guest_id(Some("windows2025"), GuestOs::Windows, Arch::X86_64);
        assert_eq!(HardwareVersion::at_least(late.hardware).number, 21);
        assert_eq!(HardwareVersion::at_least(0).number, 20);
    }
}

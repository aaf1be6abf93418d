//! The virtual mainboards and the fixed PCI address of everything that is plugged in.
//!
//! Addresses depend on a device's kind and number alone, never on what else is there, so device
//! paths in the guest stay the same when a layer is added or removed. Machine types carry a
//! version: a newer QEMU then still shows the guest the same hardware.

use stratavm::spec::{Arch, Firmware, Hardware};
use stratavm::{Error, ErrorKind, Result};

/// A mainboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Board {
    /// x86 with a BIOS: i440FX and PIIX3, which brings the IDE controller.
    Pc,
    /// x86 with UEFI: Q35, without its own AHCI controller (ours has a fixed address).
    Q35,
    /// aarch64 with UEFI.
    Virt,
}

impl Board {
    /// The board for what the spec asks for.
    ///
    /// # Errors
    /// A BIOS on aarch64, which does not exist.
    pub(crate) fn of(arch: Arch, hardware: &Hardware) -> Result<Self> {
        match (arch, hardware.firmware) {
            (Arch::X86_64, Firmware::Bios) => Ok(Self::Pc),
            (Arch::X86_64, Firmware::Uefi) => Ok(Self::Q35),
            (Arch::Aarch64, Firmware::Uefi) => Ok(Self::Virt),
            (arch, firmware) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "hardware.firmware = \"{firmware}\": there is no such machine for {arch:?}"
                ),
            )
            .next("set hardware.firmware = \"uefi\"")),
        }
    }

    /// The program that emulates it.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Pc | Self::Q35 => "qemu-system-x86_64",
            Self::Virt => "qemu-system-aarch64",
        }
    }

    /// The value of `-machine`. These types came with [`crate::detect::MINIMUM`].
    pub(crate) const fn machine(self) -> &'static str {
        match self {
            Self::Pc => "pc-i440fx-7.2",
            Self::Q35 => "pc-q35-7.2,sata=off",
            Self::Virt => "virt-7.2,gic-version=max",
        }
    }

    /// The root bus.
    const fn root(self) -> &'static str {
        match self {
            Self::Pc => "pci.0",
            Self::Q35 | Self::Virt => "pcie.0",
        }
    }

    /// The bridge that gives more conventional PCI slots.
    const fn bridge(self) -> &'static str {
        match self {
            Self::Pc => "pci-bridge",
            Self::Q35 | Self::Virt => "pcie-pci-bridge",
        }
    }

    /// The place of a device that exists once, by its number in the table of this module.
    pub(crate) fn fixed(self, address: u8) -> PciPlace {
        PciPlace {
            bus: self.root().to_owned(),
            address,
            bridge: None,
        }
    }

    /// The place of device `number` of a kind: the first ones on the root bus, the others behind a
    /// bridge of their kind. `None` where the bridge is full as well.
    pub(crate) fn numbered(self, range: &Range, number: u32) -> Option<PciPlace> {
        let number = u8::try_from(number).ok()?;
        if number < range.count {
            return Some(self.fixed(range.first + number));
        }
        // Slot 0 of a bridge is its hot-plug controller's.
        let address = number - range.count + 1;
        (address <= LAST_SLOT).then(|| PciPlace {
            bus: range.bridge.to_owned(),
            address,
            bridge: Some(Bridge {
                driver: self.bridge(),
                id: range.bridge,
                place: (self.root(), range.bridge_at),
            }),
        })
    }
}

/// Last slot of a PCI bus.
const LAST_SLOT: u8 = 0x1f;

// The root bus. 0x00 is the host bridge; 0x01 the PIIX3 of `Pc`, 0x1f the ICH9 of `Q35`.

/// Keyboard of a machine without PS/2.
pub(crate) const KEYBOARD: u8 = 0x01;
/// Graphics adapter.
pub(crate) const GRAPHICS: u8 = 0x02;
/// Sound.
pub(crate) const AUDIO: u8 = 0x03;
/// The SCSI adapter.
pub(crate) const SCSI: u8 = 0x04;
/// The AHCI controllers of disks, six ports each.
pub(crate) const SATA: [u8; 4] = [0x05, 0x06, 0x07, 0x08];
/// The controller of CD-ROM drives where there is no IDE.
pub(crate) const CDROM: u8 = 0x09;
/// Network adapters.
pub(crate) const NETWORK: Range = Range {
    first: 0x0a,
    count: 3,
    bridge: "netbus",
    bridge_at: 0x0d,
};
/// virtio-blk disks.
pub(crate) const VIRTIO: Range = Range {
    first: 0x10,
    count: 7,
    bridge: "virtiobus",
    bridge_at: 0x0e,
};
/// NVMe disks.
pub(crate) const NVME: Range = Range {
    first: 0x17,
    count: 7,
    bridge: "nvmebus",
    bridge_at: 0x0f,
};
/// The USB controller.
pub(crate) const USB: u8 = 0x1e;
/// The pointer of a machine without PS/2.
pub(crate) const POINTER: u8 = 0x1f;

/// Addresses of a kind of device of which there may be many.
#[derive(Debug)]
pub(crate) struct Range {
    first: u8,
    count: u8,
    bridge: &'static str,
    bridge_at: u8,
}

impl Range {
    /// How many devices there is room for.
    pub(crate) const fn capacity(&self) -> u32 {
        self.count as u32 + LAST_SLOT as u32
    }
}

/// Where a PCI device is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PciPlace {
    bus: String,
    address: u8,
    /// The bridge that must be there for it.
    pub(crate) bridge: Option<Bridge>,
}

impl PciPlace {
    /// The properties `bus` and `addr` of `-device`.
    pub(crate) fn properties(&self) -> (String, String) {
        (self.bus.clone(), format!("{:#04x}", self.address))
    }
}

impl std::fmt::Display for PciPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} slot {:#04x}", self.bus, self.address)
    }
}

/// A PCI bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bridge {
    driver: &'static str,
    id: &'static str,
    place: (&'static str, u8),
}

impl Bridge {
    /// Driver and properties of its `-device`.
    pub(crate) fn device(&self) -> (&'static str, Vec<(&'static str, String)>) {
        let mut properties = vec![
            ("id", self.id.to_owned()),
            ("bus", self.place.0.to_owned()),
            ("addr", format!("{:#04x}", self.place.1)),
        ];
        if self.driver == "pci-bridge" {
            // Must be there and unique; its place on the root bus is both.
            properties.push(("chassis_nr", self.place.1.to_string()));
        }
        (self.driver, properties)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_devices_share_an_address() {
        let mut taken = BTreeSet::from([0]);
        let single = [KEYBOARD, GRAPHICS, AUDIO, SCSI, CDROM, USB, POINTER];
        for address in single.into_iter().chain(SATA) {
            assert!(taken.insert(address), "{address:#x}");
        }
        for range in [NETWORK, VIRTIO, NVME] {
            assert!(taken.insert(range.bridge_at));
            for address in range.first..range.first + range.count {
                assert!(taken.insert(address), "{address:#x}");
            }
        }
        assert!(taken.into_iter().all(|address| address <= LAST_SLOT));
    }

    #[test]
    fn numbers_beyond_the_root_bus_go_behind_a_bridge() {
        assert_eq!(
            Board::Pc.numbered(&VIRTIO, 0).unwrap().properties(),
            ("pci.0".into(), "0x10".into())
        );
        let behind = Board::Pc.numbered(&VIRTIO, 7).unwrap();
        assert_eq!(behind.properties(), ("virtiobus".into(), "0x01".into()));
        assert_eq!(behind.bridge.unwrap().device().0, "pci-bridge");
        let last = VIRTIO.capacity() - 1;
        assert_eq!(
            Board::Q35.numbered(&VIRTIO, last).unwrap().properties().1,
            "0x1f"
        );
        assert_eq!(Board::Q35.numbered(&VIRTIO, last + 1), None);
        assert_eq!(Board::Q35.numbered(&VIRTIO, 4000), None);
    }
}

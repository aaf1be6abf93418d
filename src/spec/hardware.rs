//! The virtual hardware that a spec asks for.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Size;
use super::choice::choice;

/// The `[hardware]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hardware {
    /// Number of virtual processors, 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub cpus: u32,
    /// Memory; a multiple of 4 MiB, 16 MiB to 1 TiB.
    pub memory: Size,
    /// What starts the guest.
    pub firmware: Firmware,
    /// Whether the firmware takes only signed boot loaders (UEFI).
    pub secure_boot: SecureBoot,
    /// The trusted platform module.
    pub tpm: Tpm,
    /// What the real-time clock holds.
    pub clock: Clock,
    /// The controller of every disk that names none itself.
    pub controller: Controller,
    /// Where the first serial port goes.
    pub console: Console,
    /// Whether the guest's screen is shown.
    pub display: Display,
    /// Memory of the graphics adapter.
    pub video_memory: Size,
    /// Sound.
    pub audio: Audio,
    /// What is tried for booting, in order.
    #[schemars(length(min = 1))]
    pub boot: Vec<BootDevice>,
    /// Network adapters, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub network: Vec<Network>,
    /// CD-ROM drives, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub cdrom: Vec<Cdrom>,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory: Size::from_mib(512),
            firmware: Firmware::default(),
            secure_boot: SecureBoot::default(),
            tpm: Tpm::default(),
            clock: Clock::default(),
            controller: Controller::default(),
            console: Console::default(),
            display: Display::default(),
            video_memory: Size::from_mib(16),
            audio: Audio::default(),
            boot: vec![BootDevice::Disk],
            network: Vec::new(),
            cdrom: Vec::new(),
        }
    }
}

/// One `[[hardware.network]]` table: a network adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    /// What the adapter is connected to.
    pub mode: NetworkMode,
    /// The adapter's address; derived from the machine's identity where it is `auto`.
    #[serde(default)]
    pub mac: MacAddress,
}

/// One `[[hardware.cdrom]]` table: a drive with a medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cdrom {
    /// The medium: an ISO image, relative to the spec's folder or absolute.
    pub image: String,
}

choice! {
    /// What starts the guest.
    Firmware {
        @default Bios = "bios" "A PC BIOS.",
        Uefi = "uefi" "UEFI.",
    }
}
choice! {
    /// The trusted platform module.
    Tpm {
        @default Off = "off" "None.",
        V2 = "2.0" "A TPM 2.0.",
    }
}
choice! {
    /// What the real-time clock holds.
    Clock {
        @default Utc = "utc" "Universal time.",
        Local = "local" "The host's local time.",
    }
}
choice! {
    /// The controller that a disk is attached to.
    Controller {
        @default Auto = "auto" "What the product and guest work best with.",
        Ide = "ide" "Parallel ATA; x86 with BIOS only; four devices in all.",
        Sata = "sata" "AHCI.",
        Scsi = "scsi" "A parallel SCSI adapter; which one depends on the product.",
        Nvme = "nvme" "NVM Express.",
        Virtio = "virtio" "virtio block or SCSI; QEMU and VirtualBox only.",
    }
}
choice! {
    /// Where the first serial port goes.
    Console {
        @default None = "none" "There is no serial port.",
        Log = "log" "Into a file of the machine.",
    }
}
choice! {
    /// Whether the guest's screen is shown.
    Display {
        @default None = "none" "No window.",
        Window = "window" "A window on the host's desktop.",
    }
}
choice! {
    /// Sound.
    Audio {
        @default Off = "off" "No sound card.",
        On = "on" "A sound card that plays on the host.",
    }
}
choice! {
    /// What the firmware boots from.
    BootDevice {
        Disk = "disk" "The first disk, which is the operating system's.",
        Cdrom = "cdrom" "The first CD-ROM drive.",
    }
}
choice! {
    /// What a network adapter is connected to.
    NetworkMode {
        Nat = "nat" "The host's network, by address translation.",
        HostOnly = "host-only" "The host and other machines on it.",
        Bridged = "bridged" "The host's physical network.",
        None = "none" "An adapter without a cable.",
    }
}

/// Whether the firmware takes only signed boot loaders: `true` or `false` in a spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(from = "bool", into = "bool")]
#[schemars(with = "bool")]
#[non_exhaustive]
pub enum SecureBoot {
    /// Any boot loader starts.
    #[default]
    Off,
    /// Only signed ones do.
    On,
}

impl From<bool> for SecureBoot {
    fn from(value: bool) -> Self {
        if value { Self::On } else { Self::Off }
    }
}

impl From<SecureBoot> for bool {
    fn from(value: SecureBoot) -> Self {
        value == SecureBoot::On
    }
}

/// A network adapter's address: `auto`, or six octets as `00:50:56:01:02:03`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum MacAddress {
    /// Derived from the machine's identity.
    #[default]
    Auto,
    /// This one.
    Fixed([u8; 6]),
}

/// Why a text is no [`MacAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacAddressError {
    /// Not six pairs of hexadecimal digits.
    #[error("{0:?} is no MAC address: write \"auto\" or six octets such as \"00:50:56:01:02:03\"")]
    Form(String),
    /// A group address, which no adapter may have (IEEE 802-2014, section 8.2).
    #[error("{0:?} is a multicast address; an adapter needs a unicast one")]
    Multicast(String),
    /// All zeros.
    #[error("{0:?} is the null address")]
    Null(String),
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let form = || MacAddressError::Form(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(form)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(form());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| form())?;
        }
        if parts.next().is_some() {
            return Err(form());
        }
        if octets == [0; 6] {
            return Err(MacAddressError::Null(text.to_owned()));
        }
        if octets[0] & 1 == 1 {
            return Err(MacAddressError::Multicast(text.to_owned()));
        }
        Ok(Self::Fixed(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, MacAddressError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl JsonSchema for MacAddress {
    fn schema_name() -> Cow<'static, str> {
        "MacAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(auto|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5})$",
            "description": "\"auto\" or six octets such as \"00:50:56:01:02:03\""
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mac_addresses_are_checked() {
        let mac: MacAddress = "00:50:56:0A:02:03".parse().unwrap();
        assert_eq!(mac.to_string(), "00:50:56:0a:02:03");
        assert_eq!("auto".parse::<MacAddress>().unwrap(), MacAddress::Auto);
        for bad in [
            "",
            "00:50:56:01:02",
            "00:50:56:01:02:03:04",
            "0:50:56:01:02:03",
            "00-50-56-01-02-03",
        ] {
            assert!(
                matches!(bad.parse::<MacAddress>(), Err(MacAddressError::Form(_))),
                "{bad:?}"
            );
        }
        assert!(matches!(
            "01:00:5e:00:00:01".parse::<MacAddress>(),
            Err(MacAddressError::Multicast(_))
        ));
        assert!(matches!(
            "00:00:00:00:00:00".parse::<MacAddress>(),
            Err(MacAddressError::Null(_))
        ));
    }
}

//! The settings file: machine, hardware, network, policies. Element and attribute names, and what
//! each version reads, are those of VirtualBox's own reader of settings (versions 1.15 to 1.19).

use stratavm::Result;
use stratavm::plan::{Gap, Grade};
use stratavm::resolved::{Resolved, slash_path};
use stratavm::spec::{
    Audio, BootDevice, Clock, Console, Controller, Display, Firmware, Hardware, Network,
    NetworkMode, SecureBoot, Switch, Tpm,
};

use crate::backend::{unicode, unsupported};
use crate::capability::NETWORK_ADAPTERS;
use crate::disks::{Layout, braced};
use crate::guest_os::os_type;
use crate::policy;
use crate::xml::Element;

/// A product version that brought settings we may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V5_0,
    V5_1,
    V6_1,
    V7_0,
}

impl Version {
    pub(crate) const fn product(self) -> &'static str {
        match self {
            Self::V5_0 => "5.0",
            Self::V5_1 => "5.1",
            Self::V6_1 => "6.1",
            Self::V7_0 => "7.0",
        }
    }

    /// Version of the settings that it writes.
    const fn settings(self) -> &'static str {
        match self {
            Self::V5_0 => "1.15",
            Self::V5_1 => "1.16",
            Self::V6_1 => "1.18",
            Self::V7_0 => "1.19",
        }
    }
}

/// A settings file and the version that takes it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) text: String,
    pub(crate) needs: Version,
}

/// The settings of `machine`.
///
/// # Errors
/// `Unsupported` with the key of what VirtualBox cannot do.
pub(crate) fn settings(machine: &Resolved, layout: &Layout<'_>) -> Result<Settings> {
    let spec = &machine.spec;
    let version = lowest_version(&spec.hardware, layout);
    let (os_type, known_since) = os_type(&spec.guest);
    let id = braced(machine.identity.uuid());
    let mut element = Element::new("Machine")
        .attribute("uuid", &id)
        .attribute("name", &spec.name)
        .attribute("OSType", os_type)
        .child(layout.registry(machine)?);
    if let Some(title) = &spec.title {
        element = element.child(Element::new("Description").text(title.clone()));
    }
    element = element
        .child(extra_data(machine))
        .child(hardware(machine)?.attribute("uuid", &id))
        .child(layout.controllers(machine)?);
    let text = Element::new("VirtualBox")
        .attribute("xmlns", "http://www.virtualbox.org/")
        // The part behind the dash is not read.
        .attribute("version", format!("{}-linux", version.settings()))
        .child(element)
        .document()?;
    Ok(Settings {
        text,
        needs: version.max(known_since),
    })
}

/// What of the spec, besides policies, holds only with somebody's help.
pub(crate) fn gaps(machine: &Resolved) -> Vec<Gap> {
    let hardware = &machine.spec.hardware;
    let mut gaps = Vec::new();
    for (index, network) in hardware.network.iter().enumerate() {
        if matches!(network.mode, NetworkMode::HostOnly | NetworkMode::Bridged) {
            gaps.push(Gap::new(
                format!("hardware.network.{index}.mode"),
                network.mode.as_str(),
                Grade::Player,
                "which adapter of the host it is connected to is set on the host: VBoxManage modifyvm",
            ));
        }
    }
    if hardware.firmware == Firmware::Uefi {
        gaps.push(Gap::new(
            "hardware.firmware",
            "uefi",
            Grade::Player,
            "the boot variables that the guest writes outlast its starts: delete the .nvram file \
             beside the settings",
        ));
    }
    if hardware.console == Console::Log && !machine.paths.console.is_absolute() {
        gaps.push(Gap::new(
            "hardware.console",
            "log",
            Grade::Player,
            "its path is relative, to the folder that VirtualBox is started in",
        ));
    }
    gaps
}

fn lowest_version(hardware: &Hardware, layout: &Layout<'_>) -> Version {
    if hardware.tpm == Tpm::V2 {
        Version::V7_0
    } else if layout.uses(Controller::Virtio) {
        Version::V6_1
    } else if layout.uses(Controller::Nvme) {
        Version::V5_1
    } else {
        Version::V5_0
    }
}

fn extra_data(machine: &Resolved) -> Element {
    let item = |name: &str, value: &str| {
        Element::new("ExtraDataItem")
            .attribute("name", name)
            .attribute("value", value)
    };
    let restrictions = policy::window_restrictions(&machine.spec.policy);
    Element::new("ExtraData")
        .children(restrictions.iter().map(|(name, value)| item(name, value)))
        // A reset of the guest ends the run, so that heads can be made anew (seen on VirtualBox 7.2.22).
        .child(item("VBoxInternal2/TurnResetIntoPowerOff", "1"))
}

/// `<Hardware>`. What older versions have on by default and newer ones off is always written.
fn hardware(machine: &Resolved) -> Result<Element> {
    let spec = &machine.spec.hardware;
    if spec.secure_boot == SecureBoot::On {
        let has = "no setting for it: it is kept in the NVRAM file, which only VirtualBox writes";
        return Err(unsupported("hardware.secure-boot", has));
    }
    if spec.video_memory.mib() > 256 {
        return Err(unsupported("hardware.video-memory", "256 MiB at most"));
    }
    let on = |name, enabled: bool| Element::new(name).attribute("enabled", enabled);
    let cpu = Element::new("CPU").attribute("count", spec.cpus);
    let uefi = spec.firmware == Firmware::Uefi;
    let window = spec.display == Display::Window;
    let mut hardware = Element::new("Hardware")
        .child(cpu.child(on("PAE", true)).child(on("LongMode", true)))
        .child(Element::new("Memory").attribute("RAMSize", spec.memory.mib()))
        .child(Element::new("Firmware").attribute("type", if uefi { "EFI" } else { "BIOS" }))
        .child(Element::new("Paravirt").attribute("provider", "Default"))
        .child(boot_order(&spec.boot))
        .child(
            Element::new("Display")
                .attribute("controller", "VBoxVGA")
                .attribute("VRAMSize", spec.video_memory.mib()),
        )
        .child(on("RemoteDisplay", false))
        .child(bios());
    if spec.tpm == Tpm::V2 {
        hardware = hardware.child(Element::new("TrustedPlatformModule").attribute("type", "v2_0"));
    }
    let policy = &machine.spec.policy;
    hardware = hardware
        .child(usb(policy.usb))
        .child(network(machine)?)
        .child(uart(machine)?)
        .child(audio(spec.audio))
        .child(Element::new("RTC").attribute("localOrUTC", local_or_utc(spec.clock)));
    for (name, key, direction) in [
        ("Clipboard", "policy.clipboard", policy.clipboard),
        ("DragAndDrop", "policy.drag-and-drop", policy.drag_and_drop),
    ] {
        let mode = policy::mode(direction).ok_or_else(|| unsupported(key, "no such direction"))?;
        hardware = hardware.child(Element::new(name).attribute("mode", mode));
    }
    let frontend = if window { "gui" } else { "headless" };
    let default = Element::new("Default").attribute("type", frontend);
    Ok(hardware.child(Element::new("Frontend").child(default)))
}

fn local_or_utc(clock: Clock) -> &'static str {
    match clock {
        Clock::Local => "local",
        _ => "UTC",
    }
}

/// All four positions: a missing one is not the same as none in every version.
fn boot_order(order: &[BootDevice]) -> Element {
    let devices = order.iter().map(|device| match device {
        BootDevice::Cdrom => "DVD",
        _ => "HardDisk",
    });
    let positions = devices.chain(std::iter::repeat("None")).take(4).enumerate();
    Element::new("Boot").children(positions.map(|(index, device)| {
        Element::new("Order")
            .attribute("position", index + 1)
            .attribute("device", device)
    }))
}

/// `<BIOS>`, which EFI reads too. No logo: it would cost every start 2.5 s.
fn bios() -> Element {
    let on = |name| Element::new(name).attribute("enabled", true);
    let logo = Element::new("Logo")
        .attribute("fadeIn", false)
        .attribute("fadeOut", false)
        .attribute("displayTime", 0);
    Element::new("BIOS")
        .child(on("ACPI"))
        .child(on("IOAPIC"))
        .child(logo)
        .child(Element::new("BootMenu").attribute("mode", "Disabled"))
        // Else the guest reads the first three fields of the machine's id byte by byte reversed.
        .child(on("SmbiosUuidLittleEndian"))
}

/// OHCI needs no extension pack in any version. None at all keeps every device of the host out.
fn usb(policy: Switch) -> Element {
    let usb = Element::new("USB");
    match policy {
        Switch::On => usb.child(
            Element::new("Controllers").child(
                Element::new("Controller")
                    .attribute("name", "OHCI")
                    .attribute("type", "OHCI"),
            ),
        ),
        _ => usb,
    }
}

fn network(machine: &Resolved) -> Result<Element> {
    let networks = &machine.spec.hardware.network;
    if networks.len() > NETWORK_ADAPTERS {
        return Err(unsupported("hardware.network", "room for 8 adapters"));
    }
    let adapters = networks
        .iter()
        .enumerate()
        .map(|(slot, network)| adapter(machine, slot, network))
        .collect::<Result<Vec<_>>>()?;
    Ok(Element::new("Network").children(adapters))
}

fn adapter(machine: &Resolved, slot: usize, network: &Network) -> Result<Element> {
    let mac: String = machine
        .identity
        .mac(slot, network)
        .iter()
        .map(|octet| format!("{octet:02X}"))
        .collect();
    let (attachment, cable) = match network.mode {
        NetworkMode::Nat => (Some("NAT"), true),
        NetworkMode::HostOnly => (Some("HostOnlyInterface"), true),
        NetworkMode::Bridged => (Some("BridgedInterface"), true),
        NetworkMode::None => (None, false),
        mode => {
            let key = format!("hardware.network.{slot}.mode");
            return Err(unsupported(key, "no such network").next(format!("not {mode}")));
        }
    };
    Ok(Element::new("Adapter")
        .attribute("slot", slot)
        .attribute("enabled", true)
        .attribute("MACAddress", mac)
        .attribute("cable", cable)
        // Every guest has a driver for it, and VMware and QEMU have it too.
        .attribute("type", "82540EM")
        .children(attachment.map(Element::new)))
}

fn uart(machine: &Resolved) -> Result<Element> {
    let uart = Element::new("UART");
    if machine.spec.hardware.console != Console::Log {
        return Ok(uart);
    }
    let path = slash_path(unicode(&machine.paths.console)?);
    Ok(uart.child(
        Element::new("Port")
            .attribute("slot", 0)
            .attribute("enabled", true)
            .attribute("IOBase", "0x3f8")
            .attribute("IRQ", 4)
            .attribute("hostMode", "RawFile")
            .attribute("path", path),
    ))
}

/// A driver that the host does not have is replaced by its own, and CoreAudio is the only one there
/// is on macOS: so this means the host's own driver everywhere. The microphone stays off.
fn audio(audio: Audio) -> Element {
    let on = audio == Audio::On;
    Element::new("AudioAdapter")
        .attribute("controller", "HDA")
        .attribute("driver", if on { "CoreAudio" } else { "Null" })
        .attribute("enabled", on)
        .attribute("enabledIn", false)
        .attribute("enabledOut", on)
}

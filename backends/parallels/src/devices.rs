//! The `Hardware` section: processor, memory and every device.

use std::path::Path;

use stratavm::plan::{Gap, Grade, PlanDisk};
use stratavm::resolved::{relative_path, slash_path};
use stratavm::spec::{Arch, Audio, Console, Display, GuestOs, NetworkMode, Switch, Tpm, VmSpec};
use stratavm::{Error, ErrorKind, Resolved, Result};

use crate::bundle;
use crate::disks::{Attached, Place};
use crate::facts;
use crate::xml::{Element, value};

/// The whole section.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for more adapters, or another connection, than there are;
/// [`ErrorKind::Invalid`] for a path that is no UTF-8.
pub(crate) fn hardware(
    machine: &Resolved,
    attached: &Attached,
    pvm: &Path,
    gaps: &mut Vec<Gap>,
) -> Result<Element> {
    let (drives, disks) = (drives(machine, attached, pvm)?, disks(machine, attached));
    let serial = serial(machine, pvm)?;
    let networks = networks(machine)?;
    let sound = sound(machine.spec.hardware.audio);
    let usb = match Usb::of(&machine.spec) {
        Usb::Absent => Vec::new(),
        Usb::Open | Usb::Input => vec![usb_port()],
    };
    // The next free id of every kind of device; ours start at 0.
    let lists = format!(
        "Fdd 0 CdRom {} Hdd {} Serial {} Parallel 0 Printer 0 NetworkAdapter {} Sound {} USB {} \
         GenericScsiDevice 0 GenericNvmeDevice 0",
        drives.len(),
        disks.len(),
        serial.len(),
        networks.len(),
        sound.len(),
        usb.len()
    );
    tpm(machine.spec.hardware.tpm, gaps);

    let mut children = processor_and_memory(&machine.spec);
    for devices in [drives, disks, serial, networks, sound, usb] {
        children.extend(devices);
    }
    children.push(
        Element::group("TpmChip", "", vec![value("Type", 0)]).migrated(&[("Type_patch", "1")]),
    );
    let marks = [
        ("Hdd_patch", "1"),
        ("VirtIO_patch", "1"),
        ("NetworkAdapter_patch", "1"),
    ];
    Ok(Element::group("Hardware", &lists, children).migrated(&marks))
}

fn processor_and_memory(spec: &VmSpec) -> Vec<Element> {
    let processor = facts::processor(spec.guest.arch);
    let cpu = Element::group(
        "Cpu",
        "",
        vec![
            value("Number", spec.hardware.cpus),
            value("Mode", processor.mode),
            value("Type", processor.kind),
            // Otherwise Parallels chooses the number itself; the same holds for the memory below.
            value("AutoCountEnabled", 0),
            value("AccelerationLevel", 2),
            value("EnableVTxSupport", 1),
            value("EnableHotplug", 0),
            value("VirtualizedHV", 0),
            value("VirtualizePMU", 0),
        ],
    );
    let chipset = Element::group(
        "Chipset",
        "",
        vec![
            value("Type", processor.chipset),
            value("Version", processor.chipset_version),
        ],
    );
    let memory = Element::group(
        "Memory",
        "",
        vec![
            value("RAM", spec.hardware.memory.mib()),
            value("RamAutoSizeEnabled", 0),
            value("EnableHotplug", 0),
        ],
    );
    let video = Element::group(
        "Video",
        "",
        vec![
            value("Enabled", 1),
            value("Type", processor.video),
            value("VideoMemorySize", spec.hardware.video_memory.mib()),
            value("Enable3DAcceleration", 0),
        ],
    );
    vec![
        cpu.migrated(&[
            ("AutoCountEnabled_patch", "1"),
            ("Type_patch", "2"),
            ("EnableVTxSupport_patch", "1"),
        ]),
        chipset.migrated(&[("Version_patch", "3")]),
        Element::group("Clock", "", vec![value("TimeShift", 0)]),
        memory.migrated(&[
            ("ExtendedMemoryLimits_patch", "1"),
            ("RamAutoSizeEnabled_patch", "1"),
        ]),
        video.migrated(&[("Type_patch", "1"), ("VideoMemorySize_patch", "1")]),
    ]
}

/// What every device begins with.
fn device(
    name: &'static str,
    index: usize,
    lists: &str,
    first: Vec<Element>,
    rest: Vec<Element>,
) -> Element {
    let mut children = first;
    children.push(value("Index", index));
    children.push(value("Enabled", 1));
    children.extend(rest);
    Element::group(name, lists, children).with("id", index)
}

fn disks(machine: &Resolved, attached: &Attached) -> Vec<Element> {
    let disk = |(index, (disk, place)): (usize, (&PlanDisk, &Place))| {
        let id = machine
            .identity
            .derive(&format!("hdd-device/{}", disk.name));
        let name = bundle::name(disk);
        let split = if bundle::pieces(&disk.chain) > 1 {
            1
        } else {
            0
        };
        let rest = vec![
            value("Connected", 1),
            value("EmulatedType", 1),
            value("SystemName", &name),
            value("UserFriendlyName", &name),
            value("Remote", 0),
            value("InterfaceType", place.interface),
            value("StackIndex", place.stack),
            value("DiskType", 1),
            value("Size", disk.chain.sectors / 2048),
            value("SizeOnDisk", 0),
            value("Passthrough", 0),
            value("SubType", sub_type(&machine.spec, *place)),
            value("Splitted", split),
            value("DiskVersion", 2),
            value("CompatLevel", "level2"),
            value("DeviceDescription", ""),
            // Compacting would rewrite heads that are ours.
            value("AutoCompressEnabled", 0),
            value("OnlineCompactMode", 0),
        ];
        device(
            "Hdd",
            index,
            "Partition 0",
            vec![value("Uuid", format!("{{{id}}}"))],
            rest,
        )
    };
    attached
        .disks
        .iter()
        .zip(&attached.places)
        .enumerate()
        .map(disk)
        .collect()
}

fn drives(machine: &Resolved, attached: &Attached, pvm: &Path) -> Result<Vec<Element>> {
    let mut drives = Vec::new();
    for (index, (medium, place)) in machine.media.iter().zip(&attached.drives).enumerate() {
        let file = path_text(pvm, medium)?;
        let rest = vec![
            value("Connected", 1),
            value("EmulatedType", 1),
            value("SystemName", &file),
            value("UserFriendlyName", &file),
            value("Remote", 0),
            value("InterfaceType", place.interface),
            value("StackIndex", place.stack),
            value("Passthrough", 0),
            value("SubType", sub_type(&machine.spec, *place)),
            value("DeviceDescription", ""),
        ];
        drives.push(device("CdRom", index, "", Vec::new(), rest));
    }
    Ok(drives)
}

/// Linux has a driver for both LSI adapters, Windows since Vista for the second.
const fn sub_type(spec: &VmSpec, place: Place) -> u32 {
    match (place.interface, spec.guest.os) {
        (facts::INTERFACE_SCSI, GuestOs::Windows) => facts::SCSI_LSI_SAS,
        (facts::INTERFACE_SCSI, _) => facts::SCSI_LSI_SPI,
        _ => 0,
    }
}

fn serial(machine: &Resolved, pvm: &Path) -> Result<Vec<Element>> {
    if machine.spec.hardware.console != Console::Log {
        return Ok(Vec::new());
    }
    let file = path_text(pvm, &machine.paths.console)?;
    let rest = vec![
        value("Connected", 1),
        value("EmulatedType", facts::SERIAL_FILE),
        value("SystemName", &file),
        value("UserFriendlyName", &file),
        value("Remote", 0),
        value("OperateAtRealSpeed", 0),
        value("DeviceDescription", ""),
    ];
    Ok(vec![device("Serial", 0, "", Vec::new(), rest)])
}

fn networks(machine: &Resolved) -> Result<Vec<Element>> {
    let networks = &machine.spec.hardware.network;
    let most = facts::MOST_ADAPTERS;
    if networks.len() > most {
        let what = format!(
            "hardware.network: {} adapters, at most {most}",
            networks.len()
        );
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let mut adapters = Vec::new();
    for (index, network) in networks.iter().enumerate() {
        // An adapter without a cable is a disconnected one; were it connected by hand, it would
        // reach the host alone.
        let (kind, connected) = match network.mode {
            NetworkMode::Nat => (facts::NET_SHARED, 1),
            NetworkMode::HostOnly => (facts::NET_HOST_ONLY, 1),
            NetworkMode::Bridged => (facts::NET_BRIDGED, 1),
            NetworkMode::None => (facts::NET_HOST_ONLY, 0),
            other => {
                let what = format!("hardware.network.{index}.mode = {other}: there is no such one");
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
        };
        let mac: String = machine
            .identity
            .mac(index, network)
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect();
        let rest = vec![
            value("Connected", connected),
            value("EmulatedType", kind),
            value("SystemName", format!("eth{index}")),
            value("UserFriendlyName", format!("eth{index}")),
            value("Remote", 0),
            value("AdapterNumber", -1),
            value("AdapterName", "Default Adapter"),
            value("MAC", mac),
            value("AdapterType", adapter(&machine.spec)),
            value("StaticAddress", 0),
            value("DeviceDescription", ""),
        ];
        let lists = "NetAddress DnsIPAddress SearchDomain";
        let adapter = device("NetworkAdapter", index, lists, Vec::new(), rest);
        adapters.push(adapter.migrated(&[("AdapterType_patch", "1")]));
    }
    Ok(adapters)
}

/// Linux brings a driver for virtio, Windows one for e1000e; Apple silicon is known with virtio
/// only.
const fn adapter(spec: &VmSpec) -> u32 {
    match (spec.guest.os, spec.guest.arch) {
        (GuestOs::Linux, _) | (_, Arch::Aarch64) => facts::ADAPTER_VIRTIO,
        (GuestOs::Windows, _) => facts::ADAPTER_E1000E,
        _ => facts::ADAPTER_E1000,
    }
}

fn sound(audio: Audio) -> Vec<Element> {
    if audio != Audio::On {
        return Vec::new();
    }
    let children = vec![
        value("Enabled", 1),
        value("Connected", 1),
        value("BusType", 0),
        value("EmulatedType", 0),
        value("AdvancedType", facts::SOUND_HDA),
        value("SystemName", ""),
        value("UserFriendlyName", ""),
        value("Remote", 0),
        value("VolumeSync", 1),
        value("Output", "Default"),
        value("Mixer", "Default"),
        value("DeviceDescription", ""),
    ];
    let marks = [
        ("Output_patch", "1"),
        ("AdvancedType_patch", "101"),
        ("Mixer_patch", "1"),
    ];
    vec![
        Element::group("Sound", "", children)
            .with("id", 0)
            .migrated(&marks),
    ]
}

/// Whether there are USB controllers, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usb {
    /// The policy allows the host's devices.
    Open,
    /// For the virtual keyboard and mouse, which are USB devices, alone.
    Input,
    /// There are none.
    Absent,
}

impl Usb {
    /// What a spec gets.
    pub(crate) fn of(spec: &VmSpec) -> Self {
        match (spec.policy.usb, spec.hardware.display) {
            (Switch::On, _) => Self::Open,
            (_, Display::Window) => Self::Input,
            _ => Self::Absent,
        }
    }
}

fn usb_port() -> Element {
    let children = vec![
        value("Enabled", 1),
        value("Connected", 1),
        value("EmulatedType", 0),
        value("SystemName", ""),
        value("UserFriendlyName", ""),
        value("Remote", 0),
        value("AutoConnect", 0),
        value("ConnectReason", 0),
        value("DeviceDescription", ""),
        value("UsbType", 0),
    ];
    Element::group("USB", "", children)
        .with("id", 0)
        .migrated(&[("Enabled_patch", "")])
}

fn tpm(tpm: Tpm, gaps: &mut Vec<Gap>) {
    if tpm != Tpm::Off {
        gaps.push(Gap::new(
            "hardware.tpm",
            tpm.as_str(),
            Grade::None,
            "how config.pvs asks for a TPM is not known here: there is none until prlctl set --tpm \
             adds one",
        ));
    }
}

/// `path` as `config.pvs` names it: absolute where it is, else relative to the bundle.
fn path_text(pvm: &Path, path: &Path) -> Result<String> {
    if path.to_str().is_none() || pvm.to_str().is_none() {
        return Err(Error::invalid("config.pvs cannot name a path that is no UTF-8").at(path));
    }
    Ok(if path.has_root() {
        slash_path(path)
    } else {
        relative_path(pvm, path)
    })
}

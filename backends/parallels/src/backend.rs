//! The implementation of the trait.

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::identity::Identity;
use stratavm::plan::PlanFile;
use stratavm::{Hypervisor, Plan, Product, Resolved, Result};

use crate::bundle;
use crate::capability::capabilities;
use crate::config::config;
use crate::disks::attach;
use crate::facts;

/// Parallels Desktop for Mac.
///
/// ```
/// use stratavm::Hypervisor;
/// assert_eq!(stratavm_parallels::Parallels::new().product().as_str(), "parallels");
/// ```
#[derive(Debug, Clone)]
pub struct Parallels {
    capabilities: Capabilities,
}

impl Parallels {
    /// The product's identifier.
    pub const PRODUCT: Product = Product::new("parallels");

    /// The backend; nothing is looked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capabilities: capabilities(),
        }
    }

    fn plan(&self, machine: &Resolved) -> Result<Plan> {
        let attached = attach(machine, &self.capabilities)?;
        let pvm = machine
            .paths
            .config
            .join(format!("{}.pvm", machine.spec.name));
        let config = config(machine, &attached, &pvm)?;
        let entry = pvm.join("config.pvs");

        let mut plan = Plan::new(Self::PRODUCT, facts::NEEDS);
        let id = format!("{{{}}}", machine.identity.uuid());
        plan.argv = ["prlctl", "start", &id].map(str::to_owned).to_vec();
        for disk in &attached.disks {
            let files = bundle::files(machine, disk, &pvm)
                .map_err(|error| error.during(format!("disk {} has no bundle", disk.name)))?;
            plan.files.extend(files);
        }
        // Parallels keeps both in step, and takes the second where the first is broken.
        plan.files.push(PlanFile::text(
            pvm.join("config.pvs.backup"),
            config.text.clone(),
        ));
        plan.files.push(PlanFile::text(&entry, config.text));
        plan.entry = Some(entry);
        plan.disks = attached.disks;
        plan.gaps = config.gaps;
        if matches!(machine.identity, Identity::Preview(_)) {
            plan.notes
                .push("preview ids: they follow from the spec, not from a machine".to_owned());
        }
        plan.notes.extend(config.notes);
        Ok(plan)
    }
}

impl Default for Parallels {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Hypervisor for Parallels {
    fn product(&self) -> &Product {
        static PRODUCT: Product = Parallels::PRODUCT;
        &PRODUCT
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        self.plan(machine).map_err(|error| error.of(&Self::PRODUCT))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use stratavm::ErrorKind;
    use stratavm::plan::Content;
    use stratavm::spec::{
        Arch, Audio, BootDevice, Controller, Display, Firmware, GuestOs, MacAddress, Network,
        NetworkMode, SecureBoot, Tpm,
    };

    use super::*;
    use crate::testing::{Read, machine, parse_xml};

    fn translated(machine: &Resolved) -> (Plan, Read) {
        let plan = Parallels::new().translate(machine).unwrap();
        let entry = plan
            .files
            .iter()
            .find(|file| plan.entry.as_ref() == Some(&file.path))
            .unwrap();
        let Content::Text(text) = &entry.content else {
            panic!("no text")
        };
        let read = parse_xml(text);
        (plan, read)
    }

    #[test]
    fn every_disk_is_attached_on_each_controller() {
        for (kind, interface) in [
            (Controller::Auto, "2"),
            (Controller::Sata, "2"),
            (Controller::Scsi, "1"),
        ] {
            let machine = machine(kind);
            let (plan, read) = translated(&machine);
            let disks = read.at("Hardware").all("Hdd");
            assert_eq!(disks.len(), 5);
            let mut ids = BTreeSet::new();
            for (index, (disk, planned)) in disks.iter().zip(&plan.disks).enumerate() {
                assert_eq!(disk.attribute("id"), index.to_string());
                assert_eq!(disk.get("Index"), index.to_string());
                assert_eq!(disk.get("InterfaceType"), interface);
                assert_eq!(disk.get("StackIndex"), index.to_string());
                let adapter = if kind == Controller::Scsi { "1" } else { "0" };
                assert_eq!(disk.get("SubType"), adapter);
                assert_eq!(disk.get("SystemName"), format!("{}.hdd", planned.name));
                assert_eq!(disk.get("Size"), "8");
                assert_eq!(planned.chain, machine.disks[index].chain);
                assert!(ids.insert(disk.get("Uuid").to_owned()));
            }
            assert!(
                read.at("Hardware")
                    .attribute("dyn_lists")
                    .contains("Hdd 5 ")
            );
        }
    }

    #[test]
    fn nvme_is_for_uefi_and_ide_for_four_disks() {
        let mut nvme = machine(Controller::Nvme);
        nvme.spec.hardware.firmware = Firmware::Uefi;
        let (_, read) = translated(&nvme);
        assert_eq!(read.at("Hardware").all("Hdd")[4].get("InterfaceType"), "3");
        assert_eq!(read.get("Settings/Startup/Bios/EfiEnabled"), "1");

        let mut ide = machine(Controller::Ide);
        let error = Parallels::new().translate(&ide).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.product().unwrap().as_str(), "parallels");
        ide.disks.pop();
        let (plan, _) = translated(&ide);
        assert_eq!(plan.disks[3].place, "ide:3");
    }

    #[test]
    fn the_files_are_a_whole_bundle_with_the_configuration_last() {
        let (plan, _) = translated(&machine(Controller::Sata));
        assert_eq!(plan.files.len(), 5 * 3 + 2);
        let last = &plan.files[16];
        assert_eq!(
            last.path,
            PathBuf::from("/s/m/config/finance.pvm/config.pvs")
        );
        assert_eq!(plan.files[15].content, last.content);
        let paths: BTreeSet<_> = plan.files.iter().map(|file| &file.path).collect();
        assert_eq!(paths.len(), plan.files.len());
        assert_eq!(
            plan.argv,
            ["prlctl", "start", "{00112233-4455-6677-8899-aabbccddeeff}"]
        );
    }

    #[test]
    fn the_hardware_is_what_the_spec_says() {
        let mut machine = machine(Controller::Sata);
        machine.media = vec!["/iso/a&b.iso".into()];
        let hardware = &mut machine.spec.hardware;
        hardware.boot = vec![BootDevice::Cdrom, BootDevice::Disk];
        hardware.audio = Audio::On;
        hardware.tpm = Tpm::V2;
        let mac = MacAddress::Fixed([0x02, 0, 0, 0xab, 0, 1]);
        let modes = [
            NetworkMode::Nat,
            NetworkMode::HostOnly,
            NetworkMode::Bridged,
            NetworkMode::None,
        ];
        hardware.network = modes
            .into_iter()
            .map(|mode| Network { mode, mac })
            .collect();
        let (plan, read) = translated(&machine);
        for (path, value) in [
            (
                "Identification/VmUuid",
                "{00112233-4455-6677-8899-aabbccddeeff}",
            ),
            ("Identification/VmName", "finance"),
            ("Settings/General/OsType", "9"),
            ("Settings/General/OsNumber", "2310"),
            ("Settings/Startup/WindowMode", "5"),
            ("Settings/Startup/Bios/EfiEnabled", "0"),
            ("Settings/Shutdown/AutoStop", "2"),
            ("Settings/Shutdown/OnVmWindowClose", "5"),
            ("Settings/Runtime/UndoDisks", "0"),
            ("Hardware/Cpu/Number", "3"),
            ("Hardware/Cpu/AutoCountEnabled", "0"),
            ("Hardware/Memory/RAM", "2048"),
            ("Hardware/Memory/RamAutoSizeEnabled", "0"),
            ("Hardware/Video/VideoMemorySize", "16"),
            ("Hardware/CdRom/SystemName", "/iso/a&b.iso"),
            ("Hardware/CdRom/InterfaceType", "0"),
            ("Hardware/CdRom/StackIndex", "3"),
            ("Hardware/Serial/EmulatedType", "2"),
            ("Hardware/Serial/SystemName", "/s/m/config/console.log"),
            ("Hardware/Sound/Enabled", "1"),
        ] {
            assert_eq!(read.get(path), value, "{path}");
        }
        let boot: Vec<_> = read.at("Settings/Startup/BootingOrder").all("BootDevice");
        let boot: Vec<_> = boot
            .iter()
            .map(|b| (b.get("Type"), b.get("BootingNumber"), b.get("InUse")))
            .collect();
        assert_eq!(boot, [("5", "1", "1"), ("6", "2", "1")]);
        let adapters: Vec<_> = read.at("Hardware").all("NetworkAdapter");
        let seen: Vec<_> = adapters
            .iter()
            .map(|a| (a.get("EmulatedType"), a.get("Connected")))
            .collect();
        assert_eq!(seen, [("1", "1"), ("0", "1"), ("2", "1"), ("0", "0")]);
        assert_eq!(adapters[0].get("MAC"), "020000AB0001");
        assert_eq!(adapters[0].get("AdapterType"), "3");
        for key in ["hardware.tpm", "hardware.clock", "policy.snapshots"] {
            assert!(plan.gaps.iter().any(|gap| gap.key == key), "{key}");
        }
    }

    #[test]
    fn apple_silicon_has_its_own_values() {
        let mut machine = machine(Controller::Auto);
        machine.spec.guest.arch = Arch::Aarch64;
        let error = Parallels::new().translate(&machine).unwrap_err();
        assert!(error.to_string().contains("hardware.firmware"), "{error}");
        machine.spec.hardware.firmware = Firmware::Uefi;
        machine.spec.hardware.secure_boot = SecureBoot::On;
        machine.spec.hardware.display = Display::Window;
        let (plan, read) = translated(&machine);
        assert_eq!(read.get("Settings/Startup/Bios/EfiEnabled"), "5");
        assert_eq!(read.get("Settings/Startup/Bios/EfiSecureBoot"), "1");
        assert_eq!(read.get("Settings/Startup/WindowMode"), "0");
        assert_eq!(read.get("Hardware/Cpu/Type"), "1");
        assert_eq!(read.at("Hardware").all("USB").len(), 1);
        assert!(plan.notes[0].contains("Apple silicon"));
    }

    #[test]
    fn windows_gets_an_adapter_that_it_has_a_driver_for() {
        let mut machine = machine(Controller::Sata);
        machine.spec.guest.os = GuestOs::Windows;
        machine.spec.guest.id = Some("windows10".to_owned());
        machine.spec.hardware.network = vec![Network {
            mode: NetworkMode::Nat,
            mac: MacAddress::Auto,
        }];
        let (_, read) = translated(&machine);
        assert_eq!(read.get("Hardware/NetworkAdapter/AdapterType"), "4");
        assert_eq!(read.get("Settings/General/OsNumber"), "2063");
    }

    #[test]
    fn the_same_machine_gives_the_same_bytes() {
        let machine = machine(Controller::Scsi);
        let first = Parallels::new().translate(&machine).unwrap().to_string();
        assert_eq!(
            first,
            Parallels::new().translate(&machine).unwrap().to_string()
        );
    }

    #[test]
    fn a_title_that_xml_cannot_hold_is_refused() {
        let mut machine = machine(Controller::Sata);
        machine.spec.title = Some("a\0b".to_owned());
        let error = Parallels::new().translate(&machine).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("VmName"), "{error}");
    }

    proptest! {
        #[test]
        fn a_title_never_becomes_syntax(title in "[ -~\n\r\té多]{0,40}(</VmName>|&#0;|<!--|]]>|\"|\\|0A)?[ -~]{0,9}") {
            let plain = translated(&machine(Controller::Sata)).1;
            let mut machine = machine(Controller::Sata);
            machine.spec.title = Some(title.clone());
            let mut read = translated(&machine).1;
            prop_assert_eq!(read.get("Identification/VmName"), title);
            let named = &mut read.children[2].children[5];
            prop_assert_eq!(&named.name, "VmName");
            named.text = "finance".to_owned();
            prop_assert_eq!(read, plain);
        }
    }
}

//! The implementation of the trait, and what its parts share.

use std::path::Path;

use async_trait::async_trait;
use stratavm::capability::Capabilities;
use stratavm::identity::Identity;
use stratavm::plan::PlanFile;
use stratavm::resolved::{relative_path, slash_path};
use stratavm::spec::Display;
use stratavm::{Error, Hypervisor, Plan, Product, Resolved, Result};

use crate::capability::capabilities;
use crate::config::config;
use crate::disks::attach;

/// VMware Workstation, Player and Fusion: one configuration serves all three.
///
/// ```
/// use stratavm::Hypervisor;
/// assert_eq!(stratavm_vmware::Vmware::new().product().as_str(), "vmware");
/// ```
#[derive(Debug, Clone)]
pub struct Vmware {
    capabilities: Capabilities,
}

impl Vmware {
    /// The product's identifier.
    pub const PRODUCT: Product = Product::new("vmware");

    /// The backend; nothing is looked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capabilities: capabilities(),
        }
    }

    fn plan(&self, machine: &Resolved) -> Result<Plan> {
        let attached = attach(machine, &self.capabilities)?;
        let config = config(machine, &attached)?;
        let entry = machine
            .paths
            .config
            .join(format!("{}.vmx", machine.spec.name));

        let mut plan = Plan::new(Self::PRODUCT, config.needs);
        let view = if machine.spec.hardware.display == Display::Window {
            "gui"
        } else {
            "nogui"
        };
        plan.argv = ["vmrun", "start", &slash_path(&entry), view]
            .map(str::to_owned)
            .to_vec();
        plan.files = vec![PlanFile::text(&entry, config.text)];
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

impl Default for Vmware {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Hypervisor for Vmware {
    fn product(&self) -> &Product {
        static PRODUCT: Product = Vmware::PRODUCT;
        &PRODUCT
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        self.plan(machine).map_err(|error| error.of(&Self::PRODUCT))
    }
}

/// `path` as a `.vmx` file in the folder `config` names it: relative where it can be, with `/` on
/// every host.
///
/// # Errors
/// [`ErrorKind::Invalid`](stratavm::ErrorKind::Invalid) if it is no UTF-8: the file would name
/// another one.
pub(crate) fn path_text(config: &Path, path: &Path) -> Result<String> {
    if config.to_str().is_none() || path.to_str().is_none() {
        return Err(Error::invalid("a .vmx file cannot name a path that is no UTF-8").at(path));
    }
    Ok(relative_path(config, path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::path::PathBuf;

    use proptest::prelude::*;
    use stratavm::ErrorKind;
    use stratavm::plan::{Content, Grade};
    use stratavm::spec::{Arch, BootDevice, Clock, Controller, Firmware, SecureBoot, Tpm};

    use super::*;
    use crate::testing::{machine, parse_vmx};

    type Values = std::collections::BTreeMap<String, String>;

    fn translated(machine: &Resolved) -> (Plan, Values) {
        let plan = Vmware::new().translate(machine).unwrap();
        let Content::Text(text) = &plan.files[0].content else {
            panic!("no text")
        };
        let values = parse_vmx(text);
        (plan, values)
    }

    #[test]
    fn the_head_of_each_disk_is_attached_on_each_controller() {
        for (kind, places) in [
            (
                Controller::Auto,
                ["sata0:0", "sata0:1", "sata0:2", "sata0:3", "sata0:4"],
            ),
            (
                Controller::Sata,
                ["sata0:0", "sata0:1", "sata0:2", "sata0:3", "sata0:4"],
            ),
            (
                Controller::Scsi,
                ["scsi0:0", "scsi0:1", "scsi0:2", "scsi0:3", "scsi0:4"],
            ),
            (
                Controller::Nvme,
                ["nvme0:0", "nvme0:1", "nvme0:2", "nvme0:3", "nvme0:4"],
            ),
        ] {
            let machine = machine(kind);
            let (plan, vmx) = translated(&machine);
            assert_eq!(plan.disks.len(), 5);
            for ((disk, place), resolved) in plan.disks.iter().zip(places).zip(&machine.disks) {
                assert_eq!(disk.place, place);
                assert_eq!(disk.chain, resolved.chain);
                let file = format!("../layers/{}/{}-1.vmdk", disk.name, disk.name);
                assert_eq!(vmx[&format!("{place}.filename")], file);
                assert_eq!(vmx[&format!("{place}.present")], "TRUE");
                assert_eq!(vmx[&format!("{place}.mode")], "persistent");
            }
            assert_eq!(vmx["bios.hddorder"], places[0]);
            assert!(!vmx.keys().any(|key| key.contains("redo")));
        }
    }

    #[test]
    fn ide_takes_four_disks_and_no_fifth() {
        let mut machine = machine(Controller::Ide);
        let error = Vmware::new().translate(&machine).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.product().unwrap().as_str(), "vmware");
        machine.disks.pop();
        let (plan, vmx) = translated(&machine);
        let places: Vec<_> = plan.disks.iter().map(|disk| disk.place.as_str()).collect();
        assert_eq!(places, ["ide0:0", "ide0:1", "ide1:0", "ide1:1"]);
        assert_eq!(vmx["ide1:1.filename"], "../layers/home/home-1.vmdk");
        assert_eq!(vmx["ide1:1.devicetype"], "ata-hardDisk");
    }

    #[test]
    fn the_hardware_is_what_the_spec_says() {
        let mut machine = machine(Controller::Sata);
        let (plan, vmx) = translated(&machine);
        assert_eq!(plan.entry, Some(PathBuf::from("/s/m/config/finance.vmx")));
        assert_eq!(
            plan.argv,
            ["vmrun", "start", "/s/m/config/finance.vmx", "nogui"]
        );
        assert_eq!(plan.needs, "Workstation/Player 17.0, Fusion 13.0");
        for (key, value) in [
            ("virtualhw.version", "20"),
            ("guestos", "debian12-64"),
            ("numvcpus", "3"),
            ("memsize", "2048"),
            ("nvram", "finance.nvram"),
            (
                "uuid.bios",
                "00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff",
            ),
            ("rtc.difffromutc", "0"),
            ("bios.bootorder", "hdd"),
            ("serial0.filename", "console.log"),
            ("svga.vramsize", "16777216"),
            ("sound.present", "FALSE"),
            ("floppy0.present", "FALSE"),
        ] {
            assert_eq!(vmx[key], value, "{key}");
        }
        assert!(!vmx.contains_key("firmware"));
        let hardware = &mut machine.spec.hardware;
        hardware.firmware = Firmware::Uefi;
        hardware.secure_boot = SecureBoot::On;
        hardware.clock = Clock::Local;
        hardware.tpm = Tpm::V2;
        hardware.boot = vec![BootDevice::Cdrom, BootDevice::Disk];
        hardware.display = Display::Window;
        hardware.cpus = 64;
        machine.spec.guest.id = Some("plan9".to_owned());
        let (plan, vmx) = translated(&machine);
        assert_eq!(
            (
                vmx["firmware"].as_str(),
                vmx["uefi.secureboot.enabled"].as_str()
            ),
            ("efi", "TRUE")
        );
        assert_eq!(vmx["bios.bootorder"], "cdrom,hdd");
        assert!(!vmx.contains_key("rtc.difffromutc"));
        assert_eq!(plan.argv[3], "gui");
        assert_eq!(plan.notes.len(), 1);
        for key in ["hardware.tpm", "hardware.boot", "guest.id"] {
            let gap = plan.gaps.iter().find(|gap| gap.key == key).unwrap();
            assert_eq!(gap.grade, Grade::None, "{key}");
        }
    }

    #[test]
    fn arm_machines_need_uefi_and_get_arm_identifiers() {
        let mut machine = machine(Controller::Sata);
        machine.spec.guest.arch = Arch::Aarch64;
        let error = Vmware::new().translate(&machine).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("hardware.firmware"), "{error}");
        machine.spec.hardware.firmware = Firmware::Uefi;
        let (plan, vmx) = translated(&machine);
        assert_eq!(vmx["guestos"], "arm-debian-64");
        assert_eq!(plan.needs, "Fusion 13.0");
        assert!(
            !vmx.keys()
                .any(|key| key.starts_with("ide") || key.starts_with("hpet"))
        );
    }

    #[test]
    fn the_same_machine_gives_the_same_bytes() {
        let machine = machine(Controller::Scsi);
        let (first, second) = (
            Vmware::new().translate(&machine),
            Vmware::new().translate(&machine),
        );
        assert_eq!(first.unwrap().to_string(), second.unwrap().to_string());
    }

    #[test]
    fn paths_outside_ascii_stay_as_they_are() {
        let mut machine = machine(Controller::Sata);
        machine.media = vec![PathBuf::from("/Ärger \"x\"/多層.iso")];
        let (_, vmx) = translated(&machine);
        assert_eq!(vmx["ide1:1.filename"], "../../../Ärger \"x\"/多層.iso");
        machine.media = vec![PathBuf::from("a\0b")];
        let error = Vmware::new().translate(&machine).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("ide1:1.fileName"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_text_is_refused() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let mut machine = machine(Controller::Sata);
        machine.media = vec![PathBuf::from(OsStr::from_bytes(b"/iso/\xff"))];
        assert_eq!(
            Vmware::new().translate(&machine).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }

    proptest! {
        #[test]
        fn a_title_never_becomes_syntax(title in "[^\0]*|.*\n.*\".*|(?s).*\\|0A.*") {
            prop_assume!(!title.contains('\0'));
            let plain = translated(&machine(Controller::Sata)).1;
            let mut machine = machine(Controller::Sata);
            machine.spec.title = Some(title.clone());
            let mut vmx = translated(&machine).1;
            let old = vmx.insert("displayname".to_owned(), "finance".to_owned());
            prop_assert_eq!(old, Some(title));
            prop_assert_eq!(vmx, plain);
        }
    }
}

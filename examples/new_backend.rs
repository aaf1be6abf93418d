//! A backend of one's own: what a crate outside this project writes for a product that stratavm
//! does not know. `cargo run --example new_backend` prints a plan of it, then tries it on the
//! conformance suite, which picks the trials of the translating half since nothing here starts
//! machines.
//!
//! What there is to it: say what the product can do, as data; refuse what it lacks, by the spec's
//! key; report as a gap what it does not enforce; write everything else into its configuration.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use stratavm::capability::{Capabilities, ControllerCapability, Feature};
use stratavm::chain::Family;
use stratavm::identity::mac_text;
use stratavm::plan::{Gap, Grade, PlanDisk, PlanFile};
use stratavm::resolved::slash_path;
use stratavm::spec::{Controller, Firmware, NetworkMode};
use stratavm::testkit::{Sample, conformance};
use stratavm::{Error, ErrorKind, Hypervisor, Plan, Product, Resolved, Result};

/// The made-up product Acme: reads JSON, opens VMDK chains, attaches eight disks to a SATA
/// controller, and turns a reboot of the guest into its end.
#[derive(Debug)]
struct Acme(Product, Capabilities);

impl Acme {
    fn new() -> Self {
        let mut can = Capabilities::new(vec![Family::Vmdk], Controller::Sata, Controller::Sata);
        can.controllers = vec![ControllerCapability::new(
            Controller::Sata,
            8,
            &[Firmware::Bios],
        )];
        can.networks = vec![NetworkMode::Nat, NetworkMode::None];
        can.features = [
            Feature::RebootEndsRun,
            Feature::ConsoleLog,
            Feature::Window,
            Feature::Audio,
            Feature::Cdrom,
            Feature::LocalClock,
            Feature::Tpm,
            Feature::SecureBoot,
        ]
        .map(|feature| (feature, Grade::Hard))
        .to_vec();
        Self(Product::new("acme"), can)
    }

    /// A refusal names the product, the spec's key and what there is instead.
    fn refuse(&self, key: &str, has: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("{key}: there is {has}")).of(&self.0)
    }

    fn disks(&self, machine: &Resolved) -> Result<Vec<PlanDisk>> {
        let mut disks: Vec<PlanDisk> = Vec::new();
        for disk in &machine.disks {
            let (name, slot) = (&disk.name, disk.slot);
            if disk.chain.family != Family::Vmdk {
                let what = format!("layer {name} is kept in the {} family", disk.chain.family);
                let next = format!("stratavm switch {} --to acme", machine.spec.name);
                return Err(Error::new(ErrorKind::NeedsSwitch, what)
                    .of(&self.0)
                    .next(next));
            }
            let kind = self
                .1
                .resolve_controller(disk.controller, machine.spec.guest.os)
                .map_err(|error| error.during(format!("layer.{name}.controller")).of(&self.0))?;
            if slot >= 8 || disks.iter().any(|other| other.slot == slot) {
                let key = format!("layer.{name}.slot");
                return Err(self.refuse(&key, &format!("no free port {slot}")));
            }
            let place = format!("sata-{slot}");
            disks.push(PlanDisk::new(
                name.clone(),
                kind,
                slot,
                place,
                disk.chain.clone(),
            ));
        }
        Ok(disks)
    }
}

impl Hypervisor for Acme {
    fn product(&self) -> &Product {
        &self.0
    }

    fn capabilities(&self) -> &Capabilities {
        &self.1
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        let (spec, hardware) = (&machine.spec, &machine.spec.hardware);
        if !self.1.arches.contains(&spec.guest.arch) {
            return Err(self.refuse("guest.arch", "x86_64 alone"));
        }
        if !self.1.firmware.contains(&hardware.firmware) {
            return Err(self.refuse("hardware.firmware", "no UEFI"));
        }
        let networks = hardware.network.iter().enumerate();
        if let Some((index, _)) = networks
            .clone()
            .find(|(_, n)| !self.1.networks.contains(&n.mode))
        {
            return Err(self.refuse(&format!("hardware.network.{index}.mode"), "nat and none"));
        }

        let mut plan = Plan::new(self.0.clone(), "Acme 1.0");
        plan.disks = self.disks(machine)?;
        let disk = |disk: &PlanDisk| {
            let files: Vec<_> = disk
                .chain
                .levels()
                .filter_map(|level| level.path())
                .map(slash_path)
                .collect();
            json!({"place": disk.place, "chain": files})
        };
        // JSON escapes every value, so a title or a path cannot become syntax.
        let config = json!({
            "id": machine.identity.uuid(),
            "title": spec.display_name(),
            "hardware": hardware,
            "macs": networks.map(|(i, n)| mac_text(machine.identity.mac(i, n))).collect::<Vec<_>>(),
            "disks": plan.disks.iter().map(disk).collect::<Vec<_>>(),
            "media": machine.media.iter().map(|medium| slash_path(medium)).collect::<Vec<_>>(),
            "console": slash_path(&machine.paths.console),
            "on-reboot": "exit",
        });
        let entry = machine.paths.config.join(format!("{}.acme", spec.name));
        plan.files
            .push(PlanFile::text(&entry, format!("{config:#}\n")));
        plan.entry = Some(entry);
        // Acme has no switch for any of these, and says so rather than nothing.
        for key in [
            "clipboard",
            "drag-and-drop",
            "shared-folders",
            "usb",
            "snapshots",
            "suspend",
        ] {
            let reason = "Acme always allows it";
            plan.gaps.push(Gap::new(
                format!("policy.{key}"),
                "off",
                Grade::None,
                reason,
            ));
        }
        Ok(plan)
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // Beside the backends that come with the project, and used like any of them.
    let products = stratavm_builtin::registry().with(Acme::new());
    let machine = Sample::new("demo")?.resolve(Path::new("/srv/demo"));
    let plan = products
        .get(&Product::named("acme")?)?
        .translate(&machine)?;
    writeln!(std::io::stdout(), "{plan}")?;

    let acme = || Arc::new(Acme::new()) as Arc<dyn Hypervisor>;
    let trials = conformance::trials(&acme, &conformance::Options::default());
    Ok(conformance::run(trials))
}

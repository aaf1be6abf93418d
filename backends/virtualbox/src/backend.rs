//! The backend's type and its implementation of `Hypervisor`.

use stratavm::capability::Capabilities;
use stratavm::chain::{Chain, Family};
use stratavm::identity::Identity;
use stratavm::plan::{PlanDisk, PlanFile};
use stratavm::resolved::{Resolved, slash_path};
use stratavm::spec::{Arch, Display};
use stratavm::{Error, ErrorKind, Hypervisor, Plan, Product, Result};

use crate::capability::capabilities;
use crate::disks::Layout;
use crate::{config, policy};

/// The product this crate is about.
static PRODUCT: Product = Product::new("virtualbox");

/// VirtualBox, as a product that machines are translated for.
#[derive(Debug)]
pub struct VirtualBox {
    capabilities: Capabilities,
}

impl VirtualBox {
    /// The backend.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capabilities: capabilities(),
        }
    }
}

impl Default for VirtualBox {
    fn default() -> Self {
        Self::new()
    }
}

impl Hypervisor for VirtualBox {
    fn product(&self) -> &Product {
        &PRODUCT
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        translate(machine, &self.capabilities).map_err(|error| error.of(&PRODUCT))
    }
}

fn translate(machine: &Resolved, can: &Capabilities) -> Result<Plan> {
    let spec = &machine.spec;
    if spec.guest.arch != Arch::X86_64 {
        return Err(unsupported("guest.arch", "only x86_64 guests"));
    }
    for disk in &machine.disks {
        check_family(machine, &disk.name, &disk.chain)?;
    }
    let layout = Layout::of(machine, can)?;
    let settings = config::settings(machine, &layout)?;

    let mut plan = Plan::new(
        PRODUCT.clone(),
        format!("VirtualBox {}", settings.needs.product()),
    );
    let entry = machine.paths.config.join(format!("{}.vbox", spec.name));
    let frontend = match spec.hardware.display {
        Display::Window => "gui",
        _ => "headless",
    };
    plan.argv = [
        "VBoxManage",
        "startvm",
        &machine.identity.uuid().to_string(),
        "--type",
        frontend,
    ]
    .map(str::to_owned)
    .to_vec();
    plan.disks = layout
        .disks
        .iter()
        .map(|placed| {
            let disk = placed.disk;
            let (kind, place) = (placed.kind, placed.place());
            PlanDisk::new(
                disk.name.clone(),
                kind,
                disk.slot,
                place,
                disk.chain.clone(),
            )
        })
        .collect();
    plan.gaps = policy::gaps(&spec.policy);
    plan.gaps.extend(config::gaps(machine));
    if let Identity::Preview(_) = machine.identity {
        plan.notes
            .push("preview ids: they follow from the spec, not from a machine".to_owned());
    }
    plan.notes.push(format!(
        "register it once: VBoxManage registervm \"{}\" (absolute)",
        slash_path(&entry)
    ));
    plan.notes
        .push("a reboot of the guest powers the machine off".to_owned());
    plan.files
        .push(PlanFile::text(entry.clone(), settings.text));
    plan.entry = Some(entry);
    Ok(plan)
}

fn check_family(machine: &Resolved, name: &stratavm::chain::DiskName, chain: &Chain) -> Result<()> {
    if chain.family == Family::Vmdk {
        return Ok(());
    }
    let what = format!(
        "layer {name} is kept in the {} family, not vmdk",
        chain.family
    );
    Err(Error::new(ErrorKind::NeedsSwitch, what).next(format!(
        "stratavm switch {} --to {PRODUCT}",
        machine.spec.name
    )))
}

/// A refusal that names the spec's key.
pub(crate) fn unsupported(key: impl std::fmt::Display, has: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{key}: there is {has}"))
}

/// A path as settings write it: with `/`, on every host.
///
/// # Errors
/// `Invalid` for a path that is no Unicode: the settings are UTF-8.
pub(crate) fn unicode(path: &std::path::Path) -> Result<&std::path::Path> {
    match path.to_str() {
        Some(_) => Ok(path),
        None => {
            Err(Error::invalid("the path is no Unicode, so no settings file can hold it").at(path))
        }
    }
}

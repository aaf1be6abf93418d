//! Faults of translating: what goes in wrongly, and what comes out wrongly.

use stratavm::chain::{DiskName, Family, MemberRole};
use stratavm::plan::{Content, FileKind, Gap, Grade, PlanFile};
use stratavm::spec::{Arch, Clock, Console, Controller, Firmware};
use stratavm::{Hypervisor, Plan, Product, Resolved, Result};

use super::Fault;

/// Changes the machine that the null product is given.
pub(super) fn before(fault: Fault, machine: &mut Resolved) {
    let spec = &mut machine.spec;
    match fault {
        Fault::WritesWhileTranslating => {
            let path = machine.paths.config.with_extension("trace");
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(path, "translated");
        }
        Fault::TakesAnyController => {
            for disk in &mut machine.disks {
                if matches!(disk.controller, Controller::Nvme | Controller::Virtio) {
                    disk.controller = Controller::Sata;
                }
            }
        }
        Fault::WrapsPorts => machine.disks.iter_mut().for_each(|disk| disk.slot %= 4),
        Fault::TakesAnyFamily => {
            machine
                .disks
                .iter_mut()
                .for_each(|disk| disk.chain.family = Family::Vmdk);
        }
        Fault::TakesAnyArch => spec.guest.arch = Arch::X86_64,
        Fault::TakesAnyFirmware => spec.hardware.firmware = Firmware::Bios,
        Fault::IgnoresClock => spec.hardware.clock = Clock::Utc,
        _ => {}
    }
}

/// What a product does that has not noticed that two disks are at one place.
pub(super) fn share_places(null: &impl Hypervisor, machine: &Resolved) -> Result<Plan> {
    let mut apart = machine.clone();
    for (slot, disk) in (0..).zip(&mut apart.disks) {
        disk.slot = slot;
    }
    let mut plan = null.translate(&apart)?;
    plan.disks
        .iter_mut()
        .for_each(|disk| disk.place = "here".to_owned());
    Ok(plan)
}

/// Changes the plan that the null product has made.
pub(super) fn after(
    fault: Fault,
    machine: &Resolved,
    plan: &mut Plan,
    count: impl FnOnce() -> u64,
) {
    let config = &machine.paths.config;
    match fault {
        Fault::CountsPlans => plan.notes.push(count().to_string()),
        Fault::LooksAtFiles => plan.notes.push(config.exists().to_string()),
        Fault::DropsLastDisk => drop(plan.disks.pop()),
        Fault::NamesAnotherProduct => plan.product = Product::new("another"),
        Fault::WritesElsewhere => {
            plan.files
                .push(PlanFile::text(machine.paths.layers.join("x"), "x"));
        }
        Fault::OmitsHeads => on_text(plan, |text| text.replace("delta-", "")),
        Fault::OnePlaceForAll => {
            plan.disks
                .iter_mut()
                .for_each(|disk| disk.place = "here".to_owned());
        }
        Fault::PlacesByOrder => {
            for (index, disk) in plan.disks.iter_mut().enumerate() {
                disk.place = format!("place {index}");
            }
        }
        Fault::DeniesConsole if machine.spec.hardware.console == Console::Log => {
            plan.gaps
                .push(Gap::new("hardware.console", "log", Grade::None, "denied"));
        }
        Fault::HidesGaps => plan.gaps.clear(),
        Fault::MisgradesGaps => {
            let grade = |gap: &mut Gap| match gap.grade {
                Grade::Player => gap.grade = Grade::UiOnly,
                _ => gap.grade = Grade::Player,
            };
            plan.gaps.iter_mut().for_each(grade);
        }
        Fault::GivesNoReasons => plan.gaps.iter_mut().for_each(|gap| gap.reason.clear()),
        Fault::WritesTitleRaw => {
            let title = machine.spec.display_name();
            on_text(plan, |text| format!("{text}title = {title}\n"));
        }
        Fault::WritesFolderRaw => {
            on_text(plan, |text| {
                format!("{text}folder = {}\n", config.display())
            });
        }
        Fault::WritesMediaRaw => {
            on_text(plan, |text| {
                format!("{text}media = {}\n", joined(&machine.media))
            });
        }
        Fault::ForgetsBases => {
            for disk in &mut plan.disks {
                disk.chain
                    .members
                    .retain(|member| member.role != MemberRole::Base);
            }
        }
        Fault::ForgetsImages => {
            let image = |role: &MemberRole| matches!(role, MemberRole::Image(_));
            for disk in &mut plan.disks {
                disk.chain.members.retain(|member| !image(&member.role));
            }
        }
        Fault::PlansOneFileTwice => {
            if let Some(entry) = plan.entry.clone() {
                plan.files.insert(0, PlanFile::text(entry, "first"));
            }
        }
        Fault::NamesNoEntryOfItsOwn => plan.entry = Some(config.join("another")),
        Fault::KeepsConfiguration => {
            plan.files
                .iter_mut()
                .for_each(|file| file.kind = FileKind::Kept);
        }
        Fault::PlansOverImage => {
            let os = plan
                .disks
                .iter()
                .find(|disk| disk.name != DiskName::Session);
            let image = os
                .and_then(|disk| disk.chain.image()?.path())
                .map(ToOwned::to_owned);
            plan.files
                .extend(image.map(|path| PlanFile::text(path, "ours now")));
        }
        _ => {}
    }
}

fn on_text(plan: &mut Plan, change: impl Fn(&str) -> String) {
    for file in &mut plan.files {
        if let Content::Text(text) = &mut file.content {
            *text = change(text);
        }
    }
}

fn joined(paths: &[std::path::PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

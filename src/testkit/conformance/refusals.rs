//! What a product lacks is refused: by key, with what there is instead, and naming the product.

use super::bench::{Bench, Miss, Outcome, always, ensure, refused, refused_as, told};
use super::translate::with_controller;
use super::{Entry, Options};
use crate::capability::Capabilities;
use crate::chain::Family;
use crate::spec::{Arch, Controller, Firmware};
use crate::testkit::Sample;
use crate::{Error, ErrorKind};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new(
        "missing-controllers-are-refused",
        lacks_controller,
        missing_controllers,
    ),
    Entry::new("missing-ports-are-refused", always, missing_ports),
    Entry::new("no-two-disks-share-a-place", always, no_shared_place),
    Entry::new(
        "foreign-families-need-a-switch",
        lacks_family,
        foreign_families,
    ),
    Entry::new("what-does-not-boot-is-refused", has_unbootable, unbootable),
    Entry::new(
        "missing-architectures-are-refused",
        lacks_arch,
        missing_arches,
    ),
    Entry::new(
        "missing-firmware-is-refused",
        lacks_firmware,
        missing_firmware,
    ),
    Entry::new("refusals-name-the-product", always, refusals_name_product),
];

const KINDS: [Controller; 5] = [
    Controller::Ide,
    Controller::Sata,
    Controller::Scsi,
    Controller::Nvme,
    Controller::Virtio,
];
const FAMILIES: [Family; 2] = [Family::Vmdk, Family::Hds];
const ARCHES: [(Arch, &str); 2] = [(Arch::X86_64, "x86_64"), (Arch::Aarch64, "aarch64")];
const FIRMWARE: [Firmware; 2] = [Firmware::Bios, Firmware::Uefi];

fn lacks_controller(can: &Capabilities, _: &Options) -> bool {
    KINDS.iter().any(|kind| can.controller(*kind).is_none())
}

fn lacks_family(can: &Capabilities, _: &Options) -> bool {
    FAMILIES.iter().any(|family| !can.families.contains(family))
}

fn lacks_arch(can: &Capabilities, _: &Options) -> bool {
    ARCHES.iter().any(|(arch, _)| !can.arches.contains(arch))
}

fn lacks_firmware(can: &Capabilities, _: &Options) -> bool {
    FIRMWARE
        .iter()
        .any(|firmware| !can.firmware.contains(firmware))
}

fn has_unbootable(can: &Capabilities, _: &Options) -> bool {
    !unbootable_pairs(can).is_empty()
}

/// Kinds of controllers and firmwares that there are, but not together.
fn unbootable_pairs(can: &Capabilities) -> Vec<(Controller, Firmware)> {
    let pairs = can.controllers.iter().flat_map(|known| {
        let firmware = can.firmware.iter();
        firmware
            .filter(|f| !known.boots.contains(f))
            .map(|f| (known.kind, *f))
    });
    pairs.collect()
}

/// Fails unless the error says all of these, in whatever case.
fn says(error: &Error, words: &[&str]) -> Outcome {
    let text = told(error);
    for word in words {
        ensure!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "the refusal does not say {word:?}: {text}"
        );
    }
    Ok(())
}

fn missing_controllers(bench: &Bench) -> Outcome {
    let known: Vec<_> = bench
        .can()
        .controllers
        .iter()
        .map(|c| c.kind.as_str())
        .collect();
    for kind in KINDS
        .into_iter()
        .filter(|kind| bench.can().controller(*kind).is_none())
    {
        let mut sample = bench.sample()?;
        sample.spec.layers[1].controller = Some(kind);
        let what = format!("a disk on {kind}");
        let error = refused_as(bench.plan(&sample), ErrorKind::Unsupported, &what)?;
        says(&error, &["office", kind.as_str()])?;
        says(&error, &known)?;
    }
    Ok(())
}

fn missing_ports(bench: &Bench) -> Outcome {
    for known in &bench.can().controllers {
        let mut sample = bench.sample()?;
        sample.spec.layers[1].controller = Some(known.kind);
        sample.spec.layers[1].slot = Some(100_000);
        let what = format!("port 100000 on {}", known.kind);
        let error = refused(bench.plan(&sample), &what)?;
        let kind = error.kind();
        let refusal = matches!(kind, ErrorKind::Unsupported | ErrorKind::Invalid);
        ensure!(refusal, "{what}: {}", told(&error));
        says(&error, &["office"])?;
    }
    Ok(())
}

fn no_shared_place(bench: &Bench) -> Outcome {
    let mut sample = bench.sample()?;
    sample.spec.layers[1].slot = Some(3);
    sample.spec.layers[2].slot = Some(3);
    match bench.plan(&sample) {
        Err(error) => says(&error, &["home"]),
        Ok(plan) => {
            let [_, one, two] = plan.disks.as_slice() else {
                return Err(Miss::Failed(format!("not three disks: {plan}")));
            };
            ensure!(one.place != two.place, "two disks are at {}", one.place);
            Ok(())
        }
    }
}

fn foreign_families(bench: &Bench) -> Outcome {
    for family in FAMILIES
        .into_iter()
        .filter(|family| !bench.can().families.contains(family))
    {
        let sample = bench.sample()?.family(family);
        let what = format!("a chain of the {family} family");
        let error = refused_as(bench.plan(&sample), ErrorKind::NeedsSwitch, &what)?;
        says(&error, &[family.as_str()])?;
        ensure!(
            error.next_step().is_some(),
            "the refusal gives no next step: {}",
            told(&error)
        );
    }
    Ok(())
}

fn unbootable(bench: &Bench) -> Outcome {
    for (kind, firmware) in unbootable_pairs(bench.can()) {
        let mut sample = bench.sample()?;
        sample.spec.hardware.firmware = firmware;
        sample.spec.layers[0].controller = Some(kind);
        let what = format!("{firmware} with its disk on {kind}");
        let error = refused_as(bench.plan(&sample), ErrorKind::Unsupported, &what)?;
        says(&error, &[kind.as_str()])?;
        let text = told(&error).to_lowercase();
        ensure!(
            text.contains("bios") || text.contains("uefi"),
            "no firmware is named: {text}"
        );
    }
    Ok(())
}

fn missing_arches(bench: &Bench) -> Outcome {
    for (arch, name) in ARCHES
        .iter()
        .filter(|(arch, _)| !bench.can().arches.contains(arch))
    {
        let mut sample = bench.sample()?;
        sample.spec.guest.arch = *arch;
        if bench.can().firmware.contains(&Firmware::Uefi) {
            sample.spec.hardware.firmware = Firmware::Uefi;
        }
        let error = refused_as(bench.plan(&sample), ErrorKind::Unsupported, name)?;
        says(&error, &["guest.arch"])?;
    }
    Ok(())
}

fn missing_firmware(bench: &Bench) -> Outcome {
    for firmware in FIRMWARE
        .into_iter()
        .filter(|f| !bench.can().firmware.contains(f))
    {
        let mut sample = bench.sample()?;
        sample.spec.hardware.firmware = firmware;
        let error = refused_as(
            bench.plan(&sample),
            ErrorKind::Unsupported,
            firmware.as_str(),
        )?;
        says(&error, &["hardware.firmware"])?;
    }
    Ok(())
}

fn refusals_name_product(bench: &Bench) -> Outcome {
    let product = bench.backend.product();
    let mut samples: Vec<(&str, Sample)> = Vec::new();
    let mut slot = bench.sample()?;
    slot.spec.layers[1].slot = Some(100_000);
    samples.push(("a port that there is not", slot));
    for family in FAMILIES
        .into_iter()
        .filter(|family| !bench.can().families.contains(family))
    {
        samples.push(("a foreign family", bench.sample()?.family(family)));
    }
    for kind in KINDS
        .into_iter()
        .filter(|kind| bench.can().controller(*kind).is_none())
    {
        samples.push((
            "a controller that there is not",
            with_controller(bench, kind, 2)?,
        ));
    }
    for (what, sample) in samples {
        let error = refused(bench.plan(&sample), what)?;
        let named = error.product() == Some(product);
        ensure!(
            named,
            "the refusal of {what} does not name {product}: {}",
            told(&error)
        );
    }
    Ok(())
}

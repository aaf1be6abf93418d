//! Policies that a product does not enforce by itself are reported, with the grade that its
//! capabilities claim, and so is a clean boot that it cannot promise.

use super::bench::{Bench, Miss, Outcome, always, ensure};
use super::{Entry, Options};
use crate::Plan;
use crate::capability::{Capabilities, Feature};
use crate::plan::{Gap, Grade};
use crate::spec::{Direction, Policy, Switch};

pub(super) const TRIALS: &[Entry] = &[
    Entry::new("every-open-policy-is-a-gap", always, policies_are_told),
    Entry::new("gaps-are-graded-as-claimed", always, grades_as_claimed),
    Entry::new("gaps-name-key-wish-and-reason", always, gaps_explain),
    Entry::new("an-unclean-boot-is-a-gap", reboots_inside, unclean_boot),
];

const POLICIES: [(Feature, &str); 6] = [
    (Feature::ClipboardPolicy, "policy.clipboard"),
    (Feature::DragAndDropPolicy, "policy.drag-and-drop"),
    (Feature::SharedFoldersPolicy, "policy.shared-folders"),
    (Feature::UsbPolicy, "policy.usb"),
    (Feature::SnapshotPolicy, "policy.snapshots"),
    (Feature::SuspendPolicy, "policy.suspend"),
];

fn reboots_inside(can: &Capabilities, _: &Options) -> bool {
    can.feature(Feature::RebootEndsRun) != Grade::Hard
}

fn open() -> Policy {
    Policy {
        clipboard: Direction::Both,
        drag_and_drop: Direction::Both,
        shared_folders: Switch::On,
        usb: Switch::On,
        snapshots: Switch::On,
        suspend: Switch::On,
    }
}

/// The plans of a machine that may do nothing and of one that may do everything.
fn closed_and_open(bench: &Bench) -> Result<(Plan, Plan), Miss> {
    let mut sample = bench.sample()?;
    let closed = bench.plan(&sample)?;
    sample.spec.policy = open();
    Ok((closed, bench.plan(&sample)?))
}

fn gap<'a>(plan: &'a Plan, key: &str) -> Option<&'a Gap> {
    plan.gaps.iter().find(|gap| gap.key == key)
}

fn policies_are_told(bench: &Bench) -> Outcome {
    let (closed, open) = closed_and_open(bench)?;
    for (feature, key) in POLICIES {
        let told = match bench.can().feature(feature) {
            Grade::Hard => true,
            // What cannot be opened at all needs no closing.
            Grade::None => gap(&closed, key).is_some() || gap(&open, key).is_some(),
            _ => gap(&closed, key).is_some(),
        };
        ensure!(told, "{key} is not enforced, and no gap says so");
    }
    Ok(())
}

fn grades_as_claimed(bench: &Bench) -> Outcome {
    let (closed, _) = closed_and_open(bench)?;
    for (feature, key) in POLICIES {
        let claimed = bench.can().feature(feature);
        if let Some(gap) = gap(&closed, key) {
            let grade = gap.grade;
            ensure!(
                grade == claimed,
                "{key} is claimed as {claimed}, but its gap says {grade}"
            );
        }
    }
    Ok(())
}

fn gaps_explain(bench: &Bench) -> Outcome {
    let (closed, open) = closed_and_open(bench)?;
    for gap in closed.gaps.iter().chain(&open.gaps) {
        let table = gap.key.split('.').next().unwrap_or_default();
        let known = matches!(table, "guest" | "hardware" | "layer" | "policy");
        ensure!(
            known && gap.key.contains('.'),
            "{:?} is no key of a spec",
            gap.key
        );
        ensure!(
            !gap.wanted.is_empty(),
            "the gap {} does not say what was wanted",
            gap.key
        );
        ensure!(
            !gap.reason.is_empty(),
            "the gap {} gives no reason",
            gap.key
        );
        ensure!(
            gap.grade != Grade::Hard,
            "the gap {} is none: it is hard",
            gap.key
        );
    }
    Ok(())
}

fn unclean_boot(bench: &Bench) -> Outcome {
    let plan = bench.plan(&bench.sample()?)?;
    let told = plan.gaps.iter().any(|gap| gap.key == "layer.os.writes");
    ensure!(
        told,
        "writes to os outlast a reboot of the guest, and no gap layer.os.writes says so"
    );
    Ok(())
}

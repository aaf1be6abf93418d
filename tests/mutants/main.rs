//! The conformance suite on backends that are wrong on purpose: each mutant of the null product
//! breaks one thing, and the trial named beside it must fail. No trial is without a mutant.
//!
//! With `STRATAVM_MATRIX=1` every trial is run on every mutant, and a table of all that failed is
//! printed at the end.

mod broken;
mod mutants;

use std::collections::BTreeSet;
use std::env;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use stratavm::Hypervisor;
use stratavm::testkit::conformance::{self, Case, Disks, Miss, Options, Panics, Supervisor};

use broken::{Broken, Fault};
use mutants::MUTANTS;

/// Which mutant a supervisor is to use, and where its machines are.
const MUTANT: &str = "STRATAVM_TEST_MUTANT";
const FOLDER: &str = "STRATAVM_TEST_FOLDER";

fn main() -> ExitCode {
    if let Some(code) = conformance::supervise(&as_told) {
        return code;
    }
    let mut trials = vec![
        Trial::test("the-unbroken-product-passes", || all_pass(Fault::None)),
        Trial::test("every-trial-has-a-mutant", every_trial_has_a_mutant),
    ];
    for (fault, trial) in MUTANTS {
        trials.push(Trial::test(format!("{fault:?} fails {trial}"), || {
            fails(*fault, trial)
        }));
    }
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list && env::var_os("STRATAVM_MATRIX").is_some_and(|value| value == "1") {
        print_matrix();
    }
    conclusion.exit_code()
}

/// The mutant that this program's environment names, as the supervisor of its machines has it.
fn as_told() -> Arc<dyn Hypervisor> {
    let folder = env::var_os(FOLDER).unwrap_or_default();
    let name = env::var(MUTANT).unwrap_or_default();
    let mut known = MUTANTS.iter().map(|(fault, _)| *fault);
    let fault = known.find(|fault| format!("{fault:?}") == name);
    Arc::new(Broken::at(Path::new(&folder), fault.unwrap_or(Fault::None)))
}

/// This program, to supervise machines of this mutant.
#[allow(clippy::expect_used)]
fn supervisor(product: &Broken) -> Supervisor {
    let this = Supervisor::this_program().expect("the path of this program");
    let this = this.env(FOLDER, product.folder());
    this.env(MUTANT, format!("{:?}", product.fault()))
}

fn cases(fault: Fault) -> Vec<Case> {
    let product = Broken::new(fault);
    let make = || Arc::new(product.clone()) as Arc<dyn Hypervisor>;
    let options = Options::default().limit(Duration::from_millis(1500));
    let options = options
        .watch(Duration::from_millis(40))
        .panics(Panics::Seen)
        .disks(match fault.is_in_process() {
            true => Disks::InProcess,
            false => Disks::Durable,
        })
        .supervisor(supervisor(&product))
        .absent(Arc::new(product.absent()));
    conformance::cases(&make, &options)
}

fn all_pass(fault: Fault) -> Result<(), Failed> {
    for case in cases(fault) {
        case.run()
            .map_err(|miss| Failed::from(format!("{}: {miss}", case.name())))?;
    }
    Ok(())
}

fn every_trial_has_a_mutant() -> Result<(), Failed> {
    let cases = cases(Fault::None);
    let trials: BTreeSet<_> = cases.iter().map(Case::name).collect();
    let covered: BTreeSet<_> = MUTANTS.iter().map(|(_, trial)| *trial).collect();
    if trials == covered {
        return Ok(());
    }
    let missing: Vec<_> = trials.difference(&covered).collect();
    let unknown: Vec<_> = covered.difference(&trials).collect();
    Err(Failed::from(format!(
        "without a mutant: {missing:?}; no trial: {unknown:?}"
    )))
}

fn fails(fault: Fault, trial: &str) -> Result<(), Failed> {
    let case = cases(fault).into_iter().find(|case| case.name() == trial);
    match case.map(|case| case.run()) {
        Some(Err(Miss::Failed(_))) => Ok(()),
        Some(Ok(())) => Err(Failed::from("the trial passes on the mutant")),
        other => Err(Failed::from(format!(
            "the trial did not take place: {other:?}"
        ))),
    }
}

/// One line for each mutant: what failed on it, the trial that it is made for first.
fn print_matrix() {
    let mut out = std::io::stdout().lock();
    for (fault, trial) in MUTANTS {
        let failed: Vec<_> = cases(*fault)
            .iter()
            .filter(|case| case.name() != *trial && case.run().is_err())
            .map(Case::name)
            .collect();
        let also = if failed.is_empty() {
            "nothing else".to_owned()
        } else {
            failed.join(" ")
        };
        // A closed pipe ends the table, not the test.
        let _ = writeln!(out, "{fault:?}: {trial}; also: {also}");
    }
}

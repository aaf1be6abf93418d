//! The conformance suite on every backend that comes with the project. `cargo test --test
//! conformance -- null::` runs one product's trials.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use stratavm::Hypervisor;
use stratavm::testkit::conformance::{self, Options, Panics};
use stratavm_null::Null;
use stratavm_qemu::Qemu;
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for backend in &stratavm_builtin::registry() {
        let (make, options): (Box<dyn Fn() -> Arc<dyn Hypervisor>>, _) =
            match backend.product().as_str() {
                // Its machines are in the value, so the value that stands for another process is a
                // clone of the first.
                "null" => {
                    let quick = Options::default().limit(Duration::from_secs(10));
                    let quick = quick.watch(Duration::from_millis(50)).panics(Panics::Seen);
                    (Box::new(null()), quick)
                }
                // An accelerator that hangs would be this host's fault, not the backend's.
                "qemu" => (
                    Box::new(|| Arc::new(Qemu::new().emulated())),
                    Options::default().panics(Panics::Seen),
                ),
                _ => {
                    let backend = Arc::clone(backend);
                    (Box::new(move || Arc::clone(&backend)), Options::default())
                }
            };
        trials.extend(conformance::trials(&*make, &options));
    }
    // The same product once more, with machines that outlive the value: named `null-in-folder::`.
    let (_folder, make) = null_in_folder();
    let options = Options::default().limit(Duration::from_secs(10));
    let options = options
        .watch(Duration::from_millis(50))
        .panics(Panics::Seen);
    for case in conformance::cases(&make, &options) {
        let name = format!("null-in-folder::{}", case.name());
        trials.push(Trial::test(name, move || {
            case.run().map_err(|miss| Failed::from(miss.to_string()))
        }));
    }
    conformance::run(trials)
}

fn null() -> impl Fn() -> Arc<dyn Hypervisor> {
    let null = Null::new();
    move || Arc::new(null.clone())
}

fn null_in_folder() -> (TempDir, impl Fn() -> Arc<dyn Hypervisor>) {
    #[allow(clippy::expect_used)]
    let folder = tempfile::tempdir().expect("a folder for the product");
    let path = folder.path().to_owned();
    (folder, move || Arc::new(Null::in_folder(&path)))
}

//! The conformance suite on every backend that comes with the project. `cargo test --test
//! conformance -- null::` runs one product's trials.
//!
//! Where a trial kills a supervisor, that is this program, run once more.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use stratavm::Hypervisor;
use stratavm::testkit::conformance::{self, Disks, Options, Panics, Supervisor};
use stratavm_null::Null;
use stratavm_qemu::Qemu;
use tempfile::TempDir;

/// Which backend a supervisor is to use, and where the null product's machines are.
const BACKEND: &str = "STRATAVM_TEST_BACKEND";
const FOLDER: &str = "STRATAVM_TEST_FOLDER";

fn main() -> ExitCode {
    if let Some(code) = conformance::supervise(&as_told) {
        return code;
    }
    let mut trials = Vec::new();
    for backend in &stratavm_builtin::registry() {
        let (make, options): (Box<dyn Fn() -> Arc<dyn Hypervisor>>, _) =
            match backend.product().as_str() {
                // Its machines are in the value, so the value that stands for another process is a
                // clone of the first.
                "null" => {
                    let options = quick()
                        .disks(Disks::InProcess)
                        .supervisor(supervisor("null"));
                    let absent = Null::new().uninstalled();
                    (Box::new(null()), options.absent(Arc::new(absent)))
                }
                "qemu" => {
                    let options = Options::default().panics(Panics::Seen);
                    let absent =
                        Qemu::new().in_folder(env::temp_dir().join("stratavm-no-such-folder"));
                    let options = options.absent(Arc::new(absent));
                    (Box::new(qemu), options.supervisor(supervisor("qemu")))
                }
                _ => {
                    let backend = Arc::clone(backend);
                    (Box::new(move || Arc::clone(&backend)), Options::default())
                }
            };
        trials.extend(conformance::trials(&*make, &options));
    }
    // The same product once more, with machines that outlive the value: named `null-in-folder::`.
    let (folder, make) = null_in_folder();
    let supervisor = supervisor("null-in-folder").env(FOLDER, folder.path());
    let absent = Null::in_folder(folder.path()).uninstalled();
    let options = quick().supervisor(supervisor).absent(Arc::new(absent));
    for case in conformance::cases(&make, &options) {
        let name = format!("null-in-folder::{}", case.name());
        trials.push(Trial::test(name, move || {
            case.run().map_err(|miss| Failed::from(miss.to_string()))
        }));
    }
    conformance::run(trials)
}

/// The backend that this program's environment names.
fn as_told() -> Arc<dyn Hypervisor> {
    let folder = || env::var_os(FOLDER).unwrap_or_default();
    match env::var(BACKEND).as_deref() {
        Ok("qemu") => qemu(),
        Ok("null-in-folder") => Arc::new(Null::in_folder(folder())),
        _ => Arc::new(Null::new()),
    }
}

#[allow(clippy::expect_used)]
fn supervisor(backend: &str) -> Supervisor {
    let this = Supervisor::this_program().expect("the path of this program");
    this.env(BACKEND, backend)
}

/// For the null product, whose machines do all that they do at once.
fn quick() -> Options {
    let options = Options::default().limit(Duration::from_secs(10));
    options
        .watch(Duration::from_millis(50))
        .panics(Panics::Seen)
}

/// An accelerator that hangs would be this host's fault, not the backend's.
fn qemu() -> Arc<dyn Hypervisor> {
    Arc::new(Qemu::new().emulated())
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

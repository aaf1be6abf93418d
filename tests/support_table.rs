//! The README's support table is what the backends' capability data says, with the evidence of
//! each cell. `STRATAVM_BLESS=1` rewrites it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use stratavm::Hypervisor;
use stratavm::capability::Feature;
use stratavm::plan::Grade;
use stratavm::spec::{Arch, Controller, Firmware, NetworkMode};

const BEGIN: &str = "<!-- support table: begin -->\n";
const END: &str = "<!-- support table: end -->";
const PRODUCTS: [(&str, &str); 4] = [
    ("qemu", "QEMU"),
    ("virtualbox", "VirtualBox"),
    ("vmware", "VMware"),
    ("parallels", "Parallels"),
];

/// How a cell is known. Kept by hand, beside the tests that give the evidence.
#[derive(Clone, Copy)]
enum Evidence {
    Booted,
    Foreign,
    Unproved,
}

impl Evidence {
    fn letter(self) -> &'static str {
        match self {
            Self::Booted => "B",
            Self::Foreign => "F",
            Self::Unproved => "U",
        }
    }
}

/// QEMU's own parser takes every argument vector of the conformance suite and the boot-sector
/// guest runs on every controller; the others' files are read in `tests/interop*.rs`.
fn controller_evidence(product: &str) -> Evidence {
    if product == "qemu" {
        Evidence::Booted
    } else {
        Evidence::Foreign
    }
}

fn feature_evidence(product: &str, feature: Feature) -> Evidence {
    use Feature::{
        AcpiShutdown, Audio, Cdrom, ConsoleLog, Control, LocalClock, Pause, RebootEndsRun,
        SecureBoot, Tpm, Window,
    };
    match (product, feature) {
        ("qemu", Control | RebootEndsRun | AcpiShutdown | ConsoleLog | Pause) => Evidence::Booted,
        ("qemu", Audio | Cdrom) => Evidence::Foreign,
        ("virtualbox", ConsoleLog | Window | Audio | Tpm | Cdrom | LocalClock) => Evidence::Foreign,
        ("vmware", ConsoleLog | Audio | SecureBoot | Cdrom | LocalClock) => Evidence::Foreign,
        ("parallels", ConsoleLog | Window | Audio | SecureBoot | Cdrom) => Evidence::Foreign,
        // Policies are gaps of the plans, which no reader is asked about.
        _ => Evidence::Unproved,
    }
}

/// A thing that is there or not.
fn cell(there: bool, evidence: Evidence) -> String {
    if there {
        format!("yes {}", evidence.letter())
    } else {
        "-".to_owned()
    }
}

/// A feature; only for policies does it matter how far it goes.
fn graded(feature: Feature, grade: Grade, evidence: Evidence) -> String {
    if feature.as_str().starts_with("policy") && grade != Grade::None {
        return format!("{grade} {}", evidence.letter());
    }
    cell(grade != Grade::None, evidence)
}

fn row(title: &str, cell: impl Fn(&str, &dyn Hypervisor) -> String) -> String {
    let registry = stratavm_builtin::registry();
    let cells = PRODUCTS.map(|(id, _)| {
        let product = stratavm::Product::named(id).unwrap();
        cell(id, registry.get(&product).unwrap().as_ref())
    });
    format!("| {title} | {} |\n", cells.join(" | "))
}

fn table() -> String {
    let mut text = format!("| | {} |\n", PRODUCTS.map(|(_, name)| name).join(" | "));
    text.push_str("| --- | --- | --- | --- | --- |\n");
    text.push_str(&row("disk chains", |id, backend| {
        let families = backend.capabilities().families.iter().map(|f| f.as_str());
        format!(
            "{} {}",
            families.collect::<Vec<_>>().join(", "),
            controller_evidence(id).letter()
        )
    }));
    for (arch, name) in [
        (Arch::X86_64, "x86_64 guests"),
        (Arch::Aarch64, "aarch64 guests"),
    ] {
        text.push_str(&row(name, |id, backend| {
            let there = backend.capabilities().arches.contains(&arch);
            let evidence = match (id, arch) {
                ("qemu", Arch::X86_64) => Evidence::Booted,
                ("parallels", Arch::Aarch64) => Evidence::Unproved,
                _ => Evidence::Foreign,
            };
            let evidence = if id == "qemu" && arch == Arch::Aarch64 {
                Evidence::Unproved
            } else {
                evidence
            };
            cell(there, evidence)
        }));
    }
    for (firmware, name) in [(Firmware::Bios, "BIOS"), (Firmware::Uefi, "UEFI")] {
        text.push_str(&row(name, |id, backend| {
            let there = backend.capabilities().firmware.contains(&firmware);
            let evidence = match (id, firmware) {
                ("qemu", Firmware::Bios) => Evidence::Booted,
                ("vmware", _) => Evidence::Foreign,
                _ => Evidence::Unproved,
            };
            cell(there, evidence)
        }));
    }
    for kind in Controller::ALL
        .into_iter()
        .filter(|kind| *kind != Controller::Auto)
    {
        text.push_str(&row(
            &format!("disks on {kind}"),
            |id, backend| match backend.capabilities().controller(kind) {
                Some(found) => format!("{} {}", found.disks, controller_evidence(id).letter()),
                None => "-".to_owned(),
            },
        ));
    }
    for mode in NetworkMode::ALL {
        text.push_str(&row(&format!("network: {mode}"), |id, backend| {
            let there = backend.capabilities().networks.contains(&mode);
            let evidence = if id == "vmware" || id == "virtualbox" {
                Evidence::Foreign
            } else {
                Evidence::Unproved
            };
            cell(there, evidence)
        }));
    }
    for feature in Feature::ALL {
        text.push_str(&row(feature.as_str(), |id, backend| {
            let grade = backend.capabilities().feature(feature);
            graded(feature, grade, feature_evidence(id, feature))
        }));
    }
    text
}

#[test]
fn the_readme_shows_what_the_backends_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the table has a beginning");
    let (committed, after) = rest.split_once(END).expect("the table has an end");
    let wanted = table();
    if std::env::var_os("STRATAVM_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        committed, wanted,
        "STRATAVM_BLESS=1 cargo test --test support_table rewrites it"
    );
}

//! Set-up of a fresh machine: finds what a task needs, installs what is missing where that is possible, and says what
//! it does and why. Installs nothing when all is there; what cannot be had is reported and the task goes on without.

mod apt;
mod python;
mod rust;

use std::env;
use std::path::{Path, PathBuf};

use crate::exec::Error;
use crate::rig;

pub(crate) use rust::{cargo_fuzz, has_miri, has_nightly};

/// One thing a task needs from the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// The Debian and Ubuntu package.
    pub(crate) name: &'static str,
    /// How its presence is told without asking apt.
    pub(crate) probe: Probe,
    /// What it is for, in a few words.
    pub(crate) why: &'static str,
}

/// What shows that a package is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// A program on `PATH` or in an `sbin` folder.
    Program(&'static str),
    /// A file at an absolute path.
    File(&'static str),
}

impl Package {
    pub(crate) const fn program(
        name: &'static str,
        program: &'static str,
        why: &'static str,
    ) -> Self {
        Self {
            name,
            probe: Probe::Program(program),
            why,
        }
    }

    pub(crate) const fn file(name: &'static str, path: &'static str, why: &'static str) -> Self {
        Self {
            name,
            probe: Probe::File(path),
            why,
        }
    }

    fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(program) => find_program(program).is_some(),
            Probe::File(path) => Path::new(path).exists(),
        }
    }
}

/// What `cargo xtask test` reads, runs and checks with.
const FOR_TESTS: &[Package] = &[
    Package::program(
        "qemu-system-x86",
        "qemu-system-x86_64",
        "runs the boot-sector guests",
    ),
    Package::program(
        "qemu-system-arm",
        "qemu-system-aarch64",
        "starts what is planned for aarch64",
    ),
    Package::file(
        "ovmf",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "the firmware of UEFI guests",
    ),
    Package::file(
        "qemu-efi-aarch64",
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "the firmware of aarch64 guests",
    ),
    Package::file(
        "libclang1",
        "/usr/share/doc/libclang1",
        "reads the header of VirtualBox's C interface",
    ),
    Package::program("qemu-utils", "qemu-img", "reads every disk chain back"),
    Package::program(
        "libxml2-utils",
        "xmllint",
        "checks .vbox, .pvs and DiskDescriptor.xml",
    ),
    Package::program(
        "libvirt-clients",
        "virsh",
        "its vmx parser reads every .vmx",
    ),
    Package::program(
        "virt-v2v",
        "virt-v2v",
        "a second vmx parser; opens the disks",
    ),
    Package::program(
        "strace",
        "strace",
        "shows what is fsynced before machine.json is renamed",
    ),
    Package::program(
        "shellcheck",
        "shellcheck",
        "checks the guest's shell scripts",
    ),
    Package::program(
        "exfatprogs",
        "mkfs.exfat",
        "makes the exFAT volume that machines are tried on",
    ),
    Package::program(
        "exfat-fuse",
        "mount.exfat-fuse",
        "mounts it where the kernel cannot",
    ),
    Package::program(
        "ploop",
        "ploop",
        "merges .hdd chains: by the format's owners",
    ),
    Package::program("fdisk", "sfdisk", "reads every partition table we write"),
    Package::program("g++", "c++", "builds libFuzzer for the fuzz targets"),
    Package::program("procps", "ps", "ends what a hanging test started"),
];

/// What there is after a set-up.
pub(crate) struct Found {
    /// Name of each thing that is not there, and why not or what to do.
    pub(crate) missing: Vec<(String, String)>,
    /// The Python interpreter that has the pinned validators.
    pub(crate) python: Option<PathBuf>,
}

impl Found {
    pub(crate) fn print(&self) {
        if self.missing.is_empty() {
            println!("setup: everything is there");
        }
        for (name, reason) in &self.missing {
            println!("setup: no {name}: {reason}");
        }
    }

    /// Whether a package or tool of this name was asked for and is not there, and why.
    pub(crate) fn why_missing(&self, name: &str) -> Option<&str> {
        self.missing
            .iter()
            .find(|(missing, _)| missing == name)
            .map(|(_, why)| why.as_str())
    }
}

/// Everything that `cargo xtask test` needs.
pub(crate) fn for_tests() -> Result<Found, Error> {
    let mut found = ensure(&[FOR_TESTS, rig::PACKAGES].concat());
    match python::ensure() {
        Ok(python) => found.python = Some(python),
        Err(error) => found
            .missing
            .push(("Python validators".into(), error.to_string())),
    }
    if let Err(error) = cargo_fuzz() {
        found.missing.push(("cargo-fuzz".into(), error.to_string()));
    }
    Ok(found)
}

/// Has apt learn what its servers offer now; a fresh system knows of nothing.
pub(crate) fn apt_update() -> Result<(), Error> {
    apt::update()
}

/// Makes sure of system packages, by apt where that is possible.
pub(crate) fn ensure(packages: &[Package]) -> Found {
    let wanted: Vec<Package> = packages
        .iter()
        .filter(|one| !one.is_there())
        .copied()
        .collect();
    if wanted.is_empty() {
        return Found {
            missing: Vec::new(),
            python: None,
        };
    }
    let refused = apt::install(&wanted).err();
    let missing = wanted
        .iter()
        .filter(|one| !one.is_there())
        .map(|one| {
            let reason = refused.as_ref().map_or_else(
                || {
                    format!(
                        "apt installed {} and it is not where it is expected",
                        one.name
                    )
                },
                Error::to_string,
            );
            (one.name.to_owned(), reason)
        })
        .collect();
    Found {
        missing,
        python: None,
    }
}

/// A program on `PATH`, or in the system's `sbin` folders, which `PATH` often lacks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let mut path = env::var_os("PATH").unwrap_or_default();
    if cfg!(unix) {
        path.push(":/usr/sbin:/sbin");
    }
    which::which_in(name, Some(path), env::current_dir().unwrap_or_default()).ok()
}

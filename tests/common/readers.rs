//! Parsers that are not ours, as functions from files to what they see. Each runs a script of `tests/readers`, whose
//! one JSON document is keyed by path. Says nothing about what a file should hold: that is for the tests.
#![allow(dead_code, reason = "not every test uses every reader")]

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::program::within_limit;
use super::report;

const MIB: u64 = 1 << 20;

/// A parser that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the programs'")]
pub(crate) enum Reader {
    DissectVmx,
    DissectVbox,
    DissectPvs,
    DissectVmdk,
    DissectHdd,
    Libvmdk,
    Libphdi,
    Ploop,
    Libvirt,
    VirtV2v,
    Xmllint,
    QemuVmdk,
    QemuHds,
    Qemu,
}

/// What a reader sees in each file: its document, or its words of refusal.
pub(crate) type Seen = BTreeMap<PathBuf, Result<Value, String>>;

/// Where a reader comes from.
enum Needs {
    /// A module in the virtual environment.
    Module(&'static str),
    /// A program on `PATH`.
    Program(&'static str),
}

impl Reader {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DissectVmx | Self::DissectVbox | Self::DissectPvs => "dissect.hypervisor",
            Self::DissectVmdk | Self::DissectHdd => "dissect.hypervisor",
            Self::Libvmdk => "libvmdk",
            Self::Libphdi => "libphdi",
            Self::Ploop => "ploop",
            Self::Libvirt => "libvirt",
            Self::VirtV2v => "virt-v2v",
            Self::Xmllint => "xmllint",
            Self::QemuVmdk | Self::QemuHds => "qemu-img",
            Self::Qemu => "qemu-system",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::DissectVmx => "dissect_vmx.py",
            Self::DissectVbox => "dissect_vbox.py",
            Self::DissectPvs => "dissect_pvs.py",
            Self::DissectVmdk => "dissect_vmdk.py",
            Self::DissectHdd => "dissect_hdd.py",
            Self::Libvmdk => "libvmdk_chain.py",
            Self::Libphdi => "libphdi_chain.py",
            Self::Ploop => "ploop_hdd.py",
            Self::Libvirt => "libvirt_vmx.py",
            Self::VirtV2v => "virt_v2v.py",
            Self::Xmllint => "xmllint.py",
            Self::QemuVmdk => "qemu_chain.py",
            Self::QemuHds => "qemu_hds.py",
            Self::Qemu => "qemu_argv.py",
        }
    }

    fn needs(self) -> Needs {
        match self {
            Self::DissectVmx
            | Self::DissectVbox
            | Self::DissectPvs
            | Self::DissectVmdk
            | Self::DissectHdd => Needs::Module("dissect.hypervisor"),
            Self::Libvmdk => Needs::Module("pyvmdk"),
            Self::Libphdi => Needs::Module("pyphdi"),
            Self::Ploop => Needs::Program("ploop"),
            Self::Libvirt => Needs::Program("virsh"),
            Self::VirtV2v => Needs::Program("virt-v2v"),
            Self::Xmllint => Needs::Program("xmllint"),
            Self::QemuVmdk | Self::QemuHds => Needs::Program("qemu-img"),
            Self::Qemu => Needs::Program("qemu-system-x86_64"),
        }
    }

    /// What it sees in `paths`; `None` when it is not there, which is reported as a skip of `what`.
    pub(crate) fn read(self, what: &str, paths: &[&Path]) -> Option<Seen> {
        if let Err(reason) = self.is_there() {
            report::skip(self.name(), what, &reason);
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/readers")
            .join(self.script());
        let mut command = Command::new(python());
        command.arg("-B").arg(script).args(paths);
        let printed = within_limit(&mut command).unwrap_or_else(|why| panic!("{self:?}: {why}"));
        let document: BTreeMap<PathBuf, Value> =
            serde_json::from_str(&printed).unwrap_or_else(|error| {
                panic!("{self:?} printed no JSON document: {error}: {printed}")
            });
        let seen: Seen = document
            .into_iter()
            .map(|(path, mut answer)| match answer.get("error") {
                Some(error) => (path, Err(error.as_str().unwrap_or_default().to_owned())),
                None => (path, Ok(answer["seen"].take())),
            })
            .collect();
        Some(seen)
    }

    /// What it sees in `paths`, none of which it may refuse; each is reported as read.
    pub(crate) fn accepts(self, what: &str, paths: &[&Path]) -> Option<BTreeMap<PathBuf, Value>> {
        let seen = self.read(what, paths)?;
        let accepted = seen.into_iter().map(|(path, answer)| match answer {
            Ok(value) => {
                report::ran(self.name(), what);
                (path, value)
            }
            Err(error) => panic!("{} refuses {}: {error}", self.name(), path.display()),
        });
        Some(accepted.collect())
    }

    fn is_there(self) -> Result<(), String> {
        match self.needs() {
            Needs::Program(program) => match find(program) {
                true => Ok(()),
                false => Err(format!("{program} is not installed; `cargo xtask setup`")),
            },
            Needs::Module(module) => {
                let import = format!("import {module}");
                let tried = within_limit(Command::new(python()).args(["-c", &import]));
                tried
                    .map(drop)
                    .map_err(|_| format!("no Python module {module}; `cargo xtask setup`"))
            }
        }
    }
}

/// The digest that `digest` in `tests/readers/common.py` makes of these raw files as one disk. Each is a path and its
/// bytes, a multiple of 1 MiB.
pub(crate) fn pieces_digest(files: &[(PathBuf, u64)]) -> io::Result<String> {
    let mut sha = Sha256::new();
    let mut piece = vec![0; MIB as usize];
    for mut offset in sampled(files.iter().map(|(_, bytes)| bytes).sum()) {
        for (path, bytes) in files {
            if offset < *bytes {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(&mut piece)?;
                sha.update(&piece);
                break;
            }
            offset -= bytes;
        }
    }
    Ok(sha
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// All of a small disk, nine pieces of a large one, its end among them.
fn sampled(size: u64) -> Vec<u64> {
    let pieces = size.div_ceil(MIB);
    let step = if pieces <= 64 { 1 } else { pieces / 8 };
    let mut offsets: Vec<u64> = (0..pieces).step_by(step as usize).collect();
    if offsets.last() != Some(&(pieces - 1)) {
        offsets.push(pieces - 1);
    }
    offsets.iter().map(|piece| piece * MIB).collect()
}

/// The interpreter of the virtual environment: `cargo xtask` names it, a plain `cargo test` looks where it is made.
fn python() -> PathBuf {
    if let Some(named) = env::var_os("STRATAVM_PYTHON") {
        return named.into();
    }
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    if made.exists() {
        made
    } else {
        "python3".into()
    }
}

fn find(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Some programs are where only an administrator's PATH leads.
    let mut folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.any(|folder| folder.join(program).is_file())
}

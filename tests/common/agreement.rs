//! What readers must see in translated machines: every value of the spec in each product's configuration, and the
//! images' content through each chain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::machines::{Machines, Translated};
use super::readers::Reader;
use super::report;
use super::values::{Blind, Values, clean, compare};
use super::views::{absolute, parallels, qemu, virtualbox, vmware};

/// What products refuse, by the words of the refusal: what they do not have. Anything else
/// must be translated.
const REFUSALS: [(&str, &[&str]); 4] = [
    ("vmware", &["virtio", UNQUOTABLE]),
    (
        "virtualbox",
        &["guest.arch", "hardware.secure-boot", "boot", UNQUOTABLE],
    ),
    (
        "parallels",
        &[
            "virtio",
            "no such",
            "no SCSI on Apple silicon",
            "no port is left for the drive",
            "a BIOS does not boot",
        ],
    ),
    ("qemu", &["ide", UNQUOTABLE]),
];

/// The format has no escape for an image's name.
const UNQUOTABLE: &str = "a VMDK descriptor cannot hold";

/// Every refusal is in the table, and every product took at least a quarter of the specs.
pub(crate) fn refusals(machines: &Machines) {
    for refused in &machines.refused {
        let words = format!("{:?}", refused.error);
        println!(
            "{} refuses {}: {}",
            refused.product, refused.spec.name, refused.error
        );
        let known = REFUSALS
            .iter()
            .find(|(product, _)| *product == refused.product);
        let known = known.is_some_and(|(_, all)| all.iter().any(|part| words.contains(part)));
        assert!(
            known,
            "{} refuses {}: {words}",
            refused.product, refused.spec.name
        );
    }
    let all = machines.translated.len() + machines.refused.len();
    for (product, _) in REFUSALS {
        let taken = machines.of(product).count();
        assert!(
            taken * 16 >= all,
            "{product} took {taken} of {} specs",
            all / 4
        );
    }
}

/// Every `.vmx`: dissect, libvirt, virt-v2v.
pub(crate) fn vmware(machines: &Machines) {
    let all: Vec<&Translated> = machines.of("vmware").collect();
    let entries: Vec<&Path> = all.iter().map(|one| one.entry()).collect();
    let blind = vmware::BLIND;
    if let Some(seen) = Reader::DissectVmx.accepts("vmx", &entries) {
        for one in &all {
            assert_eq!(
                seen[one.entry()]["repeated"],
                json!([]),
                "{}",
                one.entry().display()
            );
        }
        let view = |one: &Translated| vmware::dissect(&seen[one.entry()], one.entry());
        agree("dissect.hypervisor vmx", &all, view, blind);
    }
    if let Some(seen) = Reader::Libvirt.accepts("vmx", &entries) {
        agree(
            "libvirt",
            &all,
            |one| vmware::libvirt(&seen[one.entry()], one),
            blind,
        );
    }
    if let Some(seen) = Reader::VirtV2v.accepts("vmx and its disks", &entries) {
        agree(
            "virt-v2v",
            &all,
            |one| vmware::virt_v2v(&seen[one.entry()]),
            blind,
        );
    }
}

/// Every `.vbox`: dissect with Python's XML parser, xmllint.
pub(crate) fn virtualbox(machines: &Machines) {
    let all: Vec<&Translated> = machines.of("virtualbox").collect();
    let entries: Vec<&Path> = all.iter().map(|one| one.entry()).collect();
    Reader::Xmllint.accepts("vbox", &entries);
    if let Some(seen) = Reader::DissectVbox.accepts("vbox", &entries) {
        let view = |one: &Translated| virtualbox::dissect(&seen[one.entry()], one.entry());
        agree("dissect.hypervisor vbox", &all, view, virtualbox::BLIND);
    }
}

/// Every `config.pvs`: dissect with Python's XML parser, xmllint.
pub(crate) fn parallels(machines: &Machines) {
    let all: Vec<&Translated> = machines.of("parallels").collect();
    let entries: Vec<PathBuf> = all.iter().map(|one| parallels::config(&one.plan)).collect();
    let paths: Vec<&Path> = entries.iter().map(PathBuf::as_path).collect();
    Reader::Xmllint.accepts("config.pvs", &paths);
    if let Some(seen) = Reader::DissectPvs.accepts("config.pvs", &paths) {
        let view = |one: &Translated| {
            let entry = parallels::config(&one.plan);
            parallels::dissect(&seen[&entry], &entry)
        };
        agree("dissect.hypervisor pvs", &all, view, parallels::BLIND);
    }
}

/// Every argument vector: QEMU itself, which opens every chain.
pub(crate) fn qemu(machines: &Machines, folder: &Path) {
    let all: Vec<&Translated> = machines.of("qemu").collect();
    let files: Vec<PathBuf> = (0..all.len())
        .map(|index| folder.join(format!("argv-{index}.json")))
        .collect();
    for (one, file) in all.iter().zip(&files) {
        fs::create_dir_all(&one.machine.paths.config).expect("QEMU writes its console there");
        fs::write(file, json!({ "argv": one.plan.argv }).to_string()).expect("a vector is written");
    }
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    if let Some(seen) = Reader::Qemu.accepts("argument vector and its disks", &paths) {
        let seen: BTreeMap<&str, &Value> = all
            .iter()
            .zip(&files)
            .map(|(one, file)| (one.expected["name"].as_str(), &seen[file]))
            .collect();
        let view = |one: &Translated| qemu::qmp(seen[one.expected["name"].as_str()], &one.machine);
        agree("qemu", &all, view, qemu::BLIND);
    }
}

/// The content of every VMDK chain, by three readers that follow its links.
pub(crate) fn vmdk_chains(machines: &Machines) {
    let mut disks: BTreeMap<PathBuf, (Option<String>, usize)> = BTreeMap::new();
    let mut read = BTreeSet::new();
    for one in machines
        .translated
        .iter()
        .filter(|one| one.plan.product.as_str() != "parallels")
    {
        for (disk, (head, content, depth)) in one.machine.disks.iter().zip(one.disks()) {
            // Products share the family: the same files under another product's folder are read once.
            let members = disk.chain.levels().flat_map(|member| &member.files);
            let bytes: Vec<Vec<u8>> = members
                .map(|file| fs::read(&file.path).expect("it is there"))
                .collect();
            if read.insert((one.machine.spec.name.clone(), disk.name.clone(), bytes)) {
                disks.insert(head, (content, depth));
            }
        }
    }
    let heads: Vec<&Path> = disks.keys().map(PathBuf::as_path).collect();
    let mut sessions: BTreeMap<PathBuf, Value> = BTreeMap::new();
    for reader in [Reader::QemuVmdk, Reader::DissectVmdk, Reader::Libvmdk] {
        let Some(seen) = reader.accepts("vmdk chain", &heads) else {
            continue;
        };
        for (head, (content, depth)) in &disks {
            let (seen, at) = (&seen[head], head.display());
            assert_eq!(
                seen["chain"].as_array().map(Vec::len),
                Some(*depth),
                "{reader:?}: {at}"
            );
            // A session disk stands on no image; there the readers must agree with each other.
            match content {
                Some(content) => assert_eq!(seen["sha256"], content.as_str(), "{reader:?}: {at}"),
                None => {
                    let first = sessions
                        .entry(head.clone())
                        .or_insert_with(|| seen["sha256"].clone());
                    assert_eq!(&seen["sha256"], first, "{reader:?}: {at}");
                }
            }
        }
    }
}

/// The content of every `.hdd` bundle, and that its leaf is the head.
pub(crate) fn hdd_bundles(machines: &Machines) {
    let mut bundles: BTreeMap<PathBuf, Bundle> = BTreeMap::new();
    for one in machines.of("parallels") {
        for (disk, (head, content, depth)) in one.machine.disks.iter().zip(one.disks()) {
            let storages = disk.chain.members[0].files.len();
            let path = parallels::bundle(&one.plan, disk.name.as_str());
            bundles.insert(
                path,
                Bundle {
                    head,
                    content,
                    depth,
                    storages,
                },
            );
        }
    }
    let descriptors: Vec<PathBuf> = bundles
        .keys()
        .map(|bundle| bundle.join("DiskDescriptor.xml"))
        .collect();
    let descriptors: Vec<&Path> = descriptors.iter().map(PathBuf::as_path).collect();
    Reader::Xmllint.accepts("DiskDescriptor.xml", &descriptors);
    let mut sessions: BTreeMap<PathBuf, Value> = BTreeMap::new();
    for reader in [Reader::DissectHdd, Reader::QemuHds, Reader::Libphdi] {
        let readable = bundles.iter().filter(|(_, bundle)| match reader {
            // It does not read split bundles.
            Reader::QemuHds => bundle.storages == 1,
            // It reads no expanding image over a plain one, so only session disks are left.
            Reader::Libphdi => bundle.content.is_none(),
            _ => true,
        });
        let paths: Vec<&Path> = readable.map(|(path, _)| path.as_path()).collect();
        let Some(seen) = reader.accepts("hdd bundle", &paths) else {
            continue;
        };
        for (path, seen) in seen {
            let bundle = &bundles[&path];
            if reader == Reader::DissectHdd {
                let leaf = seen["storages"][0]["images"][LEAF]["file"]
                    .as_str()
                    .unwrap_or_default();
                assert_eq!(
                    absolute(&path, leaf),
                    clean(&bundle.head),
                    "{}",
                    path.display()
                );
                assert_eq!(
                    seen["chain"].as_array().map(Vec::len),
                    Some(bundle.depth),
                    "{}",
                    path.display()
                );
                assert_eq!(
                    seen["storages"].as_array().map(Vec::len),
                    Some(bundle.storages),
                    "{}",
                    path.display()
                );
            }
            match &bundle.content {
                Some(content) => assert_eq!(
                    seen["sha256"],
                    content.as_str(),
                    "{reader:?}: {}",
                    path.display()
                ),
                None => {
                    let first = sessions
                        .entry(path.clone())
                        .or_insert_with(|| seen["sha256"].clone());
                    assert_eq!(&seen["sha256"], first, "{reader:?}: {}", path.display());
                }
            }
        }
    }
}

/// The id that Parallels Desktop wants on the writable image.
const LEAF: &str = "5fbaabe3-6958-40ff-92a7-860e329aab41";

/// What a bundle must hold.
struct Bundle {
    head: PathBuf,
    content: Option<String>,
    depth: usize,
    storages: usize,
}

/// Compares one reader's view of every machine with its spec; all faults are shown at once.
fn agree(reader: &str, all: &[&Translated], view: impl Fn(&Translated) -> Values, blind: &[Blind]) {
    for one in blind.iter().filter(|one| one.reader == reader) {
        report::blind(reader, &one.keys.join(", "), one.why);
    }
    let faults: Vec<String> = all
        .iter()
        .flat_map(|one| compare(reader, &one.expected, &view(one), &one.plan, blind))
        .collect();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

//! Machines of a store whose layers have revisions, with data in every level: each product's configuration and chains
//! are read back by parsers that are not ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use common::agreement;
use common::machines::{Machines, Translated, empty_folder};
use common::program::within_limit;
use common::readers::pieces_digest;
use common::report;
use stratavm::capability::Capabilities;
use stratavm::chain::Family;
use stratavm::hypervisor::{Ended, Endpoint, Launch, Running, Stop};
use stratavm::machine::{CreateOptions, RunOptions};
use stratavm::plan::PlanDisk;
use stratavm::spec::{Controller, Name};
use stratavm::{Ctx, Hypervisor, Plan, Product, Resolved, Result, Store, VmSpec, block_on};

const MIB: usize = 1 << 20;

const SPEC: &str = r#"
stratavm = 1
name = "MACHINE"
title = "Revisions & <levels>"
[guest]
os = "linux"
[hardware]
controller = "sata"
console = "log"
[[hardware.network]]
mode = "nat"
[[layer]]
name = "os"
role = "os"
image = "golden é.raw"
[[layer]]
name = "home"
role = "user-data"
image = "seed 1.raw"
controller = "scsi"
"#;

/// What the disk of `home` holds at first, and after a write in each of its three levels.
fn content(levels: u8) -> Vec<u8> {
    let mut disk: Vec<u8> = (0..12 * MIB).map(|at| (at >> 12) as u8 | 0x80).collect();
    for level in 1..=levels {
        let start = usize::from(level) * 2 * MIB;
        disk[start..start + MIB].fill(level);
    }
    disk
}

/// Runs a machine once: its guest writes to `home` and ends at once. Only the guest is a stand-in; the store does what
/// it does around any run.
#[derive(Debug)]
struct OneWrite {
    capabilities: Capabilities,
    level: u8,
}

static ONE_WRITE: Product = Product::new("one-write");

#[async_trait]
impl Hypervisor for OneWrite {
    fn product(&self) -> &Product {
        &ONE_WRITE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn translate(&self, machine: &Resolved) -> Result<Plan> {
        let mut plan = Plan::new(ONE_WRITE.clone(), "nothing");
        for disk in &machine.disks {
            let (name, chain) = (disk.name.clone(), disk.chain.clone());
            plan.disks.push(PlanDisk::new(
                name,
                Controller::Sata,
                disk.slot,
                "nowhere",
                chain,
            ));
        }
        Ok(plan)
    }

    async fn start(&self, launch: &Launch, _: &Ctx) -> Result<Box<dyn Running>> {
        let home = launch
            .plan
            .disks
            .iter()
            .find(|disk| disk.name.as_str() == "home")
            .unwrap();
        let head = home.chain.head().and_then(|head| head.path()).unwrap();
        let format = if home.chain.family == Family::Hds {
            "parallels"
        } else {
            "vmdk"
        };
        // A whole cluster, or whole grains, so that nothing below is needed.
        let write = format!("write -P {} {}M 1M", self.level, self.level * 2);
        let mut command = Command::new("qemu-io");
        let said = within_limit(command.args(["-f", format, "-c", &write]).arg(head)).unwrap();
        assert!(said.contains("wrote 1048576/1048576"), "{said}");
        Ok(Box::new(Over(Endpoint::new(
            ONE_WRITE.clone(),
            "nowhere",
            None,
        ))))
    }
}

/// A run that has ended.
#[derive(Debug)]
struct Over(Endpoint);

#[async_trait]
impl Running for Over {
    fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    async fn wait(&mut self, _: &Ctx) -> Result<Ended> {
        Ok(Ended::PowerOff)
    }

    async fn stop(&mut self, _: Stop, _: &Ctx) -> Result<()> {
        Ok(())
    }
}

/// A machine with two frozen revisions and a written head of `home`, on each product of its family.
fn add(
    machines: &mut Machines,
    (store, name): (&Store, &str),
    folder: &Path,
    family: Family,
    products: &[&str],
) {
    let text = SPEC.replace("MACHINE", name);
    let spec = VmSpec::from_toml(&text, "revisions").unwrap();
    let options = CreateOptions::default().family(family);
    let machine = store.create(&spec, folder, &options, &Ctx::none()).unwrap();
    let home: Name = "home".parse().unwrap();
    for level in 1..=3 {
        let capabilities = Capabilities::new(vec![family], Controller::Sata, Controller::Sata);
        let product = Arc::new(OneWrite {
            capabilities,
            level,
        });
        block_on(machine.run(product, RunOptions::default(), &Ctx::none())).unwrap();
        if level < 3 {
            machine.snapshot(&home, None).unwrap();
        }
    }
    let expected = folder.join("expected.raw");
    fs::write(&expected, content(3)).unwrap();
    let written = pieces_digest(&[(expected, 12 * MIB as u64)]).unwrap();
    let registry = stratavm_builtin::registry();
    for product in products {
        let product = Product::named(product).unwrap();
        let resolved = machine.resolve(&product).unwrap();
        let backend = registry.get(&product).unwrap();
        let mut translated = Translated::new(backend.as_ref(), resolved).unwrap();
        translated.written.insert("home".into(), written.clone());
        machines.translated.push(translated);
    }
}

static STORED: LazyLock<Machines> = LazyLock::new(|| {
    let mut machines = Machines::default();
    if let Err(why) = within_limit(Command::new("qemu-io").arg("--version")) {
        report::skip("qemu-io", "machines with revisions", &why);
        return machines;
    }
    let folder = empty_folder("stored é");
    let store = Store::open(folder.join("my home")).unwrap();
    fs::write(folder.join("golden é.raw"), vec![0x47; 9 * MIB]).unwrap();
    fs::write(folder.join("seed 1.raw"), content(0)).unwrap();
    add(
        &mut machines,
        (&store, "vmdk"),
        &folder,
        Family::Vmdk,
        &["vmware", "virtualbox", "qemu"],
    );
    add(
        &mut machines,
        (&store, "hds"),
        &folder,
        Family::Hds,
        &["parallels"],
    );
    // The same where files end early: images and heads in extents of at most 3 MiB.
    let store = Store::open(folder.join("small files")).unwrap();
    let mut volume = store.volume().clone();
    volume.max_file = Some(4 * MIB as u64 - 1);
    let store = store.with_volume(volume);
    let products = ["vmware", "virtualbox", "qemu"];
    add(
        &mut machines,
        (&store, "split"),
        &folder,
        Family::Vmdk,
        &products,
    );
    machines
});

#[test]
fn configurations() {
    agreement::vmware(&STORED);
    agreement::virtualbox(&STORED);
    agreement::parallels(&STORED);
    agreement::qemu(&STORED, &empty_folder("stored-qemu"));
}

#[test]
fn chains() {
    agreement::vmdk_chains(&STORED);
    agreement::hdd_bundles(&STORED);
    let depths = STORED
        .translated
        .iter()
        .flat_map(Translated::disks)
        .map(|(_, _, depth)| depth);
    assert!(
        depths.max() >= Some(4),
        "an image or its descriptor, two revisions, a head"
    );
}

/// Extents are the descriptor's affair: a configuration that named one would attach a part as a disk.
#[test]
fn configurations_name_no_extents() {
    let mut split = 0;
    for one in &STORED.translated {
        let members = one
            .machine
            .disks
            .iter()
            .flat_map(|disk| &disk.chain.members);
        for member in members.filter(|member| !member.extents.is_empty()) {
            split += 1;
            for extent in &member.extents {
                let name = extent.path.file_name().unwrap().to_str().unwrap();
                let mut texts = one.plan.argv.clone();
                let entry = one.plan.entry.iter();
                texts.extend(entry.map(|path| fs::read_to_string(path).unwrap()));
                assert!(
                    !texts.iter().any(|text| text.contains(name)),
                    "{name}: {texts:?}"
                );
            }
        }
    }
    // For each of three products: the head of os, two revisions of home and its head.
    assert!(STORED.translated.is_empty() || split == 3 * 4, "{split}");
}

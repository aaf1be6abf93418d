//! Translated machines, booted by the real VirtualBox: registered and started with plain VBoxManage, no driver of ours.
//! Skipped where there is none; `cargo xtask test --only virtualbox` brings one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::expect_used, reason = "of the modules that tests share")]

#[path = "common/program.rs"]
mod program;
#[path = "common/report.rs"]
mod report;
#[path = "common/rig.rs"]
mod rig;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rig::{Home, Product};
use stratavm::plan::Plan;
use stratavm::preview::Preview;
use stratavm::testkit::guest::{Boot, BootSector, parse_console};
use stratavm::{Ctx, Store, VmSpec};
use stratavm_disk::Volume;

const MIB: u64 = 1 << 20;
/// A guest that is interpreted needs a second or two; a busy machine needs more.
const BOOT: Duration = Duration::from_secs(120);

/// Writes an image of 8 MiB with these texts at the beginnings of sectors.
fn image(path: &Path, texts: &[(u64, &[u8])]) {
    let mut file = File::create(path).unwrap();
    file.set_len(8 * MIB).unwrap();
    for (sector, text) in texts {
        file.seek(SeekFrom::Start(sector * 512)).unwrap();
        file.write_all(text).unwrap();
    }
}

/// The plan, carried out, and the file that the guest's console goes to.
fn translated(spec: &str, folder: &Path) -> (Plan, PathBuf) {
    let spec = VmSpec::from_toml(spec, "the test").unwrap();
    let registry = stratavm_builtin::registry();
    let backend = registry
        .iter()
        .find(|one| one.product().as_str() == "virtualbox");
    let backend = backend.unwrap().as_ref();
    let preview = Preview::new(&spec, folder, None, &Ctx::none()).unwrap();
    let machine = preview.resolve(backend, &folder.join("out put é")).unwrap();
    let plan = backend.translate(&machine).unwrap();
    plan.apply(&Volume::default(), &Ctx::none()).unwrap();
    let console = machine.paths.console;
    fs::create_dir_all(console.parent().unwrap()).unwrap();
    (plan, console)
}

fn started(home: &Home, name: &str, console: &Path) -> Boot {
    home.manage(["startvm", name, "--type", "headless"]);
    assert!(home.wait_for_power_off(BOOT), "{name} does not power off");
    let mut boots = parse_console(&fs::read(console).unwrap());
    assert!(
        boots.last().is_some_and(|boot| boot.ended),
        "{name}: {boots:?}"
    );
    boots.pop().unwrap()
}

#[test]
fn a_translated_machine_boots_and_keeps_its_images() {
    let Some(product) = Product::find("translated machine") else {
        return;
    };
    for controller in ["ide", "sata", "scsi"] {
        let home = Home::new(&product);
        let folder = home.folder().join("spec é");
        fs::create_dir(&folder).unwrap();
        let sector = BootSector::new()
            .print(3)
            .write(0, 4, "to the os")
            .write(1, 4, "to apps");
        let sector = sector.print(4).image_bytes().unwrap();
        image(&folder.join("os.raw"), &[(0, &sector), (3, b"os layer\0")]);
        image(&folder.join("apps.raw"), &[(3, b"apps layer\0")]);
        let before = ["os.raw", "apps.raw"].map(|name| fs::read(folder.join(name)).unwrap());
        let spec = format!(
            "stratavm = 1\nname = \"desk\"\n[guest]\nos = \"other\"\n\
             [hardware]\ncontroller = \"{controller}\"\nconsole = \"log\"\n\
             [[layer]]\nname = \"os\"\nrole = \"os\"\nimage = \"os.raw\"\n\
             [[layer]]\nname = \"apps\"\nrole = \"apps\"\nimage = \"apps.raw\"\n\
             [[layer]]\nname = \"home\"\nrole = \"user-data\"\nsize = \"8 MiB\"\n"
        );
        let (plan, console) = translated(&spec, &folder);
        home.manage([Path::new("registervm"), plan.entry.as_deref().unwrap()]);
        let boot = started(&home, "desk", &console);
        assert_eq!(
            boot.texts(3),
            ["os layer", "apps layer", ""],
            "{controller}"
        );
        assert_eq!(boot.texts(4), ["to the os", "to apps", ""], "{controller}");
        let after = ["os.raw", "apps.raw"].map(|name| fs::read(folder.join(name)).unwrap());
        assert!(before == after, "an image was written to");
        home.manage(["unregistervm", "desk"]);
        assert_eq!(home.manage(["list", "vms"]).trim(), "");
        report::ran("VirtualBox", "translated machine");
    }
    println!("VirtualBox {}", product.version());
}

/// Four layers, each a disk.
const SPEC: &str = r#"
stratavm = 1
name = "desk"
[guest]
os = "other"
[hardware]
controller = "ide"
console = "log"
[[layer]]
name = "os"
role = "os"
image = "os.raw"
[[layer]]
name = "apps"
role = "apps"
image = "apps.raw"
[[layer]]
name = "home"
role = "user-data"
size = "8 MiB"
[[layer]]
name = "cache"
role = "cache"
size = "8 MiB"
"#;

/// A machine of a store: what a guest wrote is frozen into revisions of its layers, and the next guest, on new heads
/// over them, in a VirtualBox that knows nothing of the machine, reads it.
#[test]
fn a_machine_of_a_store_boots_on_its_frozen_layers() {
    let Some(product) = Product::find("machine of a store") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sector = BootSector::new()
        .print(4)
        .write(0, 4, "os")
        .write(2, 4, "home");
    let sector = sector.image_bytes().unwrap();
    image(&dir.path().join("os.raw"), &[(0, &sector)]);
    image(&dir.path().join("apps.raw"), &[(4, b"apps layer\0")]);
    let store = Store::open(dir.path().join("store é")).unwrap();
    let spec = VmSpec::from_toml(SPEC, "the test").unwrap();
    let machine = store.create(&spec, dir.path(), &Default::default(), &Ctx::none());
    let machine = machine.unwrap();
    let registry = stratavm_builtin::registry();
    let backend = registry
        .iter()
        .find(|one| one.product().as_str() == "virtualbox");
    let backend = backend.unwrap().as_ref();
    let name = backend.product();
    for boot in 0..3 {
        let resolved = machine.resolve(name).unwrap();
        let plan = backend.translate(&resolved).unwrap();
        plan.apply(&resolved.volume, &Ctx::none()).unwrap();
        let home = Home::new(&product);
        home.manage([Path::new("registervm"), plan.entry.as_deref().unwrap()]);
        let console = &resolved.paths.console;
        fs::create_dir_all(console.parent().unwrap()).unwrap();
        let seen = started(&home, resolved.spec.name.as_str(), console);
        let kept = |text| if boot == 0 { "" } else { text };
        let want = [kept("os"), "apps layer", kept("home"), ""];
        assert_eq!(seen.texts(4), want, "boot {boot}");
        drop(home);
        for layer in ["os", "home"] {
            machine.snapshot(&layer.parse().unwrap(), None).unwrap();
        }
        report::ran("VirtualBox", "machine of a store");
    }
}

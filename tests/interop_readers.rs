//! The readers themselves: each sees what hand-made files hold, and refuses or shows what is wrong in broken ones, so
//! that its agreement in the other interop tests means something. Nothing here is written by the library.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::readers::Reader;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a name that needs quoting, as users' folders do.
struct Folder {
    _dir: TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b é");
        fs::create_dir(&path).unwrap();
        Self { _dir: dir, path }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

/// The only answer of a reader, or `None` when the reader is not there.
fn one(reader: Reader, what: &str, path: &PathBuf) -> Option<Result<Value, String>> {
    reader
        .read(what, &[path.as_path()])
        .map(|mut seen| seen.remove(path).unwrap())
}

const VMX: &str = r#".encoding = "UTF-8"
config.version = "8"
virtualHW.version = "14"
displayName = "a |22b|22 é"
guestOS = "debian12-64"
memsize = "512"
numvcpus = "2"
sata0.present = "TRUE"
sata0:1.present = "TRUE"
sata0:1.deviceType = "cdrom-image"
sata0:1.fileName = "tools.iso"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "e1000"
ethernet0.connectionType = "nat"
ethernet0.addressType = "static"
ethernet0.address = "00:50:56:01:02:03"
"#;

#[test]
fn vmx_readers_see_the_values() {
    let folder = Folder::new();
    folder.file("tools.iso", "");
    let vmx = folder.file("hand made.vmx", VMX);
    if let Some(seen) = one(Reader::DissectVmx, "vmx", &vmx) {
        let seen = seen.unwrap();
        assert_eq!(seen["attributes"]["displayname"], r#"a "b" é"#);
        assert_eq!(seen["attributes"]["sata0:1.filename"], "tools.iso");
        assert_eq!(seen["repeated"], serde_json::json!([]));
    }
    if let Some(seen) = one(Reader::Libvirt, "vmx", &vmx) {
        let document = seen.unwrap().to_string();
        assert!(document.contains(r#"a \"b\" é"#), "{document}");
        assert!(document.contains("00:50:56:01:02:03"), "{document}");
    }
    if let Some(seen) = one(Reader::VirtV2v, "vmx", &vmx) {
        let seen = seen.unwrap();
        assert_eq!(seen["source name"], r#"a "b" é"#);
        assert_eq!(seen["memory"], "536870912 (bytes)");
        assert_eq!(seen["nr vCPUs"], "2");
        assert_eq!(seen["nics"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn vmx_readers_notice_broken_files() {
    let folder = Folder::new();
    let twice = folder.file("twice.vmx", &format!("{VMX}MemSize = \"1024\"\n"));
    if let Some(seen) = one(Reader::DissectVmx, "vmx", &twice) {
        assert_eq!(seen.unwrap()["repeated"], serde_json::json!(["memsize"]));
    }
    let injected = folder.file("injected.vmx", &VMX.replace("|22b", "\nevil = b"));
    if let Some(seen) = one(Reader::Libvirt, "vmx", &injected) {
        assert!(seen.is_err());
    }
    let odd = folder.file("odd.vmx", &VMX.replace("\"512\"", "\"513\""));
    if let Some(seen) = one(Reader::Libvirt, "vmx", &odd) {
        assert!(seen.unwrap_err().contains("513"));
    }
}

/// virt-v2v opens every disk. It gives qemu-nbd half a minute to open this one.
#[test]
fn virt_v2v_misses_a_disk_that_is_not_there() {
    let folder = Folder::new();
    let disk = VMX.replace("sata0:1.deviceType = \"cdrom-image\"\n", "");
    let lost = folder.file("lost.vmx", &disk.replace("tools.iso", "absent.vmdk"));
    if let Some(seen) = one(Reader::VirtV2v, "vmx", &lost) {
        assert!(seen.unwrap_err().contains("absent.vmdk"));
    }
}

const VBOX: &str = r#"<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.15-linux">
  <Machine uuid="{11111111-1111-4111-8111-111111111111}" name="a &amp; é" OSType="Debian_64">
    <MediaRegistry>
      <HardDisks>
        <HardDisk uuid="{22222222-2222-4222-8222-222222222222}" location="base.vmdk" format="VMDK" type="Normal">
          <HardDisk uuid="{33333333-3333-4333-8333-333333333333}" location="head.vmdk" format="VMDK"/>
        </HardDisk>
      </HardDisks>
    </MediaRegistry>
    <Hardware><Memory RAMSize="512"/></Hardware>
  </Machine>
</VirtualBox>
"#;

#[test]
fn vbox_readers_see_media_and_refuse_what_is_not_xml() {
    let folder = Folder::new();
    let vbox = folder.file("hand made.vbox", VBOX);
    if let Some(seen) = one(Reader::DissectVbox, "vbox", &vbox) {
        let seen = seen.unwrap();
        assert_eq!(seen["name"], "a & é");
        let head = &seen["media"]["33333333-3333-4333-8333-333333333333"];
        assert_eq!(head["parent"], "22222222-2222-4222-8222-222222222222");
        assert_eq!(head["location"], "head.vmdk");
    }
    let broken = folder.file("broken.vbox", &VBOX.replace("</Hardware>", ""));
    for reader in [Reader::DissectVbox, Reader::Xmllint] {
        if let Some(seen) = one(reader, "vbox", &broken) {
            assert!(seen.is_err(), "{reader:?}");
        }
    }
    if let Some(seen) = one(Reader::Xmllint, "vbox", &vbox) {
        seen.unwrap();
    }
}

#[test]
fn the_pvs_reader_sees_disks_and_the_document() {
    let folder = Folder::new();
    let text = "<?xml version=\"1.0\"?>\n<ParallelsVirtualMachine schemaVersion=\"1.0\"><Hardware>\
                <Hdd id=\"0\"><SystemName>os é.hdd</SystemName></Hdd>\
                <Memory><RAM>512</RAM></Memory></Hardware></ParallelsVirtualMachine>\n";
    let pvs = folder.file("config.pvs", text);
    if let Some(seen) = one(Reader::DissectPvs, "pvs", &pvs) {
        let seen = seen.unwrap();
        assert_eq!(seen["disks"], serde_json::json!(["os é.hdd"]));
        assert_eq!(
            seen["document"]["children"][0]["children"][1]["children"][0]["text"],
            "512"
        );
    }
    let broken = folder.file("broken.pvs", &text.replace("</RAM>", ""));
    if let Some(seen) = one(Reader::DissectPvs, "pvs", &broken) {
        assert!(seen.is_err());
    }
}

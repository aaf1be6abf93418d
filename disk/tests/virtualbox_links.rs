//! Links between images as the real VirtualBox checks them, and its own children made ours: VirtualBox's links alone
//! become those that VMware and QEMU follow, too. `cargo xtask test --only virtualbox` brings a VirtualBox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/families.rs"]
mod families;
#[path = "../../tests/common/program.rs"]
mod program;
#[path = "common/qemu.rs"]
mod qemu;
#[path = "../../tests/common/report.rs"]
#[allow(clippy::print_stdout)]
mod report;
#[path = "../../tests/common/rig.rs"]
mod rig;
#[path = "common/vbox.rs"]
mod vbox;

use families::{Image, VDI, VMDK};
use rig::{Home, Product};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use stratavm_disk::vmdk::{Origin, ParentLink, SparseSpec, relink};
use stratavm_disk::{Access, Below, Chain, Durability, Format, ImageSpec, info};
use uuid::Uuid;
use vbox::MIB;

fn media(images: &[Image]) -> Vec<(PathBuf, &'static str, Uuid)> {
    let medium = |image: &Image| {
        let format = if image.format == Format::Vdi {
            "VDI"
        } else {
            "VMDK"
        };
        (image.path.clone(), format, image.uuid.unwrap())
    };
    images.iter().map(medium).collect()
}

/// The bytes that a guest sees.
fn content(chain: &Chain) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(chain.size()).unwrap()];
    chain.read_at(&mut all, 0).unwrap();
    all
}

#[test]
fn a_child_that_virtualbox_made_is_given_our_links() {
    let Some(home) = vbox::home("child of theirs, relinked") else {
        return;
    };
    if qemu::missing("child of VirtualBox's, relinked") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("chain é");
    fs::create_dir(&folder).unwrap();
    let mut images = vec![(VMDK.base)(&folder, &common::pattern(VMDK.size))];
    images.push((VMDK.head)(&folder, 1, &images));
    vbox::register(&home, &media(&images));
    let child = folder.join("child.vmdk");
    let file = child.to_str().unwrap();
    let parent = images[1].uuid.unwrap().to_string();
    let what = [
        "createmedium",
        "disk",
        "--filename",
        file,
        "--format",
        "VMDK",
    ];
    home.manage(what.iter().chain(&["--diffparent", &parent]));
    let found = info(&child).unwrap().vmdk.unwrap();
    assert_eq!(
        (found.parent_uuid, found.parent_hint),
        (images[1].uuid, None)
    );

    let mut list: Vec<_> = images
        .iter()
        .map(|one| (one.path.as_path(), one.format))
        .collect();
    list.push((&child, Format::VmdkSparse));
    let gate = Below::new(&folder).unwrap();
    let chain = Chain::open_all(&list, Access::Write, &gate).unwrap();
    chain.write_at(&[0x77; 5000], MIB + 300).unwrap();
    let before = content(&chain);
    let below = chain.members().nth(1).unwrap().identity.clone();
    chain.close(Durability::Unsynced).unwrap();
    drop(home);

    let own = SparseSpec {
        file: "child.vmdk".into(),
        cid: common::cid(0x7e57),
        uuid: Uuid::from_u128(0x7e57),
        parent: Some(ParentLink {
            hint: "head-1.vmdk".into(),
            cid: images[1].cid.unwrap(),
            uuid: images[1].uuid.unwrap(),
        }),
        ..common::sparse(VMDK.size as u64 / 512)
    };
    let now = Image {
        path: child.clone(),
        format: Format::VmdkSparse,
        cid: Some(own.cid),
        uuid: Some(own.uuid),
    };
    let origin = Origin::Product(below);
    relink(
        &child,
        &ImageSpec::VmdkSparse(own),
        &origin,
        Durability::Unsynced,
    )
    .unwrap();
    images.push(now);

    // By its own links now, as QEMU follows them; and VirtualBox's own still hold.
    let chain = Chain::open(&child, Format::VmdkSparse, Access::Read, &gate).unwrap();
    assert_eq!(chain.depth(), 3);
    assert!(content(&chain) == before);
    let seen = qemu::content(&qemu::node("vmdk", &child, None), &folder);
    // QEMU takes such a disk for as long as its whole grains.
    let (disk, behind) = seen.split_at(before.len());
    assert!(
        disk == before && behind.iter().all(|byte| *byte == 0),
        "QEMU"
    );
    let home = vbox::home("child of theirs, relinked").unwrap();
    vbox::register(&home, &media(&images));
    let uuid = images[2].uuid.unwrap().to_string();
    assert_eq!(vbox::shown(&home, &uuid, "Parent UUID:"), parent);
    vbox::same(&chain, &vbox::raw_of(&home, &uuid), "relinked");
    report::ran("VirtualBox", "child of theirs, relinked");
}

/// Whether VirtualBox says that the top image lies on another one than it is registered with. It compares only what it
/// looked at, which may take it a while.
fn is_noticed(product: &Product, images: &[Image]) -> bool {
    let home = Home::new(product);
    vbox::register(&home, &media(images));
    for _ in 0..20 {
        let mut said = String::new();
        for image in images {
            let uuid = image.uuid.unwrap().to_string();
            let shown = home.try_manage(["showmediuminfo", "disk", &uuid]);
            said = shown.unwrap_or_else(|error| error);
        }
        if said.contains("does not match UUID") {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

/// That the checks of links in the other tests would see a wrong one.
#[test]
fn virtualbox_notices_links_that_lead_elsewhere() {
    let Some(product) = Product::find("wrong link") else {
        return;
    };
    for family in [&VDI, &VMDK] {
        let dir = tempfile::tempdir().unwrap();
        let mut images = vec![(family.base)(dir.path(), &common::pattern(family.size))];
        images.push((family.head)(dir.path(), 1, &images));
        let parent = images[0].uuid.unwrap();
        assert!(!is_noticed(&product, &images), "{}", family.name);
        let head = &images[1].path;
        let mut bytes = fs::read(head).unwrap();
        // In a VDI in the order of bytes that GUIDs have, in a VMDK as text.
        let (guid, text) = (parent.to_bytes_le(), parent.to_string());
        let old = match family.name == VDI.name {
            true => &guid[..],
            false => text.as_bytes(),
        };
        let at = bytes
            .windows(old.len())
            .position(|part| part == old)
            .unwrap();
        bytes[at] = b'7';
        assert_ne!(&bytes[at..][..old.len()], old);
        fs::write(head, bytes).unwrap();
        assert!(is_noticed(&product, &images), "{}", family.name);
        report::ran("VirtualBox", "wrong link");
    }
}

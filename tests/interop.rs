//! Every committed spec, translated for every product and read back by parsers that are not ours: each value that the
//! spec sets in the product's own configuration, and the images' content through each chain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::fs;
use std::sync::LazyLock;

use common::agreement;
use common::fixtures;
use common::machines::{Machines, empty_folder};
use stratavm::Store;

static COMMITTED: LazyLock<Machines> = LazyLock::new(|| {
    let folder = empty_folder("committed");
    let store = Store::open(folder.join("store")).unwrap();
    let mut machines = Machines::default();
    for (name, spec) in fixtures::specs() {
        let folder = folder.join(format!("{name} é"));
        fs::create_dir(&folder).unwrap();
        machines.add(&spec, &folder, &store);
    }
    machines
});

#[test]
fn refusals_are_the_products_own() {
    agreement::refusals(&COMMITTED);
}

#[test]
fn vmware_values() {
    agreement::vmware(&COMMITTED);
}

#[test]
fn virtualbox_values() {
    agreement::virtualbox(&COMMITTED);
}

#[test]
fn parallels_values() {
    agreement::parallels(&COMMITTED);
}

#[test]
fn qemu_values() {
    agreement::qemu(&COMMITTED, &empty_folder("committed-qemu"));
}

#[test]
fn vmdk_chains() {
    agreement::vmdk_chains(&COMMITTED);
}

#[test]
fn hdd_bundles() {
    agreement::hdd_bundles(&COMMITTED);
}

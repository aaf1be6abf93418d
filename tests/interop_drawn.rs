//! Fifty drawn specs, translated for every product and read back by parsers that are not ours. The seed is printed;
//! `STRATAVM_SEED` sets another, `STRATAVM_DRAWN` another number.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::env;
use std::fs;
use std::sync::LazyLock;

use common::agreement;
use common::draw;
use common::machines::{Machines, empty_folder};
use stratavm::Store;

const SEED: u64 = 20_261_123;
const COUNT: u64 = 50;

static DRAWN: LazyLock<Machines> = LazyLock::new(|| {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let seed = number("STRATAVM_SEED").unwrap_or(SEED);
    let count = number("STRATAVM_DRAWN").unwrap_or(COUNT);
    println!("STRATAVM_SEED={seed} draws these {count} specs again");
    let folder = empty_folder("drawn");
    let store = Store::open(folder.join("store")).unwrap();
    let mut machines = Machines::default();
    for seed in seed..seed + count {
        let folder = folder.join(format!("maschine {seed} é"));
        fs::create_dir(&folder).unwrap();
        machines.add(&draw::spec(seed), &folder, &store);
    }
    machines
});

#[test]
fn refusals_are_the_products_own() {
    agreement::refusals(&DRAWN);
}

#[test]
fn vmware_values() {
    agreement::vmware(&DRAWN);
}

#[test]
fn virtualbox_values() {
    agreement::virtualbox(&DRAWN);
}

#[test]
fn parallels_values() {
    agreement::parallels(&DRAWN);
}

#[test]
fn qemu_values() {
    agreement::qemu(&DRAWN, &empty_folder("drawn-qemu"));
}

#[test]
fn vmdk_chains() {
    agreement::vmdk_chains(&DRAWN);
}

#[test]
fn hdd_bundles() {
    agreement::hdd_bundles(&DRAWN);
}

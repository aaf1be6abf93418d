//! Every operation through every change it makes to a file: each one fails in each way, for once or from then on, or is
//! the last thing that happens before the power is cut. Afterwards the store opens, the machine is as it was or as it
//! should become, what every revision and head holds is read by code that is not the library's, no file beside the one
//! being frozen differs in a byte, the operation can be done again, and one `prune` removes what it left.
//!
//! The usual run draws some of the faults of each point from a seed; `--slow` takes all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../common/report.rs"]
mod report;
#[path = "../common/sim/mod.rs"]
mod sim;

mod judge;
mod scene;
mod trial;

use scene::{Scene, Task};
use sim::model::{Kept, Op};

fn all(scene: &[Op], tasks: Vec<Task>) {
    all_in(&Scene::new(scene), tasks);
}

fn all_in(scene: &Scene, tasks: Vec<Task>) {
    for task in tasks {
        trial::every_point(scene, &task);
    }
}

fn layer(name: &str) -> String {
    name.to_owned()
}

#[test]
fn images() {
    all(&[], vec![Task::AddDisk, Task::AddFileSystem]);
}

#[test]
fn publish() {
    all(&scene::rich(), vec![Task::Publish]);
}

#[test]
fn a_store_is_begun() {
    all(&[], vec![Task::Begin]);
}

#[test]
fn create() {
    all(&[], vec![Op::Create.into()]);
}

#[test]
fn delete() {
    all(&scene::rich(), vec![Op::Delete.into()]);
}

#[test]
fn first_start() {
    all(&[Op::Create], vec![scene::boots(1), scene::boots(2)]);
}

#[test]
fn start() {
    all(&scene::rich(), vec![scene::boots(1), scene::boots(2)]);
}

#[test]
fn snapshot() {
    let of = |name| Op::Snapshot { layer: layer(name) }.into();
    all(&scene::rich(), vec![of("home"), of("os"), of("apps")]);
    all(&[Op::Create], vec![of("home")]);
}

#[test]
fn rollback() {
    let to = |name, to, kept| {
        let layer = layer(name);
        Op::Rollback { layer, to, kept }.into()
    };
    let tasks = vec![
        to("home", None, Kept::Preserve),
        to("home", Some(1), Kept::Discard),
        to("apps", Some(1), Kept::Preserve),
    ];
    all(&scene::rich(), tasks);
}

#[test]
fn update() {
    let to = |name, image, kept| {
        let layer = layer(name);
        Op::Update { layer, image, kept }.into()
    };
    let tasks = vec![
        to("os", 2, Kept::Preserve),
        to("apps", 1, Kept::Preserve),
        to("home", 3, Kept::Discard),
    ];
    all(&scene::rich(), tasks);
}

#[test]
fn add_and_remove() {
    let remove = |name, kept| {
        let layer = layer(name);
        Op::Remove { layer, kept }.into()
    };
    let add = Op::Add {
        layer: layer("tools"),
        image: 2,
    };
    let tasks = vec![
        add.into(),
        remove("apps", Kept::Preserve),
        remove("home", Kept::Preserve),
        remove("home", Kept::Discard),
    ];
    all(&scene::rich(), tasks);
}

#[test]
fn rejuvenate() {
    all(&scene::rich(), vec![Op::Rejuvenate.into()]);
}

#[test]
fn prune() {
    all_in(&Scene::new(&scene::rich()).littered(), vec![Task::Prune]);
}

#[test]
fn repair() {
    all_in(&Scene::new(&scene::rich()).writable(), vec![Task::Repair]);
}

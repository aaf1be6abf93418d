//! The real VirtualBox through XPCOM, beside VBoxManage as the second witness. One process has one server, so this is one
//! test; its environment is set before anything else runs.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../../../../tests/common/program.rs"]
mod program;
#[path = "../../../../tests/common/report.rs"]
mod report;
#[path = "../../../../tests/common/rig.rs"]
mod rig;

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use stratavm_virtualbox_sys::{Client, ErrorKind};

const LIMIT: Duration = Duration::from_secs(60);
/// Tells the second process of this program whose home it lives in.
const INSIDE: &str = "STRATAVM_XPCOM_INSIDE";

#[test]
fn a_machine_lives_its_life_through_xpcom() {
    if env::var_os(INSIDE).is_some() {
        return;
    }
    let Some(product) = rig::Product::find("XPCOM") else {
        return;
    };
    let home = rig::Home::new(&product);
    let settings = home
        .folder()
        .join("machines")
        .join("bare")
        .join("bare.vbox");
    home.manage([
        "createvm",
        "--name",
        "bare",
        "--ostype",
        "Other_64",
        "--register",
    ]);
    home.manage([
        "modifyvm",
        "bare",
        "--memory",
        "64",
        "--graphicscontroller",
        "vboxvga",
    ]);
    home.manage(["unregistervm", "bare"]);
    assert!(settings.is_file());

    // XPCOM reads the environment, which a process with threads must not change: so another one has it from its start.
    let mut inside = Command::new(env::current_exe().unwrap());
    inside.args(["the_life_of_a_machine", "--exact", "--nocapture"]);
    inside.envs(home.env()).env(INSIDE, &settings);
    inside.env("STRATAVM_VBOX", product.folder());
    let said = program::within_limit(&mut inside).unwrap_or_else(|error| panic!("{error}"));
    println!("{said}");
    assert!(said.contains("through XPCOM"), "it ran no test: {said}");
    report::ran("VirtualBox", "XPCOM");
}

/// Runs in the process of its own that the other test starts.
#[test]
fn the_life_of_a_machine() {
    let Some(settings) = env::var_os(INSIDE) else {
        return;
    };
    let folder = std::path::PathBuf::from(env::var_os("STRATAVM_VBOX").unwrap());
    let client = Client::connect(&folder, LIMIT).unwrap();
    let said = client.run(LIMIT, |product| product.version()).unwrap();
    let (major, minor, build) = client.version();
    assert!(
        said.starts_with(&format!("{major}.{minor}.{build}")),
        "{said}"
    );

    assert_eq!(names(&client), Vec::<String>::new());
    let path = std::path::PathBuf::from(settings);
    let asked = path.clone();
    let (id, file) = client
        .run(LIMIT, move |product| {
            let machine = product.register(&asked)?;
            assert!(machine.accessible()?);
            Ok((machine.id()?, machine.settings_file()?))
        })
        .unwrap();
    assert_eq!(file, path.to_str().unwrap());
    assert_eq!(names(&client), ["bare"]);

    // What the product has against something is said in its words.
    let again = path.clone();
    let error = client.run(LIMIT, move |product| product.register(&again).map(drop));
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("same UUID"), "{error}");
    println!("refused: {error}");
    let error = client.run(LIMIT, |product| product.find("nobody").map(drop));
    assert!(error.unwrap_err().to_string().contains("nobody"));

    // A second client, in a thread of its own.
    let other = Client::connect(&folder, LIMIT).unwrap();
    assert_eq!(state(&other, &id), "PoweredOff");
    let of = id.clone();
    client
        .run(LIMIT, move |product| {
            product.find(&of)?.start("headless", LIMIT)
        })
        .unwrap();
    assert_eq!(state(&other, &id), "Running");
    let error = at(&other, &id, |machine| machine.resume()).unwrap_err();
    println!("refused: {error}");
    at(&client, &id, |machine| machine.pause()).unwrap();
    assert_eq!(state(&other, &id), "Paused");
    at(&other, &id, |machine| machine.resume()).unwrap();
    assert_eq!(state(&client, &id), "Running");
    at(&client, &id, |machine| machine.power_button()).unwrap();
    at(&client, &id, |machine| machine.save_state(LIMIT)).unwrap();
    wait_for(&client, &id, "Saved");
    at(&client, &id, |machine| machine.discard_state()).unwrap();
    wait_for(&client, &id, "PoweredOff");
    at(&client, &id, |machine| machine.start("headless", LIMIT)).unwrap();
    at(&other, &id, |machine| machine.power_off(LIMIT)).unwrap();
    wait_for(&client, &id, "PoweredOff");
    drop(other);

    let started = Instant::now();
    for _ in 0..1000 {
        client.run(LIMIT, |product| product.version()).unwrap();
    }
    println!("1000 calls through XPCOM in {:?}", started.elapsed());
    // XPCOM stays when its last client goes.
    drop(client);
    let client = Client::connect(&folder, LIMIT).unwrap();
    at(&client, &id, |machine| machine.unregister()).unwrap();
    assert_eq!(names(&client), Vec::<String>::new());
    let elsewhere = Client::connect(folder.parent().unwrap(), LIMIT).unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::Incompatible);
}

/// A folder without the library, and one with a library that is another: nothing is called.
#[test]
fn what_is_no_virtualbox_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(folder.path(), LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("cannot be opened"), "{error}");
}

fn names(client: &Client) -> Vec<String> {
    let names = client.run(LIMIT, |product| {
        product.machines()?.iter().map(|all| all.name()).collect()
    });
    names.unwrap()
}

fn at<T: Send + 'static>(
    client: &Client,
    id: &str,
    work: impl FnOnce(stratavm_virtualbox_sys::Machine<'_>) -> stratavm_virtualbox_sys::Result<T>
    + Send
    + 'static,
) -> stratavm_virtualbox_sys::Result<T> {
    let id = id.to_owned();
    client.run(LIMIT, move |product| work(product.find(&id)?))
}

fn state(client: &Client, id: &str) -> String {
    at(client, id, |machine| machine.state()).unwrap()
}

/// A machine that has ended is unlocked a moment later, when its process has.
fn wait_for(client: &Client, id: &str, wanted: &str) {
    let started = Instant::now();
    while state(client, id) != wanted || locked(client, id) {
        assert!(
            started.elapsed() < LIMIT,
            "{} is not {wanted}",
            state(client, id)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn locked(client: &Client, id: &str) -> bool {
    at(client, id, |machine| machine.is_locked()).unwrap()
}

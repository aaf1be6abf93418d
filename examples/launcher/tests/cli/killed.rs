//! kill -9 of the supervisor and of QEMU at any moment, while a guest writes: nothing that the guest
//! was told is written gets lost, no head is ever open in two QEMUs, and the machine starts again.
//!
//! The moments are drawn; `STRATAVM_SEED` draws others, `STRATAVM_SLOW=1` more of them.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use stratavm::testkit::guest::{BootSector, Counted, counting};

use crate::bench::{DESK, Home, failure, wait_for};
use crate::detached::{Left, is_there, signal};
use crate::run::{PROGRAM, qemu, script_on_path};

/// The guest's number of the disk of `home`.
const HOME: u8 = 2;

/// Draws numbers: xorshift64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// The files below `folder` that each QEMU has open for writing.
fn open_heads(folder: &Path) -> BTreeMap<PathBuf, BTreeSet<u64>> {
    let mut heads = BTreeMap::<_, BTreeSet<_>>::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u64>().ok())
        else {
            continue;
        };
        let process = entry.path();
        let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        if !name.starts_with("qemu-system") {
            continue;
        }
        // Processes end while they are looked at.
        for open in std::fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(path) = std::fs::read_link(open.path()) else {
                continue;
            };
            let info = process.join("fdinfo").join(open.file_name());
            let info = std::fs::read_to_string(info).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
            if path.starts_with(folder) && flags.is_some_and(|flags| flags & 0o3 != 0) {
                heads.entry(path).or_default().insert(pid);
            }
        }
    }
    heads
}

/// Looks all the time whether a head is open in two QEMUs.
struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<String>, u64)>,
}

impl Watch {
    fn new(folder: PathBuf) -> Self {
        let ends = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let (mut doubles, mut looks) = (Vec::new(), 0);
            while !seen.load(Ordering::Acquire) {
                for (head, pids) in open_heads(&folder) {
                    looks += 1;
                    if pids.len() > 1 {
                        doubles.push(format!("{} is open in {pids:?}", head.display()));
                    }
                }
                std::thread::sleep(Duration::from_millis(3));
            }
            (doubles, looks)
        });
        Self { ends, thread }
    }

    /// What was seen that must not be, and how many open heads were looked at.
    fn end(self) -> (Vec<String>, u64) {
        self.ends.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// A machine `desk` whose guest counts on its kept disk without end.
fn counting_desk(home: &Home) {
    home.disk("os.raw", 1, Some(&BootSector::new()), "os v1");
    let mut os = std::fs::read(home.folder().join("os.raw")).unwrap();
    os[..512].copy_from_slice(&counting(HOME).unwrap());
    home.file("os.raw", os);
    home.disk("office.raw", 1, None, "office v1");
    home.file("desk.toml", DESK);
    home.ok("create", &["create", "desk.toml"]);
}

/// The content of `home` as QEMU's tools read it through the whole chain.
fn content(home: &Home, left: &Left<'_>) -> Vec<u8> {
    let record = left.record();
    let layers = record["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer["spec"]["name"] == "home");
    let generation = &layer.unwrap()["head"]["generation"];
    let folder = home.machine("desk").join("layers/home");
    let head = folder.join(format!("head-{generation}.vmdk"));
    let raw = home.folder().join("home.raw");
    let read = Command::new("qemu-img")
        .args(["convert", "-f", "vmdk", "-O", "raw"])
        .args([&head, &raw])
        .output()
        .unwrap();
    assert!(read.status.success(), "{read:?}");
    std::fs::read(raw).unwrap()
}

/// Once the run lock can be had, no QEMU has a head open, however short ago it was killed.
fn lock_proves_the_end(machine: &Path) {
    let lock = std::fs::File::options()
        .write(true)
        .open(machine.join("run.lock"));
    let lock = lock.unwrap();
    wait_for("the run lock", || lock.try_lock().ok());
    let open = open_heads(&machine.join("layers"));
    assert!(open.is_empty(), "the run lock is free, but: {open:?}");
}

fn console(home: &Home) -> Vec<u8> {
    std::fs::read(home.machine("desk").join("console.log")).unwrap_or_default()
}

/// Starts the machine, however long the one that was killed takes to go.
fn start(home: &Home) {
    wait_for("the start", || {
        let output = home.spawn(&["start", "desk"]).output();
        if output.status.success() {
            return Some(());
        }
        let busy = failure(&output);
        assert_eq!(busy.kind, "busy", "{busy:?}");
        None
    });
}

#[test]
fn nothing_that_was_written_is_lost_whoever_is_killed_and_whenever() {
    let Some(home) = qemu("kill -9 while a guest writes") else {
        return;
    };
    let slow = std::env::var_os("STRATAVM_SLOW").is_some_and(|value| value == "1");
    let seed = std::env::var("STRATAVM_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    let rounds = if slow { 80 } else { 8 };
    println!("seed {seed}, {rounds} rounds");
    let mut draw = Draw(seed | 1);
    counting_desk(&home);
    let left = Left(&home);
    let watch = Watch::new(home.machine("desk").join("layers"));
    let (mut counted, mut kills) = (Counted::default(), [0; 2]);
    for round in 0..rounds {
        let early = draw.below(3) == 0;
        // The record of a run that was killed stays until something changes the machine.
        let before = left.supervisor();
        let starting = early.then(|| home.spawn(&["start", "desk"]));
        if early {
            // From before QEMU is there to its first moments.
            wait_for("the supervisor", || {
                left.supervisor().filter(|pid| Some(*pid) != before)
            });
            std::thread::sleep(Duration::from_millis(draw.below(80)));
        } else {
            start(&home);
            std::thread::sleep(Duration::from_millis(draw.below(500)));
        }
        let run = &left.record()["run"];
        let supervisor = run["supervisor"]["pid"].as_u64();
        let product = run["endpoint"]["process"]["pid"].as_u64();
        let victim = draw.below(2) as usize;
        let pid = [supervisor, product.or(supervisor)][victim].unwrap();
        signal("KILL", pid);
        kills[victim] += 1;
        lock_proves_the_end(&home.machine("desk"));
        counted.hear(&console(&home));
        // Whatever it had to say: it was killed at work.
        drop(starting.map(|starting| starting.output()));
        home.ok("layers", &["layers", "desk"]);
        home.ok("status", &["status", "desk"]);
        if draw.below(3) == 0 {
            // At once, while the old one may still be on its way out.
            start(&home);
            home.ok("stop", &["stop", "desk", "--force"]);
        }
        wait_for("the end", || {
            (home.ok("status", &["status", "desk"])["state"] == "off").then_some(())
        });
        wait_for("the supervisor's end", || {
            let open = open_heads(&home.machine("desk").join("layers"));
            open.is_empty().then_some(())
        });
        counted.hear(&console(&home));
        let checked = counted.check(&content(&home, &left));
        assert_eq!(checked, Ok(()), "seed {seed}, round {round}");
        if draw.below(4) == 0 {
            wait_for("a snapshot", || {
                let output = home.spawn(&["snapshot", "desk", "home"]).output();
                output.status.success().then_some(())
            });
        }
    }
    let (doubles, looks) = watch.end();
    assert!(doubles.is_empty(), "seed {seed}: {doubles:?}");
    println!(
        "killed: {} supervisors, {} QEMUs; {} sectors checked, {looks} open heads seen",
        kills[0],
        kills[1],
        counted.sectors()
    );
    assert!(looks > 0 && counted.sectors() > 0, "nothing was tried");
}

/// A QEMU that nobody else would end if its test fails.
struct Orphan<'a>(&'a Path);

impl Drop for Orphan<'_> {
    fn drop(&mut self) {
        for pid in open_heads(self.0).into_values().flatten() {
            signal("KILL", pid);
        }
    }
}

/// A QEMU below a script dies neither with the script nor with the supervisor: the run lock, which
/// it inherited, is what keeps everybody off its heads.
#[test]
fn a_qemu_that_outlives_its_supervisor_keeps_the_machine_to_itself() {
    let Some(mut home) = qemu("an orphan") else {
        return;
    };
    let folder = home.folder().join("bin");
    std::fs::rename(folder.join(PROGRAM), folder.join("real")).unwrap();
    let script = format!("#!/bin/sh\n'{}' \"$@\"\n", folder.join("real").display());
    script_on_path(&mut home, &script);
    counting_desk(&home);
    let layers = home.machine("desk").join("layers");
    let _orphan = Orphan(&layers);
    let answer = home.ok("start", &["start", "desk"]);
    let supervisor = answer["supervisor"].as_u64().unwrap();
    signal("KILL", supervisor);
    wait_for("the supervisor's end", || {
        (!is_there(supervisor)).then_some(())
    });
    assert!(
        !open_heads(&layers).is_empty(),
        "the script's QEMU lives on"
    );
    for arguments in [
        &["start", "desk"][..],
        &["start", "desk", "--wait"],
        &["snapshot", "desk", "home"],
        &["delete", "desk"],
    ] {
        let busy = home.fails(arguments);
        assert_eq!(busy.kind, "busy", "{arguments:?}: {busy:?}");
    }
    let status = home.ok("status", &["status", "desk"]);
    assert_eq!(status["state"], "running");
    assert!(status["supervisor"].is_null(), "{status}");
    home.ok("stop", &["stop", "desk", "--force"]);
    assert!(open_heads(&layers).is_empty());
    home.ok("snapshot", &["snapshot", "desk", "home"]);
}

//! Volumes that are full: every operation is tried with every amount of room, until it succeeds. Refused, it has changed
//! nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use stratavm::ErrorKind;
use tempfile::TempDir;

use crate::report;
use crate::sim::check;
use crate::sim::model::{Answer, Kept, Model, Op};
use crate::sim::world::World;

const MACHINE: &str = "desk";
/// Steps after which an operation must have had enough.
const MOST: u64 = 400;

/// A volume in memory whose limits can be changed.
struct Volume {
    folder: TempDir,
}

/// What there is too little of.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Inodes,
    Pages,
}

impl Volume {
    /// A volume, or why there is none.
    fn mounted() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        mount(
            &["-t", "tmpfs", "-o", "size=64m,nr_inodes=10000", "none"],
            folder.path(),
        )?;
        Ok(Self { folder })
    }

    /// Leaves room for `more` things.
    fn leave(&self, limit: Limit, more: u64) {
        let found = rustix::fs::statvfs(self.folder.path()).unwrap();
        let options = match limit {
            Limit::Inodes => format!("remount,nr_inodes={}", found.f_files - found.f_ffree + more),
            Limit::Pages => {
                let used = (found.f_blocks - found.f_bfree + more) * found.f_frsize;
                // No limit at all would be 0.
                format!("remount,size={}", used.max(1))
            }
        };
        mount(&["-o", &options], self.folder.path()).unwrap();
    }

    fn widen(&self) {
        mount(
            &["-o", "remount,size=64m,nr_inodes=10000"],
            self.folder.path(),
        )
        .unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> Result<(), String> {
    let mut command = Command::new("mount");
    command.args(arguments).arg(folder).env("LC_ALL", "C");
    let output = command
        .output()
        .map_err(|error| format!("mount: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn layer(name: &str) -> String {
    name.to_owned()
}

/// Every kind of operation, on layers of every kind.
fn operations() -> Vec<Op> {
    let run = || Op::run(vec![Vec::new()]);
    let kept = Kept::Preserve;
    vec![
        Op::Create,
        run(),
        Op::Snapshot {
            layer: layer("home"),
        },
        run(),
        Op::Rollback {
            layer: layer("home"),
            to: Some(1),
            kept,
        },
        Op::Add {
            layer: layer("apps"),
            image: 2,
        },
        Op::Update {
            layer: layer("os"),
            image: 3,
            kept,
        },
        run(),
        Op::Remove {
            layer: layer("home"),
            kept,
        },
        Op::Add {
            layer: layer("home"),
            image: 2,
        },
        Op::Rejuvenate,
        Op::Remove {
            layer: layer("apps"),
            kept,
        },
        Op::Delete,
    ]
}

fn tried_with_every_amount(limit: Limit, what: &str) {
    let volume = match Volume::mounted() {
        Ok(volume) => volume,
        Err(why) => return report::skip("mount", what, &why),
    };
    let world = World::at(volume.folder.path());
    let mut model = Model::default();
    let mut refused = 0;
    for op in operations() {
        let enough = (0..MOST).find(|more| {
            volume.leave(limit, *more);
            let answer = world.perform(MACHINE, &op);
            // The checks read only; what is left behind is looked at with room to spare.
            if answer == Answer::refused(ErrorKind::NoSpace) {
                refused += 1;
                let same = check::machine(&world, MACHINE, &model);
                assert_eq!(same, Ok(()), "{op:?} with room for {more} {limit:?}");
                return false;
            }
            assert_eq!(
                answer,
                model.apply(&op),
                "{op:?} with room for {more} {limit:?}"
            );
            assert_eq!(check::machine(&world, MACHINE, &model), Ok(()), "{op:?}");
            true
        });
        volume.widen();
        assert!(enough.is_some(), "{op:?} never has enough {limit:?}");
        world.prune().unwrap();
        let left: Vec<PathBuf> = check::leftovers(&world, MACHINE);
        assert!(
            left.is_empty() && check::litter(&world).is_empty(),
            "{op:?}: {left:?}"
        );
        assert_eq!(check::machine(&world, MACHINE, &model), Ok(()), "{op:?}");
    }
    world.assert_unviolated();
    assert!(refused > 0, "nothing was ever short of {limit:?}");
    report::counted("worlds", what, refused, None);
}

#[test]
fn without_inodes_every_operation_happens_or_does_not() {
    tried_with_every_amount(Limit::Inodes, "operations refused by a full inode table");
}

#[test]
fn without_room_every_operation_happens_or_does_not() {
    tried_with_every_amount(Limit::Pages, "operations refused by a full volume");
}

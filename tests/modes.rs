//! Who can get at what a store holds: folders 0700, files 0600, images and frozen files 0444, whatever the umask says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

#[path = "common/sim/mod.rs"]
mod sim;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sim::model::{Kept, Op};
use sim::world::World;
use stratavm::machine::RunOptions;
use stratavm::{Ctx, Store, VmSpec, block_on};

/// Set in the copy of this test that runs under another umask: where it is to work.
const FOLDER: &str = "STRATAVM_TEST_FOLDER";

/// Not a test of its own: what is done under a umask that takes nothing away.
#[test]
fn under_another_umask() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let world = World::at(Path::new(&folder));
    let layer = |name: &str| name.to_owned();
    let run = Op::run(vec![Vec::new(), Vec::new()]);
    let ops = [
        Op::Create,
        run.clone(),
        Op::Snapshot {
            layer: layer("home"),
        },
        Op::Add {
            layer: layer("apps"),
            image: 2,
        },
        run,
        Op::Update {
            layer: layer("apps"),
            image: 3,
            kept: Kept::Preserve,
        },
        Op::Rollback {
            layer: layer("home"),
            to: Some(1),
            kept: Kept::Preserve,
        },
        Op::Remove {
            layer: layer("home"),
            kept: Kept::Preserve,
        },
        Op::Rejuvenate,
    ];
    for op in ops {
        world.try_perform("desk", &op).unwrap();
    }
    // The null product writes a configuration and a console.
    let spec: VmSpec = serde_json::from_value(serde_json::json!({
        "stratavm": 1, "name": "plain",
        "guest": {"os": "other", "composition": "disks"},
        "layer": [{"name": "os", "role": "os", "image": world.images[1].to_string()}],
    }))
    .unwrap();
    let store: &Store = &world.store;
    let machine = store
        .create(&spec, Path::new("."), &Default::default(), &Ctx::none())
        .unwrap();
    let limit = Duration::from_millis(200);
    let options = RunOptions::default().timeout(limit);
    let product = Arc::new(stratavm_null::Null::new());
    block_on(machine.run(product, options, &Ctx::none())).unwrap();
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, bool, u32)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.metadata().unwrap();
        let mode = kind.permissions().mode() & 0o7777;
        found.push((entry.path(), kind.is_dir(), mode));
        if kind.is_dir() {
            walk(&entry.path(), found);
        }
    }
}

#[test]
fn everything_is_its_users_alone() {
    for umask in ["000", "022", "077"] {
        let folder = sim::folder();
        let script = format!("umask {umask}; exec \"$0\" --exact under_another_umask");
        let output = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(std::env::current_exe().unwrap())
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        let home = folder.path().join("home");
        let mode = fs::metadata(&home).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "umask {umask}");
        let mut found = Vec::new();
        walk(&home, &mut found);
        assert!(found.len() > 40, "{found:?}");
        let mut sealed = 0;
        for (path, is_dir, mode) in found {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let image = path.starts_with(home.join("images"))
                && (name.starts_with("extent-") || name == "image.json");
            let derived = name.starts_with("base-");
            let expected = match () {
                () if is_dir => 0o700,
                () if image || derived => 0o444,
                // A frozen head; those that are not are written to.
                () if name.starts_with("head-") && mode == 0o444 => {
                    sealed += 1;
                    0o444
                }
                () => 0o600,
            };
            assert_eq!(
                mode,
                expected,
                "umask {umask}: {}: {mode:o}",
                path.display()
            );
        }
        assert!(sealed > 0, "nothing was frozen");
    }
}

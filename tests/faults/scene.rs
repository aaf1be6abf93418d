//! What the faults meet: a store in a known state, and what is done to it.

use std::fs;
use std::path::{Path, PathBuf};

use stratavm::image::{AddOptions, Wrap, add};
use stratavm::linux::FileSystem;
use stratavm::machine::PublishOptions;
use stratavm::spec::Role;
use stratavm::store::{FsckMode, FsckOptions};
use stratavm::{Ctx, Error, ErrorKind, Result, Store};
use stratavm_disk::fs::{Access, set_access};
use tempfile::TempDir;

use crate::sim;
use crate::sim::check;
use crate::sim::model::{Answer, BLOCKS, Kept, Model, Op, Write};
use crate::sim::world::World;

/// The machine that it is all about.
pub(crate) const DESK: &str = "desk";

/// Something that is done under faults.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    /// An operation on the machine.
    Machine(Op),
    /// A disk becomes an image.
    AddDisk,
    /// A bare file system becomes an image.
    AddFileSystem,
    /// The os becomes an image, with what is frozen over its own.
    Publish,
    /// A store is opened where there is none.
    Begin,
    /// What nobody needs is removed.
    Prune,
    /// The store is checked, and what follows from its records is repaired.
    Repair,
}

impl From<Op> for Task {
    fn from(op: Op) -> Self {
        Self::Machine(op)
    }
}

impl Task {
    /// Does it; `folder` is the world's.
    pub(crate) fn perform(&self, folder: &Path, world: &World) -> Result<Answer> {
        let added = |options: &AddOptions, file: &str| {
            let (store, file) = (&world.store, folder.join(file));
            add::add(store.images(), &file, options, store.volume(), &Ctx::none())
        };
        match self {
            Self::Machine(op) => return world.try_perform(DESK, op),
            Self::AddDisk => drop(added(&AddOptions::default(), "disk.raw")?),
            Self::AddFileSystem => {
                let mut options = AddOptions::default();
                options.wrap = Some(Wrap {
                    fs: FileSystem::Squashfs,
                    role: Role::Apps,
                    name: "office".parse().unwrap(),
                });
                options.max_extent = Some(1 << 20);
                drop(added(&options, "office.squashfs")?);
            }
            Self::Publish => {
                let machine = world.store.machine(&DESK.parse().unwrap())?;
                let (os, options) = ("os".parse().unwrap(), PublishOptions::default());
                drop(machine.publish(&os, &options, &Ctx::none())?);
            }
            Self::Begin => drop(Store::open(folder.join("begun"))?),
            Self::Prune => world.try_prune()?,
            Self::Repair => {
                let options = FsckOptions::default().mode(FsckMode::Repair);
                let checked = world.store.fsck(&options, &Ctx::none())?;
                if !checked.is_sound() {
                    let message = format!("not all was repaired: {:?}", checked.findings);
                    return Err(Error::new(ErrorKind::Io, message));
                }
            }
        }
        Ok(Answer::PLAIN)
    }

    /// The folder that is watched.
    pub(crate) fn watched(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Begin => folder.join("begun"),
            _ => folder.join("home"),
        }
    }

    /// The states that the machine may be in if this did not come to its end.
    pub(crate) fn cut_short(&self, before: &Model) -> Vec<Model> {
        match self {
            Self::Machine(op @ Op::Run(_)) => before.cut_short(op),
            _ => vec![before.clone()],
        }
    }

    /// What comes out.
    pub(crate) fn apply(&self, model: &mut Model) -> Answer {
        match self {
            Self::Machine(op) => model.apply(op),
            _ => Answer::PLAIN,
        }
    }

    /// Whether it freezes a head, which is given another id for it.
    pub(crate) fn freezes(&self) -> bool {
        let Self::Machine(op) = self else {
            return false;
        };
        matches!(
            op,
            Op::Snapshot { .. } | Op::Rollback { .. } | Op::Update { .. } | Op::Remove { .. }
        )
    }

    /// Whether it is about images.
    pub(crate) fn adds_image(&self) -> bool {
        matches!(self, Self::AddDisk | Self::AddFileSystem | Self::Publish)
    }

    /// Whether it may change the files of `layer`.
    pub(crate) fn touches(&self, model: &Model, layer: &str) -> bool {
        match self {
            Self::Machine(op) => model.touches(op, layer),
            _ => false,
        }
    }
}

/// A start whose guest writes nothing: what a guest writes is flushed when it likes.
pub(crate) fn boots(n: usize) -> Task {
    Op::run(vec![Vec::new(); n]).into()
}

/// Operations after which the machine has layers of every role, with frozen deltas, two images, and a started head that
/// holds something.
pub(crate) fn rich() -> Vec<Op> {
    let name = |layer: &str| layer.to_owned();
    let writes = |pattern: u64, layers: &[&str]| {
        let write = |(n, layer): (usize, &&str)| Write {
            layer: name(layer),
            block: (pattern + n as u64) % BLOCKS as u64,
            pattern: pattern << 32 | n as u64,
        };
        Op::run(vec![layers.iter().enumerate().map(write).collect()])
    };
    let every = ["os", "cache", "home", "apps"];
    vec![
        Op::Create,
        Op::Add {
            layer: name("apps"),
            image: 2,
        },
        writes(0xa1, &every),
        Op::Snapshot {
            layer: name("home"),
        },
        Op::Update {
            layer: name("apps"),
            image: 3,
            kept: Kept::Preserve,
        },
        writes(0xb2, &every),
        Op::Snapshot {
            layer: name("cache"),
        },
        Op::Snapshot { layer: name("os") },
        writes(0xc3, &every),
    ]
}

/// A store in a state that trials begin with.
pub(crate) struct Scene {
    folder: TempDir,
    /// What the machine is in it.
    pub(crate) model: Model,
}

impl Scene {
    /// The state after `ops`.
    pub(crate) fn new(ops: &[Op]) -> Self {
        let folder = sim::folder();
        let world = World::at(folder.path());
        let mut model = Model::default();
        for op in ops {
            assert_eq!(world.perform(DESK, op), model.apply(op), "{op:?}");
        }
        let disk: Vec<u8> = (0..2 << 20).map(|n: u32| (n >> 12) as u8).collect();
        fs::write(folder.path().join("disk.raw"), disk).unwrap();
        fs::write(folder.path().join("office.squashfs"), squashfs()).unwrap();
        Self { folder, model }
    }

    /// The same with what operations that were killed, and people, leave behind.
    pub(crate) fn littered(self) -> Self {
        let folder = self.folder.path();
        let world = World::at(folder);
        Task::AddDisk.perform(folder, &world).unwrap();
        let layers = world.machine_folder(DESK).join("layers");
        let machines = world.store.home().join("machines");
        let half = ["layers/os/head-1.vmdk", "machine.json", "lock"];
        let mut left: Vec<_> = half.map(|name| machines.join(".gone-1").join(name)).into();
        left.push(world.store.images().folder().join(".new-1-0/extent-0.raw"));
        left.push(layers.join("home/head-99.vmdk"));
        left.push(world.machine_folder(DESK).join(".stratavm-tmp-1-0"));
        for path in left {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "left").unwrap();
        }
        self
    }

    /// The same where somebody may write to what is frozen.
    pub(crate) fn writable(self) -> Self {
        let world = World::at(self.folder.path());
        let heads = check::heads(&world, DESK);
        for path in check::files(&world.machine_folder(DESK).join("layers")).into_keys() {
            if !heads.contains(&path) {
                set_access(&path, Access::Private).unwrap();
            }
        }
        self
    }

    /// A copy to be spoilt.
    pub(crate) fn copy(&self) -> TempDir {
        let copy = sim::folder();
        copy_all(self.folder.path(), copy.path());
        copy
    }
}

/// What a squashfs of 1 MiB begins with, followed by bytes that are not zeros.
fn squashfs() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n >> 8) as u8 | 1).collect();
    bytes[..96].fill(0);
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28..30].copy_from_slice(&4_u16.to_le_bytes());
    bytes[40..48].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    bytes
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                fs::create_dir(&to).unwrap();
                copy_all(&entry.path(), &to);
                fs::set_permissions(&to, entry.metadata().unwrap().permissions()).unwrap();
            }
            // Nobody writes to what is read-only; if somebody does, it differs from before.
            false if entry.metadata().unwrap().permissions().readonly() => {
                fs::hard_link(entry.path(), &to).unwrap();
            }
            false => drop(fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

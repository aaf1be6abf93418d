//! A store whose images hold known patterns, and the model's operations done to its machines.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stratavm::image::{AddOptions, ImageDigest, add};
use stratavm::machine::{self, Operation, RunEnd, RunOptions};
use stratavm::spec::{LayerSpec, Name};
use stratavm::store::{
    Finding, FindingKind, FsckMode, FsckOptions, Leftover, PruneMode, PruneOptions, Remedy,
};
use stratavm::{Ctx, Error, ErrorKind, Result, Store, VmSpec, block_on};

use super::model::{Answer, IMAGES, Kept, Op, Role, image};
use super::product::{Fake, Violations};
use super::vmdk;

/// The machine that keeps the images.
pub(crate) const KEEPER: &str = "keeper";

/// The store and what its images are called.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) images: Vec<ImageDigest>,
    /// How long a guest waits before each of its writes.
    pub(crate) pace: Duration,
    pub(crate) violations: Violations,
}

impl World {
    /// The world in `folder`, made where it is not there.
    pub(crate) fn at(folder: &Path) -> Self {
        let store = Store::open(folder.join("home")).unwrap();
        let images = (0..IMAGES)
            .map(|n| Self::image(&store, folder, n))
            .collect();
        let world = Self {
            store,
            images,
            pace: Duration::ZERO,
            violations: Violations::default(),
        };
        world.keep_images();
        world
    }

    /// A machine that nothing is done to refers to every image, so that prune leaves them all.
    fn keep_images(&self) {
        let name: Name = KEEPER.parse().unwrap();
        if self.store.machine(&name).is_ok() {
            return;
        }
        let mut spec = self.spec(&name);
        for n in 2..IMAGES {
            spec.layers.push(self.layer(&format!("apps-{n}"), n));
        }
        let options = machine::CreateOptions::default();
        self.store
            .create(&spec, Path::new("."), &options, &Ctx::none())
            .unwrap();
    }

    /// Whether the store's own check finds nothing that has to be put right: a store that was only killed at is whole. A
    /// file that was frozen a moment before may still be writable; a repair puts that right.
    pub(crate) fn sound(&self) -> std::result::Result<(), String> {
        let check = |mode| {
            let options = FsckOptions::default().mode(mode);
            let checked = self.store.fsck(&options, &Ctx::none());
            checked.map_err(|error| format!("fsck: {error}"))
        };
        let found = check(FsckMode::Check)?;
        if found.is_sound() {
            return Ok(());
        }
        let expected = |f: &&Finding| f.kind == FindingKind::Writable || f.remedy == Remedy::Prune;
        if let Some(other) = found.findings.iter().find(|finding| !expected(finding)) {
            return Err(format!("fsck: {other:?}"));
        }
        check(FsckMode::Repair)?;
        match check(FsckMode::Check)? {
            checked if checked.is_sound() => Ok(()),
            checked => Err(format!("fsck after a repair: {:?}", checked.findings)),
        }
    }

    /// Frees what nobody refers to; what could not be looked at or removed is an error.
    pub(crate) fn prune(&self) -> std::result::Result<Vec<Leftover>, String> {
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = self
            .store
            .prune(&options, &Ctx::none())
            .map_err(|e| e.to_string())?;
        match pruned.failed.first() {
            Some(error) => Err(error.to_string()),
            None => Ok(pruned.freed),
        }
    }

    /// Another store, with what else is known of this one.
    pub(crate) fn elsewhere(&self, home: PathBuf) -> Self {
        Self {
            store: Store::open(home).unwrap(),
            images: self.images.clone(),
            pace: self.pace,
            violations: Arc::clone(&self.violations),
        }
    }

    /// As [`prune`](Self::prune), with the library's own error.
    pub(crate) fn try_prune(&self) -> Result<()> {
        let options = PruneOptions::default().mode(PruneMode::Remove);
        let pruned = self.store.prune(&options, &Ctx::none())?;
        pruned.failed.into_iter().next().map_or(Ok(()), Err)
    }

    fn image(store: &Store, folder: &Path, n: usize) -> ImageDigest {
        let noted = folder.join(format!("image-{n}.digest"));
        if let Ok(digest) = std::fs::read_to_string(&noted) {
            return digest.parse().unwrap();
        }
        let file = folder.join(format!("image-{n}.raw"));
        let bytes: Vec<u8> = image(n).iter().flat_map(|p| vmdk::block(*p)).collect();
        std::fs::write(&file, bytes).unwrap();
        let (options, ctx) = (AddOptions::default(), Ctx::none());
        let added = add::add(store.images(), &file, &options, store.volume(), &ctx).unwrap();
        let digest = added.image.meta.digest;
        std::fs::write(noted, digest.to_string()).unwrap();
        digest
    }

    pub(crate) fn machine_folder(&self, machine: &str) -> PathBuf {
        self.store.home().join("machines").join(machine)
    }

    /// Does `op` to the machine called `name`.
    pub(crate) fn perform(&self, name: &str, op: &Op) -> Answer {
        match self.try_perform(name, op) {
            Ok(answer) => answer,
            Err(error) => Answer::refused(error.kind()),
        }
    }

    /// As [`perform`](Self::perform), with the library's own error.
    pub(crate) fn try_perform(&self, name: &str, op: &Op) -> Result<Answer> {
        let name: Name = name.parse().unwrap();
        if *op == Op::Create {
            let ctx = Ctx::none();
            let options = machine::CreateOptions::default();
            self.store
                .create(&self.spec(&name), Path::new("."), &options, &ctx)?;
            return Ok(Answer::PLAIN);
        }
        let machine = self.store.machine(&name)?;
        let _gate = self.gate(&name, op)?;
        let layer_name = |layer: &String| layer.parse::<Name>().unwrap();
        Ok(match op {
            Op::Create => Answer::PLAIN,
            Op::Delete => machine.delete().map(|()| Answer::PLAIN)?,
            Op::Snapshot { layer } => answer(machine.snapshot(&layer_name(layer), None)?),
            Op::Rollback { layer, to, kept } => {
                answer(machine.rollback(&layer_name(layer), *to, kind(*kept))?)
            }
            Op::Update { layer, image, kept } => {
                let image = &self.images[*image];
                answer(machine.update(&layer_name(layer), image, kind(*kept))?)
            }
            Op::Add { layer, image } => {
                let spec = self.layer(layer, *image);
                answer(machine.add_layer(&spec, &self.images[*image])?)
            }
            Op::Remove { layer, kept } => {
                answer(machine.remove_layer(&layer_name(layer), kind(*kept))?)
            }
            Op::Rejuvenate => machine.rejuvenate().map(|_| Answer::PLAIN)?,
            Op::Run { boots } => {
                let product = Arc::new(Fake::new(boots, self.pace, &self.violations));
                let ctx = Ctx::none();
                let report = block_on(machine.run(product, RunOptions::default(), &ctx))?;
                assert_eq!(
                    (report.end, report.boots as usize),
                    (RunEnd::PowerOff, boots.len())
                );
                Answer::PLAIN
            }
        })
    }

    /// What is asked of a running machine waits for its next start, which the model does not know: it is kept away
    /// from here, and told that the machine is busy.
    fn gate(&self, name: &Name, op: &Op) -> Result<Gate> {
        // The folder itself: on a full volume there is no room for a file.
        let file = File::open(self.machine_folder(name.as_str()))
            .map_err(|_| Error::new(ErrorKind::NotFound, "the machine was deleted"))?;
        let taken = match op {
            Op::Run { .. } => file.try_lock(),
            _ => file.try_lock_shared(),
        };
        let busy = |_| Error::new(ErrorKind::Busy, "the machine runs").next("wait");
        taken.map_err(busy)?;
        Ok(Gate(file))
    }

    pub(crate) fn spec(&self, name: &Name) -> VmSpec {
        serde_json::from_value(serde_json::json!({
            "stratavm": 1, "name": name.as_str(),
            "guest": {"os": "other", "composition": "disks"},
            "hardware": {"console": "none"},
            "layer": [
                {"name": "os", "role": "os", "image": self.images[1].to_string()},
                {"name": "cache", "role": "cache", "size": "1 MiB"},
                {"name": "home", "role": "user-data", "size": "1 MiB"},
            ],
            "policy": {"suspend": "on"},
        }))
        .unwrap()
    }

    fn layer(&self, name: &str, image: usize) -> LayerSpec {
        serde_json::from_value(serde_json::json!({
            "name": name, "role": Role::of(name).as_str(), "image": self.images[image].to_string(),
        }))
        .unwrap()
    }

    /// Fails if the product saw what must never happen.
    pub(crate) fn assert_unviolated(&self) {
        let violations = self.violations.lock().unwrap();
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// Let go of by name: a child that another thread forks meanwhile holds the file open until it runs its program.
struct Gate(File);

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The digests of the images that a world in `folder` was made with.
pub(crate) fn noted(folder: &Path) -> Vec<ImageDigest> {
    let digest = |n| std::fs::read_to_string(folder.join(format!("image-{n}.digest")));
    (0..IMAGES)
        .map(|n| digest(n).unwrap().parse().unwrap())
        .collect()
}

fn kind(kept: Kept) -> machine::Kept {
    match kept {
        Kept::Preserve => machine::Kept::Preserve,
        Kept::Discard => machine::Kept::Discard,
    }
}

fn answer(done: Operation) -> Answer {
    Answer::Done {
        revision: done.revision,
        preserved: done.preserved,
    }
}

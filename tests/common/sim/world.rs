//! A store whose images hold known patterns, and the model's operations done to its machines.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stratavm::image::{AddOptions, ImageDigest, add};
use stratavm::machine::retention::Retention;
use stratavm::machine::staged::Change;
use stratavm::machine::{self, Machine, Operation, Pin, RunEnd, RunEvent, RunOptions, Scope, When};
use stratavm::spec::{LayerSpec, Name};
use stratavm::store::{
    Finding, FindingKind, FsckMode, FsckOptions, Leftover, PruneMode, PruneOptions, Remedy,
};
use stratavm::{Ctx, Result, Store, VmSpec, block_on};

use super::layer::Role;
use super::model::{Answer, IMAGES, Kept, Op, image};
use super::product::{Fake, Violations};
use super::run::{End, Session};
use super::vmdk;

/// The machine that keeps the images.
pub(crate) const KEEPER: &str = "keeper";

/// The store and what its images are called.
#[derive(Clone)]
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
        if *op == Op::Prune {
            return self.try_prune().map(|()| Answer::PLAIN);
        }
        let machine = self.store.machine(&name)?;
        let done = match op {
            Op::Create | Op::Prune => return Ok(Answer::PLAIN),
            Op::Delete => return machine.delete().map(|()| Answer::PLAIN),
            Op::Run(session) => return self.run(&machine, session),
            Op::DiscardState => {
                let product = Fake::new(&Session::ends(End::Suspend), self.pace, &self.violations);
                block_on(machine.discard_state(&product, &Ctx::none()))?;
                return Ok(Answer::PLAIN);
            }
            Op::DropPoint { point } => {
                return machine.remove_point(&called(point)).map(|()| Answer::PLAIN);
            }
            Op::Label { layer, n, label } => {
                machine.set_label(&called(layer), *n, label.clone())?;
                return Ok(Answer::PLAIN);
            }
            Op::Pin { layer, n, pinned } => {
                let pin = if *pinned { Pin::Pinned } else { Pin::Unpinned };
                machine.set_pin(&called(layer), *n, pin)?;
                return Ok(Answer::PLAIN);
            }
            Op::Retain { layer, last } => {
                let rule = last.map(|last| Retention::new(Some(last), None));
                let layer = layer.as_ref().map(|layer| Scope::Layer(called(layer)));
                machine.set_retention(&layer.unwrap_or(Scope::Machine), rule)?;
                return Ok(Answer::PLAIN);
            }
            Op::Snapshot { layer } => machine.snapshot(&called(layer), None)?,
            Op::Rollback { layer, to, kept } => {
                machine.rollback(&called(layer), *to, kind(*kept))?
            }
            Op::Update { layer, image, kept } => {
                machine.update(&called(layer), &self.images[*image], kind(*kept))?
            }
            Op::Add { layer, image } => {
                machine.add_layer(&self.layer(layer, *image), &self.images[*image])?
            }
            Op::TakeBack { layer } => machine.take_back_layer(&called(layer))?,
            Op::Remove { layer, kept } => machine.remove_layer(&called(layer), kind(*kept))?,
            Op::Rejuvenate => machine.rejuvenate()?,
            Op::Accept { layer } => machine.decide(&[called(layer)], &[])?,
            Op::Revert { layer } => machine.decide(&[], &[called(layer)])?,
            Op::Undo => machine.undo()?,
            Op::Point { name, layers } => {
                let layers: Vec<_> = layers.iter().map(|layer| called(layer)).collect();
                machine.create_point(&called(name), None, &layers)?
            }
            Op::ToPoint { point, kept } => {
                machine.rollback_to_point(&called(point), kind(*kept))?
            }
        };
        Ok(answer(&done))
    }

    /// Runs the machine. What is to be asked in each boot is asked before its guest writes.
    fn run(&self, machine: &Machine, session: &Session) -> Result<Answer> {
        let product = Arc::new(Fake::new(session, self.pace, &self.violations));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let asked: Vec<_> = session.boots.iter().map(|b| b.asked.clone()).collect();
        let (world, name, told) = (self.clone(), machine.name().clone(), Arc::clone(&answers));
        let left = Mutex::new(asked.into_iter());
        let revertible: Vec<_> = session
            .revertible
            .iter()
            .map(|layer| called(layer))
            .collect();
        let options = RunOptions::default()
            .revertible(revertible)
            .on_event(move |event| {
                if let RunEvent::Running(_) | RunEvent::Resumed(_) = event {
                    let ops = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                    for op in ops.into_iter().flatten() {
                        let answer = world.perform(name.as_str(), &op);
                        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                        told.push(answer);
                    }
                }
            });
        let report = block_on(machine.run(product, options, &Ctx::none()))?;
        let end = match session.end {
            End::PowerOff => RunEnd::PowerOff,
            End::Suspend => RunEnd::Suspended,
        };
        assert_eq!(report.end, end);
        let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Answer::Ran(answers))
    }

    /// A change that waits for the next start, as the record has it.
    pub(crate) fn staged(&self, op: &Op) -> Option<Change> {
        Some(match op {
            Op::Rollback { layer, to, kept } => Change::Rollback {
                layer: called(layer),
                to: *to,
                kept: kind(*kept),
            },
            Op::ToPoint { point, kept } => Change::RollbackToPoint {
                point: called(point),
                kept: kind(*kept),
            },
            Op::Update { layer, image, kept } => Change::Update {
                layer: called(layer),
                image: self.images[*image],
                kept: kind(*kept),
            },
            Op::Add { layer, image } => Change::Add {
                layer: Box::new(self.layer(layer, *image)),
                image: self.images[*image],
            },
            Op::TakeBack { layer } => Change::TakeBack {
                layer: called(layer),
            },
            Op::Remove { layer, kept } => Change::Remove {
                layer: called(layer),
                kept: kind(*kept),
            },
            Op::Rejuvenate => Change::Rejuvenate,
            Op::Accept { layer } => Change::Accept {
                layer: called(layer),
            },
            Op::Revert { layer } => Change::Revert {
                layer: called(layer),
            },
            _ => return None,
        })
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

fn answer(done: &Operation) -> Answer {
    match done.when {
        When::NextStart => Answer::Staged,
        _ => Answer::Done {
            revision: done.revision,
            preserved: done.preserved,
        },
    }
}

fn called(name: &str) -> Name {
    name.parse().unwrap()
}

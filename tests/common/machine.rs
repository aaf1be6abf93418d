//! A machine in a temporary store, run by a product that is a stand-in: its guest is a list of
//! writes, done by `qemu-io` to the heads through the whole chain, and it ends at once.
#![allow(dead_code, reason = "not every test uses every part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use stratavm::chain::{Chain, Family, MemberRole};
use stratavm::image::{AddOptions, ImageDigest, add};
use stratavm::machine::{Machine, OnReboot, RunEvent, RunOptions, RunReport};
use stratavm::spec::Name;
use stratavm::{Ctx, Result, Store, VmSpec, block_on};
use stratavm_disk::Volume;
use tempfile::TempDir;

#[path = "stand_in.rs"]
mod stand_in;

use stand_in::{PRODUCT, StandIn};

const MIB: u64 = 1 << 20;
/// A guest's write: the layer, the MiB of its disk, the byte that fills it.
pub(crate) type Write = (&'static str, u64, u8);

/// A name that is known to be one.
pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// What one MiB of a disk holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Byte(u8),
    Mixed,
}

/// How one boot of the stand-in's guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    PowerOff,
    Reboot,
    Crash,
    /// Not before it is told to, or its caller gives up.
    Never,
}

pub(crate) struct Harness {
    folder: PathBuf,
    store: Store,
    _temporary: Option<TempDir>,
}

impl Harness {
    /// A machine `desk` with the layers os, apps and home, each of 8 MiB.
    pub(crate) fn new() -> Self {
        Self::made(None)
    }

    /// The same, with the os image cut into extents of `mib` MiB.
    pub(crate) fn with_extents(mib: u64) -> Self {
        Self::made(Some(mib * MIB))
    }

    fn made(max_extent: Option<u64>) -> Self {
        Self::filled(
            tempfile::Builder::new()
                .prefix("strata é ")
                .tempdir()
                .unwrap(),
            max_extent,
        )
    }

    /// The same, its store opened anew.
    pub(crate) fn reopened(self) -> Self {
        Self {
            store: Store::open(self.store.home()).unwrap(),
            ..self
        }
    }

    /// The same machine on a volume of another kind.
    pub(crate) fn on_volume(self, volume: Volume) -> Self {
        Self {
            store: self.store.with_volume(volume),
            ..self
        }
    }

    /// A new machine on such a volume.
    pub(crate) fn made_on(volume: Volume) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let harness = Self {
            _temporary: None,
            ..Self::at(temporary.path())
        };
        let harness = Self {
            _temporary: Some(temporary),
            ..harness
        };
        harness.on_volume(volume).populated(None)
    }

    /// A machine in a folder whose name other programs print without escapes.
    pub(crate) fn plain() -> Self {
        Self::filled(tempfile::tempdir().unwrap(), None)
    }

    /// The machine that another process made in `folder`.
    pub(crate) fn at(folder: &Path) -> Self {
        let store = Store::open(folder.join("home")).unwrap();
        Self {
            folder: folder.to_owned(),
            store,
            _temporary: None,
        }
    }

    fn filled(temporary: TempDir, max_extent: Option<u64>) -> Self {
        let harness = Self {
            _temporary: None,
            ..Self::at(temporary.path())
        };
        let harness = Self {
            _temporary: Some(temporary),
            ..harness
        };
        harness.populated(max_extent)
    }

    /// Its two images, and the machine.
    pub(crate) fn populated(self, max_extent: Option<u64>) -> Self {
        self.raw("os", 0x05);
        self.raw("apps", 0x06);
        if max_extent.is_some() {
            let mut options = AddOptions::default();
            options.max_extent = max_extent;
            let file = self.folder.join("os.raw");
            let store = &self.store;
            add::add(
                store.images(),
                &file,
                &options,
                store.volume(),
                &Ctx::none(),
            )
            .unwrap();
        }
        self.create_again().unwrap();
        self
    }

    pub(crate) fn create_again(&self) -> Result<Machine> {
        let spec: VmSpec = serde_json::from_value(serde_json::json!({
            "stratavm": 1, "name": "desk",
            "guest": {"os": "other", "composition": "disks"},
            "layer": [
                {"name": "os", "role": "os", "image": "os.raw"},
                {"name": "apps", "role": "apps", "image": "apps.raw"},
                {"name": "home", "role": "user-data", "size": "8 MiB"},
            ],
        }))
        .unwrap();
        self.store
            .create(&spec, &self.folder, &Default::default(), &Ctx::none())
    }

    /// A raw file of 8 MiB whose first 6 MiB are `byte`.
    fn raw(&self, name: &str, byte: u8) -> PathBuf {
        let path = self.folder.join(format!("{name}.raw"));
        let file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut &file, &vec![byte; 6 * MIB as usize]).unwrap();
        file.set_len(8 * MIB).unwrap();
        path
    }

    /// An image of the store made of `byte`.
    pub(crate) fn image(&self, name: &str, byte: u8) -> ImageDigest {
        let file = self.raw(name, byte);
        let (images, volume) = (self.store.images(), self.store.volume());
        let added = add::add(images, &file, &AddOptions::default(), volume, &Ctx::none());
        added.unwrap().image.meta.digest
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a layer's head.
    pub(crate) fn head(&self, layer: &str) -> PathBuf {
        self.chain(layer).files().pop().unwrap()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn machine(&self) -> Machine {
        self.store.machine(&"desk".parse().unwrap()).unwrap()
    }

    pub(crate) fn layer_folder(&self, layer: &str) -> PathBuf {
        self.machine().folder().join("layers").join(layer)
    }

    /// Starts the machine once; its guest does `writes`.
    pub(crate) fn run(&self, writes: &[Write]) {
        self.run_ending(writes, &[Ends::PowerOff]);
    }

    /// Starts the machine; each boot does `writes` and ends as the next of `ends` says.
    pub(crate) fn run_ending(&self, writes: &[Write], ends: &[Ends]) -> RunReport {
        let product = StandIn {
            ends: Mutex::new(ends.to_vec()),
            ..StandIn::new(writes, None)
        };
        self.start(product)
    }

    /// Begins a run that does not end by itself and drops it once the machine runs.
    pub(crate) fn drop_a_run(&self) {
        let product = StandIn {
            ends: Mutex::new(vec![Ends::Never]),
            ..StandIn::new(&[], None)
        };
        let (machine, ctx) = (self.machine(), Ctx::none());
        let (told, hears) = std::sync::mpsc::channel();
        let options = RunOptions::default().on_event(move |event| {
            if matches!(event, RunEvent::Running(_)) {
                told.send(()).unwrap();
            }
        });
        let mut run = Box::pin(machine.run(Arc::new(product), options, &ctx));
        // Polled once: the supervisor is at work on its own thread from then on.
        let pending = block_on(async {
            std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await
        });
        assert!(pending);
        hears.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    /// Starts the machine, which is told to end after `limit`.
    pub(crate) fn run_for(&self, limit: Duration) -> RunReport {
        let product = StandIn {
            ends: Mutex::new(vec![Ends::Never]),
            ..StandIn::new(&[], None)
        };
        let options = RunOptions::default().timeout(limit);
        block_on(self.machine().run(Arc::new(product), options, &Ctx::none())).unwrap()
    }

    /// Starts the machine; `during` is called while it runs.
    pub(crate) fn run_with(&self, during: impl Fn() + Send + Sync + 'static) {
        self.start(StandIn::new(&[], Some(Arc::new(during))));
    }

    /// As [`run`](Self::run), where the start may be refused.
    pub(crate) fn try_run(&self, writes: &[Write]) -> Result<RunReport> {
        let product = StandIn::new(writes, None);
        let options = RunOptions::default().on_reboot(OnReboot::StartAgain);
        block_on(self.machine().run(Arc::new(product), options, &Ctx::none()))
    }

    /// Starts the machine with `options`; each boot does `writes`, then `during` is called, and it ends
    /// as the next of `ends` says.
    pub(crate) fn run_during(
        &self,
        options: RunOptions,
        writes: &[Write],
        ends: &[Ends],
        during: impl Fn() + Send + Sync + 'static,
    ) -> Result<RunReport> {
        self.run_of_during(&self.machine(), options, writes, ends, during)
    }

    /// The same with a machine of the store.
    pub(crate) fn run_of_during(
        &self,
        machine: &Machine,
        options: RunOptions,
        writes: &[Write],
        ends: &[Ends],
        during: impl Fn() + Send + Sync + 'static,
    ) -> Result<RunReport> {
        let product = StandIn {
            ends: Mutex::new(ends.to_vec()),
            ..StandIn::new(writes, Some(Arc::new(during)))
        };
        block_on(machine.run(Arc::new(product), options, &Ctx::none()))
    }

    fn start(&self, product: StandIn) -> RunReport {
        let options = RunOptions::default().on_reboot(OnReboot::StartAgain);
        block_on(self.machine().run(Arc::new(product), options, &Ctx::none())).unwrap()
    }

    /// Starts a machine of the store once; its guest does `writes`.
    pub(crate) fn run_of(&self, machine: &Machine, writes: &[Write]) {
        let product = StandIn::new(writes, None);
        block_on(machine.run(Arc::new(product), RunOptions::default(), &Ctx::none())).unwrap();
    }

    /// Starts a machine of the store on a product that reads chains of this family; its guest does `write` to its first
    /// disk.
    pub(crate) fn run_in(
        &self,
        family: Family,
        machine: &Machine,
        write: impl Fn(&Chain) + Send + Sync + 'static,
    ) {
        let of = machine.clone();
        let during = move || write(&of.resolve(&PRODUCT).unwrap().disks[0].chain);
        let mut product = StandIn::new(&[], Some(Arc::new(during)));
        product.capabilities.families = vec![family];
        block_on(machine.run(Arc::new(product), RunOptions::default(), &Ctx::none())).unwrap();
    }

    /// The chain of a layer as it stands.
    fn chain(&self, layer: &str) -> Chain {
        Self::chain_of(&self.machine(), layer)
    }

    fn chain_of(machine: &Machine, layer: &str) -> Chain {
        let resolved = machine.resolve(&PRODUCT).unwrap();
        let mut disks = resolved.disks.into_iter();
        disks
            .find(|disk| disk.name.as_str() == layer)
            .unwrap()
            .chain
    }

    /// What one MiB of a layer's disk holds, read through the whole chain.
    pub(crate) fn read(&self, layer: &str, mib: u64) -> Content {
        self.read_of(&self.machine(), layer, mib)
    }

    /// The same of a machine of the store.
    pub(crate) fn read_of(&self, machine: &Machine, layer: &str, mib: u64) -> Content {
        let chain = Self::chain_of(machine, layer);
        let raw = self.folder.join("read.raw");
        run(
            "qemu-img",
            &["convert", "-O", "raw", &node(&chain), raw.to_str().unwrap()],
        );
        let bytes = std::fs::read(&raw).unwrap();
        assert_eq!(bytes.len() as u64, chain.sectors * 512);
        let part = &bytes[(mib * MIB) as usize..((mib + 1) * MIB) as usize];
        match part.iter().all(|byte| *byte == part[0]) {
            true => Content::Byte(part[0]),
            false => Content::Mixed,
        }
    }

    /// How many leases there are on all images together.
    pub(crate) fn leases(&self) -> usize {
        let images = self.store.images().list().unwrap().into_iter();
        images
            .map(|image| image.unwrap().leases().unwrap().len())
            .sum()
    }

    /// The frozen deltas below a layer's head.
    pub(crate) fn frozen(&self, layer: &str) -> Vec<PathBuf> {
        let members = self.chain(layer).members.into_iter();
        members
            .filter(|member| matches!(member.role, MemberRole::Frozen(_)))
            .flat_map(|member| member.all_files().cloned().collect::<Vec<_>>())
            .map(|file| file.path)
            .collect()
    }

    /// Every image is still what its digest says, and nobody may write to it.
    pub(crate) fn check_images(&self) {
        for image in self.store.images().list().unwrap() {
            let image = image.unwrap();
            let verified = self
                .store
                .images()
                .verify(&image.meta.digest, &Ctx::none())
                .unwrap();
            assert!(verified.is_intact());
            for (extent, _) in image.extents() {
                assert!(std::fs::metadata(&extent).unwrap().permissions().readonly());
            }
        }
    }
}

/// The block graph of a chain as QEMU's `json:` file name, every level named.
fn node(chain: &Chain) -> String {
    let levels = chain
        .levels()
        .fold(serde_json::Value::Null, |below, member| {
            let file = serde_json::json!({"driver": "file", "filename": member.path().unwrap()});
            let mut level = serde_json::json!({"driver": "vmdk", "file": file});
            if !below.is_null() {
                level["backing"] = below;
            }
            level
        });
    format!("json:{levels}")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

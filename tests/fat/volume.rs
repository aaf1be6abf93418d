//! A folder that behaves as FAT32 or exFAT does, and what must hold on it at any time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use stratavm::machine::Machine;
use stratavm::preview::Preview;
use stratavm::store::{Digests, FsckOptions};
use stratavm::testkit::fault::{FatRules, FatVolume};
use stratavm::{Ctx, Hypervisor, Product, Resolved, Store, VmSpec};
use stratavm_disk::{Case, Holes, Links, Permissions, RenameOverOpen};
use tempfile::TempDir;

use crate::tree::walk;

/// The largest file of FAT32, in bytes, which is what a store takes every volume without holes to have.
pub(crate) const LARGEST: u64 = (4 << 30) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fat32,
    Exfat,
}

impl Kind {
    fn rules(self) -> FatRules {
        match self {
            Self::Fat32 => FatRules::fat32(),
            Self::Exfat => FatRules::exfat(),
        }
    }
}

pub(crate) struct Fat {
    /// The volume's top.
    pub(crate) folder: PathBuf,
    /// A folder that is on the host's own volume.
    pub(crate) host: PathBuf,
    rules: FatRules,
    emulated: FatVolume,
    _temporary: TempDir,
}

impl Fat {
    fn new(rules: FatRules) -> Self {
        // Reading the zeros of long files costs least in memory.
        let memory = Path::new("/dev/shm");
        let temporary = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let folder = temporary.path().join("volume");
        let host = temporary.path().join("host");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&host).unwrap();
        Self {
            emulated: FatVolume::at(&folder, rules),
            folder,
            host,
            rules,
            _temporary: temporary,
        }
    }

    /// A volume with the kind's own limits.
    pub(crate) fn of(kind: Kind) -> Self {
        Self::new(kind.rules())
    }

    /// One whose files have at most this many bytes.
    pub(crate) fn with_files_of(kind: Kind, most: u64) -> Self {
        let mut rules = kind.rules();
        rules.max_file = Some(most);
        Self::new(rules)
    }

    /// A store that was opened here found out what it lies on.
    pub(crate) fn is_seen_by(&self, store: &Store) {
        let found = store.volume();
        assert_eq!(found.holes, Holes::None);
        assert_eq!(found.links, Links::None);
        assert_eq!(found.permissions, Permissions::None);
        assert_eq!(found.case, Case::Insensitive);
        assert_eq!(found.max_file, Some(LARGEST));
        // Which files are open is known on Linux alone.
        if cfg!(target_os = "linux") || self.rules.rename_over_open == RenameOverOpen::Allowed {
            assert_eq!(found.rename_over_open, self.rules.rename_over_open);
        }
    }

    /// Nothing was refused, nothing is here that such a volume has not, and the store's own check finds nothing.
    pub(crate) fn holds(&self, store: &Store) {
        let refused = self.emulated.refused().into_iter();
        // A probe asks for what it may not get.
        let refused: Vec<_> = refused
            .filter(|line| !line.contains(".stratavm-probe-"))
            .collect();
        assert_eq!(refused, Vec::<String>::new());
        let most = store.volume().max_file.unwrap();
        let mut spellings = Vec::new();
        // Images to be added lie beside these.
        let mut paths = walk(store.home());
        let out = self.folder.join("out");
        paths.extend(out.is_dir().then(|| walk(&out)).into_iter().flatten());
        for path in paths {
            let found = path.symlink_metadata().unwrap();
            assert!(found.is_dir() || found.is_file(), "{path:?} is a link");
            assert!(
                found.is_dir() || found.nlink() == 1,
                "{path:?} has two names"
            );
            assert!(
                found.len() <= most || found.is_dir(),
                "{path:?}: {}",
                found.len()
            );
            spellings.push(path.to_str().unwrap().to_lowercase());
        }
        let count = spellings.len();
        spellings.sort();
        spellings.dedup();
        assert_eq!(spellings.len(), count, "names that differ by case only");
        let checked = store.fsck(&FsckOptions::default().digests(Digests::Skip), &Ctx::none());
        assert_eq!(checked.unwrap().findings, []);
    }

    /// The machine for each of these products, with all files on the volume.
    pub(crate) fn translate(&self, machine: &Machine, products: &[&str]) -> Vec<Resolved> {
        let backend = |name: &&str| {
            let product = Product::named(name).unwrap();
            let resolved = machine.resolve(&product).unwrap();
            apply(
                stratavm_builtin::registry().get(&product).unwrap().as_ref(),
                &resolved,
            );
            resolved
        };
        let translated = products.iter().map(backend).collect();
        self.holds(machine.store());
        translated
    }

    /// The spec for each product into a folder of the volume, heads and blank images included.
    pub(crate) fn preview(&self, spec: &VmSpec, store: &Store) {
        let preview = Preview::new(spec, &self.folder, Some(store), &Ctx::none()).unwrap();
        let preview = preview.on_volume(store.volume().clone());
        for product in ["vmware", "virtualbox", "qemu", "parallels"] {
            let product = Product::named(product).unwrap();
            let registry = stratavm_builtin::registry();
            let backend = registry.get(&product).unwrap();
            let out = self.folder.join("out").join(product.as_str());
            apply(
                backend.as_ref(),
                &preview.resolve(backend.as_ref(), &out).unwrap(),
            );
            assert!(walk(&out).len() > 3);
        }
        self.holds(store);
        stratavm_disk::fs::remove_dir_all(&self.folder.join("out")).unwrap();
    }
}

/// Makes all files of a plan.
fn apply(backend: &dyn Hypervisor, resolved: &Resolved) {
    let plan = backend.translate(resolved).unwrap();
    plan.apply(&resolved.volume, &Ctx::none()).unwrap();
    let entry = plan.entry.iter().all(|entry| entry.is_file());
    assert!(entry && !(plan.entry.is_none() && plan.argv.is_empty()));
}

/// The files of a layer whose names hold `part`.
pub(crate) fn files(machine: &Machine, layer: &str, part: &str) -> Vec<PathBuf> {
    let mut files = walk(&machine.folder().join("layers").join(layer));
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().contains(part));
    files.sort();
    files
}

/// Whether the newest head of a layer is a descriptor over extents.
pub(crate) fn is_split(head: &Path) -> bool {
    let text = fs::read(head).unwrap();
    String::from_utf8_lossy(&text).contains("createType=\"twoGbMaxExtentSparse\"")
}

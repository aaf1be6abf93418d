//! Specs translated for every product into a folder and applied, as values for the interop tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stratavm::Store;
use stratavm::plan::Plan;
use stratavm::preview::Preview;
use stratavm::{Ctx, Error, ErrorKind, Hypervisor, Resolved, Result, VmSpec};

use super::fixtures::make_images;
use super::readers::pieces_digest;
use super::values::{Values, expected};

/// One spec on one product, all files made.
pub(crate) struct Translated {
    pub(crate) machine: Resolved,
    pub(crate) plan: Plan,
    pub(crate) expected: Values,
    /// The content's digest of disks that were written to.
    pub(crate) written: BTreeMap<String, String>,
}

/// A spec that a product refuses as a whole.
pub(crate) struct Refused {
    pub(crate) spec: VmSpec,
    pub(crate) product: String,
    pub(crate) error: Error,
}

/// What came of a number of specs.
#[derive(Default)]
pub(crate) struct Machines {
    pub(crate) translated: Vec<Translated>,
    pub(crate) refused: Vec<Refused>,
}

impl Machines {
    /// Makes the images of `spec` in `folder` and translates it for every product, below `folder` too.
    pub(crate) fn add(&mut self, spec: &VmSpec, folder: &Path, store: &Store) {
        let name = &spec.name;
        make_images(spec, folder, store.images())
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let preview = Preview::new(spec, folder, Some(store), &Ctx::none())
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        for backend in stratavm_builtin::registry().iter() {
            let product = backend.product().as_str();
            if product == "null" {
                continue;
            }
            let out = folder.join("out put").join(product);
            let translated = preview
                .resolve(backend.as_ref(), &out)
                .and_then(|machine| Translated::new(backend.as_ref(), machine));
            match translated {
                Ok(translated) => self.translated.push(translated),
                Err(error) => {
                    let refused =
                        matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid);
                    assert!(refused, "{name} for {product}: {error:?}");
                    let (spec, product) = (spec.clone(), product.to_owned());
                    self.refused.push(Refused {
                        spec,
                        product,
                        error,
                    });
                }
            }
        }
    }

    pub(crate) fn of<'a>(&'a self, product: &'a str) -> impl Iterator<Item = &'a Translated> {
        self.translated
            .iter()
            .filter(move |one| one.plan.product.as_str() == product)
    }
}

impl Translated {
    /// Translates and applies.
    pub(crate) fn new(backend: &dyn Hypervisor, machine: Resolved) -> Result<Self> {
        let plan = backend.translate(&machine)?;
        plan.apply(&machine.volume, &Ctx::none())?;
        let expected = expected(&machine, backend.product().as_str());
        Ok(Self {
            machine,
            plan,
            expected,
            written: BTreeMap::new(),
        })
    }

    /// The file that the product opens.
    pub(crate) fn entry(&self) -> &Path {
        self.plan
            .entry
            .as_deref()
            .expect("this product opens a file")
    }

    /// Head, digest of the content, and depth of every disk. The content is that of the image where nothing was
    /// written; a session disk has none to compare with.
    pub(crate) fn disks(&self) -> impl Iterator<Item = (PathBuf, Option<String>, usize)> {
        self.machine.disks.iter().map(|disk| {
            let head = disk
                .chain
                .head()
                .and_then(|head| head.path())
                .expect("a chain has a head");
            let files = disk.chain.image().map(|image| {
                let files = image
                    .files
                    .iter()
                    .map(|file| (file.path.clone(), file.sectors * 512));
                pieces_digest(&files.collect::<Vec<_>>()).expect("an image is read")
            });
            let content = self.written.get(disk.name.as_str()).cloned().or(files);
            (head.to_owned(), content, disk.chain.levels().count())
        })
    }
}

/// A new, empty folder for a test's machines in the build folder: they are large, and worth a look after a failure.
pub(crate) fn empty_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an old folder is removed");
    }
    fs::create_dir_all(&folder).expect("a folder is made");
    folder
}

//! Drawn specs through every translator: a plan that can be made, or a refusal that says why.
//!
//! That other programs read what comes out is tested with the readers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/draw.rs"]
mod draw;
#[path = "common/fixtures.rs"]
#[allow(dead_code)]
mod fixtures;

use std::collections::BTreeMap;
use std::path::Path;

use stratavm::image::ImageRoot;
use stratavm::plan::Plan;
use stratavm::preview::Preview;
use stratavm::spec::Composition;
use stratavm::{Ctx, ErrorKind, VmSpec};

/// The seeds are fixed: a failure names one, and `draw::spec(seed)` makes its spec again.
const SEEDS: std::ops::Range<u64> = 0..50;

#[test]
fn drawn_specs_become_plans_or_refusals() {
    let mut plans: BTreeMap<String, usize> = BTreeMap::new();
    for seed in SEEDS {
        let spec = draw::spec(seed);
        let folder = tempfile::tempdir().unwrap();
        let store = ImageRoot::create(folder.path().join("store")).unwrap();
        fixtures::make_images(&spec, folder.path(), &store).unwrap();
        let preview = Preview::new(&spec, folder.path(), None, &Ctx::default())
            .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        for backend in &stratavm_builtin::registry() {
            let product = backend.product().as_str();
            let out = folder.path().join("out").join(product);
            let resolved = preview.resolve(backend.as_ref(), &out).unwrap();
            match backend.translate(&resolved) {
                Ok(plan) => {
                    assert!(
                        plan == backend.translate(&resolved).unwrap(),
                        "seed {seed}, {product}"
                    );
                    check(
                        &spec,
                        &plan,
                        folder.path(),
                        &format!("seed {seed}, {product}"),
                    );
                    *plans.entry(product.to_owned()).or_default() += 1;
                }
                Err(error) => {
                    let kind = error.kind();
                    assert_eq!(
                        kind,
                        ErrorKind::Unsupported,
                        "seed {seed}, {product}: {error:?}"
                    );
                }
            }
        }
    }
    // A translator that refuses everything would pass the rest.
    for backend in &stratavm_builtin::registry() {
        let count = plans.get(backend.product().as_str()).copied().unwrap_or(0);
        assert!(
            count >= 3,
            "only {count} plans for {}: {plans:?}",
            backend.product()
        );
    }
}

/// What holds for every plan.
fn check(spec: &VmSpec, plan: &Plan, folder: &Path, what: &str) {
    let session = usize::from(spec.guest.composition == Composition::Linux);
    assert_eq!(plan.disks.len(), spec.layers.len() + session, "{what}");
    assert!(
        !plan.to_string().contains(", invalid: "),
        "{what}: a file cannot be made\n{plan}"
    );
    if let Some(entry) = &plan.entry {
        assert!(
            plan.files.iter().any(|file| file.path == *entry),
            "{what}: no entry file"
        );
    }
    // Nothing but the machine's own folder is written to, and images are only read.
    let own = folder.join("out");
    for file in &plan.files {
        assert!(
            file.path.starts_with(&own),
            "{what}: {}",
            file.path.display()
        );
    }
    let mut places: Vec<_> = plan.disks.iter().map(|disk| &disk.place).collect();
    places.sort();
    places.dedup();
    assert_eq!(
        places.len(),
        plan.disks.len(),
        "{what}: two disks in one place"
    );
}

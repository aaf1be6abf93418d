//! The committed specs and their images: valid, complete, and of many kinds.

use std::collections::BTreeSet;

use stratavm::VmSpec;
use stratavm::image::{ImageDigest, ImageRoot, inspect};
use stratavm::spec::{Composition, Controller};

use crate::{draw, fixtures};

#[test]
fn committed_specs_are_valid_and_survive_both_formats() {
    let specs = fixtures::specs();
    assert!(specs.len() >= 20);
    for (name, spec) in specs {
        assert_eq!(
            spec.name.as_str(),
            name,
            "the file is named after the machine"
        );
        let toml = spec.to_toml().unwrap();
        assert_eq!(
            VmSpec::from_toml(&toml, &name).as_ref(),
            Ok(&spec),
            "{toml}"
        );
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(
            VmSpec::from_json(&json, &name).as_ref(),
            Ok(&spec),
            "{json}"
        );
    }
}

#[test]
fn images_of_every_spec_can_be_made_and_used() {
    let drawn = (0..20).map(|seed| (format!("seed {seed}"), draw::spec(seed)));
    for (name, spec) in fixtures::specs().into_iter().chain(drawn) {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageRoot::create(folder.path().join("store")).unwrap();
        fixtures::make_images(&spec, folder.path(), &store).unwrap();
        let linux = spec.guest.composition == Composition::Linux;
        let mut digests = BTreeSet::new();
        for layer in &spec.layers {
            let Some(image) = &layer.image else { continue };
            if let Ok(digest) = image.parse::<ImageDigest>() {
                let image = store.find(&digest).unwrap();
                let found = store
                    .list()
                    .unwrap()
                    .into_iter()
                    .map(|i| i.unwrap().meta.digest.to_string());
                let image = image.unwrap_or_else(|| {
                    panic!("{name} wants one of {:?}", found.collect::<Vec<_>>())
                });
                assert_eq!(image.extents().len(), 3);
                continue;
            }
            let found = inspect(&folder.path().join(image), &stratavm::Ctx::default()).unwrap();
            assert!(
                digests.insert(found.digest.unwrap()),
                "{name}: {image} is like another"
            );
            let roles: Vec<_> = found.partitions.iter().map(|part| part.name.role).collect();
            assert_eq!(
                roles,
                if linux { vec![layer.role] } else { vec![] },
                "{name}"
            );
        }
        for drive in &spec.hardware.cdrom {
            assert!(folder.path().join(&drive.image).is_file());
        }
    }
}

#[test]
fn drawn_specs_differ_and_hold_what_they_promise() {
    let specs: Vec<_> = (0..200).map(draw::spec).collect();
    let has = |what: &dyn Fn(&VmSpec) -> bool| specs.iter().any(what);
    for controller in Controller::ALL {
        assert!(
            has(&|spec| spec.layers.iter().any(|l| l.controller == Some(controller))),
            "{controller}"
        );
    }
    for count in 3..=8 {
        assert!(has(&|spec| spec.layers.len() == count), "{count} layers");
    }
    assert!(has(&|spec| spec.layers.iter().any(|l| l.slot.is_some())));
    assert!(has(&|spec| spec
        .title
        .as_ref()
        .is_some_and(|title| !title.is_ascii())));
    assert!(has(&|spec| spec
        .layers
        .iter()
        .any(|l| l.image.as_ref().is_some_and(|i| !i.is_ascii()))));
    assert!(has(&|spec| spec.guest.composition == Composition::Linux));
    assert!(
        specs
            .iter()
            .all(|spec| (3..=8).contains(&spec.layers.len()))
    );
    assert_eq!(draw::spec(42), draw::spec(42));
}

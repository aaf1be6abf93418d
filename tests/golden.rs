//! Every committed spec for every product, as a printed plan: `fixtures/golden/PRODUCT/SPEC/`
//! holds `plan.txt`, or `refused.txt` where the product cannot do what the spec asks for.
//!
//! `STRATAVM_BLESS=1 cargo test -p stratavm --test golden` rewrites them; what changed is then for
//! a person to read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixtures.rs"]
mod fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stratavm::preview::Preview;
use stratavm::resolved::slash_path;
use stratavm::{Ctx, ErrorKind, Hypervisor, Store, VmSpec};

/// What the temporary folder is called in a golden file.
const ROOT: &str = "/ROOT";

/// Most stale files that are shown.
const SHOWN: usize = 12;

#[test]
fn plans_are_as_committed() {
    let made = all_plans();
    let committed = committed();
    if std::env::var_os("STRATAVM_BLESS").is_some_and(|value| value == "1") {
        return bless(&made, &committed);
    }
    let mut stale: Vec<String> = Vec::new();
    for (path, text) in &made {
        match committed.get(path) {
            None => stale.push(format!("{} is not committed", path.display())),
            Some(old) if old != text => {
                stale.push(format!("{}{}", path.display(), difference(old, text)));
            }
            Some(_) => {}
        }
    }
    let left = committed.keys().filter(|path| !made.contains_key(*path));
    stale.extend(left.map(|path| format!("{} belongs to no spec or product", path.display())));
    let (count, shown) = (
        stale.len(),
        stale.iter().take(SHOWN).cloned().collect::<Vec<_>>(),
    );
    assert!(
        stale.is_empty(),
        "{count} golden files are stale:\n{}\nSTRATAVM_BLESS=1 rewrites them",
        shown.join("\n")
    );
}

#[test]
fn plans_depend_on_no_folder_and_translating_writes_nothing() {
    for (name, spec) in fixtures::specs() {
        if !["finance", "controllers", "extents"].contains(&name.as_str()) {
            continue;
        }
        let short = plans(&spec, &Place::new("a"));
        let long = plans(&spec, &Place::new("a-much-longer-name-of-a-folder"));
        for (product, (file, text)) in short {
            let (other, moved) = &long[&product];
            assert_eq!(file, *other, "{name} for {product}");
            assert!(
                text == *moved,
                "{name} for {product}{}",
                difference(&text, moved)
            );
        }
    }
}

/// A temporary folder with a spec's images, a store, and where plans would be written.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new(prefix: &str) -> Self {
        let prefix = format!("golden-{prefix}-");
        Self {
            root: tempfile::Builder::new().prefix(&prefix).tempdir().unwrap(),
        }
    }

    fn below(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `text` without the folder, however it is written.
    fn stable(&self, text: &str) -> String {
        let root = self.root.path();
        let slashed = slash_path(root);
        let native = root.display().to_string();
        let text = text.replace(&slashed, ROOT).replace(&native, ROOT);
        // Writers that escape each backslash of a Windows path.
        let text = text.replace(&native.replace('\\', "\\\\"), ROOT);
        let name = root.file_name().unwrap().to_str().unwrap();
        assert!(
            !text.contains(name),
            "the folder {name} is still in\n{text}"
        );
        without_media_ids(text)
    }
}

/// VirtualBox knows an ISO image by a UUID that must be the same for one file in all machines, so it
/// follows from the file's path, and changes with the folder.
fn without_media_ids(text: String) -> String {
    let media = text
        .split_once("<DVDImages>")
        .map_or("", |(_, after)| after);
    let media = media
        .split_once("</DVDImages>")
        .map_or("", |(inside, _)| inside);
    let ids = media
        .split("uuid=\"{")
        .skip(1)
        .filter_map(|rest| rest.get(..36));
    let numbered = ids
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
        .enumerate();
    numbered.fold(text, |text, (index, id)| {
        text.replace(&id, &format!("medium-{index}"))
    })
}

/// Path below `fixtures/golden` and text of every plan.
fn all_plans() -> BTreeMap<PathBuf, String> {
    let mut made = BTreeMap::new();
    for (name, spec) in fixtures::specs() {
        for (product, (file, text)) in plans(&spec, &Place::new("t")) {
            made.insert(Path::new(&product).join(&name).join(file), text);
        }
    }
    made
}

/// File name and text by product.
fn plans(spec: &VmSpec, place: &Place) -> BTreeMap<String, (&'static str, String)> {
    let (images, out) = (place.below("specs"), place.below("out"));
    let store = Store::open(place.below("store")).unwrap();
    fixtures::make_images(spec, &images, store.images()).unwrap();
    let preview = Preview::new(spec, &images, Some(&store), &Ctx::default()).unwrap();
    let registry = stratavm_builtin::registry();
    let plan = |backend: &std::sync::Arc<dyn Hypervisor>| {
        let product = backend.product().as_str().to_owned();
        let made = plan(&preview, backend.as_ref(), &out.join(&product));
        (product, (made.0, place.stable(&made.1)))
    };
    let plans = registry.iter().map(plan).collect();
    assert!(!out.exists(), "translating wrote something");
    plans
}

/// The plan as text, or why there is none.
fn plan(preview: &Preview, backend: &dyn Hypervisor, out: &Path) -> (&'static str, String) {
    let resolved = preview.resolve(backend, out);
    let plan = resolved.and_then(|resolved| {
        let plan = backend.translate(&resolved)?;
        assert_eq!(
            plan,
            backend.translate(&resolved)?,
            "the same input gives the same plan"
        );
        Ok(plan)
    });
    match plan {
        Ok(plan) => {
            let text = plan.to_string();
            let broken = text.lines().find(|line| line.contains(", invalid: "));
            assert_eq!(broken, None, "a plan with a file that cannot be made");
            ("plan.txt", text)
        }
        Err(error) => {
            let refused = [ErrorKind::Unsupported, ErrorKind::Invalid];
            assert!(refused.contains(&error.kind()), "{error:?}");
            ("refused.txt", chain(&error))
        }
    }
}

/// An error with its causes and what to do next.
fn chain(error: &stratavm::Error) -> String {
    let mut text = format!("{}: {error}\n", error.kind());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!("because: {cause}\n");
        source = cause.source();
    }
    text + &error
        .next_step()
        .map(|next| format!("next: {next}\n"))
        .unwrap_or_default()
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

/// What is committed, by path below `fixtures/golden`.
fn committed() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![golden_folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
            found.insert(path.strip_prefix(golden_folder()).unwrap().to_owned(), text);
        }
    }
    found
}

fn bless(made: &BTreeMap<PathBuf, String>, committed: &BTreeMap<PathBuf, String>) {
    for path in committed.keys().filter(|path| !made.contains_key(*path)) {
        fs::remove_file(golden_folder().join(path)).unwrap();
    }
    for (path, text) in made {
        let path = golden_folder().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// The first lines that differ, with their number and the line before.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let mut text = format!(", line {}:", same + 1);
    if let Some(before) = same.checked_sub(1).and_then(|index| old.get(index)) {
        text += &format!("\n    {before}");
    }
    for (sign, lines) in [('-', &old), ('+', &new)] {
        for line in lines.iter().skip(same).take(3) {
            text += &format!("\n  {sign} {line}");
        }
    }
    text
}

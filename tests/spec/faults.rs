//! The text of every fault: `fixtures/faults/NAME.toml` (or `.json`) beside `NAME.txt`.
//!
//! `STRATAVM_BLESS=1` rewrites the texts; read what changed before you commit it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stratavm::{ErrorKind, VmSpec};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/faults")
}

/// The names of the files with one of `extensions`, sorted.
fn files(extensions: &[&str]) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names
        .filter(|name| extensions.iter().any(|ext| name.ends_with(ext)))
        .collect()
}

fn faults_of(file: &str) -> stratavm::spec::Faults {
    let text = std::fs::read_to_string(folder().join(file))
        .unwrap()
        .replace("\r\n", "\n");
    let read = if file.ends_with(".json") {
        VmSpec::from_json
    } else {
        VmSpec::from_toml
    };
    read(&text, file).expect_err("the file has faults")
}

#[test]
fn faults_read_as_committed() {
    let mut stale = Vec::new();
    for file in files(&[".toml", ".json"]) {
        let found = faults_of(&file).to_string() + "\n";
        let path = folder().join(Path::new(&file).with_extension("txt"));
        if std::env::var_os("STRATAVM_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &found).unwrap();
        }
        let committed = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .replace("\r\n", "\n");
        let differing = found.lines().zip(committed.lines()).find(|(a, b)| a != b);
        if found != committed {
            stale.push(format!(
                "{file}: {} lines, {} committed, first difference {differing:#?}",
                found.lines().count(),
                committed.lines().count()
            ));
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
    let stem = |name: &String| name.rsplit_once('.').map(|(stem, _)| stem.to_owned());
    let specs: BTreeSet<_> = files(&[".toml", ".json"]).iter().filter_map(stem).collect();
    let texts: BTreeSet<_> = files(&[".txt"]).iter().filter_map(stem).collect();
    assert_eq!(specs, texts, "each text belongs to a spec");
}

#[test]
fn faults_are_values_too() {
    let faults = faults_of("form.toml");
    let fault = faults
        .iter()
        .find(|fault| fault.key == "guest.session")
        .unwrap();
    assert_eq!(
        serde_json::to_value(fault).unwrap(),
        serde_json::json!({
            "key": "guest.session",
            "message": "\"4 GB\" is no size: write a whole number and KiB, MiB, GiB or TiB, such as \"512 MiB\"",
            "suggestion": "\"4 GiB\"",
            "position": { "line": 11, "column": 11 }
        })
    );
    let layer = faults
        .iter()
        .find(|fault| fault.key == "layer[2].paths[8]")
        .unwrap();
    assert_eq!(layer.layer, None, "its name is no name");
    let faults = faults_of("linux.toml");
    let layer = faults
        .iter()
        .find(|fault| fault.key == "layer[8].paths")
        .unwrap();
    assert_eq!(layer.layer.as_deref(), Some("odder"));
}

#[test]
fn an_error_names_the_spec_and_keeps_the_faults() {
    let error = stratavm::Error::from(faults_of("twice.json"));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "the spec twice.json has 2 faults");
    let source = std::error::Error::source(&error).unwrap();
    let faults = source.downcast_ref::<stratavm::spec::Faults>().unwrap();
    assert_eq!((faults.count(), faults.origin()), (2, "twice.json"));
}

#[test]
fn each_mended_fault_goes_away() {
    // The linux fixture, mended line by line, is a good spec: no fault is a false alarm.
    let text = std::fs::read_to_string(folder().join("linux.toml"))
        .unwrap()
        .replace("\r\n", "\n");
    let mends = [
        ("session = \"1 MiB\"", "session = \"64 MiB\""),
        ("cpus = 0", "cpus = 1"),
        ("514 MiB", "512 MiB"),
        ("controller = \"ide\"", "controller = \"sata\""),
        ("[hardware]", "[hardware]\nfirmware = \"uefi\""),
        ("[\"disk\", \"disk\", \"cdrom\"]", "[\"disk\"]"),
        ("0 KiB", "16 MiB"),
        (
            "size = \"8 GiB\"\nwrites = \"discard\"\nrejuvenate = \"reset\"\noptional = true",
            "image = \"os.raw\"",
        ),
        (
            "name = \"os\"\nrole = \"os\"\nimage = \"golden.raw\"\nsize = \"8 GiB\"\npaths = [\"/\"]",
            "name = \"apps\"\nrole = \"apps\"\nimage = \"apps.raw\"",
        ),
        ("\"session\"", "\"home\""),
        ("1536 KiB", "16 MiB"),
        (
            "image = \"seed.raw\"",
            "image = \"seed.raw\"\npaths = [\"/srv/more\"]",
        ),
        ("8193 KiB", "9 MiB"),
        ("\"/ok\", \"/ok\", \"/home\"", "\"/ok\", \"/home/.cache\""),
        ("slot = 7", "slot = 8"),
        (
            "role = \"identity\"\nimage = \"identity.raw\"",
            "role = \"identity\"\nsize = \"8 MiB\"",
        ),
        (
            "role = \"identity\"\nsize = \"16 MiB\"",
            "role = \"user-apps\"\nsize = \"16 MiB\"",
        ),
        (
            "slot = 3\n\n[[layer]]\nname = \"odd\"",
            "slot = 4\n\n[[layer]]\nname = \"odd\"",
        ),
        (
            "size = \"3 TiB\"",
            "size = \"2 TiB\"\nwrites = \"keep\"\nrejuvenate = \"keep\"\npaths = [\"/odd\"]",
        ),
        ("2 TiB", "2096895 MiB"),
        ("slot = 20", "slot = 14"),
        (
            "writes = \"keep\"\npaths = []",
            "writes = \"keep\"\nrejuvenate = \"keep\"\npaths = [\"/odder\"]",
        ),
        (
            ", \"/srv/a,b\", \"/srv/a:b\", \"/srv/100%\", '/srv/a\\b'",
            "",
        ),
    ];
    let mut text = text;
    let mut before = VmSpec::from_toml(&text, "").unwrap_err().count();
    for (bad, good) in mends {
        assert!(text.contains(bad), "{bad}");
        text = text.replacen(bad, good, 1);
        let now = VmSpec::from_toml(&text, "").map_or_else(|faults| faults.count(), |_| 0);
        assert!(
            now <= before,
            "{bad} -> {good}: {before} faults before, {now} after"
        );
        before = now;
    }
    assert_eq!(
        VmSpec::from_toml(&text, "")
            .map_err(|faults| faults.to_string())
            .map(|_| ()),
        Ok(())
    );
}

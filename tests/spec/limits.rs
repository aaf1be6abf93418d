//! What is too long, too deep, too new or no text at all.

use std::io::Write;

use stratavm::spec::MAX_TEXT;
use stratavm::{ErrorKind, VmSpec};

const GOOD: &str = "stratavm = 1\nname = \"a\"\n[guest]\nos = \"other\"\n\
    [[layer]]\nname = \"os\"\nrole = \"os\"\nimage = \"g.raw\"\n";

fn error_text(error: &stratavm::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}\n{}", source.unwrap_or_default())
}

#[test]
fn smallest_spec_is_good() {
    let spec = VmSpec::from_toml(GOOD, "g.toml").unwrap();
    assert_eq!(spec.display_name(), "a");
    assert_eq!(spec.hardware, stratavm::spec::Hardware::default());
}

#[test]
fn byte_order_mark_and_windows_line_ends_are_no_faults() {
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(VmSpec::from_toml(&text, ""), VmSpec::from_toml(GOOD, ""));
    let bad = text.replace("other", "others");
    let faults = VmSpec::from_toml(&bad, "w.toml").unwrap_err();
    assert!(
        faults.to_string().starts_with("w.toml:4:6: guest.os:"),
        "{faults}"
    );
}

#[test]
fn long_text_is_refused() {
    let long = format!("{GOOD}#{}", "x".repeat(MAX_TEXT));
    let faults = VmSpec::from_toml(&long, "long.toml").unwrap_err();
    assert_eq!(
        faults.to_string(),
        "long.toml: a spec has at most 1048576 bytes"
    );
    let fits = format!("{GOOD}#{}", "x".repeat(MAX_TEXT - GOOD.len() - 1));
    assert!(VmSpec::from_toml(&fits, "").is_ok());
}

#[test]
fn deep_text_is_refused_without_a_crash() {
    for depth in [100, 500_000] {
        let json = format!("{{\"stratavm\": {}", "[".repeat(depth));
        assert!(VmSpec::from_json(&json, "").is_err());
        let json = format!(
            "{{\"x-a\": {}1{}}}",
            "{\"a\":".repeat(depth / 8),
            "}".repeat(depth / 8)
        );
        assert!(VmSpec::from_json(&json, "").is_err());
        let toml = format!("a = {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(VmSpec::from_toml(&toml, "").is_err());
        let toml = format!("a{} = 1", ".a".repeat(depth));
        assert!(VmSpec::from_toml(&toml, "").is_err());
    }
}

#[test]
fn many_faults_are_counted_and_the_first_hundred_listed() {
    let text: String = (0..1000)
        .map(|n| format!("strange-key-{n} = 1\n"))
        .collect();
    let faults = VmSpec::from_toml(&text, "many.toml").unwrap_err();
    // The four missing keys come on top.
    assert_eq!((faults.count(), faults.iter().len()), (1004, 100));
    assert!(faults.to_string().ends_with("\nand 904 more"));
}

#[test]
fn newer_format_is_said_to_be_newer_whatever_else_it_holds() {
    let text = GOOD.replace("stratavm = 1", "stratavm = 2\nnew-key = { a = 1 }");
    let faults = VmSpec::from_toml(&text, "n.toml").unwrap_err();
    assert_eq!(
        faults.to_string(),
        "n.toml:1:12: stratavm: version 2 of the format is newer than 1, which this library reads"
    );
    let error = stratavm::Error::from(faults);
    assert_eq!(error.kind(), ErrorKind::FromTheFuture);
    assert_eq!(error.next_step(), Some("use a newer version of stratavm"));
    let faults = VmSpec::from_json("{\"stratavm\": 9007199254740993}", "").unwrap_err();
    assert_eq!(faults.kind(), ErrorKind::FromTheFuture);
    for old in ["0", "-1", "\"1\"", "1.0", "true", "99999999999999999999"] {
        let faults = VmSpec::from_toml(&GOOD.replace("= 1", &format!("= {old}")), "").unwrap_err();
        assert_eq!(
            (faults.kind(), faults.count()),
            (ErrorKind::Invalid, 1),
            "{faults}"
        );
    }
}

#[test]
fn files_are_read_by_their_extension() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("a.toml");
    std::fs::write(&toml, GOOD).unwrap();
    let spec = VmSpec::from_path(&toml).unwrap();
    let json = folder.path().join("a.JSON");
    std::fs::write(&json, serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(VmSpec::from_path(&json).unwrap(), spec);
}

#[test]
fn files_that_hold_no_spec_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = VmSpec::from_path(folder.path().join("none.toml")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(VmSpec::from_path(folder.path()).is_err(), "a folder");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"stratavm = 1\nname = \"\xff\"\n").unwrap();
    let error = VmSpec::from_path(&binary).unwrap_err();
    assert!(
        error_text(&error).ends_with("binary.toml:2:9: this is no UTF-8 text"),
        "{error:?}"
    );
    let huge = folder.path().join("huge.toml");
    std::fs::File::create(&huge)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = VmSpec::from_path(&huge).unwrap_err();
    assert!(
        error_text(&error).ends_with("a spec has at most 1048576 bytes"),
        "{error:?}"
    );
    let cut = folder.path().join("cut.json");
    write!(
        std::fs::File::create(&cut).unwrap(),
        "{{\n \"stratavm\": 1,\n \"na"
    )
    .unwrap();
    let error = VmSpec::from_path(&cut).unwrap_err();
    assert!(error_text(&error).contains("cut.json:3:"), "{error:?}");
    assert!(
        error_text(&error).contains("this is no JSON: EOF while parsing a string"),
        "{error:?}"
    );
}

#[test]
fn a_layer_in_a_file_of_its_own_has_faults_with_places_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.toml");
    std::fs::write(
        &path,
        "name = \"home\"\nrole = \"user-data\"\nsize = \"1 GiB\"\n",
    )
    .unwrap();
    let layer = stratavm::spec::LayerSpec::from_path(&path).unwrap();
    assert_eq!(layer.name.as_str(), "home");
    std::fs::write(&path, "name = \"home\"\nsize = 5\nx-tool = {}\n").unwrap();
    let error = stratavm::spec::LayerSpec::from_path(&path).unwrap_err();
    let text = error_text(&error).replace(&folder.path().display().to_string(), "");
    let found: Vec<_> = text
        .lines()
        .skip(1)
        .map(|line| line.split_once(".toml:").unwrap().1)
        .collect();
    assert_eq!(
        found,
        [
            "1:1: role: missing; one of os, apps, user-apps, cache, identity, user-data, custom",
            "2:8: size: a size is text with a unit, not a bare number; did you mean \"5 MiB\"?",
            "3:1: x-tool: unknown key",
        ]
    );
}

#[test]
fn specs_built_in_code_follow_the_same_rules() {
    let mut spec = VmSpec::from_toml(GOOD, "").unwrap();
    spec.hardware.cpus = 0;
    spec.layers[0].image = None;
    spec.layers[0].size = Some(stratavm::spec::Size::from_bytes(5));
    spec.title = Some("a\nb".to_owned());
    spec.extensions.insert("name".to_owned(), 1.into());
    let faults = spec.validate().unwrap_err();
    assert_eq!(
        faults.to_string(),
        "title: a title may not hold '\\n' (character 2)\n\
         hardware.cpus: 0 is not between 1 and 64\n\
         layer[0].size (layer os): 5 bytes is not between 1 MiB and 2096895 MiB\n\
         layer[0].size (layer os): os layers start from an `image`, not blank\n\
         name: a table for others is called x-NAME, NAME being 1 to 64 of a-z, 0-9 and '-'"
    );
    let error = spec.to_toml().unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Invalid, "the spec has 5 faults")
    );
}

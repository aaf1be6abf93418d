//! The committed schemas: each is sound, and each command has one.

use std::path::PathBuf;

use serde_json::Value;

use crate::bench::{Home, text};

/// The schema of a command, by its words joined with `-`.
pub(crate) fn schema(command: &str) -> Value {
    let path = folder().join(format!("{command}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/schema/launcher")
}

/// Fails unless `value` is what the schema of `command` says.
pub(crate) fn check(command: &str, value: &Value) {
    let validator = jsonschema::validator_for(&schema(command)).unwrap();
    let faults: Vec<_> = validator
        .iter_errors(value)
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{command}: {faults:#?}\n{value:#}");
}

#[test]
fn schemas_require_every_key_that_they_know() {
    let optional = ["disk-info", "disk-map"];
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let schema = schema(name);
        jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
        if !optional.contains(&name) {
            required(name, &schema);
        }
    }
}

/// Every table of a schema requires all of its keys.
fn required(name: &str, schema: &Value) {
    if let Some(keys) = schema["properties"].as_object() {
        let required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
        assert_eq!(required.len(), keys.len(), "{name}: {required:?}");
        keys.values().for_each(|key| self::required(name, key));
    }
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        self::required(name, one);
    }
    if schema["items"].is_object() {
        required(name, &schema["items"]);
    }
}

#[test]
fn every_command_has_a_schema() {
    let home = Home::new();
    let mut commands = 0;
    for command in subcommands(&home, &[]) {
        let below = subcommands(&home, &[&command]);
        let names = match below.is_empty() {
            true => vec![command],
            false => below.iter().map(|sub| format!("{command}-{sub}")).collect(),
        };
        for name in names {
            assert!(schema(&name).is_object(), "{name}");
            commands += 1;
        }
    }
    assert!(commands > 20, "{commands}");
}

/// The commands that `--help` lists below `words`.
pub(crate) fn subcommands(home: &Home, words: &[&str]) -> Vec<String> {
    let arguments: Vec<_> = words.iter().copied().chain(["--help"]).collect();
    let help = text(&home.run(&arguments).stdout);
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

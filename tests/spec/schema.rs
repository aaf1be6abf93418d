//! The committed JSON Schema is the one that the types make, and says the same as the reader.

use std::path::Path;

use stratavm::VmSpec;

use crate::draw;

const SCHEMA: &str = "fixtures/schema/vmspec.json";

#[test]
fn committed_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA);
    let current = serde_json::to_string_pretty(&stratavm::spec::schema()).unwrap() + "\n";
    if std::env::var_os("STRATAVM_BLESS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path)
        .unwrap_or_default()
        .replace("\r\n", "\n");
    assert!(
        committed == current,
        "{SCHEMA} is stale: run the test with STRATAVM_BLESS=1"
    );
}

#[test]
fn schema_takes_every_valid_spec() {
    let schema = serde_json::to_value(stratavm::spec::schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for seed in 0..100 {
        let spec = serde_json::to_value(draw::spec(seed)).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&spec)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn schema_refuses_what_the_reader_calls_a_fault_of_form() {
    let schema = serde_json::to_value(stratavm::spec::schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = serde_json::to_value(draw::spec(7)).unwrap();
    let edits: [(&str, serde_json::Value); 14] = [
        ("/name", "../x".into()),
        ("/stratavm", "1".into()),
        ("/unknown", 1.into()),
        ("/x-ok", 1.into()),
        ("/guest/os", "linus".into()),
        ("/guest/unknown", true.into()),
        ("/hardware/memory", "4 GB".into()),
        ("/hardware/secure-boot", "on".into()),
        ("/layer/0/role", "oss".into()),
        ("/stratavm", 2.into()),
        ("/hardware/cpus", 65.into()),
        ("/hardware/boot", serde_json::json!([])),
        ("/layer/0/slot", 30.into()),
        ("/layer", serde_json::json!([])),
    ];
    for (pointer, value) in edits {
        let mut spec = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[key] = value;
        assert!(!validator.is_valid(&spec), "{pointer}");
        assert!(
            VmSpec::from_json(&spec.to_string(), "").is_err(),
            "{pointer}"
        );
    }
}

//! A spec that was written and read again is the same spec; text that is not one never panics.

use proptest::prelude::*;
use stratavm::VmSpec;

use crate::draw;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawn_spec_is_valid_and_survives_both_formats(seed in any::<u64>()) {
        let spec = draw::spec(seed);
        prop_assert_eq!(spec.validate(), Ok(()));
        let toml = spec.to_toml().unwrap();
        let read = VmSpec::from_toml(&toml, "drawn.toml").map_err(|f| TestCaseError::fail(format!("{f}\n{toml}")))?;
        prop_assert_eq!(&read, &spec);
        let json = serde_json::to_string_pretty(&spec).unwrap();
        let read = VmSpec::from_json(&json, "drawn.json").map_err(|f| TestCaseError::fail(format!("{f}\n{json}")))?;
        prop_assert_eq!(&read, &spec);
    }

    #[test]
    fn plain_serde_reads_what_it_writes(seed in any::<u64>()) {
        let mut spec = draw::spec(seed);
        // serde_json reads fractions to the last digit only with a feature that costs everybody.
        spec.extensions.clear();
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<VmSpec>(&json).unwrap(), spec.clone());
        let toml = spec.to_toml().unwrap();
        prop_assert_eq!(toml::from_str::<VmSpec>(&toml).unwrap(), spec);
    }

    #[test]
    fn mutated_text_is_read_or_refused(seed in any::<u64>(), edits in edits()) {
        let spec = draw::spec(seed);
        let toml = mutate(spec.to_toml().unwrap(), &edits);
        check(VmSpec::from_toml(&toml, "m.toml"))?;
        let json = mutate(serde_json::to_string(&spec).unwrap(), &edits);
        check(VmSpec::from_json(&json, "m.json"))?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*|[\\[\\]{}\"=.,:x0-9 \n'#-]*") {
        check(VmSpec::from_toml(&text, "any.toml"))?;
        check(VmSpec::from_json(&text, "any.json"))?;
    }
}

/// A spec that was read is valid; faults have a place in the text and stay on their lines.
fn check(read: Result<VmSpec, stratavm::spec::Faults>) -> Result<(), TestCaseError> {
    match read {
        Ok(spec) => prop_assert_eq!(spec.validate(), Ok(())),
        Err(faults) => {
            prop_assert!(faults.count() > 0);
            for fault in &faults {
                let place = fault.position.unwrap();
                prop_assert!(place.line > 0 && place.column > 0);
                prop_assert!(!fault.to_string().contains(char::is_control), "{fault:?}");
            }
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Edit {
    Delete(usize, usize),
    Insert(usize, String),
    Double(usize, usize),
    Swap(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("\n[guest]\n".to_owned()),
        Just("\n[[layer]]\n".to_owned()),
        Just("{".to_owned()),
        Just("]".to_owned()),
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("\\u0000".to_owned()),
        "\\PC{0,6}",
    ];
    let edit = prop_oneof![
        (any::<usize>(), 0..40usize).prop_map(|(at, len)| Edit::Delete(at, len)),
        (any::<usize>(), piece).prop_map(|(at, text)| Edit::Insert(at, text)),
        (any::<usize>(), 0..200usize).prop_map(|(at, len)| Edit::Double(at, len)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ];
    proptest::collection::vec(edit, 1..8)
}

fn mutate(text: String, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        let length = chars.len();
        if length == 0 {
            break;
        }
        match edit {
            Edit::Delete(at, len) => {
                let at = at % length;
                chars.drain(at..(at + len).min(length));
            }
            Edit::Insert(at, text) => {
                let at = at % length;
                chars.splice(at..at, text.chars());
            }
            Edit::Double(at, len) => {
                let at = at % length;
                let copy = chars[at..(at + len).min(length)].to_vec();
                chars.splice(at..at, copy);
            }
            Edit::Swap(a, b) => chars.swap(a % length, b % length),
        }
    }
    chars.into_iter().collect()
}

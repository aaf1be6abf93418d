//! Any text as a spec in both formats: no panic, faults with a place on lines of their own, and
//! what is accepted is valid and survives being written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm::VmSpec;
use stratavm::spec::Faults;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    check(VmSpec::from_toml(text, "spec.toml"));
    check(VmSpec::from_json(text, "spec.json"));
});

fn check(read: Result<VmSpec, Faults>) {
    match read {
        Ok(spec) => {
            assert_eq!(spec.validate(), Ok(()));
            let toml = spec.to_toml().expect("a valid spec can be written");
            assert_eq!(VmSpec::from_toml(&toml, "again.toml"), Ok(spec));
        }
        Err(faults) => {
            assert!(faults.count() > 0);
            for fault in &faults {
                assert!(!fault.to_string().contains(char::is_control), "{fault:?}");
            }
        }
    }
}

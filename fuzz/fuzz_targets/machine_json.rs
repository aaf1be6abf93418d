//! Any bytes as a machine.json: no panic, and what is accepted is written as bytes that read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm::machine::record::Record;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = Record::parse(data) {
        let bytes = record.to_bytes().expect("an accepted record is written");
        assert_eq!(Record::parse(&bytes).expect("own bytes are read"), record);
    }
});

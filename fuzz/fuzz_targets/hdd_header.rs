//! Any bytes as the header of a .hds image: no panic, and what is accepted is written back as the same value.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stratavm_disk::hdd::HdsHeader;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzz.hds");
    if let Ok(header) = HdsHeader::parse(data, path) {
        let again = HdsHeader::parse(&header.to_bytes(), path).expect("own header is read");
        assert_eq!(again, header);
    }
});

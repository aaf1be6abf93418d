//! Any bytes as the header of a sparse VMDK extent: no panic, and what is accepted is written back as the same value.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stratavm_disk::vmdk::SparseHeader;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzz.vmdk");
    if let Ok(header) = SparseHeader::parse(data, path) {
        let again = SparseHeader::parse(&header.to_bytes(), path).expect("own header is read");
        assert_eq!(again, header);
    }
});

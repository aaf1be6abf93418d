//! Any bytes as a VMDK descriptor: no panic, and what is accepted is written as a text that reads back as the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stratavm_disk::vmdk::Descriptor;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzz.vmdk");
    let Ok(descriptor) = Descriptor::parse(data, path) else {
        return;
    };
    // A value that this format cannot hold is refused, never written.
    let Ok(text) = descriptor.to_text() else {
        return;
    };
    let again = Descriptor::parse(text.as_bytes(), path).expect("own text is read");
    assert_eq!(again.to_text().expect("own values are written"), text);
});

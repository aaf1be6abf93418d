//! Any bytes as a `.hds` image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm_disk::Format;

fuzz_target!(|data: &[u8]| {
    stratavm_fuzz::image(data, "image.hds", Format::Hds);
    stratavm_fuzz::write_then_read(data, "image.hds", Format::Hds);
});

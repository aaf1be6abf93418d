//! Any bytes as a VDI. Its writers refuse maps in which two blocks share a place, so nothing but what is written changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm_disk::Format;

fuzz_target!(|data: &[u8]| {
    stratavm_fuzz::image(data, "image.vdi", Format::Vdi);
    stratavm_fuzz::write_then_read(data, "image.vdi", Format::Vdi);
});

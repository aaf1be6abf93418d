//! Any bytes as a VMDK, a sparse file or a text descriptor that may name itself as its extent. Nothing but what is written
//! to a sound sparse one changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm_disk::Format;

fuzz_target!(|data: &[u8]| {
    let format = match data.first() {
        Some(b'#') => Format::VmdkDescriptor,
        _ => Format::VmdkSparse,
    };
    stratavm_fuzz::image(data, "image.vmdk", format);
    if format == Format::VmdkSparse {
        stratavm_fuzz::write_then_read_if_sound(data, "image.vmdk", format);
    }
});

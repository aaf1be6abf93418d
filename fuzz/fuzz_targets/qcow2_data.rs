//! Any bytes as a qcow2 image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm_disk::Format;

fuzz_target!(|data: &[u8]| stratavm_fuzz::image(data, "image.qcow2", Format::Qcow2));

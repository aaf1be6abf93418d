//! Any bytes as a DiskDescriptor.xml: no panic, the chain of what is accepted ends, and own XML reads back as the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stratavm_disk::hdd::DiskDescriptor;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("DiskDescriptor.xml");
    let Ok(descriptor) = DiskDescriptor::parse(data, path) else {
        return;
    };
    let chain = descriptor.chain().expect("an accepted tree has a chain");
    assert!(!chain.is_empty() && chain.len() <= descriptor.shots.len());
    // Another leaf than Parallels Desktop's own is read but never written.
    let Ok(xml) = descriptor.to_xml() else {
        return;
    };
    let again = DiskDescriptor::parse(xml.as_bytes(), path).expect("own XML is read");
    assert_eq!(again.to_xml().expect("own values are written"), xml);
});

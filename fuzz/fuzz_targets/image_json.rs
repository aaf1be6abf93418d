//! Any bytes as an `image.json`: no panic, and what is accepted keeps to its own bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm::image::ImageMeta;

fuzz_target!(|data: &[u8]| {
    if let Ok(meta) = ImageMeta::parse(data) {
        let extents: u64 = meta.extents.iter().map(|extent| extent.bytes()).sum();
        assert_eq!(extents, meta.size);
        for extent in &meta.extents {
            assert!(!extent.file.contains(['/', '\\', ':', '\0']) && !extent.file.starts_with('.'));
        }
        for partition in &meta.partitions {
            assert!(partition.offset + partition.length <= meta.size);
        }
    }
});

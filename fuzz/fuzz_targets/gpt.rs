//! Any bytes as a disk with a GUID partition table: no panic, and what is accepted stays on the disk.
//!
//! Checksums are put right first, or hardly an input would get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;

const SECTOR: usize = 512;
/// Larger than the fuzzer's inputs, so that a table may say much of its disk.
const DISK: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut disk = vec![0; DISK];
    let taken = data.len().min(DISK);
    disk[..taken].copy_from_slice(&data[..taken]);
    put_right(&mut disk);
    let grown = DISK as u64 + (1 << 20);
    let Ok(Some((partitions, written))) = stratavm::testkit::gpt::partitions(&disk, grown) else {
        return;
    };
    let mut ranges: Vec<_> = partitions.into_iter().map(|(_, range)| range).collect();
    ranges.sort_by_key(|range| range.start);
    for range in &ranges {
        assert!(
            range.start < range.end && range.end <= DISK as u64,
            "{range:?}"
        );
    }
    for pair in ranges.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{pair:?}");
    }
    for range in written {
        assert!(range.end <= grown, "{range:?}");
        for kept in &ranges {
            let apart = range.end <= kept.start || kept.end <= range.start;
            assert!(apart, "{range:?} would overwrite {kept:?}");
        }
    }
});

/// Writes the checksums of header and entries (UEFI specification 2.10, section 5.3.2).
fn put_right(disk: &mut [u8]) {
    let number =
        |disk: &[u8], at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap()) as usize;
    let header = SECTOR;
    let first = number(disk, header + 72).saturating_mul(SECTOR);
    let bytes = number(disk, header + 80).saturating_mul(number(disk, header + 84));
    if let Some(entries) = first
        .checked_add(bytes)
        .and_then(|end| disk.get(first..end))
    {
        let sum = crc32(entries);
        disk[header + 88..header + 92].copy_from_slice(&sum.to_le_bytes());
    }
    disk[header + 16..header + 20].fill(0);
    let size = number(disk, header + 12);
    if let Some(bytes) = disk.get(header..header.saturating_add(size)) {
        let sum = crc32(bytes);
        disk[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    }
}

/// CRC-32 as in IEEE 802.3, bit by bit: the inputs are small.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                sum >> 1 ^ 0xedb8_8320
            } else {
                sum >> 1
            }
        })
    })
}

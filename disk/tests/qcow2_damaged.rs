//! qcow2 images whose headers and tables are not what they should be: refused where they would lead astray, read where
//! they only forbid writing.
#![allow(clippy::unwrap_used, unused_crate_dependencies)]

use std::fs;
use std::path::Path;
use stratavm_disk::qcow2::{Backing, Qcow2Spec};
use stratavm_disk::{
    Access, Below, Chain, Durability, ErrorKind, Format, ImageSpec, Volume, create, info,
};

fn open(path: &Path, access: Access) -> stratavm_disk::Result<Chain> {
    let gate = Below::beside(path)?;
    Chain::open(path, Format::Qcow2, access, &gate)
}

#[test]
fn a_parent_without_a_format_is_never_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("head.qcow2");
    // A guest could have made the raw base look like another format.
    fs::write(dir.path().join("base"), b"QFI\xfb").unwrap();
    let backing = Some(Backing {
        file: "base".into(),
        format: Format::Raw,
    });
    let spec = Qcow2Spec {
        sectors: 1,
        backing,
    };
    create(
        &path,
        &ImageSpec::Qcow2(spec),
        &Volume::default(),
        Durability::Unsynced,
    )
    .unwrap();
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[104..108], [0xe2, 0x79, 0x2a, 0xca]);
    bytes[104..108].fill(0x11); // an extension that nobody knows
    fs::write(&path, &bytes).unwrap();
    let error = open(&path, Access::Read).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(
        text.contains("head.qcow2") && text.contains("not guessed"),
        "{text}"
    );
    let found = info(&path).unwrap().qcow2.unwrap();
    assert_eq!(
        (found.backing_file.as_deref(), found.backing_format),
        (Some("base"), None)
    );
}

#[test]
fn images_marked_as_dirty_or_corrupt_are_read_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let spec = ImageSpec::Qcow2(Qcow2Spec {
        sectors: 2048,
        backing: None,
    });
    create(&path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    chain.write_at(b"data", 5000).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for (mark, why) in [(1, "did not close it"), (2, "corrupt")] {
        bytes[79] = mark;
        fs::write(&path, &bytes).unwrap();
        let mut found = [0; 4];
        let chain = open(&path, Access::Read).unwrap();
        chain.read_at(&mut found, 5000).unwrap();
        assert_eq!(found, *b"data");
        drop(chain);
        let error = open(&path, Access::Write).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let found = info(&path).unwrap().qcow2.unwrap();
        assert_eq!((found.dirty, found.corrupt), (mark == 1, mark == 2));
    }
}

#[test]
fn tables_that_lead_astray_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let spec = ImageSpec::Qcow2(Qcow2Spec {
        sectors: (2 << 30) / 512,
        backing: None,
    });
    create(&path, &spec, &Volume::default(), Durability::Unsynced).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    chain.write_at(b"data", 5000).unwrap();
    chain.close(Durability::Unsynced).unwrap();
    let good = fs::read(&path).unwrap();
    let (counts, l1, l2) = (1 << 16, 3 << 16, 4 << 16);
    let own = 1_u64 << 63;
    assert_eq!(good[l1..l1 + 8], (own | l2 as u64).to_be_bytes());
    // Place, entry, and whether reading needs it to be right at opening.
    let cases = [
        (l1, own | 0x8_0000_0000, true),
        (l1, own, true),
        (l1, own | (l2 as u64 + 512), true),
        (l1, own | l2 as u64 | 1, true),
        (l1 + 8, own | l2 as u64, false),
        (l1, l2 as u64, false),
        (counts, 0x8_0000_0000, false),
        (counts, 1, false),
        (counts + 8, 2 << 16, false),
    ];
    for (at, entry, reads) in cases {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        fs::write(&path, &bytes).unwrap();
        let refused = |access| open(&path, access).err().map(|e| (e.kind(), e.offset()));
        let malformed = Some((ErrorKind::Malformed, Some(at as u64)));
        assert_eq!(refused(Access::Write), malformed, "{at:#x} {entry:#x}");
        let expected = if reads { malformed } else { None };
        assert_eq!(refused(Access::Read), expected, "{at:#x} {entry:#x}");
    }
    // A cluster behind the end, or in the header: found when it is looked up.
    for entry in [own | 0x8_0000_0000, own | 0x200, 1 << 62 | 0x8_0000_0000] {
        let mut bytes = good.clone();
        bytes[l2..l2 + 8].copy_from_slice(&entry.to_be_bytes());
        fs::write(&path, &bytes).unwrap();
        let chain = open(&path, Access::Read).unwrap();
        let error = chain.read_at(&mut [0; 10], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{entry:#x}: {error}");
    }
    // A refcount block without those before it; the first one counts the header.
    let mut bytes = good.clone();
    bytes.copy_within(counts..counts + 8, counts + 8);
    bytes[counts..counts + 8].fill(0);
    fs::write(&path, &bytes).unwrap();
    let error = open(&path, Access::Write).err().unwrap();
    assert!(error.to_string().contains("missing"), "{error}");
    // A cluster outside the file that is only marked: imago would count it.
    let mut bytes = good.clone();
    bytes[l2..l2 + 8].copy_from_slice(&(own | 0x8_0000_0001).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    let error = chain.write_at(&[1], 0).unwrap_err();
    assert_eq!(error.offset(), Some(l2 as u64), "{error}");
    drop(chain);
    // Counts that call the L1 table free.
    let mut bytes = good.clone();
    bytes[(2 << 16) + 6..(2 << 16) + 8].fill(0);
    fs::write(&path, &bytes).unwrap();
    let chain = open(&path, Access::Write).unwrap();
    let error = chain.write_at(&[1; 1 << 17], 1 << 20).unwrap_err();
    assert!(error.to_string().contains("repair"), "{error}");
    drop(chain);
    assert_eq!(fs::read(&path).unwrap()[l1..l1 + 8], good[l1..l1 + 8]);
}

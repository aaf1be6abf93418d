//! Images that are cut off, whose tables name the same place twice, that are encrypted, or newer than what is known.

use crate::{copied, is_refused, options};
use std::fs;
use std::path::{Path, PathBuf};
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, Durability, ErrorKind, Fault, Format, Remedy, Target,
    check, create_blank, flatten,
};

/// Bytes of the disks: three units of the formats with the largest ones.
const SIZE: u64 = 3 << 20;

/// The file of each format, data all over it, that says where the rest is.
const FORMATS: [(Target, Format, &str); 6] = [
    (Target::Vmdk, Format::VmdkSparse, "a.vmdk"),
    (Target::VmdkFlat, Format::VmdkDescriptor, "a-flat.vmdk"),
    (Target::VmdkStream, Format::VmdkSparse, "a.vmdk"),
    (Target::Vdi, Format::Vdi, "a.vdi"),
    (Target::Hdd, Format::Hdd, "a.hdd"),
    (Target::Qcow2, Format::Qcow2, "a.qcow2"),
];

/// Makes an image full of data; the image, and the file with its data.
fn full(folder: &Path, (target, format, file): (Target, Format, &str)) -> (PathBuf, PathBuf) {
    let path = match target {
        Target::VmdkFlat => folder.join("a.vmdk"),
        _ => folder.join(file),
    };
    let gate = Below::new(folder).unwrap();
    let from = match target {
        Target::VmdkStream => folder.join("written.vmdk"),
        _ => path.clone(),
    };
    let (made, as_format) = match target {
        Target::VmdkStream => (Target::Vmdk, Format::VmdkSparse),
        _ => (target, format),
    };
    create_blank(&from, made, SIZE, &options()).unwrap();
    let chain = Chain::open(&from, as_format, Access::Write, &gate).unwrap();
    // Nothing that packs well, so that a stream is about as long.
    let mut word = 1_u64;
    let noise = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (word >> 33) as u8 | 1
    });
    let bytes: Vec<u8> = noise.take(SIZE as usize).collect();
    chain.write_at(&bytes, 0).unwrap();
    if target == Target::VmdkStream {
        flatten(&chain, &path, target, &options(), &Ctx::none()).unwrap();
    }
    chain.close(Durability::Unsynced).unwrap();
    let data = match format {
        Format::Hdd => fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .max_by_key(|path| fs::metadata(path).unwrap().len())
            .unwrap(),
        _ => folder.join(file),
    };
    (path, data)
}

#[test]
fn a_truncated_image_is_never_copied_as_if_it_were_whole() {
    for kind in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let (path, data) = full(folder.path(), kind);
        copied(&path, kind.1).unwrap();
        let bytes = fs::read(&data).unwrap();
        // In the header, in the tables, in the data.
        for len in [
            0,
            1,
            63,
            511,
            700,
            66_000,
            bytes.len() / 2,
            bytes.len() - (1 << 20) - 1,
        ] {
            fs::write(&data, &bytes[..len]).unwrap();
            let what = format!("{} of {len} bytes", kind.0);
            let error = copied(&path, kind.1).expect_err(&what);
            assert!(
                matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Mismatch),
                "{what}: {error}"
            );
            assert!(
                error
                    .path()
                    .is_some_and(|p| p.ends_with(data.file_name().unwrap())
                        || p.ends_with(path.file_name().unwrap())),
                "{what}: {error}"
            );
            let place = error.offset().is_some() || error.to_string().contains("byte");
            assert!(place || len < 70_000, "{what}: {error}");
        }
    }
}

#[test]
fn units_that_share_a_place_are_found_with_their_table_entry() {
    for kind in [0, 3, 4] {
        let folder = tempfile::tempdir().unwrap();
        let (path, data) = full(folder.path(), FORMATS[kind]);
        let mut bytes = fs::read(&data).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let table = match kind {
            // Readers go by the directory that the header names at this byte.
            0 => word(word(56) * 512) * 512,
            3 => word(0x154),
            _ => 64,
        };
        bytes.copy_within(table..table + 4, table + 4);
        fs::write(&data, &bytes).unwrap();
        let gate = Below::new(folder.path()).unwrap();
        let checked = check(
            &path,
            FORMATS[kind].1,
            &gate,
            &CheckOptions::default(),
            &Ctx::none(),
        );
        let checked = checked.unwrap();
        assert!(!checked.is_sound());
        let found = checked
            .findings
            .iter()
            .find(|f| f.fault == Fault::Overlap)
            .unwrap();
        assert!(found.file.ends_with(data.file_name().unwrap()), "{found:?}");
        assert!(found.offset.is_some(), "{found:?}");
        assert_eq!(found.remedy, Remedy::None, "{found:?}");
    }
}

/// Which of the formats, what it is, the byte and what is put there, the byte that is named, and a word of the refusal.
type Poke<'a> = (usize, &'a str, usize, &'a [u8], Option<u64>, &'a str);

#[test]
fn images_that_are_encrypted_or_newer_are_refused_by_name() {
    let put = |bytes: &mut Vec<u8>, at: usize, with: &[u8]| {
        bytes[at..at + with.len()].copy_from_slice(with);
    };
    let cases: &[Poke<'_>] = &[
        (0, "VMDK", 4, &[4], Some(4), "version 4"),
        (3, "VDI", 0x44, &[0, 0, 2, 0], Some(0x44), "VDI version 2.0"),
        (4, ".hds", 16, &[3], Some(16), "version 3"),
        (5, "qcow2", 4, &[0, 0, 0, 4], None, "version 4"),
        (5, "qcow2", 32, &[0, 0, 0, 1], None, "encryption (AES)"),
        (5, "qcow2", 32, &[0, 0, 0, 2], None, "encryption (LUKS)"),
        (5, "qcow2", 79, &[0x20], None, "incompatible"),
    ];
    for (kind, what, at, with, offset, word) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (path, data) = full(folder.path(), FORMATS[*kind]);
        let mut bytes = fs::read(&data).unwrap();
        put(&mut bytes, *at, with);
        fs::write(&data, bytes).unwrap();
        let found = copied(&path, FORMATS[*kind].1);
        let error = is_refused(what, found, ErrorKind::Unsupported, &data, &[word]);
        assert!(offset.is_none() || error.offset() == *offset, "{error:?}");
    }
    // Those that say it in a text.
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = full(folder.path(), FORMATS[1]);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, word) in [
        ("version=1", "version=4", "version \"4\""),
        (
            "version=1",
            "version=1\nencryptionKeys=\"vmware:key/list/(pair/(fqid/<VMWARE-NULL>))\"",
            "encrypted",
        ),
        (" FLAT ", " SESPARSE ", "SESPARSE"),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let found = copied(&path, Format::VmdkDescriptor);
        is_refused(to, found, ErrorKind::Unsupported, &path, &[word]);
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = full(folder.path(), FORMATS[4]);
    let xml = path.join("DiskDescriptor.xml");
    let text = fs::read_to_string(&xml).unwrap();
    let start = text.find("<Engine>").unwrap() + 9;
    let engine = &text[start..start + 36];
    fs::write(
        &xml,
        text.replace(engine, "00000000-0000-0000-0000-000000000001"),
    )
    .unwrap();
    let found = copied(&path, Format::Hdd);
    is_refused(
        "bundle",
        found,
        ErrorKind::Unsupported,
        &xml,
        &["encrypted"],
    );
}

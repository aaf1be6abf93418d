//! Every field that is refused, one by one, on the header of a new image.

#![allow(clippy::unwrap_used)]
use super::super::{Backing, Qcow2Spec, render};
use super::*;
use crate::{ErrorKind, Format};

const LEN: u64 = 4 << 16;

fn spec(backing: Option<&str>) -> Qcow2Spec {
    Qcow2Spec {
        sectors: 2049,
        backing: backing.map(|file| Backing {
            file: file.to_owned(),
            format: Format::Raw,
        }),
    }
}

/// The start of a new image, with some of its bytes changed.
fn with(backing: Option<&str>, changes: &[(usize, &[u8])]) -> Result<Header> {
    let made = render(&spec(backing)).unwrap();
    let mut bytes = made.pieces[0].1.clone();
    bytes.resize(4096, 0);
    for (at, change) in changes {
        bytes[*at..at + change.len()].copy_from_slice(change);
    }
    Header::parse(&bytes, made.len)
}

fn refused(field: usize, value: &[u8]) -> Error {
    with(None, &[(field, value)]).unwrap_err()
}

#[test]
fn a_new_image_is_read_as_it_was_made() {
    let header = with(Some("base.raw"), &[]).unwrap();
    assert_eq!((header.version, header.cluster()), (3, 1 << 16));
    assert_eq!(header.size, 2049 * 512);
    let named = header.backing.clone().unwrap();
    assert_eq!(named.file, "base.raw");
    assert_eq!(named.format.as_deref(), Some("raw"));
    let bare = Header::parse(&header.bare(), LEN).unwrap();
    let backing = None;
    assert_eq!(bare, Header { backing, ..header });
}

#[test]
fn version_2_has_no_features_and_its_extensions_come_earlier() {
    let two = 2_u32.to_be_bytes();
    let mut changes: Vec<(usize, &[u8])> = vec![(4, &two), (72, &[0; 40])];
    let header = with(None, &changes).unwrap();
    assert_eq!((header.version, header.count_order), (2, 4));
    changes.extend([
        (8, &[0, 0, 0, 0, 0, 0, 1, 0][..]),
        (16, &[0, 0, 0, 4]),
        (72, b"\xe2\x79\x2a\xca\0\0\0\x05qcow2\0\0\0"),
        (256, b"base"),
    ]);
    let named = with(None, &changes).unwrap().backing.unwrap();
    assert_eq!(named.file, "base");
    assert_eq!(named.format.as_deref(), Some("qcow2"));
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let cases: [(usize, &[u8], &str); 10] = [
        (4, &[0, 0, 0, 1], "qcow version 1"),
        (4, &[0, 0, 0, 4], "qcow2 version 4"),
        (32, &[0, 0, 0, 1], "encryption (AES)"),
        (32, &[0, 0, 0, 2], "encryption (LUKS)"),
        (60, &[0, 0, 0, 7], "internal snapshots: 7"),
        (79, &[4], "external data file"),
        (79, &[16], "extended L2 entries"),
        (79, &[32], "incompatible feature 5"),
        (72, &[128], "incompatible feature 63"),
        (104, b"\x05\x37\xbe\x77\0\0\0\0", "encryption"),
    ];
    for (field, value, why) in cases {
        let error = refused(field, value);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().ends_with(why), "{error}");
    }
    let zstd: [(usize, &[u8]); 3] = [(79, &[8]), (100, &[0, 0, 0, 112]), (104, &[1])];
    let error = with(None, &zstd).unwrap_err();
    assert!(error.to_string().ends_with("compression zstd"), "{error}");
}

#[test]
fn marks_are_read_and_do_not_keep_a_reader_out() {
    let mark = |bits: u8| with(None, &[(79, &[bits])]).unwrap().mark;
    assert_eq!(
        [mark(0), mark(1), mark(2), mark(3)],
        [Mark::Clean, Mark::Dirty, Mark::Corrupt, Mark::Corrupt]
    );
}

#[test]
fn fields_that_break_the_rules_are_malformed() {
    let cases: [(usize, &[u8]); 20] = [
        (0, b"QFI\0"),
        (20, &[0, 0, 0, 8]),
        (20, &[0, 0, 0, 22]),
        (24, &[0; 8]),                      // no disk
        (24, &[0x80, 0, 0, 0, 0, 0, 0, 0]), // more than a file can hold
        (24, &[0, 0, 0, 0, 0x20, 0, 0, 1]), // one byte more than L1 covers
        (36, &[0; 4]),                      // no L1
        (36, &[0, 1, 0, 0]),                // L1 beyond the file
        (40, &[0; 8]),                      // L1 in the header
        (40, &[0, 0, 0, 0, 0, 3, 0, 8]),    // not at a cluster
        (40, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
        (48, &[0; 8]),                   // refcounts in the header
        (48, &[0, 0, 0, 0, 0, 4, 0, 0]), // behind the end
        (56, &[0; 4]),                   // none
        (56, &[0xff; 4]),
        (96, &[0, 0, 0, 7]),
        (100, &[0, 0, 0, 96]),
        (100, &[0, 0, 0, 105]),
        (100, &[0, 2, 0, 0]),                       // beyond the cluster
        (104, b"\xe2\x79\x2a\xca\xff\xff\xff\xff"), // extension beyond the cluster
    ];
    for (field, value) in cases {
        let error = refused(field, value);
        assert_eq!(
            error.kind(),
            ErrorKind::Malformed,
            "{field} {value:?}: {error}"
        );
        assert!(error.offset().is_some(), "{error}");
    }
    let cut = Header::parse(b"QFI\xfb\0\0\0\x03", 8).unwrap_err();
    assert_eq!((cut.kind(), cut.offset()), (ErrorKind::Malformed, Some(20)));
}

#[test]
fn names_of_backing_files_are_bounded() {
    let cases: [&[(usize, &[u8])]; 7] = [
        &[(8, &[0, 0, 0, 0, 0, 0, 0, 8])], // inside the header
        &[(8, &[0, 0, 0, 0, 0, 1, 0, 1])], // beyond the cluster
        &[(8, &[0xff; 8])],
        &[(16, &[0; 4])],       // no name
        &[(16, &[0, 0, 4, 0])], // too long
        &[(128, b"a\0se.raw")], // no text
        &[(128, b"\xff\xfe")],
    ];
    for case in cases {
        let error = with(Some("base.raw"), case).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{case:?}: {error}");
    }
    let error = with(Some("base.raw"), &[(128, b"nbd:base")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

//! The reader and the writer of descriptors against hostile, foreign and drawn text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::ErrorKind::{self, Limit, Malformed, Unsupported};
use proptest::prelude::*;
use std::path::Path;

const GOOD: &str = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=123456ab\nparentCID=00000a0b\n\
    isNativeSnapshot=\"no\"\ncreateType=\"twoGbMaxExtentSparse\"\nparentFileNameHint=\"../a b/base.vmdk\"\n\n\
    # Extent description\nRW 4192256 SPARSE \"n-s001.vmdk\"\nRW 2048 FLAT \"n f.vmdk\" 64\nRW 2048 ZERO\n\n\
    # The Disk Data Base\n#DDB\nddb.adapterType = \"lsilogic\"\nddb.uuid.image=\"67e55044-10b1-426f-9247-bb680e5fe0c8\"\n\
    ddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"\n";

fn read(text: &str) -> Result<Descriptor> {
    Descriptor::parse(text.as_bytes(), Path::new("d.vmdk"))
}

#[test]
fn a_foreign_descriptor_is_read_with_either_line_end() {
    for text in [GOOD.to_owned(), GOOD.replace('\n', "\r\n")] {
        let d = read(&text).unwrap();
        assert_eq!(d.cid.to_string(), "123456ab");
        assert_eq!(d.parent_cid.unwrap().to_string(), "00000a0b");
        assert_eq!(d.create_type, CreateType::TwoGbMaxExtentSparse);
        assert_eq!(d.parent_hint.as_deref(), Some("../a b/base.vmdk"));
        assert_eq!(d.other[1], ("isNativeSnapshot".to_owned(), "no".to_owned()));
        let offsets: Vec<_> = d.extents.iter().map(|e| (e.sectors, e.offset)).collect();
        assert_eq!(offsets, [(4_192_256, None), (2048, Some(64)), (2048, None)]);
        assert_eq!(d.sectors(), 4_196_352);
        assert_eq!(d.ddb("ddb.ADAPTERTYPE"), Some("lsilogic"));
        assert!(d.image_uuid().is_some() && d.parent_uuid().is_none());
    }
}

#[test]
fn what_breaks_a_rule_is_refused_at_its_line() {
    let cases: &[(&str, &str, ErrorKind, &str)] = &[
        ("# Disk DescriptorFile", "# Disk", Malformed, "first line"),
        ("version=1", "version=2", Unsupported, "version"),
        ("version=1", "version=1\nversion=1", Malformed, "twice"),
        ("version=1", "#", Malformed, "no version"),
        ("CID=123456ab", "CID = 123456ab", Malformed, "blanks"),
        ("CID=123456ab", "CID=123456ab\ncid=1", Malformed, "twice"),
        ("CID=123456ab", "cid=123456ab", Malformed, "another case"),
        ("CID=123456ab", "CID=123456abc", Malformed, "hexadecimal"),
        ("CID=123456ab", "CID=+23456ab", Malformed, "hexadecimal"),
        ("CID=123456ab\n", "", Malformed, "no CID"),
        ("parentCID=00000a0b\n", "", Malformed, "no parentCID"),
        (
            "parentCID=00000a0b",
            "parentCID=ffffffff",
            Malformed,
            "parentFileNameHint",
        ),
        (
            "createType=\"twoGbMaxExtentSparse\"\n",
            "",
            Malformed,
            "no createType",
        ),
        ("\"../a b/base.vmdk\"", "\"\"", Malformed, "empty"),
        ("\"../a b/base.vmdk\"", "\"a\"b\"", Malformed, "quotes"),
        ("\"../a b/base.vmdk\"", "\"a", Malformed, "quotes"),
        ("base.vmdk", "ba\nse.vmdk", Malformed, "quotes"),
        ("base.vmdk", "ba\0se.vmdk", Malformed, "control"),
        ("base.vmdk", "ba\u{1b}[2Jse.vmdk", Malformed, "control"),
        (
            "encoding=\"UTF-8\"",
            "encoding=\"GBK\"\nx=\"\u{e9}\"",
            Unsupported,
            "encoding",
        ),
        ("RW 4192256", "RW 0", Malformed, "sectors"),
        ("RW 4192256", "RW -1", Malformed, "sectors"),
        ("RW 4192256", "RW 0x10", Malformed, "sectors"),
        (
            "RW 4192256",
            "RW 99999999999999999999999",
            Malformed,
            "sectors",
        ),
        (
            "RW 4192256",
            "RW 18446744073709551615",
            Malformed,
            "sectors",
        ),
        ("RW 4192256", "RW 18014398509481984", Malformed, "8 EiB"),
        (
            "RW 4192256 SPARSE",
            "RW 4192256 COWD",
            Unsupported,
            "extent type",
        ),
        ("\"n-s001.vmdk\"", "\"\"", Malformed, "file name"),
        ("\"n-s001.vmdk\"", "\"n", Malformed, "file name"),
        ("\"n-s001.vmdk\"", "\"n\"x", Malformed, "behind"),
        ("\"n f.vmdk\" 64", "\"n f.vmdk\"", Malformed, "offset"),
        ("\"n f.vmdk\" 64", "\"n f.vmdk\" 6 4", Malformed, "offset"),
        (
            "RW 2048 ZERO\n",
            "ddb.a = \"b\"\nRW 2048 ZERO\n",
            Malformed,
            "order",
        ),
        (
            "ddb.adapterType",
            "version2=\"1\"\nddb.adapterType",
            Malformed,
            "order",
        ),
        (
            "ddb.adapterType",
            "DDB.UUID.IMAGE=\"x\"\nddb.adapterType",
            Malformed,
            "twice",
        ),
        ("# The Disk", "The Disk", Malformed, "neither"),
    ];
    for (from, to, kind, word) in cases {
        assert!(GOOD.contains(from), "{from}");
        let e = read(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert_eq!(e.kind(), *kind, "{to:?}: {e}");
        assert!(e.to_string().contains(word), "{to:?}: {e}");
        assert_eq!(e.path(), Some(Path::new("d.vmdk")));
    }
    let none = GOOD
        .lines()
        .filter(|l| !l.starts_with("RW"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(read(&none).unwrap_err().to_string().contains("no extent"));
    let e = Descriptor::parse(&vec![b'#'; (1 << 20) + 1], Path::new("d")).unwrap_err();
    assert_eq!(e.kind(), Limit);
    let e = Descriptor::parse(b"# Disk DescriptorFile\n\xff", Path::new("d")).unwrap_err();
    assert_eq!((e.kind(), e.offset()), (Unsupported, Some(22)));
}

#[test]
fn a_value_that_the_format_cannot_hold_is_refused_by_the_writer() {
    for bad in ["a\"b", "a\nRW 1 FLAT", "a\r", "a\0", "\u{85}"] {
        let mut d = read(GOOD).unwrap();
        d.parent_hint = Some(bad.to_owned());
        assert_eq!(
            d.to_text().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{bad:?}"
        );
        let mut d = read(GOOD).unwrap();
        d.extents[0].file = Some(bad.to_owned());
        assert_eq!(
            d.to_text().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{bad:?}"
        );
        let mut d = read(GOOD).unwrap();
        d.ddb.push(("ddb.x".to_owned(), bad.to_owned()));
        assert_eq!(
            d.to_text().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{bad:?}"
        );
    }
    for bad in ["CID", "a=b", "", "ddb.x", "a b"] {
        let mut d = read(GOOD).unwrap();
        d.other.push((bad.to_owned(), String::new()));
        assert_eq!(
            d.to_text().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{bad:?}"
        );
    }
}

fn extents() -> impl Strategy<Value = Extent> {
    let access = prop::sample::select(ACCESS.map(|(a, _)| a).to_vec());
    let kind = prop::sample::select(KINDS.map(|(k, _)| k).to_vec());
    let offset = prop::option::of(0..1_u64 << 54);
    (access, 1..1_u64 << 40, kind, "[^\"\\p{Cc}]{1,40}", offset).prop_map(
        |(access, sectors, kind, file, offset)| {
            let zero = kind == ExtentKind::Zero;
            let offset = if kind == ExtentKind::Flat {
                offset.or(Some(0))
            } else {
                offset
            };
            let offset = offset.filter(|_| !zero);
            Extent {
                access,
                sectors,
                kind,
                file: (!zero).then_some(file),
                offset,
            }
        },
    )
}

prop_compose! {
    fn descriptors()(
        cid: u32,
        parent in prop::option::of((0..u32::MAX, "[^\"\\p{Cc}]{1,80}")),
        known in 0..6_usize,
        note in "[^\"\\p{Cc}]{0,20}",
        extents in prop::collection::vec(extents(), 1..5),
        ddb in prop::collection::btree_map("ddb\\.[a-z]{1,8}", "[^\"\\p{Cc}]{0,20}", 0..5),
    ) -> Descriptor {
        let names = ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
            "streamOptimized", "vmfs"];
        let encoding = ("encoding".to_owned(), "UTF-8".to_owned());
        Descriptor {
            cid: Cid::from_file(cid),
            parent_cid: parent.as_ref().map(|(c, _)| Cid::from_file(*c)),
            create_type: CreateType::from_name(names[known]),
            parent_hint: parent.map(|(_, h)| h),
            other: vec![encoding, ("note".to_owned(), note)],
            extents,
            ddb: ddb.into_iter().collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(d in descriptors()) {
        let text = d.to_text().unwrap();
        prop_assert_eq!(read(&text).unwrap(), d, "{}", text);
    }

    #[test]
    fn any_text_is_survived(lines in prop::collection::vec("(RW [0-9]{0,25} (FLAT|SPARSE)|[A-Za-z.]{0,9}) ?=?.{0,20}", 0..8)) {
        let _ = read(&format!("# Disk DescriptorFile\n{}", lines.join("\n")));
    }

    #[test]
    fn a_good_text_with_bytes_changed_is_survived(at in 0..GOOD.len(), with: u8) {
        let mut b = GOOD.as_bytes().to_vec();
        b[at] = with;
        let _ = Descriptor::parse(&b, Path::new("d"));
    }
}

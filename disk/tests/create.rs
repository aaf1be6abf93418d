//! Creating images, and comparing existing ones with their specs, without any other program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{flat, make, sparse};
use std::fs;
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::vmdk::SparseSpec;
use stratavm_disk::{
    Durability, ErrorKind, Format, Holes, ImageSpec, Patch, RawSpec, Volume, create,
    has_allocated_blocks, image_bytes, info, verify,
};
use uuid::Uuid;

const TIB: u64 = 1 << 31; // in sectors

fn kind_of(spec: ImageSpec) -> ErrorKind {
    let e = image_bytes(&spec).expect_err("the spec must be refused");
    assert!(!e.to_string().is_empty());
    e.kind()
}

#[test]
fn the_flat_descriptor_is_this_text() {
    let spec = ImageSpec::VmdkFlat(flat(&[
        ("../images/a b.raw", 4096),
        ("/images/c.raw", 2048),
    ]));
    let image = image_bytes(&spec).unwrap();
    let text = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=0000beef\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\n\n# Extent description\nRW 4096 FLAT \"../images/a b.raw\" 0\n\
        RW 2048 FLAT \"/images/c.raw\" 0\n\n# The Disk Data Base\n#DDB\n\n\
        ddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\nddb.geometry.cylinders = \"6\"\n\
        ddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\n\
        ddb.longContentID = \"9999999922223333444455550000beef\"\n\
        ddb.uuid.image = \"99999999-2222-3333-4444-555555555555\"\n";
    assert_eq!(image.pieces, [(0, text.as_bytes().to_vec())]);
    assert_eq!(image.len, text.len() as u64);
}

#[test]
fn a_terabyte_costs_its_grain_directories_only() {
    let spec = ImageSpec::VmdkSparse(sparse(TIB));
    let image = image_bytes(&spec).unwrap();
    let in_memory: usize = image.pieces.iter().map(|(_, b)| b.len()).sum();
    assert!(in_memory < (256 << 10) + 2048, "{in_memory}");
    assert_eq!(image_bytes(&spec).unwrap(), image);

    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    make(&path, &spec).unwrap();
    verify(&path, &spec).unwrap();
    assert!(!has_allocated_blocks(&path, Format::VmdkSparse).unwrap());
    #[cfg(target_os = "linux")]
    {
        let on_disk = info(&path).unwrap().allocated.unwrap();
        assert!(on_disk < 1 << 20, "{on_disk} bytes allocated");
    }
}

#[test]
fn an_existing_file_is_left_alone_and_a_failed_one_removed() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("head.vmdk");
    let spec = ImageSpec::VmdkSparse(sparse(16384));
    fs::write(&path, "mine").unwrap();
    let e = make(&path, &spec).unwrap_err();
    assert_eq!(
        (e.kind(), e.path()),
        (ErrorKind::Exists, Some(path.as_path()))
    );
    assert_eq!(fs::read(&path).unwrap(), b"mine");

    // Most file systems refuse this length, and only once the file is there.
    let huge = tmp.path().join("huge.raw");
    let size = (i64::MAX as u64) / 512 * 512;
    let made = make(
        &huge,
        &ImageSpec::Raw(RawSpec {
            size,
            patches: Vec::new(),
        }),
    );
    assert_eq!(made.is_ok(), huge.exists(), "{made:?}");

    let e = make(&tmp.path().join("no/head.vmdk"), &spec).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let e = make(&tmp.path().join("other.vmdk"), &spec).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(!tmp.path().join("other.vmdk").exists());
}

#[test]
fn a_volume_that_could_not_hold_the_grown_file_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let mut fat32 = Volume::default();
    fat32.holes = Holes::None;
    fat32.max_file = Some(u64::from(u32::MAX));
    let made = |name: &str, spec: &ImageSpec| {
        create(&tmp.path().join(name), spec, &fat32, Durability::Unsynced)
    };
    let specs = [
        ("head.vmdk", ImageSpec::VmdkSparse(sparse(8 << 21))),
        (
            "x.hds",
            ImageSpec::Hds(HdsSpec {
                sectors: 8 << 21,
                patches: Vec::new(),
            }),
        ),
        (
            "x.raw",
            ImageSpec::Raw(RawSpec {
                size: 4 << 30,
                patches: Vec::new(),
            }),
        ),
    ];
    for (name, spec) in specs {
        let e = made(name, &spec).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
        assert!(!tmp.path().join(name).exists());
    }
    made("head.vmdk", &ImageSpec::VmdkSparse(sparse(2 << 21))).unwrap();
}

#[test]
fn specs_that_cannot_be_made_are_refused() {
    use ErrorKind::{Invalid, Limit};
    type Change = fn(&mut SparseSpec);
    let cases: &[(Change, ErrorKind)] = &[
        (|s| s.sectors = 0, Invalid),
        (|s| s.sectors = 1 << 32, Limit),
        (|s| s.sectors = !2047, Limit),
        (|s| s.uuid = Uuid::nil(), Invalid),
        (|s| s.file = "a/b.vmdk".into(), Invalid),
        (|s| s.file = "a\"b.vmdk".into(), Invalid),
        (|s| s.parent.as_mut().unwrap().hint = "a\nb".into(), Invalid),
        (|s| s.parent.as_mut().unwrap().hint = String::new(), Invalid),
        (
            |s| s.parent.as_mut().unwrap().hint = "x".repeat(5000),
            Invalid,
        ),
        (|s| s.parent.as_mut().unwrap().uuid = s.uuid, Invalid),
        (
            |s| {
                s.patches = vec![Patch {
                    offset: 0,
                    bytes: vec![1],
                }]
            },
            Invalid,
        ),
        (
            |s| {
                s.patches = vec![Patch {
                    offset: 512,
                    bytes: vec![1; 65536],
                }]
            },
            Invalid,
        ),
        (
            |s| {
                s.patches = vec![Patch {
                    offset: s.sectors * 512,
                    bytes: vec![1],
                }]
            },
            Invalid,
        ),
    ];
    for (i, (change, kind)) in cases.iter().enumerate() {
        let mut spec = sparse(16384);
        change(&mut spec);
        assert_eq!(kind_of(ImageSpec::VmdkSparse(spec)), *kind, "case {i}");
    }
    for bad in ["a\"", "a\n", "a\0"] {
        assert_eq!(kind_of(ImageSpec::VmdkFlat(flat(&[(bad, 2048)]))), Invalid);
    }
    assert_eq!(
        kind_of(ImageSpec::VmdkFlat(flat(&[(&"x".repeat(512), 2048)]))),
        Limit
    );
    assert_eq!(
        kind_of(ImageSpec::VmdkFlat(flat(&[("a", 2048), ("b", 0)]))),
        Invalid
    );
    assert_eq!(
        kind_of(ImageSpec::VmdkFlat(flat(&[("a", u64::MAX), ("b", 2048)]))),
        Limit
    );
    assert_eq!(kind_of(ImageSpec::VmdkFlat(flat(&[]))), Invalid);
    for (sectors, kind) in [(0, Invalid), (1 << 32, Limit), (1 << 40, Limit)] {
        let spec = HdsSpec {
            sectors,
            patches: Vec::new(),
        };
        assert_eq!(kind_of(ImageSpec::Hds(spec)), kind);
    }
    for (size, kind) in [(0, Invalid), (513, Invalid), (!511, Limit)] {
        assert_eq!(
            kind_of(ImageSpec::Raw(RawSpec {
                size,
                patches: Vec::new()
            })),
            kind
        );
    }
}

#[test]
fn adjacent_patches_may_fill_a_grain_together() {
    let mut spec = sparse(16384);
    let patch = |offset: u64, len: usize| Patch {
        offset,
        bytes: vec![7; len],
    };
    spec.patches = vec![
        patch(65536, 1000),
        patch(66536, 64536),
        patch(1 << 20, 65536),
    ];
    let image = image_bytes(&ImageSpec::VmdkSparse(spec)).unwrap();
    assert_eq!(image.len, 3 * 65536);
}

#[test]
fn any_byte_changed_is_noticed() {
    let tmp = tempfile::tempdir().unwrap();
    let mut one = sparse(65536 * 3);
    one.patches = vec![Patch {
        offset: 40 << 20,
        bytes: vec![9; 65536],
    }];
    let path = tmp.path().join("head.vmdk");
    let spec = ImageSpec::VmdkSparse(one);
    make(&path, &spec).unwrap();
    let good = fs::read(&path).unwrap();
    // Header, descriptor, its padding, directory, an empty and a used table, padding, the grain.
    for at in [
        3,
        520,
        10_000,
        21 * 512,
        22 * 512,
        26 * 512 + 3,
        127 * 512,
        65536 + 99,
    ] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let e = verify(&path, &spec).unwrap_err();
        assert_eq!(
            (e.kind(), e.offset()),
            (ErrorKind::Mismatch, Some(at as u64)),
            "{e}"
        );
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert_eq!(
        verify(&path, &spec).unwrap_err().kind(),
        ErrorKind::Mismatch
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(
        verify(&path, &spec).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    fs::create_dir(&path).unwrap();
    assert_eq!(
        verify(&path, &spec).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_summary_is_one_line_with_the_ids() {
    let summary = ImageSpec::VmdkSparse(sparse(16384)).summary();
    assert_eq!(
        summary,
        "vmdk-sparse size=8388608 cid=0a0b0c0d uuid=11111111-2222-3333-4444-555555555555 adapter=lsilogic \
         parent=\"../os base/os-base.vmdk\" parent-cid=0000beef parent-uuid=99999999-2222-3333-4444-555555555555"
    );
    let patches = vec![Patch {
        offset: 0,
        bytes: vec![1; 5],
    }];
    assert_eq!(
        ImageSpec::Raw(RawSpec { size: 512, patches }).summary(),
        "raw size=512 patches=1 (5 bytes)"
    );
    assert!(
        !ImageSpec::VmdkFlat(flat(&[("a\nb", 2048)]))
            .summary()
            .contains('\n')
    );
}

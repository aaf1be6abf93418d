//! The strict reader of `DiskDescriptor.xml`: element tree to value, then the value's own invariants.
//! Unknown elements are skipped; known ones must be there once and hold what their type says.

use super::xml::{self, Element};
use super::{DiskDescriptor, Image, ImageKind, Shot, Storage};
use crate::{Error, Result};
use uuid::Uuid;

/// Descriptors are a few kB; a tree of a thousand snapshots stays below 1 MiB.
pub(super) const MAX_XML: usize = 4 << 20;

pub(crate) fn parse(bytes: &[u8]) -> Result<DiskDescriptor> {
    if bytes.len() > MAX_XML {
        return Err(Error::limit(format!(
            "descriptor of {} bytes is above 4 MiB",
            bytes.len()
        )));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Error::unsupported("descriptor is not UTF-8").at_offset(e.valid_up_to() as u64)
    })?;
    let root = xml::read(text)?;
    if root.name != "Parallels_disk_image" {
        return Err(Error::malformed(format!("root element is <{}>", root.name)));
    }
    let disk = disk(&root)?;
    disk.check()?;
    Ok(disk)
}

fn disk(root: &Element) -> Result<DiskDescriptor> {
    let parameters = root.one("Disk_Parameters")?;
    refuse_what_we_cannot_read(parameters)?;
    let mut storages = Vec::new();
    for s in root.one("StorageData")?.all("Storage") {
        storages.push(storage(s)?);
    }
    let snapshots = root.one("Snapshots")?;
    let mut shots = Vec::new();
    for s in snapshots.all("Shot") {
        let parent = guid(s.one("ParentGUID")?)?;
        shots.push(Shot {
            guid: guid(s.one("GUID")?)?,
            parent: (!parent.is_nil()).then_some(parent),
        });
    }
    Ok(DiskDescriptor {
        sectors: number(parameters.one("Disk_size")?)?,
        uid: parameters.optional("UID")?.map_or(Ok(Uuid::nil()), guid)?,
        name: parameters
            .optional("Name")?
            .map_or(Ok(""), Element::raw)?
            .to_owned(),
        storages,
        shots,
        top_guid: snapshots.optional("TopGUID")?.map(guid).transpose()?,
    })
}

fn refuse_what_we_cannot_read(parameters: &Element) -> Result<()> {
    if let Some(padding) = parameters.optional("Padding")?
        && number(padding)? != 0
    {
        return Err(Error::unsupported("disk with Padding"));
    }
    if let Some(size) = parameters.optional("LogicSectorSize")?
        && number(size)? != 512
    {
        return Err(Error::unsupported(
            "disk with sectors that are not 512 bytes",
        ));
    }
    let Some(encryption) = parameters.optional("Encryption")? else {
        return Ok(());
    };
    let engine = encryption
        .optional("Engine")?
        .map_or(Ok(""), Element::value)?;
    let key = encryption
        .optional("KeyId")?
        .map_or(Ok(""), Element::value)?;
    let data = encryption
        .optional("Data")?
        .map_or(Ok(""), Element::value)?;
    let clear = |v: &str| v.is_empty() || Uuid::try_parse(v).is_ok_and(|g| g.is_nil());
    if !clear(engine) || !clear(key) || !data.is_empty() {
        return Err(Error::unsupported("disk is encrypted"));
    }
    Ok(())
}

fn storage(s: &Element) -> Result<Storage> {
    let blocksize = number(s.one("Blocksize")?)?;
    let mut images = Vec::new();
    for i in s.all("Image") {
        let kind = match i.one("Type")?.value()? {
            "Plain" => ImageKind::Plain,
            "Compressed" => ImageKind::Compressed,
            other => return Err(Error::unsupported(format!("image type {other:?}"))),
        };
        let file = i.one("File")?.raw()?.to_owned();
        images.push(Image {
            guid: guid(i.one("GUID")?)?,
            kind,
            file,
        });
    }
    Ok(Storage {
        start: number(s.one("Start")?)?,
        end: number(s.one("End")?)?,
        blocksize: u32::try_from(blocksize)
            .map_err(|_| Error::malformed(format!("Blocksize {blocksize} is out of range")))?,
        images,
    })
}

/// Digits only, at most 2^54: larger disks than 8 EiB do not fit a file.
fn number(e: &Element) -> Result<u64> {
    let text = e.value()?;
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value
        .filter(|n| *n <= 1 << 54)
        .ok_or_else(|| Error::malformed(format!("<{}> holds {text:?}, not a number", e.name)))
}

/// `{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}`, in any case.
fn guid(e: &Element) -> Result<Uuid> {
    let text = e.value()?;
    let braced = text.len() == 38 && text.starts_with('{') && text.ends_with('}');
    let value = if braced {
        Uuid::try_parse(text).ok()
    } else {
        None
    };
    value.ok_or_else(|| {
        Error::malformed(format!("<{}> holds {text:?}, not a GUID in braces", e.name))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind::{self, Limit, Malformed, Unsupported};
    use crate::hdd::LEAF_GUID;
    use proptest::prelude::*;
    use std::path::Path;

    fn read(text: &str) -> Result<DiskDescriptor> {
        DiskDescriptor::parse(text.as_bytes(), Path::new("DiskDescriptor.xml"))
    }

    /// A chain of `depth` members over storages of these sizes in sectors; the root is a raw file by absolute path.
    fn chain(depth: usize, sizes: &[u64], name: &str) -> DiskDescriptor {
        let guid = |level: usize| {
            if level == 0 {
                LEAF_GUID
            } else {
                Uuid::from_u128(0xabc0 + level as u128)
            }
        };
        let mut start = 0;
        let storages = sizes.iter().enumerate().map(|(n, size)| {
            let images = (0..depth).map(|level| {
                let root = level + 1 == depth;
                Image {
                    guid: guid(level),
                    kind: if root {
                        ImageKind::Plain
                    } else {
                        ImageKind::Compressed
                    },
                    file: if root {
                        format!("/img & co/<{n}>.raw")
                    } else {
                        format!("d.{n}.{level}.hds")
                    },
                }
            });
            let s = Storage {
                start,
                end: start + size,
                blocksize: 2048,
                images: images.collect(),
            };
            start = s.end;
            s
        });
        let storages = storages.collect();
        let parent = |level: usize| (level + 1 < depth).then(|| guid(level + 1));
        DiskDescriptor {
            sectors: start,
            uid: Uuid::from_u128(77),
            name: name.to_owned(),
            storages,
            shots: (0..depth)
                .map(|l| Shot {
                    guid: guid(l),
                    parent: parent(l),
                })
                .collect(),
            top_guid: None,
        }
    }

    #[test]
    fn the_leaf_comes_first_whatever_the_order_given() {
        let mut d = chain(3, &[131_072], "disk");
        d.shots.reverse();
        d.storages[0].images.reverse();
        let xml = d.to_xml().unwrap();
        assert_eq!(read(&xml).unwrap(), chain(3, &[131_072], "disk"));
        assert!(
            xml.contains("<Cylinders>256</Cylinders>") && !xml.contains("TopGUID"),
            "{xml}"
        );
        let leaf = LEAF_GUID.to_string();
        let (images, shots) = xml.split_once("<Snapshots>").unwrap();
        assert!(images.find("<GUID>") < images.find("</GUID>"));
        assert_eq!(
            images.find("<GUID>").unwrap() + 7,
            images.find(&leaf).unwrap()
        );
        assert_eq!(
            shots.find("<GUID>").unwrap() + 7,
            shots.find(&leaf).unwrap()
        );
    }

    #[test]
    fn a_hostile_descriptor_is_refused() {
        let good = chain(3, &[2048, 4096], "disk").to_xml().unwrap();
        let leaf = format!("{{{LEAF_GUID}}}");
        let mid = format!("{{{}}}", Uuid::from_u128(0xabc1));
        let root = format!("{{{}}}", Uuid::from_u128(0xabc2));
        let null = format!("{{{}}}", Uuid::nil());
        let parent = |g: &str| format!("<ParentGUID>{g}</ParentGUID>");
        let cases: &[(String, String, ErrorKind, &str)] = &[
            (parent(&null), parent(&mid), Malformed, "0 roots"),
            (parent(&mid), parent(&null), Malformed, "2 roots"),
            (parent(&root), parent(&mid), Malformed, "cycle"),
            (
                parent(&root),
                parent("{11111111-1111-1111-1111-111111111111}"),
                Malformed,
                "missing parent",
            ),
            (
                parent(&root),
                parent("11111111-1111-1111-1111-111111111111"),
                Malformed,
                "GUID in braces",
            ),
            (
                format!("<GUID>{mid}"),
                format!("<GUID>{leaf}"),
                Malformed,
                "stands twice",
            ),
            (
                format!("<GUID>{leaf}"),
                format!("<GUID>{null}"),
                Malformed,
                "no snapshot",
            ),
            (
                "<Padding>0".into(),
                "<Padding>1".into(),
                Unsupported,
                "Padding",
            ),
            (
                format!("<Engine>{null}"),
                format!("<Engine>{mid}"),
                Unsupported,
                "encrypted",
            ),
            (
                "<Data></Data>".into(),
                "<Data>key</Data>".into(),
                Unsupported,
                "encrypted",
            ),
            (
                "<End>2048".into(),
                "<End>2047".into(),
                Malformed,
                "does not follow",
            ),
            (
                "<End>2048".into(),
                "<End>2049".into(),
                Malformed,
                "does not follow",
            ),
            (
                "<End>2048".into(),
                "<End>0".into(),
                Malformed,
                "does not follow",
            ),
            (
                "<Start>0".into(),
                "<Start>1".into(),
                Malformed,
                "does not follow",
            ),
            (
                "<Disk_size>6144".into(),
                "<Disk_size>6145".into(),
                Malformed,
                "storages end",
            ),
            (
                "<Disk_size>6144".into(),
                "<Disk_size>99999999999999999999999".into(),
                Malformed,
                "number",
            ),
            (
                "<Disk_size>6144".into(),
                "<Disk_size>-1".into(),
                Malformed,
                "number",
            ),
            (
                "<Disk_size>6144".into(),
                "<Disk_size>1</Disk_size><Disk_size>6144".into(),
                Malformed,
                "twice",
            ),
            (
                "<Blocksize>2048".into(),
                "<Blocksize>0".into(),
                Malformed,
                "block size",
            ),
            (
                "<Blocksize>2048".into(),
                "<Blocksize>4294967296".into(),
                Malformed,
                "range",
            ),
            (
                "<Type>Compressed".into(),
                "<Type>Plain".into(),
                Malformed,
                "not the root",
            ),
            (
                "<Type>Compressed".into(),
                "<Type>Other".into(),
                Unsupported,
                "image type",
            ),
            (
                "<File>d.0.0.hds".into(),
                "<File>".into(),
                Malformed,
                "file name",
            ),
            (
                "<File>d.0.0.hds".into(),
                "<File>a&#10;b".into(),
                Malformed,
                "file name",
            ),
            (
                "<File>d.0.0.hds".into(),
                "<File><x/>".into(),
                Malformed,
                "elements",
            ),
            (
                "<Snapshots>".into(),
                "<Snapshots>&boom;".into(),
                Malformed,
                "entity",
            ),
            (
                "<Parallels_disk".into(),
                "<!DOCTYPE x><Parallels_disk".into(),
                Malformed,
                "document type",
            ),
            (
                "<Parallels_disk".into(),
                "<?php ?><Parallels_disk".into(),
                Malformed,
                "processing",
            ),
            ("</Shot>".into(), "</Shit>".into(), Malformed, "well-formed"),
            (
                "</Parallels_disk_image>".into(),
                "".into(),
                Malformed,
                "ends inside",
            ),
            (
                "</Parallels_disk_image>".into(),
                "</Parallels_disk_image><a/>".into(),
                Malformed,
                "two root",
            ),
            (
                "<Snapshots>".into(),
                format!("<Snapshots>{}", "<a>".repeat(20)),
                Limit,
                "levels",
            ),
            (
                "Parallels_disk_image".into(),
                "Virtuozzo_disk_image".into(),
                Malformed,
                "",
            ),
        ];
        for (from, to, kind, word) in cases {
            assert!(good.contains(from.as_str()), "{from}");
            let e = read(&good.replacen(from, to, 1)).expect_err(to);
            assert_eq!(e.kind(), *kind, "{to:?}: {e}");
            assert!(e.to_string().contains(word), "{to:?}: {e}");
        }
        let e = DiskDescriptor::parse(&vec![b' '; MAX_XML + 1], Path::new("x")).unwrap_err();
        assert_eq!(e.kind(), Limit);
        for text in ["", "<a/>", "text", "<a>\u{0}</a>"] {
            assert!(read(text).is_err());
        }
    }

    #[test]
    fn top_guid_names_the_leaf_where_a_file_has_one() {
        let good = chain(2, &[2048], "d").to_xml().unwrap();
        let root = Uuid::from_u128(0xabc1);
        let text = good.replace(
            "<Snapshots>",
            &format!("<Snapshots><TopGUID>{{{root}}}</TopGUID>"),
        );
        let d = read(&text).unwrap();
        assert_eq!(d.chain().unwrap(), [root]);
        assert_eq!(d.to_xml().unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_value_that_breaks_an_invariant_is_not_written() {
        let mut gap = chain(2, &[2048, 2048], "d");
        gap.storages[1].start += 1;
        let mut lost = chain(2, &[2048, 2048], "d");
        lost.storages[1].images.pop();
        for bad in [
            gap,
            lost,
            chain(2, &[2048], "a\nb"),
            chain(0, &[2048], "d"),
            chain(1, &[], "d"),
        ] {
            assert_eq!(bad.to_xml().unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(
            depth in 1_usize..6,
            sizes in prop::collection::vec(1_u64..1 << 33, 1..4),
            name in "[^\\p{Cc}]{0,30}",
        ) {
            let d = chain(depth, &sizes, &name);
            prop_assert_eq!(read(&d.to_xml().unwrap()).unwrap(), d);
        }

        #[test]
        fn a_good_text_with_a_byte_changed_is_survived(at: prop::sample::Index, with: u8) {
            let mut b = chain(2, &[2048, 2048], "disk").to_xml().unwrap().into_bytes();
            let at = at.index(b.len());
            b[at] = with;
            let _ = DiskDescriptor::parse(&b, Path::new("x"));
        }
    }
}
